"""Accuracy against cost: what answers cost, which LLM each cost weight λ chooses, and published figures of the curve.

    cost   = input tokens · input price + output tokens · output price
    choice = argmax p - λ · expected cost

Input tokens are the recorded ones where the data have them, otherwise prompt bytes / 4. Output tokens are the recorded
ones, otherwise those estimated from the visible characters, otherwise the artifact's prediction. Visible characters do
not tell what an LLM that reasons first bills: its prediction, which counts the hidden part, is taken then. Recorded
costs are not used: they are of the prices of their day and provider.

Figures are of one pool; `routing` takes the mean over pools. docs/evaluation.md has their definitions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.data.matrix import CorrectnessMatrix

__all__ = [
    "COST_WEIGHTS",
    "CostMetrics",
    "Costs",
    "Curve",
    "Reference",
    "Sweep",
    "aiq",
    "aiq_of_code",
    "arena_score",
    "choose",
    "cost_metrics",
    "cost_save",
    "cost_to_reach",
    "deferral_area",
    "hull",
    "pareto_distance",
    "performance_gap_recovered",
    "price_answers",
    "rising",
    "sweep",
]

_BYTES_PER_TOKEN: Final = 4.0
_PER_MTOK: Final = 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """USD per prompt and LLM.

    Attributes:
        cost: With recorded output tokens where known, float64 (n_prompts, n_llms); NaN without a price.
        expected_cost: With prompt bytes / 4 and predicted output tokens, which is all a router knows; likewise.
        priced: Whether the LLM has a list price, bool (n_llms,).
        recorded: Share of the priced labels whose output tokens were recorded, in [0, 1].
    """

    cost: NDArray[np.float64]
    expected_cost: NDArray[np.float64]
    priced: NDArray[np.bool_]
    recorded: float


def price_answers(
    matrix: CorrectnessMatrix, llms: Sequence[LearnedLLM], predicted_tokens: NDArray[np.float32]
) -> Costs:
    """Prices every pair of prompt and LLM.

    Args:
        matrix: Prompts and recorded tokens; its columns are `llms`.
        llms: With their list prices.
        predicted_tokens: The artifact's, float32 (n_prompts, n_llms).

    Returns:
        The costs.
    """
    input_price = _column([llm.input_usd_per_mtok for llm in llms])
    output_price = _column([llm.output_usd_per_mtok for llm in llms])
    priced = np.isfinite(input_price) & np.isfinite(output_price)
    thinking = np.array([llm.thinking for llm in llms])
    estimate = np.array([len(p.encode("utf-8", errors="replace")) for p in matrix.prompts]) / _BYTES_PER_TOKEN
    prompt_tokens = np.where(np.isfinite(matrix.input_tokens), matrix.input_tokens, estimate)
    predicted = predicted_tokens.astype(np.float64)
    known = np.isfinite(matrix.output_tokens) & (matrix.counted | ~thinking)
    tokens = np.where(known, matrix.output_tokens, predicted)
    of_prompt, guessed = (n[:, None] * input_price / _PER_MTOK for n in (prompt_tokens, estimate))
    counted = matrix.observed & priced
    return Costs(
        cost=of_prompt + tokens * output_price / _PER_MTOK,
        expected_cost=guessed + predicted * output_price / _PER_MTOK,
        priced=priced,
        recorded=float((known & counted).sum() / max(int(counted.sum()), 1)),
    )


def _column(prices: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if price is None else price for price in prices], dtype=np.float64)


Floats = NDArray[np.float64]
COST_WEIGHTS: Final[Floats] = np.concatenate([[0.0], np.logspace(-2, 7, 91), [1e12]])
"""λ in accuracy per US dollar: 0 ignores cost, the last ignores everything else."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of accuracy against cost, by rising cost, at equal cost the most accurate last.

    Attributes:
        cost: float64 (n_points,), mean USD per prompt.
        accuracy: float64 (n_points,), in [0, 1].
    """

    cost: Floats
    accuracy: Floats

    @classmethod
    def of(cls, cost: Floats, accuracy: Floats) -> "Curve":
        """Sorts points into a curve."""
        order = np.lexsort((accuracy, cost))
        return cls(cost[order], accuracy[order])


@dataclass(frozen=True, slots=True)
class Sweep:
    """What every cost weight does to every prompt of one pool.

    Attributes:
        weights: λ, float64 (n_weights,), rising.
        chosen: int64 (n_prompts, n_weights), column of the pool.
        correct: float64 (n_prompts, n_weights), 0 or 1.
        cost: float64 (n_prompts, n_weights), USD the choice really costs.
        expected_cost: float64 (n_prompts, n_weights), USD it was expected to cost.
    """

    weights: Floats
    chosen: NDArray[np.int64]
    correct: Floats
    cost: Floats
    expected_cost: Floats

    def curve(self) -> Curve:
        """One point per cost weight."""
        return Curve.of(self.cost.mean(axis=0), self.correct.mean(axis=0))


def choose(p: Floats, expected_cost: Floats, weight: float) -> NDArray[np.int64]:
    """The policy's choice for every prompt: highest utility, ties to the cheaper, then to the first.

    Args:
        p: Predicted correctness, float64 (n_prompts, n_llms).
        expected_cost: USD, float64 (n_prompts, n_llms), at least 0.
        weight: λ, at least 0.

    Returns:
        int64 (n_prompts,).
    """
    utility = p - weight * expected_cost
    best = utility == utility.max(axis=1, keepdims=True)
    chosen: NDArray[np.int64] = np.where(best, expected_cost, np.inf).argmin(axis=1)
    return chosen


def sweep(p: Floats, expected_cost: Floats, labels: Floats, cost: Floats, weights: Floats = COST_WEIGHTS) -> Sweep:
    """Routes a pool at every cost weight.

    Args:
        p: Predicted correctness, float64 (n_prompts, n_llms).
        expected_cost: USD as known before the answer, float64 (n_prompts, n_llms).
        labels: float64 (n_prompts, n_llms), 0 or 1, none missing.
        cost: USD of each answer, float64 (n_prompts, n_llms).
        weights: λ, float64 (n_weights,), rising.

    Returns:
        Choices and what they led to.
    """
    chosen = np.stack([choose(p, expected_cost, float(w)) for w in weights], axis=1)
    correct, spent, expected = (np.take_along_axis(values, chosen, axis=1) for values in (labels, cost, expected_cost))
    return Sweep(weights, chosen, correct, spent, expected)


def hull(curve: Curve) -> Curve:
    """The non-decreasing convex hull (RouterBench, arXiv 2403.12031, section 3): what mixing operating points reaches.

    Args:
        curve: At least one point.

    Returns:
        Vertices from the cheapest point up to the first most accurate one; accuracy rises and is concave in cost.
    """
    kept: list[tuple[float, float]] = []
    for cost, accuracy in zip(curve.cost.tolist(), curve.accuracy.tolist(), strict=True):
        if kept and accuracy <= kept[-1][1]:
            continue
        while kept and (kept[-1][0] >= cost or (len(kept) > 1 and _below(kept[-2], kept[-1], (cost, accuracy)))):
            kept.pop()
        kept.append((cost, accuracy))
    vertices = np.array(kept, dtype=np.float64)
    return Curve(vertices[:, 0], vertices[:, 1])


def rising(curve: Curve) -> Curve:
    """The points that are more accurate than every other point that is not dearer: those worth paying for."""
    before = np.maximum.accumulate(np.append(-np.inf, curve.accuracy))[:-1]
    cost, accuracy = curve.cost[curve.accuracy > before], curve.accuracy[curve.accuracy > before]
    last = np.append(cost[1:] > cost[:-1], [True])  # of equal cost the most accurate
    return Curve(cost[last], accuracy[last])


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or under the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


_ARENA_BETA: Final = 0.1
_ARENA_CHEAPEST, _ARENA_DEAREST = 0.0044, 200.0  # USD per 1,000 prompts, RouterArena's constants
_CPT_LEVELS: Final = (0.5, 0.8)
_MIN_COST: Final = 1e-12  # USD; keeps the logarithm of a free answer finite


@dataclass(frozen=True, slots=True)
class Reference:
    """The pool's LLMs, each always chosen, on the test part.

    Attributes:
        cost: Mean USD per prompt, float64 (n_llms,).
        accuracy: float64 (n_llms,).
        best: Column of the best single LLM, chosen on train.
    """

    cost: Floats
    accuracy: Floats
    best: int

    @property
    def cheapest(self) -> int:
        """Column of the LLM that costs least; the more accurate one of equals."""
        return int(np.lexsort((-self.accuracy, self.cost))[0])

    @property
    def most_accurate(self) -> int:
        """Column of the LLM most accurate on test; the cheaper one of equals."""
        return int(np.lexsort((self.cost, -self.accuracy))[0])


@dataclass(frozen=True, slots=True)
class CostMetrics:
    """Figures of one curve in one pool; NaN where a figure is not defined there.

    Attributes:
        cost_save: Of the best single LLM's cost, the share saved at its accuracy, in [0, 1] (LLMRouterBench).
        perf_gain: Highest accuracy on the curve over the best single LLM's, minus 1 (LLMRouterBench).
        aiq: Mean of the hull over [cheapest, dearest LLM] (RouterBench, paper).
        aiq_code: Area under the hull divided by the dearest LLM's cost (RouterBench, code).
        deferral_area: Mean of the curve over [0, dearest LLM] (UniRoute).
        qnc: Cost to match the LLM most accurate on test, relative to that LLM's (UniRoute); NaN when never matched.
        apgr: Mean share of the gap cheapest → best single recovered (RouteLLM, cost as x); NaN without a gap.
        cpt50: Share of the cost span needed to recover half the gap; NaN when never.
        cpt80: The same for four fifths.
        arena: RouterArena's score at the most accurate point.
        arena_best: The same at the point where it is highest.
    """

    cost_save: float
    perf_gain: float
    aiq: float
    aiq_code: float
    deferral_area: float
    qnc: float
    apgr: float
    cpt50: float
    cpt80: float
    arena: float
    arena_best: float


def cost_metrics(curve: Curve, reference: Reference) -> CostMetrics:
    """All figures of one curve.

    Args:
        curve: The router's operating points.
        reference: The pool's LLMs.

    Returns:
        The figures.
    """
    best_accuracy, best_cost = float(reference.accuracy[reference.best]), float(reference.cost[reference.best])
    top = reference.most_accurate
    paying = rising(curve)
    to_match_top = cost_to_reach(paying, float(reference.accuracy[top]))
    recovered = performance_gap_recovered(curve, reference)
    scores = arena_score(curve.accuracy, curve.cost)
    return CostMetrics(
        cost_save=cost_save(curve, best_accuracy, best_cost),
        perf_gain=_ratio(float(curve.accuracy.max()), best_accuracy) - 1.0,
        aiq=aiq(curve, float(reference.cost.min()), float(reference.cost.max())),
        aiq_code=aiq_of_code(curve, float(reference.cost.max())),
        deferral_area=deferral_area(curve, float(reference.cost.max())),
        qnc=_ratio(to_match_top, float(reference.cost[top])),
        apgr=recovered[0],
        cpt50=recovered[1],
        cpt80=recovered[2],
        arena=float(scores[int(np.lexsort((curve.cost, -curve.accuracy))[0])]),
        arena_best=float(scores.max()),
    )


def cost_save(curve: Curve, best_accuracy: float, best_cost: float) -> float:
    """LLMRouterBench's CostSave (arXiv 2601.07206): 1 - c / c_best, c the cheapest operating point as accurate.

    Args:
        curve: The router's operating points; none is mixed with another.
        best_accuracy: Of the best single LLM, in [0, 1].
        best_cost: Its mean USD per prompt.

    Returns:
        In [0, 1]; 0 where no point is as accurate, or it is dearer: always choosing that LLM remains possible.
    """
    reached = curve.cost[curve.accuracy >= best_accuracy]
    if not len(reached) or best_cost <= 0:
        return 0.0
    return max(1.0 - float(reached.min()) / best_cost, 0.0)


def cost_to_reach(paying: Curve, accuracy: float) -> float:
    """Lowest cost at which a curve reaches an accuracy, linear between its points; NaN when it never does.

    Args:
        paying: From `rising` or `hull`.
        accuracy: In [0, 1].
    """
    if accuracy > paying.accuracy[-1]:
        return math.nan
    return float(np.interp(accuracy, paying.accuracy, paying.cost))


def deferral_area(curve: Curve, dearest: float) -> float:
    """Mean accuracy for a budget drawn uniformly from [0, dearest LLM] (UniRoute, arXiv 2502.08773), in [0, 1].

    The curve is the best accuracy at or below a budget, piecewise linear between operating points that pay, flat
    outside them.
    """
    return _mean_height(rising(curve), 0.0, dearest)


def aiq(curve: Curve, cheapest: float, dearest: float) -> float:
    """Mean height of the non-decreasing convex hull over [cheapest, dearest] (RouterBench's paper), in [0, 1]."""
    return _mean_height(hull(curve), cheapest, dearest)


def aiq_of_code(curve: Curve, dearest: float) -> float:
    """Area under the hull from its first point to the dearest cost, divided by that cost (RouterBench's code).

    Below the first point the code counts nothing, and a point dearer than every LLM widens the range.
    """
    vertices = hull(curve)
    end = max(dearest, float(vertices.cost[-1]))
    if end <= 0:
        return float(vertices.accuracy[-1])
    cost = np.append(vertices.cost, end)
    accuracy = np.append(vertices.accuracy, vertices.accuracy[-1])
    return _area(cost, accuracy) / end


def performance_gap_recovered(curve: Curve, reference: Reference) -> tuple[float, float, float]:
    """APGR, CPT(50 %) and CPT(80 %) (RouteLLM, arXiv 2406.18665), with cost as x and N LLMs.

    Weak is the cheapest LLM, strong the best single one; x runs from the weak one's cost (0) to the strong one's (1).
    RouteLLM has two LLMs and the share of calls to the strong one as x: with two LLMs of fixed cost the two agree.

    Args:
        curve: The router's operating points.
        reference: The pool's LLMs.

    Returns:
        The three, NaN without a gap or, for CPT, when the level is never reached.
    """
    weak, strong = reference.cheapest, reference.best
    gap = float(reference.accuracy[strong] - reference.accuracy[weak])
    low, high = float(reference.cost[weak]), float(reference.cost[strong])
    if gap <= 0 or high <= low:
        return math.nan, math.nan, math.nan
    weak_accuracy = float(reference.accuracy[weak])
    average = (_mean_height(curve, low, high) - weak_accuracy) / gap
    levels = [cost_to_reach(rising(curve), weak_accuracy + level * gap) for level in _CPT_LEVELS]
    shares = [max((cost - low) / (high - low), 0.0) if math.isfinite(cost) else math.nan for cost in levels]
    return average, shares[0], shares[1]


def arena_score(accuracy: Floats, cost: Floats) -> Floats:
    """RouterArena's score (arXiv 2510.00202): weighted harmonic mean of accuracy and log-normalised cheapness.

        C = (log2 200 - log2 c) / (log2 200 - log2 0.0044)        c in USD per 1,000 prompts
        S = (1 + β) · A · C / (β · A + C)                         β = 0.1

    Args:
        accuracy: float64 (n,), in [0, 1].
        cost: Mean USD per prompt, float64 (n,); clipped to the range C is defined on.

    Returns:
        float64 (n,), in [0, 1].
    """
    per_thousand = np.clip(cost * 1000.0, _ARENA_CHEAPEST, _ARENA_DEAREST)
    span = np.log2(_ARENA_DEAREST) - np.log2(_ARENA_CHEAPEST)
    cheapness = (np.log2(_ARENA_DEAREST) - np.log2(per_thousand)) / span
    below = _ARENA_BETA * accuracy + cheapness
    scores: Floats = np.divide(
        (1 + _ARENA_BETA) * accuracy * cheapness, below, out=np.zeros_like(below), where=below > 0
    )
    return scores


def pareto_distance(curve: Curve, others: Curve) -> float:
    """LLMRouterBench's ParetoDist (arXiv 2601.07206): mean L1 distance of a router's points to the frontier.

    The axes are accuracy and the logarithm of cost, each scaled to [0, 1] over all points; the frontier is the points
    no other one dominates, and a point's distance, at least 0, is to the nearest of them.

    Args:
        curve: The router's operating points.
        others: Points of all routers and LLMs, the router's own among them.
    """
    everyone, front, mine = (_log_cost_and_accuracy(c) for c in (others, rising(others), curve))
    span = np.ptp(everyone, axis=0)
    span[span == 0] = 1.0
    gaps = np.abs(mine[:, None] - front[None]) / span
    return float(gaps.sum(axis=2).min(axis=1).mean())


def _log_cost_and_accuracy(curve: Curve) -> Floats:
    return np.stack([np.log(np.maximum(curve.cost, _MIN_COST)), curve.accuracy], axis=1)


def _mean_height(curve: Curve, low: float, high: float) -> float:
    if high <= low:
        return float(np.interp(low, curve.cost, curve.accuracy))
    inside = curve.cost[(curve.cost > low) & (curve.cost < high)]
    x = np.concatenate([[low], inside, [high]])
    return _area(x, np.interp(x, curve.cost, curve.accuracy)) / (high - low)


def _area(x: Floats, y: Floats) -> float:
    """Trapezoidal rule; x rises."""
    return float(((y[1:] + y[:-1]) * np.diff(x)).sum() / 2)


def _ratio(value: float, base: float) -> float:
    return value / base if base > 0 else math.nan
