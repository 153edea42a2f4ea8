"""How good predicted probabilities and the choices made with them are, with intervals, and a floor under the error.

Labels are 0 or 1. Every figure is checked in the tests against a naive second implementation.

The floor comes from questions that are asked twice. Two answers of one LLM to the same question that agree only with
probability 1 - d put a bound under every score: if each answer is right with probability p, then E[d] = 2·E[p(1 - p)],
so Brier ≥ d / 2; and as the entropy of p in nats is at least 4·ln 2·p(1 - p), log-loss ≥ 2·ln 2·d.
"""

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, estimate, ratio_of_sums, resamples
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem

__all__ = [
    "Correctness",
    "CorrectnessIntervals",
    "NoiseCeiling",
    "accuracy",
    "auc",
    "brier",
    "correctness",
    "correctness_intervals",
    "expected_calibration_error",
    "log_loss",
    "log_losses",
    "noise_ceiling",
    "reliability",
    "routing",
]

_MIN_STEM_WORDS: Final = 8  # shorter stems are shared by questions that differ in their options
_MAX_COPIES: Final = 6  # a stem in more prompts than this is a template


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """Agreement of an LLM with itself on questions asked twice.

    Attributes:
        kind: "same data set" or "across data sets".
        disagreement: Share of answer pairs of which one is right and one wrong.
        brier_floor: Lowest mean Brier score possible on such questions.
        log_loss_floor: A bound no log-loss on such questions can be below, in nats.
        n_questions: Questions asked more than once.
        n_pairs: Pairs of answers by the same LLM.
    """

    kind: str
    disagreement: Estimate
    brier_floor: float
    log_loss_floor: float
    n_questions: int
    n_pairs: int


def noise_ceiling(matrix: CorrectnessMatrix) -> tuple[NoiseCeiling, ...]:
    """Estimates the floor from repeated questions, within and across data sets.

    Args:
        matrix: All labels there are.

    Returns:
        One estimate per kind that occurs. Repeats differ in wording, options or answer format, so disagreement also
        holds what a predictor could know: the true floor may be lower.
    """
    kinds = (("same data set", True), ("across data sets", False))
    found = ((kind, _pairs(matrix, same=same)) for kind, same in kinds)
    return tuple(_ceiling(kind, pairs) for kind, pairs in found if pairs)


def _pairs(matrix: CorrectnessMatrix, *, same: bool) -> list[tuple[int, int]]:
    """Per question: answer pairs that disagree, and all answer pairs."""
    copies: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(matrix.prompts):
        copies[question_stem(prompt)].append(row)
    labels = matrix.labels()
    counts = []
    for stem, rows in copies.items():
        if not 1 < len(rows) <= _MAX_COPIES or stem.count(" ") + 1 < _MIN_STEM_WORDS:
            continue
        disagreeing = total = 0
        for a, b in itertools.combinations(rows, 2):
            if (matrix.datasets[a] == matrix.datasets[b]) == same:
                both = matrix.observed[a] & matrix.observed[b]
                total += int(both.sum())
                disagreeing += int((labels[a] != labels[b])[both].sum())
        if total:
            counts.append((disagreeing, total))
    return counts


def _ceiling(kind: str, pairs: list[tuple[int, int]]) -> NoiseCeiling:
    disagreeing, total = np.array(pairs, dtype=np.float64).T
    share = ratio_of_sums(disagreeing, total, resamples(len(pairs)))
    return NoiseCeiling(
        kind=kind,
        disagreement=share,
        brier_floor=share.value / 2,
        log_loss_floor=2 * math.log(2) * share.value,
        n_questions=len(pairs),
        n_pairs=int(total.sum()),
    )


_SURE: Final = 1e-7  # a probability of exactly 0 or 1 would cost an infinite loss
Floats = NDArray[np.floating]
Labels = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class RoutingResult:
    """Sending each prompt to the LLM with the highest prediction, against simpler ways. All are means in [0, 1].

    Attributes:
        routing_accuracy: Of the chosen LLMs.
        best_single_accuracy: Of the one LLM that was best in training, always chosen.
        oracle_accuracy: Of a chooser who knows the labels.
        random_accuracy: Of a uniformly random choice.
        n_prompts: Prompts that were routed.
    """

    routing_accuracy: float
    best_single_accuracy: float
    oracle_accuracy: float
    random_accuracy: float
    n_prompts: int


def accuracy(labels: Labels, p: Floats) -> float:
    """Share of answers whose verdict is foretold: p of at least 0.5 foretells a correct one. In [0, 1].

    Args:
        labels: (n,), 0 or 1.
        p: Predicted probabilities, (n,), in [0, 1].
    """
    return float(np.mean((p >= 0.5) == (labels > 0)))  # noqa: PLR2004 - the threshold is the definition


def auc(labels: Labels, scores: Floats) -> float:
    """Probability that a random correct answer scores above a random wrong one; a tie counts half.

    Args:
        labels: (n,), 0 or 1.
        scores: (n,).

    Returns:
        In [0, 1]; 0.5 when only one kind of label occurs.
    """
    _, rank_group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(sizes)
    ranks = (last_rank - (sizes - 1) / 2)[rank_group]
    n_right = float(labels.sum())
    n_wrong = len(labels) - n_right
    if not n_right or not n_wrong:
        return 0.5
    return float((ranks[labels > 0].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def log_loss(labels: Labels, p: Floats) -> float:
    """Mean negative log-likelihood in nats.

    Args:
        labels: (n,), 0 or 1.
        p: Predicted probabilities, (n,), in [0, 1].

    Returns:
        Zero or more.
    """
    return float(log_losses(labels, p).mean())


def log_losses(labels: Labels, p: Floats) -> NDArray[np.float64]:
    """Negative log-likelihood of each label in nats, float64, the shape of both."""
    sure = np.clip(p.astype(np.float64), _SURE, 1 - _SURE)
    losses: NDArray[np.float64] = -np.where(labels > 0, np.log(sure), np.log1p(-sure))
    return losses


def brier(labels: Labels, p: Floats) -> float:
    """Mean squared error of probabilities (Brier, 1950), in [0, 1].

    Args:
        labels: (n,), 0 or 1.
        p: Predicted probabilities, (n,), in [0, 1].
    """
    return float(np.mean((p.astype(np.float64) - labels) ** 2))


def expected_calibration_error(labels: Labels, p: Floats, *, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal mass.

    Args:
        labels: (n,), 0 or 1; at least one.
        p: Predicted probabilities, (n,), in [0, 1].
        bins: How many bins; their sizes differ by at most one.

    Returns:
        In [0, 1].
    """
    predicted, right, sizes = reliability(labels, p, bins=bins).T
    return float((np.abs(right - predicted) * sizes).sum() / len(labels))


def reliability(labels: Labels, p: Floats, *, bins: int = 15) -> NDArray[np.float64]:
    """What the reliability diagram shows: per bin of equal mass, mean prediction, share correct, size.

    Args:
        labels: (n,), 0 or 1; at least one.
        p: Predicted probabilities, (n,), in [0, 1].
        bins: How many bins.

    Returns:
        float64 (n_bins, 3), by rising prediction; empty bins are left out.
    """
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return np.array([[p[part].mean(), labels[part].mean(), len(part)] for part in parts], dtype=np.float64)


def routing(labels: Floats, predictions: Floats, train_means: Floats) -> RoutingResult:
    """Routes every prompt of a fully observed pool by prediction alone.

    Args:
        labels: (n_prompts, n_llms), 0 or 1; at least one prompt and one LLM.
        predictions: (n_prompts, n_llms).
        train_means: Correctness of each LLM in training, (n_llms,); it decides who is the best single one.

    Returns:
        Accuracies; ties go to the first LLM.
    """
    chosen = np.argmax(predictions, axis=1)
    return RoutingResult(
        routing_accuracy=float(labels[np.arange(len(labels)), chosen].mean()),
        best_single_accuracy=float(labels[:, int(np.argmax(train_means))].mean()),
        oracle_accuracy=float(labels.max(axis=1).mean()),
        random_accuracy=float(labels.mean()),
        n_prompts=len(labels),
    )


_BINS: Final = 15
_DRAWS: Final = 60  # per seed; AUC and ECE are measured again on each
Float64s = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correctness:
    """Metrics over labels; NaN without labels.

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
    """The metrics of `Correctness` with bootstrap intervals over prompts."""

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

    def mean(values: Float64s) -> Estimate:
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


def _weighted_auc(y: Float64s, q: Float64s, weight: NDArray[np.float32]) -> float:
    """AUC of labels that count `weight` times; q rises. A tie counts half."""
    starts = np.flatnonzero(np.append(True, q[1:] > q[:-1]))
    right = np.add.reduceat(weight * y, starts, dtype=np.float64)
    wrong = np.add.reduceat(weight * (1 - y), starts, dtype=np.float64)
    below = np.cumsum(wrong) - wrong / 2
    total = right.sum() * wrong.sum()
    return float((right * below).sum() / total) if total > 0 else np.nan


def _weighted_ece(y: Float64s, q: Float64s, weight: NDArray[np.float32]) -> float:
    """Calibration error of labels that count `weight` times, in bins of equal weight; q rises."""
    mass = np.cumsum(weight, dtype=np.float64)
    if mass[-1] <= 0:
        return np.nan
    bins = np.minimum((mass - weight / 2) / mass[-1] * _BINS, _BINS - 1).astype(np.int64)
    gaps = np.bincount(bins, weights=weight * (y - q), minlength=_BINS)
    return float(np.abs(gaps).sum() / mass[-1])
