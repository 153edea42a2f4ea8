"""Test metrics of predictions for a correctness matrix, flat and named. It knows nothing of artifacts."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.metrics import auc, brier, expected_calibration_error, log_loss, routing

__all__ = ["evaluate_predictions", "llm_means"]

_MIN_POOL_SHARE = 0.9  # an LLM joins a data set's pool when it answered this share of the set's test prompts


def evaluate_predictions(test: CorrectnessMatrix, p: NDArray[np.float32], train: CorrectnessMatrix) -> dict[str, float]:
    """Correctness metrics over all labels, per data set, and routing accuracy per data set's pool.

    Args:
        test: The test part.
        p: Predicted probabilities, float32 (n_prompts, n_llms), in test's order.
        train: The train part; it decides who is the best single LLM.

    Returns:
        Names → values; routing values are means over all routed prompts.
    """
    labels, observed = test.labels(), test.observed
    out = _correctness("", labels[observed], p[observed])
    datasets = np.array(test.datasets)
    for name in dict.fromkeys(test.datasets):
        mine = observed & (datasets == name)[:, None]
        out |= _correctness(f"{name}.", labels[mine], p[mine])
    return out | _routing(test, p, train) | {"n_prompts": float(len(p)), "n_labels": float(observed.sum())}


def llm_means(train: CorrectnessMatrix) -> NDArray[np.float32]:
    """Share of correct answers of each LLM, float32 (n_llms,); 0.5 for an LLM without labels."""
    counts = train.observed.sum(axis=0)
    right = (train.labels() * train.observed).sum(axis=0)
    means: NDArray[np.float32] = ((right + 0.5) / (counts + 1)).astype(np.float32)
    return means


def _correctness(prefix: str, y: NDArray[np.float32], p: NDArray[np.float32]) -> dict[str, float]:
    if not len(y):
        return {}
    return {
        f"{prefix}auc": auc(y, p),
        f"{prefix}log_loss": log_loss(y, p),
        f"{prefix}brier": brier(y, p),
        f"{prefix}ece": expected_calibration_error(y, p),
    }


def _routing(test: CorrectnessMatrix, p: NDArray[np.float32], train: CorrectnessMatrix) -> dict[str, float]:
    totals = {"routing_accuracy": 0.0, "best_single_accuracy": 0.0, "oracle_accuracy": 0.0, "random_accuracy": 0.0}
    n_routed = 0
    for rows, columns in _pools(test):
        block = np.ix_(rows, columns)
        mine = np.array(train.datasets) == test.datasets[rows[0]]
        seen, right = train.observed[mine][:, columns], train.labels()[mine][:, columns]
        means = (right * seen).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        result = routing(test.labels()[block], p[block], means.astype(np.float32))
        for name in totals:
            totals[name] += getattr(result, name) * result.n_prompts
        n_routed += result.n_prompts
    averages = {name: total / n_routed for name, total in totals.items()} if n_routed else {}
    return averages | {"n_routed": float(n_routed)}


def _pools(test: CorrectnessMatrix) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Per data set, LLMs that answered nearly all its prompts and the prompts all of those answered."""
    datasets = np.array(test.datasets)
    for name in dict.fromkeys(test.datasets):
        rows = np.flatnonzero(datasets == name)
        columns = np.flatnonzero(test.observed[rows].mean(axis=0) >= _MIN_POOL_SHARE)
        rows = rows[test.observed[np.ix_(rows, columns)].all(axis=1)]
        if len(rows) and len(columns) > 1:
            yield rows, columns
