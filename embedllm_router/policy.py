"""p_correct + cost + constraints → Decision. Pure: numbers in, numbers out, no clock, no randomness.

    utility = p_correct - cost_weight * cost_usd

The candidate with the highest utility is chosen. Ties go to the cheaper one, then to the one listed first.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embedllm_router.scorer import Scores

__all__ = ["Assessment", "Candidate", "CandidatePool", "Decision", "Exclusion", "Request", "decide"]

Floats = NDArray[np.float64]


class Exclusion(StrEnum):
    """Why a candidate could not be chosen."""

    LLM_UNKNOWN = "llm_unknown"
    PRICE_UNKNOWN = "price_unknown"
    NOT_REQUESTED = "not_requested"
    CONTEXT_WINDOW = "context_window"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One LLM that may answer.

    Attributes:
        name: What the caller calls it: a LiteLLM model group, or a canonical id.
        llm: Canonical id of the learned LLM it stands for; None when none does.
        row: That LLM's row in the artifact; None when none does.
        input_usd_per_token: Price of one input token in USD; None when unknown. 0.0 means free.
        output_usd_per_token: Price of one output token in USD; None when unknown.
        max_input_tokens: Context window in tokens; None when unknown.
    """

    name: str
    llm: str | None
    row: int | None
    input_usd_per_token: float | None
    output_usd_per_token: float | None
    max_input_tokens: int | None = None

    @property
    def standing_exclusion(self) -> Exclusion | None:
        """Why this candidate can never be chosen, whatever the request."""
        if self.row is None:
            return Exclusion.LLM_UNKNOWN
        if self.input_usd_per_token is None or self.output_usd_per_token is None:
            return Exclusion.PRICE_UNKNOWN
        return None


@dataclass(frozen=True, slots=True)
class Request:
    """What the policy needs to know of a request.

    Attributes:
        cost_weight: λ, the accuracy one gives up per US dollar; finite, at least 0.
        input_tokens: Estimated tokens of the whole request, at least 0.
        max_output_tokens: The request's own limit on the answer; None when it sets none.
        only: Candidates the client allows; None allows all.
    """

    cost_weight: float
    input_tokens: int
    max_output_tokens: int | None = None
    only: Collection[str] | None = None


class CandidatePool:
    """Candidates laid out as arrays once, so that a request costs a handful of vector operations.

    Args:
        candidates: In the order that breaks ties; names are unique.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)
        self.names = tuple(c.name for c in self.candidates)
        self.standing = tuple(c.standing_exclusion for c in self.candidates)
        self.rows = np.array([c.row or 0 for c in self.candidates], dtype=np.intp)
        self.input_price = _column(c.input_usd_per_token for c in self.candidates)
        self.output_price = _column(c.output_usd_per_token for c in self.candidates)
        self.max_input_tokens = _column(c.max_input_tokens for c in self.candidates)
        self.scored = np.array([c.row is not None for c in self.candidates], dtype=bool)
        self.usable = np.array([reason is None for reason in self.standing], dtype=bool)
        self.has_limits = bool(np.isfinite(self.max_input_tokens).any())

    def cost_usd(self, name: str, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost at a candidate's prices; None when it or its price is unknown."""
        if name not in self.names:
            return None
        one = self.candidates[self.names.index(name)]
        if one.input_usd_per_token is None or one.output_usd_per_token is None:
            return None
        return input_tokens * one.input_usd_per_token + output_tokens * one.output_usd_per_token


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


@dataclass(frozen=True, slots=True)
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
    """

    pool: CandidatePool
    request: Request
    p_correct: Floats
    output_tokens: Floats
    cost_usd: Floats
    utility: Floats
    excluded: tuple[Exclusion | None, ...]
    ranking: tuple[int, ...]

    @property
    def chosen(self) -> Assessment | None:
        """The best candidate; None when all are excluded."""
        return self.assess(self.ranking[0]) if self.ranking else None

    @property
    def runner_up(self) -> Assessment | None:
        """The second best candidate; None when there is none."""
        return self.assess(self.ranking[1]) if len(self.ranking) > 1 else None

    def fallbacks(self, n: int) -> list[str]:
        """Names of the n next best candidates."""
        return [self.pool.names[i] for i in self.ranking[1 : n + 1]]

    def assess(self, index: int) -> Assessment:
        """What was weighed for one candidate, by its index in the pool."""
        return Assessment(
            name=self.pool.names[index],
            llm=self.pool.candidates[index].llm,
            p_correct=_known(self.p_correct[index]),
            expected_output_tokens=_known(self.output_tokens[index]),
            cost_usd=_known(self.cost_usd[index]),
            utility=_known(self.utility[index]),
            excluded=self.excluded[index],
        )

    def assessments(self) -> list[Assessment]:
        """Every candidate: the ranked ones best first, then the excluded ones in pool order."""
        excluded = [i for i, reason in enumerate(self.excluded) if reason is not None]
        return [self.assess(i) for i in (*self.ranking, *excluded)]


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
    utility = p_correct - request.cost_weight * cost_usd
    excluded = _exclusions(pool, request)
    best_first = np.lexsort((cost_usd, -utility))  # stable: what still ties stays in pool order
    ranking = tuple(i for i in best_first.tolist() if excluded[i] is None)
    return Decision(pool, request, p_correct, billed, cost_usd, utility, excluded, ranking)


def _exclusions(pool: CandidatePool, request: Request) -> tuple[Exclusion | None, ...]:
    too_small = pool.max_input_tokens < request.input_tokens if pool.has_limits else None
    if request.only is None and (too_small is None or not too_small.any()):
        return pool.standing
    return tuple(
        reason
        or (Exclusion.NOT_REQUESTED if request.only is not None and name not in request.only else None)
        or (Exclusion.CONTEXT_WINDOW if too_small is not None and too_small[i] else None)
        for i, (name, reason) in enumerate(zip(pool.names, pool.standing, strict=True))
    )


def _column(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _known(value: np.float64) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
