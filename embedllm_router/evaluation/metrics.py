"""How good predicted probabilities and the choices made with them are. Numpy only; labels are 0 or 1.

Every function is checked in the tests against a naive second implementation. It knows nothing of how predictions
were made.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RoutingResult",
    "accuracy",
    "auc",
    "brier",
    "expected_calibration_error",
    "log_loss",
    "log_losses",
    "reliability",
    "routing",
]

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
