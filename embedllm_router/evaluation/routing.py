"""Routing measured pool by pool: accuracy without regard to cost, risk against coverage, and what cost weights change.

Figures over several pools are means weighted by prompts. Risk against coverage is how often a router is wrong on the
prompts it is surest of (Geifman & El-Yaniv, 2017).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.frontier import (
    CostMetrics,
    Costs,
    Curve,
    Reference,
    Sweep,
    choose,
    cost_metrics,
    pareto_distance,
    sweep,
)
from embedllm_router.evaluation.inputs import Pool, find_pools, pool_means

__all__ = [
    "CostResult",
    "Field",
    "RoutedPrompts",
    "field_of",
    "mean_cost_metrics",
    "pareto_distances",
    "risk_coverage",
    "route",
    "sweep_pools",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Risk when only the surest share of prompts is answered.

    Attributes:
        coverage: float64 (n_prompts,), rising to 1.
        risk: Share wrong among those covered, float64 (n_prompts,), in [0, 1].
    """

    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """Area under the curve (AURC): mean risk over all coverages; lower is better."""
        return float(self.risk.mean())

    def risk_at(self, coverage: float) -> float:
        """Risk at the smallest coverage on the curve that is at least as large as the one given."""
        at = int(np.searchsorted(self.coverage, coverage - 1e-12))
        return float(self.risk[min(at, len(self.risk) - 1)])


def risk_coverage(confidence: Floats, correct: Floats) -> RiskCoverage:
    """Orders prompts by confidence and accumulates mistakes.

    Args:
        confidence: float64 (n_prompts,); ties keep the prompts' order.
        correct: float64 (n_prompts,), 0 or 1; at least one prompt.

    Returns:
        The curve.
    """
    order = np.argsort(-confidence, kind="stable")
    n = np.arange(1, len(correct) + 1)
    return RiskCoverage(n / len(correct), np.cumsum(1.0 - correct[order]) / n)


@dataclass(frozen=True, slots=True)
class Arena:
    """One pool ready for routing.

    Attributes:
        pool: Prompts and LLMs.
        labels: float64 (n_prompts, n_llms), 0 or 1.
        best: Column of the best single LLM, chosen on train.
        cost: USD, float64 (n_prompts, n_llms); NaN in a pool that ignores cost.
        expected_cost: The same as known before the answer.
    """

    pool: Pool
    labels: Floats
    best: int
    cost: Floats
    expected_cost: Floats

    @property
    def reference(self) -> Reference:
        """The pool's LLMs, each always chosen."""
        return Reference(self.cost.mean(axis=0), self.labels.mean(axis=0), self.best)


@dataclass(frozen=True, slots=True)
class Field:
    """All pools of a test part.

    Attributes:
        all_llms: Pools of every LLM, priced or not; for accuracy.
        priced: Pools of LLMs with a list price; for everything with cost in it.
    """

    all_llms: tuple[Arena, ...]
    priced: tuple[Arena, ...]

    @property
    def n_prompts(self) -> int:
        """Prompts in pools of every LLM."""
        return sum(len(arena.labels) for arena in self.all_llms)


@dataclass(frozen=True, slots=True)
class RoutedPrompts:
    """Every routed prompt of all pools, in pool order; each array float64 or int64 (n_routed,).

    Attributes:
        correct: Verdict on the LLM chosen without regard to cost.
        best_single: Verdict on the best single LLM.
        oracle: Whether any LLM of the pool was right.
        random: Share of the pool's LLMs that were right.
        confidence: Predicted correctness of the chosen LLM.
        chosen: Column of the matrix that was chosen.
        ideal: Column of the cheapest right LLM, or where none was right or prices lack, the first right or -1.
    """

    correct: Floats
    best_single: Floats
    oracle: Floats
    random: Floats
    confidence: Floats
    chosen: NDArray[np.int64]
    ideal: NDArray[np.int64]

    @property
    def risk_coverage(self) -> RiskCoverage:
        """Risk against coverage of the chosen LLMs."""
        return risk_coverage(self.confidence, self.correct)


@dataclass(frozen=True, slots=True)
class CostResult:
    """A router on one priced pool."""

    arena: Arena
    sweep: Sweep
    curve: Curve
    metrics: CostMetrics


def field_of(test: CorrectnessMatrix, costs: Costs, train: CorrectnessMatrix | None, fallback: Floats) -> Field:
    """Lays out the pools.

    Args:
        test: Labels.
        costs: Of the same prompts and LLMs.
        train: Decides who is the best single LLM of a pool.
        fallback: Mean correctness in training of each LLM, float64 (n_llms,); decides where train has nothing.

    Returns:
        The pools; none when no data set has two LLMs that answered nearly all of it.
    """

    def arena(pool: Pool) -> Arena:
        means = pool_means(pool, train) if train is not None else np.zeros(len(pool.columns))
        means = means if means.any() else fallback[pool.columns]
        return Arena(
            pool,
            pool.block(test.labels()),
            int(np.argmax(means)),
            pool.block(costs.cost),
            pool.block(costs.expected_cost),
        )

    return Field(
        tuple(arena(pool) for pool in find_pools(test)),
        tuple(arena(pool) for pool in find_pools(test, costs.priced)),
    )


def route(arenas: Sequence[Arena], p: NDArray[np.float32]) -> RoutedPrompts:
    """Chooses by prediction alone in every pool.

    Args:
        arenas: At least one.
        p: Scores, float32 (n_prompts, n_llms), of the whole test part.

    Returns:
        What was chosen and how it went.
    """
    parts = [_route_one(arena, arena.pool.block(p)) for arena in arenas]
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(RoutedPrompts)}
    return RoutedPrompts(**joined)


def _route_one(arena: Arena, p: Floats) -> RoutedPrompts:
    rows, columns = np.arange(len(p)), arena.pool.columns
    chosen = choose(p, np.zeros_like(p), 0.0)
    price = np.where(np.isfinite(arena.cost), arena.cost, np.inf)
    right_price = np.where(arena.labels > 0, np.minimum(price, np.finfo(np.float64).max), np.inf)
    any_right = arena.labels.max(axis=1) > 0
    return RoutedPrompts(
        correct=arena.labels[rows, chosen],
        best_single=arena.labels[:, arena.best],
        oracle=arena.labels.max(axis=1),
        random=arena.labels.mean(axis=1),
        confidence=p[rows, chosen],
        chosen=columns[chosen],
        ideal=np.where(any_right, columns[right_price.argmin(axis=1)], -1),
    )


def sweep_pools(arenas: Sequence[Arena], p: NDArray[np.float32]) -> tuple[CostResult, ...]:
    """Sweeps the cost weight in every priced pool.

    Args:
        arenas: Priced pools.
        p: Scores, float32 (n_prompts, n_llms), of the whole test part.

    Returns:
        One result per pool.
    """
    results = []
    for arena in arenas:
        swept = sweep(arena.pool.block(p), arena.expected_cost, arena.labels, arena.cost)
        curve = swept.curve()
        results.append(CostResult(arena, swept, curve, cost_metrics(curve, arena.reference)))
    return tuple(results)


def mean_cost_metrics(results: Sequence[CostResult]) -> CostMetrics:
    """Means over pools weighted by prompts; a pool where a figure is undefined is left out of that figure.

    Args:
        results: One router's, of any number of pools.

    Returns:
        NaN where no pool defines a figure.
    """
    sizes = np.array([len(r.arena.labels) for r in results], dtype=np.float64)

    def mean(name: str) -> float:
        values = np.array([getattr(r.metrics, name) for r in results], dtype=np.float64)
        known = np.isfinite(values)
        return float((values[known] * sizes[known]).sum() / sizes[known].sum()) if known.any() else math.nan

    return CostMetrics(**{f.name: mean(f.name) for f in fields(CostMetrics)})


def pareto_distances(routers: Sequence[Sequence[CostResult]]) -> list[float]:
    """Mean distance of each router to the frontier of all routers and LLMs, weighted over pools by prompts.

    Args:
        routers: Per router its results, all of the same pools.

    Returns:
        One number per router.
    """
    totals, n_prompts = np.zeros(len(routers)), 0
    for results in zip(*routers, strict=True):
        llms = results[0].arena.reference
        everyone = Curve.of(
            np.concatenate([llms.cost, *(r.curve.cost for r in results)]),
            np.concatenate([llms.accuracy, *(r.curve.accuracy for r in results)]),
        )
        n = len(results[0].arena.labels)
        totals += n * np.array([pareto_distance(r.curve, everyone) for r in results])
        n_prompts += n
    return [float(total / n_prompts) if n_prompts else math.nan for total in totals]
