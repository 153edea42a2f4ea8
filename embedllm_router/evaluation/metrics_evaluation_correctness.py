"""How well probabilities foretell correctness, with intervals. metrics.py has the definitions; this adds resampling.

It knows nothing of routing.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.evaluation.metrics import accuracy, auc, brier, expected_calibration_error, log_loss, log_losses
from embedllm_router.stats_evaluation_bootstrap import Estimate, estimate, ratio_of_sums, resamples

__all__ = ["Correctness", "CorrectnessIntervals", "correctness", "correctness_intervals"]

_BINS: Final = 15
_DRAWS: Final = 60  # per seed; AUC and ECE are measured again on each
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correctness:
    """Metrics over labels, see metrics.py; NaN without labels.

    Attributes:
        n_labels: How many labels.
        log_loss: In nats.
        brier: In [0, 1].
        auc: In [0, 1].
        ece: 15 bins of equal mass, in [0, 1].
        accuracy: Share of verdicts foretold at a threshold of one half.
    """

    n_labels: int
    log_loss: float
    brier: float
    auc: float
    ece: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class CorrectnessIntervals:
    """The same metrics with bootstrap intervals over prompts."""

    log_loss: Estimate
    brier: Estimate
    auc: Estimate
    ece: Estimate
    accuracy: Estimate


def correctness(labels: NDArray[np.float32], p: NDArray[np.float32], observed: NDArray[np.bool_]) -> Correctness:
    """Measures predictions on the labels there are.

    Args:
        labels: float32 (n_prompts, n_llms), 0 or 1.
        p: Predicted probabilities, same shape.
        observed: Which labels exist, same shape.

    Returns:
        The metrics.
    """
    y, q = labels[observed], p[observed]
    if not len(y):
        return Correctness(0, *(np.nan,) * 5)
    return Correctness(
        len(y), log_loss(y, q), brier(y, q), auc(y, q), expected_calibration_error(y, q, bins=_BINS), accuracy(y, q)
    )


def correctness_intervals(
    labels: NDArray[np.float32], p: NDArray[np.float32], observed: NDArray[np.bool_]
) -> CorrectnessIntervals:
    """Intervals from resampling prompts, each with all its labels.

    Args:
        labels: float32 (n_prompts, n_llms), 0 or 1.
        p: Predicted probabilities, same shape.
        observed: Which labels exist, same shape; at least one.

    Returns:
        Estimates.
    """
    counts = resamples(len(labels))
    n_labels = observed.sum(axis=1).astype(np.float64)

    def mean(values: Floats) -> Estimate:
        return ratio_of_sums(np.where(observed, values, 0.0).sum(axis=1), n_labels, counts)

    few = resamples(len(labels), draws=_DRAWS)
    rows = np.nonzero(observed)[0]
    y, q = labels[observed], p[observed]
    order = np.argsort(q, kind="stable")
    right, surety, rows = y[order].astype(np.float64), q[order].astype(np.float64), rows[order]
    aucs = np.array([_weighted_auc(right, surety, draw[rows]) for draw in few])
    eces = np.array([_weighted_ece(right, surety, draw[rows]) for draw in few])
    return CorrectnessIntervals(
        log_loss=mean(log_losses(labels, p)),
        brier=mean((p.astype(np.float64) - labels) ** 2),
        auc=estimate(auc(y, q), aucs, len(labels)),
        ece=estimate(expected_calibration_error(y, q, bins=_BINS), eces, len(labels)),
        accuracy=mean(((p >= 0.5) == (labels > 0)).astype(np.float64)),  # noqa: PLR2004 - the definition
    )


def _weighted_auc(y: Floats, q: Floats, weight: NDArray[np.float32]) -> float:
    """AUC of labels that count `weight` times; q rises. A tie counts half."""
    starts = np.flatnonzero(np.append(True, q[1:] > q[:-1]))
    right = np.add.reduceat(weight * y, starts, dtype=np.float64)
    wrong = np.add.reduceat(weight * (1 - y), starts, dtype=np.float64)
    below = np.cumsum(wrong) - wrong / 2
    total = right.sum() * wrong.sum()
    return float((right * below).sum() / total) if total > 0 else np.nan


def _weighted_ece(y: Floats, q: Floats, weight: NDArray[np.float32]) -> float:
    """Calibration error of labels that count `weight` times, in bins of equal weight; q rises."""
    mass = np.cumsum(weight, dtype=np.float64)
    if mass[-1] <= 0:
        return np.nan
    bins = np.minimum((mass - weight / 2) / mass[-1] * _BINS, _BINS - 1).astype(np.int64)
    gaps = np.bincount(bins, weights=weight * (y - q), minlength=_BINS)
    return float(np.abs(gaps).sum() / mass[-1])
