"""The result of a plan. Values only."""

from dataclasses import dataclass
from datetime import datetime

from embedllm_router._stats import Estimate
from embedllm_router.analysis.plan.goal import Goal, Setting
from embedllm_router.analysis.plan.traffic import Rate

__all__ = ["Alone", "Apart", "FrontierRow", "HeldOut", "Observed", "Outcome", "Plan", "Share"]


@dataclass(frozen=True, slots=True)
class Share:
    """What one candidate gets.

    Attributes:
        name: The candidate.
        requests: Share of the requests, in [0, 1].
        usd: Share of the cost, in [0, 1].
    """

    name: str
    requests: float
    usd: float


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the contract of the weights says of promises like this one.

    Attributes:
        value: The measured cost weight or floor nearest to the planned one.
        n: Held-out answers.
        predicted: Their mean p_correct.
        correct: Share that was right.
        low: Lower end of its 95 % interval.
        high: Upper end.
        accuracy: The plan's accuracy shifted by `correct - predicted`; its interval counts both uncertainties.
    """

    value: float
    n: int
    predicted: float
    correct: float
    low: float
    high: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What comes of a setting. Estimates are means with 95 % intervals of resampled requests.

    Attributes:
        setting: What is set; None for what was recorded.
        value: To what; None likewise.
        feasible: Whether it meets the goal.
        accuracy: Mean p_correct, in [0, 1].
        usd_per_month: Expected cost of a month.
        usd_per_request: Expected cost of a request.
        accuracy_change: Against what was recorded, request by request.
        usd_per_month_change: Likewise.
        unreached: Share of the requests that a floor decides and nobody reaches; 0 for a cost weight.
        mix: Most requests first.
        held_out: What the contract says; None without one.
    """

    setting: Setting | None
    value: float | None
    feasible: bool
    accuracy: Estimate
    usd_per_month: Estimate
    usd_per_request: Estimate
    accuracy_change: Estimate
    usd_per_month_change: Estimate
    unreached: float
    mix: tuple[Share, ...]
    held_out: HeldOut | None


@dataclass(frozen=True, slots=True)
class FrontierRow:
    """One point of what is possible.

    Attributes:
        name: The candidate that is always chosen; None for a cost weight.
        cost_weight: The cost weight; None for a candidate.
        accuracy: Mean p_correct over all requests.
        usd_per_month: Expected cost of a month.
        share: Of requests the candidate can take; 1 for a cost weight.
    """

    name: str | None
    cost_weight: float | None
    accuracy: float
    usd_per_month: float
    share: float


@dataclass(frozen=True, slots=True)
class Observed:
    """Feedback beside predictions, over answers of the LLM that was chosen.

    Attributes:
        n: Answers with feedback.
        predicted: Their mean p_correct.
        observed: Their mean score.
        difference: Observed minus predicted, with its 95 % interval.
    """

    n: int
    predicted: float
    observed: float
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Alone:
    """One LLM for every request that the setting decides; what it cannot take is decided by the setting.

    Attributes:
        name: The candidate.
        could_take: Share of the requests meant that it could take, in [0, 1].
        outcome: What comes of it.
        everyone: Whether requests with an objective of their own are meant too.
    """

    name: str
    could_take: float
    outcome: Outcome
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Apart:
    """Requests whose client, key or team chose the objective; no setting changes them.

    Attributes:
        n: How many.
        accuracy: Their mean p_correct, in [0, 1].
        usd_per_month: Their part of a month's expected cost.
    """

    n: int
    accuracy: Estimate
    usd_per_month: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which setting reaches a goal on recorded traffic.

    Attributes:
        goal: The goal of the plan.
        best: The setting to use.
        other: The best one of the other kind.
        recorded: What was recorded: the choices as they were made.
        single: The one LLM for everything that serves the goal better than any setting; None where none does.
        baseline: The LLM that was used before, for everything; None when it was not said.
        apart: Requests that no setting changes, which all figures include; None without any.
        frontier: Cost weights from cheapest to most accurate, then every LLM alone.
        observed: What feedback says of predictions; None without any.
        billed: Billed over expected cost where both are known; costs are multiplied by it when `billed_counts`.
        billed_counts: Whether enough was billed.
        yaml: What to paste into the proxy's configuration; empty where the goal is not met.
        where: Where the log lies, without credentials.
        since: Oldest request, UTC.
        until: Newest one.
        n: Requests planned with.
        n_fixed: Of those, requests whose client, key or team chose the objective.
        rate: How many come.
        scored: Requests by how they were scored.
        skipped: Requests that are left out, by reason.
        notes: What a reader should know, a sentence each.
    """

    goal: Goal
    best: Outcome
    other: Outcome
    recorded: Outcome
    single: Alone | None
    baseline: Alone | None
    apart: Apart | None
    frontier: tuple[FrontierRow, ...]
    observed: Observed | None
    billed: Estimate | None
    billed_counts: bool
    yaml: str
    where: str
    since: datetime
    until: datetime
    n: int
    n_fixed: int
    rate: Rate
    scored: dict[str, int]
    skipped: dict[str, int]
    notes: tuple[str, ...]
