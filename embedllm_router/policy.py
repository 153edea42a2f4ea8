"""p_correct + cost + constraints → Decision. Pure: numbers in, numbers out, no clock, no randomness.

    utility = p_correct - cost_weight * cost_usd

The candidate with the highest utility is chosen, or, when the objective sets a floor under p_correct, the cheapest one
that reaches it. Ties go to the cheaper one, then to the one listed first.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedllm_router.candidates import CandidatePool, Capability, Exclusion, Floats
from embedllm_router.scorer import Scores

__all__ = ["Assessment", "Decision", "Objective", "Reason", "Request", "decide", "rank"]


class Reason(StrEnum):
    """Why the first of a ranking is first."""

    HIGHEST_UTILITY = "highest_utility"
    CHEAPEST_AT_FLOOR = "cheapest_at_floor"
    FLOOR_UNREACHED = "floor_unreached"
    ONLY_CANDIDATE = "only_candidate"


@dataclass(frozen=True, slots=True)
class Objective:
    """What the best candidate is.

    With neither floor set, it has the highest utility. With a floor, it is the cheapest of those that reach the floor;
    when none does, the likeliest to be correct.

    Attributes:
        cost_weight: λ, the accuracy one gives up per US dollar; finite, at least 0.
        min_p_correct: τ, a floor under p_correct, in [0, 1]; None sets none.
        within: The floor lies this far below the best candidate's p_correct, in [0, 1]; None sets none.
        max_cost_usd: Candidates expected to cost more are excluded; None sets no limit.
    """

    cost_weight: float = 0.0
    min_p_correct: float | None = None
    within: float | None = None
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the policy needs to know of a request.

    Attributes:
        objective: What the best candidate is.
        input_tokens: Estimated tokens of the whole request, at least 0.
        max_output_tokens: The request's own limit on the answer; None when it sets none.
        needs: What an LLM must be able to do to take it.
        only: Candidates the client allows; None allows all.
    """

    objective: Objective
    input_tokens: int
    max_output_tokens: int | None = None
    needs: frozenset[Capability] = frozenset()
    only: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything that was weighed for one candidate.

    Attributes:
        name: The candidate.
        llm: The learned LLM it stands for.
        p_correct: Probability of a correct answer; None when no learned LLM stands behind it.
        expected_output_tokens: Expected tokens of the answer, reasoning included; None likewise.
        cost_usd: Expected cost of this request in USD; None when LLM or price is unknown.
        utility: p_correct - cost_weight * cost_usd; None likewise.
        excluded: Why it could not be chosen; None when it could.
    """

    name: str
    llm: str | None
    p_correct: float | None
    expected_output_tokens: float | None
    cost_usd: float | None
    utility: float | None
    excluded: Exclusion | None


@dataclass(frozen=True)  # no slots: `assessed` is kept once made
class Decision:
    """Which candidate shall answer, and everything that was weighed.

    Attributes:
        pool: The candidates; every array below is in its order.
        request: What was asked.
        p_correct: (n_candidates,), in [0, 1]; NaN where no learned LLM stands behind the name.
        output_tokens: (n_candidates,), expected tokens of the answer; NaN likewise.
        cost_usd: (n_candidates,), expected cost in USD; NaN where LLM or price is unknown.
        utility: (n_candidates,); NaN likewise.
        excluded: Reason per candidate, None where it could be chosen.
        ranking: Indices of the candidates that could be chosen, best first.
        floor_met: Whether the first of the ranking reaches the objective's floor; None when it sets none.
    """

    pool: CandidatePool
    request: Request
    p_correct: Floats
    output_tokens: Floats
    cost_usd: Floats
    utility: Floats
    excluded: tuple[Exclusion | None, ...]
    ranking: tuple[int, ...]
    floor_met: bool | None

    @property
    def chosen(self) -> Assessment | None:
        """The best candidate; None when all are excluded."""
        return self.assess(self.ranking[0]) if self.ranking else None

    @property
    def runner_up(self) -> Assessment | None:
        """The second best candidate; None when there is none."""
        return self.assess(self.ranking[1]) if len(self.ranking) > 1 else None

    @property
    def reason(self) -> Reason | None:
        """Why the chosen one was chosen; None when all are excluded."""
        if not self.ranking:
            return None
        if len(self.ranking) == 1:
            return Reason.ONLY_CANDIDATE
        if self.floor_met is None:
            return Reason.HIGHEST_UTILITY
        return Reason.CHEAPEST_AT_FLOOR if self.floor_met else Reason.FLOOR_UNREACHED

    @property
    def likeliest(self) -> Assessment | None:
        """The candidate likeliest to be correct among those that could be chosen; of equals the cheaper."""
        return min(self._ranked, key=lambda a: (-(a.p_correct or 0.0), a.cost_usd), default=None)

    @property
    def cheapest(self) -> Assessment | None:
        """The cheapest candidate among those that could be chosen; of equals the likelier."""
        return min(self._ranked, key=lambda a: (a.cost_usd, -(a.p_correct or 0.0)), default=None)

    @cached_property
    def assessed(self) -> tuple[Assessment, ...]:
        """What was weighed for each candidate, in pool order."""
        figures = (_known(column) for column in (self.p_correct, self.output_tokens, self.cost_usd, self.utility))
        return tuple(
            Assessment(one.name, one.llm, p, tokens, cost, utility, reason)
            for one, reason, p, tokens, cost, utility in zip(self.pool.candidates, self.excluded, *figures, strict=True)
        )

    @property
    def _ranked(self) -> list[Assessment]:
        return [self.assessed[i] for i in self.ranking]

    def named(self, name: str) -> Assessment | None:
        """What was weighed for one candidate; None when the pool has none of that name."""
        return self.assess(self.pool.names.index(name)) if name in self.pool.names else None

    def fallbacks(self, n: int) -> list[str]:
        """Names of the n next best candidates."""
        return [self.pool.names[i] for i in self.ranking[1 : n + 1]]

    def assess(self, index: int) -> Assessment:
        """What was weighed for one candidate, by its index in the pool."""
        return self.assessed[index]

    def assessments(self) -> list[Assessment]:
        """Every candidate: the ranked ones best first, then the excluded ones in pool order."""
        return [*self._ranked, *(a for a in self.assessed if a.excluded is not None)]


def decide(pool: CandidatePool, scores: Scores, request: Request) -> Decision:
    """Ranks the candidates of a pool by utility.

    Args:
        pool: The candidates.
        scores: Predictions for every learned LLM.
        request: Trade-off, size and limits of the request.

    Returns:
        The decision; its ranking is empty when every candidate is excluded.
    """
    p_correct = np.where(pool.scored, scores.p_correct[pool.rows].astype(np.float64), np.nan)
    output_tokens = np.where(pool.scored, scores.output_tokens[pool.rows].astype(np.float64), np.nan)
    billed = output_tokens
    if request.max_output_tokens is not None:
        billed = np.minimum(output_tokens, request.max_output_tokens)
    cost_usd = request.input_tokens * pool.input_price + billed * pool.output_price
    utility = p_correct - request.objective.cost_weight * cost_usd
    excluded = _exclusions(pool, request, cost_usd)
    usable = np.array([reason is None for reason in excluded], dtype=bool)
    best_first, floor_met = rank(request.objective, p_correct, cost_usd, usable)
    ranking = tuple(i for i in best_first.tolist() if usable[i])
    return Decision(pool, request, p_correct, billed, cost_usd, utility, excluded, ranking, floor_met)


def rank(
    objective: Objective, p_correct: Floats, cost_usd: Floats, usable: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], bool | None]:
    """Sorts candidates by an objective, whatever excludes them. The sorts are stable: ties stay in the given order.

    Args:
        objective: What the best candidate is.
        p_correct: (n_candidates,), in [0, 1] or NaN.
        cost_usd: (n_candidates,), expected cost in USD or NaN.
        usable: (n_candidates,), which ones may be chosen; the others raise no floor and reach none.

    Returns:
        Indices of all candidates, best first, and whether a usable one reaches the floor; None without a floor.
    """
    floor = objective.min_p_correct
    if objective.within is not None:
        floor = float(np.max(p_correct, initial=0.0, where=usable)) - objective.within
    if floor is None:
        return np.lexsort((cost_usd, objective.cost_weight * cost_usd - p_correct)), None
    reaches = p_correct >= floor
    cost_or_doubt = np.where(reaches, cost_usd, -p_correct)
    return np.lexsort((-p_correct, cost_or_doubt, ~reaches)), bool((reaches & usable).any())


def _exclusions(pool: CandidatePool, request: Request, cost_usd: Floats) -> tuple[Exclusion | None, ...]:
    reasons = list(pool.standing)
    limit = request.objective.max_cost_usd
    if request.only is not None:
        _exclude(reasons, Exclusion.NOT_REQUESTED, (name not in request.only for name in pool.names))
    if pool.has_limits:
        needed = request.input_tokens + (request.max_output_tokens or 0)
        _exclude(reasons, Exclusion.CONTEXT_WINDOW, (pool.max_input_tokens < needed).tolist())
    for capability in sorted(request.needs):
        _exclude(reasons, Exclusion.lacking(capability), (capability in c.lacks for c in pool.candidates))
    if limit is not None:
        _exclude(reasons, Exclusion.TOO_EXPENSIVE, (cost_usd > limit).tolist())
    return tuple(reasons)


def _exclude(reasons: list[Exclusion | None], reason: Exclusion, hit: Iterable[bool]) -> None:
    for index, is_hit in enumerate(hit):
        if is_hit and reasons[index] is None:
            reasons[index] = reason


def _known(column: Floats) -> list[float | None]:
    return [None if math.isnan(number) else number for number in column.tolist()]
