"""Test metrics of predictions for a correctness matrix, flat and named. It knows nothing of artifacts."""

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.inputs_evaluation_parts import llm_means
from embedllm_router.evaluation.inputs_evaluation_pools import find_pools, pool_means
from embedllm_router.evaluation.metrics import auc, brier, expected_calibration_error, log_loss, routing

__all__ = ["evaluate_predictions", "llm_means"]


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
    n_routed, labels = 0, test.labels()
    for pool in find_pools(test):
        block = np.ix_(pool.rows, pool.columns)
        result = routing(labels[block], p[block], pool_means(pool, train))
        for name in totals:
            totals[name] += getattr(result, name) * result.n_prompts
        n_routed += result.n_prompts
    averages = {name: total / n_routed for name, total in totals.items()} if n_routed else {}
    return averages | {"n_routed": float(n_routed)}
