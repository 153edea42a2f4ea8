"""What routing cost, beside what always choosing one way would have: predicted figures against predicted figures.

The other ways' answers were never asked for, so nobody knows their real cost or correctness; both sides of every
comparison are therefore the router's own forecasts for the same requests. `forecast.py` says how good those are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Resampling
from embedllm_router.analysis.summary_logs_sampling import CandidateSums
from embedllm_router.analysis.summary_logs_totals import Totals
from embedllm_router.stats_evaluation_bootstrap import Estimate

__all__ = ["Alternative", "Spend", "best_single", "spend"]

Floats = NDArray[np.float64]

_ENOUGH: Final = 0.5
"""Share of the requests that an LLM must have been able to take to count as one that could take all."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another way to choose, beside the routing that was, over the same requests.

    Attributes:
        name: "likeliest", "cheapest" or "best_single".
        llm: The model group it always chooses; None when that differs by request.
        n: Requests compared.
        n_meant: Requests the figures stand for; more than `n` when they were sampled.
        cost_usd: Predicted cost of a request its way, in USD.
        p_correct: Predicted probability of a correct answer its way.
        routed_cost_usd: Predicted cost of a request as it was routed.
        routed_p_correct: Predicted probability as it was routed.
        saved_usd: USD that routing saved over all requests meant; negative when it cost more.
        saved_share: The same as a share of its cost, at most 1.
        p_correct_gained: What routing gained per request; negative when it gave something up.
    """

    name: str
    llm: str | None
    n: int
    n_meant: int
    cost_usd: float
    p_correct: float
    routed_cost_usd: float
    routed_p_correct: float
    saved_usd: Estimate
    saved_share: Estimate
    p_correct_gained: Estimate


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent.

    Attributes:
        billed_usd: Billed cost of all requests.
        n_billed: Requests with a billed cost.
        expected_usd: Predicted cost of the compared requests, as they were routed.
        n_compared: Requests with every prediction; those that failed open have none.
        p_correct: Their mean predicted probability of a correct answer; NaN without any.
        alternatives: Other ways to choose; empty when no request can be compared.
    """

    billed_usd: float
    n_billed: int
    expected_usd: float
    n_compared: int
    p_correct: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums per unit of resampling, each (n_units,)."""

    n: Floats
    cost: Floats
    p: Floats
    routed_cost: Floats
    routed_p: Floats


def spend(totals: Totals, candidates: CandidateSums, seed: int) -> Spend:
    """Compares routing with always the likeliest, always the cheapest, and always the single best LLM."""
    n_compared = int(totals.total("n", totals.compared))
    alternatives: Sequence[Alternative | None] = ()
    if n_compared:
        alternatives = (
            _alternative("likeliest", _from_totals(totals, "likeliest"), n_compared, seed),
            _alternative("cheapest", _from_totals(totals, "cheapest"), n_compared, seed),
            best_single(candidates, n_compared, seed),
        )
    return Spend(
        billed_usd=totals.total("billed_usd"),
        n_billed=int(totals.total("n_billed")),
        expected_usd=totals.total("expected_cost_usd", totals.compared),
        n_compared=n_compared,
        p_correct=totals.total("p_correct", totals.compared) / n_compared if n_compared else np.nan,
        alternatives=tuple(one for one in alternatives if one is not None),
    )


def best_single(candidates: CandidateSums, n_meant: int, seed: int) -> Alternative | None:
    """Routing beside the one LLM with the highest mean p_correct over the requests where it could be chosen.

    Only LLMs count that could have taken half of the requests or more; of equals the cheaper is the best.

    Args:
        candidates: Sums over sampled requests.
        n_meant: Requests the sample stands for.
        seed: Of the interval.

    Returns:
        None when there is no such LLM.
    """
    best: tuple[float, float, str] | None = None
    for name in sorted(set(candidates.name)):
        sums = _of(candidates, name)
        n = sums.n.sum()
        if n >= _ENOUGH * candidates.n_requests:
            rank = (-sums.p.sum() / n, sums.cost.sum() / n, name)
            best = rank if best is None else min(best, rank)
    if best is None:
        return None
    return _alternative("best_single", _of(candidates, best[2]), n_meant, seed, llm=best[2])


def _from_totals(totals: Totals, way: str) -> _Sums:
    names = ("n", f"{way}_cost_usd", f"{way}_p_correct", "expected_cost_usd", "p_correct")
    return _Sums(*(totals.per_group(name, totals.compared) for name in names))


def _of(candidates: CandidateSums, name: str) -> _Sums:
    mine = np.array([one == name for one in candidates.name])
    units = candidates.unit[mine]

    def per_unit(column: Floats) -> Floats:
        return np.bincount(units, weights=column[mine], minlength=candidates.n_units).astype(np.float64)

    return _Sums(
        n=per_unit(candidates.n),
        cost=per_unit(candidates.cost_usd),
        p=per_unit(candidates.p_correct),
        routed_cost=per_unit(candidates.chosen_cost_usd),
        routed_p=per_unit(candidates.chosen_p_correct),
    )


def _alternative(name: str, sums: _Sums, n_meant: int, seed: int, llm: str | None = None) -> Alternative:
    n = float(sums.n.sum())
    draws = Resampling(len(sums.n), seed)
    saved = draws.ratio(sums.cost - sums.routed_cost, sums.n)
    return Alternative(
        name=name,
        llm=llm,
        n=int(n),
        n_meant=n_meant,
        cost_usd=float(sums.cost.sum() / n),
        p_correct=float(sums.p.sum() / n),
        routed_cost_usd=float(sums.routed_cost.sum() / n),
        routed_p_correct=float(sums.routed_p.sum() / n),
        saved_usd=Estimate(saved.value * n_meant, saved.low * n_meant, saved.high * n_meant, int(n)),
        saved_share=_counting(draws.ratio(sums.cost - sums.routed_cost, sums.cost), int(n)),
        p_correct_gained=_counting(draws.ratio(sums.routed_p - sums.p, sums.n), int(n)),
    )


def _counting(found: Estimate, n: int) -> Estimate:
    """The same estimate, which says how many requests it rests on rather than how many groups."""
    return Estimate(found.value, found.low, found.high, n)
