"""What to change: the one thing that the records, the verdict, a plan and the budgets say first.

What cannot wait comes first: a budget that is spent, then predictions that do not hold, since everything else rests on
them. Then whether to route at all, whether quality is observed, what another cost weight would save, and which LLMs
are never needed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from embedllm_router._stats import Estimate
from embedllm_router.analysis.calibration import judged_calibration
from embedllm_router.analysis.plan.figures import Figures
from embedllm_router.analysis.plan.goal import Goal
from embedllm_router.analysis.plan.plan import make_plan
from embedllm_router.analysis.plan.traffic import Rate, Traffic, rate_between, read_traffic
from embedllm_router.analysis.quality import Hold, Holds, Quality, quality_of
from embedllm_router.analysis.span import RecordQuery
from embedllm_router.analysis.verdict.recorded import (
    RecordsVerdict,
    UnknownBaselineError,
    read_newest,
    verdict_on,
)
from embedllm_router.errors import DataError
from embedllm_router.evaluation.verdict import MIN_SAVING, Answer
from embedllm_router.records.reader.recorded import Recorded, usual_baseline
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.telemetry.status import BudgetState

__all__ = ["Advice", "Answers", "Saving", "advise", "answers", "saving_in"]

_ENOUGH: Final = 200
"""Requests below which neither a cost weight nor a smaller pool is advised."""
_IDLE: Final = {
    "never chosen": "no cost weight from 0 to 10,000 chooses it",
    "never right": "none of its answers was right",
    "dispensable": "less than a point of utility is lost without it",
}
"""Roles of LLMs that earn no place, and why."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change.

    Attributes:
        rule: What speaks for it: "budget", "calibration", "use_one", "feedback", "cost_weight", "pool", "exploration"
            or "nothing".
        sentence: What to do and why.
        page: View of the dashboard that shows what it rests on.
        cost_weight: The cost weight that is advised; None for any other advice.
    """

    rule: str
    sentence: str
    page: str
    cost_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Saving:
    """A cost weight that serves at least as well, for less.

    Attributes:
        cost_weight: λ.
        virtual_model: Whose setting it is: the one with the most requests, since others may aim at something else.
        accuracy: Expected accuracy with it.
        accuracy_now: Expected accuracy of the recorded choices.
        kept: Whose expected accuracy that keeps: a model group, or None for what was recorded.
        share: Change of cost as a share of what the recorded choices were expected to cost, below 0.
        usd_per_month: Change of cost in a month; None where the records do not tell how many requests come.
    """

    cost_weight: float
    virtual_model: str
    accuracy: float
    accuracy_now: float
    kept: str | None
    share: Estimate
    usd_per_month: Estimate | None


def saving_in(recorded: Recorded, rate: Rate | None) -> Saving | None:
    """Looks for a cost weight that keeps the baseline's expected accuracy, else that of the recorded choices, for less.

    Args:
        recorded: The newest requests.
        rate: How many requests come; None where that is not known.

    Returns:
        The cheapest such cost weight; None where it would not save 5 % for sure, or too few requests are known.
    """
    if not recorded.requests:
        return None
    name, n = Counter(one.virtual_model for one in recorded.requests).most_common(1)[0]
    mine = replace(recorded, requests=tuple(one for one in recorded.requests if one.virtual_model == name))
    per_month = 1.0 if rate is None else rate.per_month * n / len(recorded.requests)
    try:
        traffic = read_traffic(mine, weights=None, per_month=per_month)
    except DataError:  # nothing that can be planned with
        return None
    if len(traffic.requests) < _ENOUGH or not traffic.free.any():
        return None
    baseline, accuracy = _to_keep(traffic)
    plan = make_plan(traffic, Goal(accuracy=accuracy))
    best = next((one for one in (plan.best, plan.other) if one.setting == "cost_weight" and one.feasible), None)
    now = plan.recorded.usd_per_month.value
    if best is None or best.value is None or now <= 0:
        return None
    change = best.usd_per_month_change
    share = Estimate(change.value / now, change.low / now, change.high / now, change.n)
    if share.high > -MIN_SAVING:
        return None
    accuracy_now = plan.recorded.accuracy.value
    month = None if rate is None else change
    return Saving(best.value, name, best.accuracy.value, accuracy_now, baseline, share, month)


def _to_keep(traffic: Traffic) -> tuple[str | None, float]:
    """Whose expected accuracy shall be kept, and what it is: the baseline's, else that of the recorded choices."""
    baseline, batch, given = usual_baseline(traffic.requests), traffic.batch, traffic.recorded
    if baseline in batch.names:
        given, _ = Figures.of(traffic).alone(batch.names.index(baseline), given, everyone=True)
    else:
        baseline = None
    p = batch.at(batch.p_correct, given)[given >= 0]
    return baseline, float(p.mean()) if p.size else 1.0


def advise(
    quality: Quality, found: RecordsVerdict, saving: Saving | None, budgets: Sequence[BudgetState], n_requests: int
) -> Advice:
    """Picks the first thing to change.

    Args:
        quality: Whether quality is held.
        found: The verdict on the newest requests.
        saving: A better cost weight; None without one.
        budgets: Every budget now.
        n_requests: How many requests the verdict and the saving rest on.

    Returns:
        One piece of advice; rule "nothing" where nothing speaks for a change.
    """
    every = (
        _budget(budgets),
        _calibration(quality),
        _use_one(found),
        _feedback(quality),
        _cost_weight(saving),
        _pool(found, n_requests),
        _exploration(found),
    )
    return next((one for one in every if one is not None), _nothing(found))


def _budget(budgets: Sequence[BudgetState]) -> Advice | None:
    spent = [one for one in budgets if one.exhausted]
    if not spent:
        return None
    first = spent[0]
    more = f", and {len(spent) - 1} more" if len(spent) > 1 else ""
    whose = f"The budget of {first.virtual_model}" + (
        "" if first.scope == "virtual_model" else f" of one {first.scope}"
    )
    return Advice(
        "budget",
        f"{whose} (${first.usd:,.2f} a {first.per}) is spent{more}: the cheapest LLM answers until the {first.per} "
        "ends. Raise it, or accept that.",
        "health",
    )


def _calibration(quality: Quality) -> Advice | None:
    if quality.predictions not in {Holds.TOO_HIGH, Holds.TOO_LOW} or quality.score is None or quality.p_correct is None:
        return None
    gap = abs(quality.score.value - quality.p_correct)
    return Advice(
        "calibration",
        f"Have the weights learn from feedback (`embedllm-router learn`, or set adaptation): predictions are "
        f"{quality.predictions} by {gap * 100:.1f} points.",
        "calibration",
    )


def _use_one(found: RecordsVerdict) -> Advice | None:
    best = found.verdict.best if found.verdict else None
    if best is None or not best.known or best.judgement.answer is not Answer.USE_ONE:
        return None
    return Advice("use_one", best.headline, "verdict")


def _feedback(quality: Quality) -> Advice | None:
    if quality.held is not Hold.UNKNOWN:
        return None
    return Advice(
        "feedback",
        "Send feedback on answers, or set judging for a share of the requests: without it nobody knows whether "
        "quality is held.",
        "calibration",
    )


def _cost_weight(saving: Saving | None) -> Advice | None:
    if saving is None:
        return None
    less = f"{-saving.share.value:.0%} less [{-saving.share.high:.0%}, {-saving.share.low:.0%}]"
    if saving.usd_per_month is not None:
        less = f"{less}, about ${-saving.usd_per_month.value:,.2f} a month"
    whose = f"{saving.kept} is" if saving.kept else "the choices so far are"
    return Advice(
        "cost_weight",
        f"Set cost_weight {saving.cost_weight:g} in {saving.virtual_model}: expected to be as accurate as {whose} "
        f"({saving.accuracy:.3f}; now {saving.accuracy_now:.3f}), for {less}.",
        "tradeoff",
        saving.cost_weight,
    )


def _pool(found: RecordsVerdict, n_requests: int) -> Advice | None:
    if found.verdict is None or n_requests < _ENOUGH:
        return None
    idle = [one for one in found.verdict.llms if one.role in _IDLE]
    if not idle or len(idle) >= len(found.verdict.llms):
        return None
    others = f"; look at {', '.join(one.llm for one in idle[1:])} after it" if len(idle) > 1 else ""
    return Advice("pool", f"Take {idle[0].llm} out of candidates: {_IDLE[idle[0].role]}{others}.", "verdict")


def _exploration(found: RecordsVerdict) -> Advice | None:
    against = (found.verdict.best, found.verdict.baseline) if found.verdict else ()
    unknown = next((one for one in against if one is not None and not one.known), None)
    if unknown is None:
        return None
    return Advice("exploration", f"Try other LLMs now and then: {unknown.unknown_because}", "verdict")


def _nothing(found: RecordsVerdict) -> Advice:
    return Advice("nothing", f"Nothing for now. {found.sentence}", "verdict")


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to two of the questions that the overview opens with.

    Attributes:
        quality: Is quality held?
        advice: What should I change?
        n: The newest requests that the verdict and the advice rest on.
    """

    quality: Quality
    advice: Advice
    n: int


def answers(source: RecordSource, query: RecordQuery, budgets: Sequence[BudgetState] = ()) -> Answers:
    """Answers whether quality is held, and what to change.

    Args:
        source: The records.
        query: Which of them.
        budgets: Every budget now.

    Returns:
        The answers.

    Raises:
        DataError: The records cannot be read.
    """
    judged, newest = judged_calibration(source, query, None), read_newest(source, query.filters())
    try:
        found = verdict_on(newest.recorded)
    except UnknownBaselineError as error:
        found = RecordsVerdict(None, f"Not known: {error}")
    n, first, last = newest.recorded.n_meant, newest.first, newest.last
    rate = None if first is None or last is None else rate_between(n, first, last)
    quality, read = quality_of(judged, found), len(newest.recorded.requests)
    mine = [one for one in budgets if query.virtual_model in {None, one.virtual_model}]
    return Answers(quality, advise(quality, found, saving_in(newest.recorded, rate), mine, read), read)
