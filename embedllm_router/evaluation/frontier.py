"""Accuracy against cost as the cost weight λ sweeps: which LLM each λ chooses, and the curve that results.

    choice = argmax p - λ · expected cost

It knows nothing of what the curves are summed up to; cost_metrics.py does that.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["COST_WEIGHTS", "Curve", "Sweep", "choose", "hull", "rising", "sweep"]

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
