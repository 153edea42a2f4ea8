"""What is asked of the policy and what it answers: objectives, requests, decisions. Values only.

How another candidate than the best is tried, and with which odds. Values only; exploring.py draws.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedllm_router.routing.pool import NO_RULES, CandidatePool, Capability, Codes, Exclusion, Floats, Rules

__all__ = [
    "NO_CONDITIONS",
    "NO_EXPLORATION",
    "Assessment",
    "Conditions",
    "Decision",
    "Exploration",
    "Explored",
    "Objective",
    "Observed",
    "Reason",
    "Request",
    "known",
]


@dataclass(frozen=True, slots=True)
class Exploration:
    """How, how often, and how far from the best, another candidate is tried.

    Attributes:
        epsilon: Share of requests for which one of those within the caps is drawn evenly, in [0, 1].
        max_loss: What it may lose in p_correct against the best one, in [0, 1].
        max_extra_usd: What it may cost more than the best one, in USD.
        thompson: Whether candidates are weighed by drawn probabilities, wider where little was learned.
        spread: How wide against what the answers learned from say; at least 0.
    """

    epsilon: float = 0.0
    max_loss: float = 0.1
    max_extra_usd: float = 0.01
    thompson: bool = False
    spread: float = 1.0

    @property
    def on(self) -> bool:
        """Whether anything is ever tried."""
        return self.epsilon > 0 or self.thompson

    @property
    def method(self) -> str:
        """Its name on record."""
        return "thompson" if self.thompson else "epsilon"


NO_EXPLORATION = Exploration()
"""Nothing is ever tried."""


@dataclass(frozen=True, slots=True)
class Explored:
    """How a choice was drawn.

    Attributes:
        exploration: By which rules.
        odds: (n_candidates,), the probability with which each candidate would have been chosen; they sum to 1.
    """

    exploration: Exploration
    odds: Floats


class Reason(StrEnum):
    """Why the first of a ranking is first."""

    HIGHEST_UTILITY = "highest_utility"
    CHEAPEST_AT_FLOOR = "cheapest_at_floor"
    FLOOR_UNREACHED = "floor_unreached"
    ONLY_CANDIDATE = "only_candidate"
    EXPLORED = "explored"
    WITHIN_BUDGET = "within_budget"
    SESSION_KEPT = "session_kept"
    SESSION_LOCKED = "session_locked"
    NEAR_TIE = "near_tie"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    GUARDED = "guarded"


@dataclass(frozen=True, slots=True)
class Objective:
    """What the best candidate is.

    With neither floor set, it has the highest utility. With a floor, it is the cheapest of those that reach the floor;
    when none does, the one with the highest p_correct.

    Attributes:
        cost_weight: λ, the accuracy one gives up per US dollar; finite, at least 0.
        min_p_correct: τ, a floor under p_correct, in [0, 1]; None sets none.
        max_accuracy_drop: The floor lies this far below the best candidate's p_correct, in [0, 1]; None sets none.
        max_cost_usd: Candidates expected to cost more are excluded; None sets no limit.
        latency_weight: Accuracy one gives up per second of waiting; finite, at least 0. A candidate nobody has waited
            for yet counts as the quickest.
        near_tie_margin: Utility that may be lost so that near ties go to the same candidate each time; finite, at
            least 0, and 0 leaves them to the utility. A floor leaves no near ties.
    """

    cost_weight: float = 0.0
    min_p_correct: float | None = None
    max_accuracy_drop: float | None = None
    max_cost_usd: float | None = None
    latency_weight: float = 0.0
    near_tie_margin: float = 0.0

    @property
    def fields(self) -> dict[str, float]:
        """The cost weight, and of the others what is set, by their names on record."""
        others = {
            "min_p_correct": self.min_p_correct,
            "within": self.max_accuracy_drop,
            "max_cost_usd": self.max_cost_usd,
        }
        known = {name: value for name, value in others.items() if value is not None}
        slow = {"latency_weight": self.latency_weight} if self.latency_weight else {}
        return {"cost_weight": self.cost_weight, **known, **slow}


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a pool's candidates while serving.

    Attributes:
        length_factor: (n_candidates,), tokens answered per token predicted; 1 where nothing was seen.
        latency_s: (n_candidates,), seconds to the last byte; NaN where nothing was seen.
    """

    length_factor: Floats
    latency_s: Floats


@dataclass(frozen=True, slots=True)
class Conditions:
    """What bears on a decision besides the prompt.

    Attributes:
        only: Candidates the client allows; None allows all.
        rules: Which providers, regions and labels may answer.
        barred: Model groups that may not be chosen now, and why, for reasons outside the prompt.
        cached_tokens: Input tokens each candidate's provider has in its prompt cache, by name.
        observed: What was seen while serving; None for nothing.
    """

    only: Collection[str] | None = None
    rules: Rules = NO_RULES
    barred: Mapping[str, Exclusion] = field(default_factory=dict)
    cached_tokens: Mapping[str, int] = field(default_factory=dict)
    observed: Observed | None = None


NO_CONDITIONS = Conditions()
"""Nothing but the prompt bears on the decision."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the policy needs to know of a request.

    Attributes:
        objective: What the best candidate is.
        input_tokens: Estimated tokens of the whole request, at least 0.
        max_output_tokens: The request's own limit on the answer; None when it sets none.
        needs: What an LLM must be able to do to take it.
        conditions: What else bears on the decision.
        n_answers: Answers it asks for, each of which costs.
        efforts: Reasoning efforts it may be asked with; None allows any. Candidates without one are not bound by it.
        service_tier: The tier of service it asks for, at whose prices it is charged; empty for the usual one.
    """

    objective: Objective
    input_tokens: int
    max_output_tokens: int | None = None
    needs: frozenset[Capability] = frozenset()
    conditions: Conditions = NO_CONDITIONS
    n_answers: int = 1
    efforts: frozenset[str] | None = None
    service_tier: str = ""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything that was weighed for one candidate.

    Attributes:
        name: The candidate.
        llm: The learned LLM it stands for.
        p_correct: Probability of a correct answer; None when no learned LLM stands behind it.
        expected_output_tokens: Expected tokens of the answer, or of all it asks for, reasoning included; None likewise.
        cost_usd: Expected cost of this request in USD; None when LLM or price is unknown.
        utility: p_correct - cost_weight * cost_usd - latency_weight * latency_s; None likewise.
        excluded: Why it could not be chosen; None when it could.
        known_by: What its LLM is known by: "labels", "published", "family" or "like"; None when it is not known.
        p_correct_low: Lower end of the 95 % interval of p_correct, by how well its LLM is known; None when unknown.
        p_correct_high: Upper end.
    """

    name: str
    llm: str | None
    p_correct: float | None
    expected_output_tokens: float | None
    cost_usd: float | None
    utility: float | None
    excluded: Exclusion | None
    known_by: str | None = None
    p_correct_low: float | None = None
    p_correct_high: float | None = None


@dataclass(frozen=True)  # no slots: what is computed from it is kept once made
class Decision:
    """Which candidate shall answer, and everything that was weighed.

    Attributes:
        pool: The candidates; every array below is in its order.
        request: What was asked.
        p_correct: (n_candidates,), in [0, 1]; NaN where no learned LLM stands behind the name.
        output_tokens: (n_candidates,), expected tokens of the answer, or of all it asks for; NaN likewise.
        cost_usd: (n_candidates,), expected cost in USD; NaN where LLM or price is unknown.
        utility: (n_candidates,); NaN likewise.
        exclusions: (n_candidates,), int8: 0 where it could be chosen, else the code of an `Exclusion`.
        ranking: Indices of the candidates that could be chosen, best first.
        floor_met: Whether the first of the ranking reaches the objective's floor; None when it sets none.
        propensity: Probability with which this choice was made, in (0, 1]; 1 for a deterministic one.
        explored: How the choice was drawn; None when nothing is tried.
        instead: Why something else comes first than the objective alone would have put there; None when nothing does.
        unshrunk_logits: Of every learned LLM, see `Scores`; None where nothing was shrunk.
    """

    pool: CandidatePool
    request: Request
    p_correct: Floats
    output_tokens: Floats
    cost_usd: Floats
    utility: Floats
    exclusions: Codes
    ranking: tuple[int, ...]
    floor_met: bool | None
    propensity: float = 1.0
    explored: Explored | None = None
    instead: Reason | None = None
    unshrunk_logits: NDArray[np.float32] | None = None

    @property
    def chosen(self) -> Assessment | None:
        """The best candidate; None when all are excluded."""
        return self.assessed[self.ranking[0]] if self.ranking else None

    @property
    def runner_up(self) -> Assessment | None:
        """The second best candidate; None when there is none."""
        return self.assessed[self.ranking[1]] if len(self.ranking) > 1 else None

    @property
    def reason(self) -> Reason | None:
        """Why the chosen one was chosen; None when all are excluded."""
        if not self.ranking:
            return None
        if self.instead is not None:
            return self.instead
        if len(self.ranking) == 1:
            return Reason.ONLY_CANDIDATE
        if self.floor_met is None:
            return Reason.HIGHEST_UTILITY
        return Reason.CHEAPEST_AT_FLOOR if self.floor_met else Reason.FLOOR_UNREACHED

    @property
    def most_accurate(self) -> Assessment | None:
        """The candidate with the highest p_correct among those that could be chosen; of equals the cheaper."""
        return min(self._ranked, key=lambda a: (-(a.p_correct or 0.0), a.cost_usd), default=None)

    @property
    def cheapest(self) -> Assessment | None:
        """The cheapest candidate among those that could be chosen; of equals the one with the higher p_correct."""
        return min(self._ranked, key=lambda a: (a.cost_usd, -(a.p_correct or 0.0)), default=None)

    @cached_property
    def excluded(self) -> tuple[Exclusion | None, ...]:
        """Reason per candidate, None where it could be chosen."""
        return tuple(Exclusion.of_code(code) for code in self.exclusions.tolist())

    @cached_property
    def assessed(self) -> tuple[Assessment, ...]:
        """What was weighed for each candidate, in pool order."""
        columns = (self.p_correct, self.output_tokens, self.cost_usd, self.utility)
        weighed = zip(*(known(column) for column in columns), strict=True)
        ends = zip(*(known(column) for column in self.pool.interval(self.p_correct)), strict=True)
        return tuple(
            Assessment(one.name, one.llm, p, tokens, cost, utility, reason, one.known_by, low, high)
            for one, reason, (p, tokens, cost, utility), (low, high) in zip(
                self.pool.candidates, self.excluded, weighed, ends, strict=True
            )
        )

    @cached_property
    def p_unshrunk(self) -> Floats | None:
        """p_correct before it was shrunk, (n_candidates,), NaN likewise; None where nothing was."""
        if self.unshrunk_logits is None:
            return None
        plain = self.unshrunk_logits[self.pool.rows].astype(np.float64)
        return np.where(self.pool.scored, 1.0 / (1.0 + np.exp(-plain)), np.nan)

    @property
    def _ranked(self) -> list[Assessment]:
        return [self.assessed[i] for i in self.ranking]

    def named(self, name: str) -> Assessment | None:
        """What was weighed for one candidate; None when the pool has none of that name."""
        return self.assessed[self.pool.names.index(name)] if name in self.pool.names else None

    def best_of(self, name: str) -> int | None:
        """Index of the best-ranked candidate of a name, or of a model group at any effort; None when none is ranked."""
        pool = self.pool
        return next((i for i in self.ranking if name in {pool.names[i], pool.groups[i]}), None)

    def answered_by(self, group: str | None) -> str | None:
        """The candidate that answered, by the model group that did.

        Of one model group the best-ranked effort is asked, and no other one after it.
        """
        if group is None or group not in self.pool.at_efforts:
            return group
        best = self.best_of(group)
        return group if best is None else self.pool.names[best]

    def putting_first(self, index: int, why: Reason, propensity: float = 1.0) -> "Decision":
        """The same decision with another of its ranking in front.

        Args:
            index: Of a candidate in the ranking.
            why: On record as the reason.
            propensity: Probability with which it was put there.
        """
        at = self.ranking.index(index)
        ranking = (index, *self.ranking[:at], *self.ranking[at + 1 :])
        return replace(self, ranking=ranking, instead=why, propensity=propensity)

    def fallbacks(self, n: int) -> list[str]:
        """Names of the n next best candidates."""
        return [self.pool.names[i] for i in self.ranking[1 : n + 1]]

    def assess(self, index: int) -> Assessment:
        """What was weighed for one candidate, by its index in the pool."""
        return self.assessed[index]

    def assessments(self) -> list[Assessment]:
        """Every candidate: the ranked ones best first, then the excluded ones in pool order."""
        return [*self._ranked, *(a for a in self.assessed if a.excluded is not None)]


def known(column: Floats) -> list[float | None]:
    """A column as a list, None for NaN."""
    return [None if math.isnan(number) else number for number in column.tolist()]
