"""The two yardsticks each training run reports: LLM means and nearest neighbours, on its own split. Numpy only.

It knows nothing of artifacts; the full set of baselines is in baselines.py.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["knn", "repeat_means", "unit_rows"]

_CANDIDATES: Final = 400  # nearest prompts looked through for labelled ones
_PRIOR_LABELS: Final = 5.0  # weight of an LLM's mean beside its neighbours' labels


def repeat_means(means: NDArray[np.float32], n_prompts: int) -> NDArray[np.float32]:
    """Every LLM's training mean for every prompt, float32 (n_prompts, n_llms)."""
    return np.repeat(means[None, :], n_prompts, axis=0)


def knn(  # noqa: PLR0913 - a training set is four arrays
    train_x: NDArray[np.float32],
    labels: NDArray[np.float32],
    observed: NDArray[np.bool_],
    means: NDArray[np.float32],
    x: NDArray[np.float32],
    *,
    k: int = 40,
) -> NDArray[np.float32]:
    """Mean label of the k nearest training prompts that have one, per LLM, by cosine similarity.

    Args:
        train_x: float32 (n_train, d).
        labels: float32 (n_train, n_llms), 0 or 1.
        observed: bool (n_train, n_llms).
        means: Each LLM's training mean, float32 (n_llms,), counted as a few labels.
        x: Prompts to predict, float32 (n, d).
        k: Neighbours per LLM.

    Returns:
        Probabilities, float32 (n, n_llms).
    """
    bank = unit_rows(train_x)
    out = np.empty((len(x), labels.shape[1]), dtype=np.float32)
    n_near = min(_CANDIDATES, len(bank))
    for row, query in enumerate(unit_rows(x)):
        similarity = bank @ query
        near = np.argpartition(-similarity, n_near - 1)[:n_near]
        near = near[np.argsort(-similarity[near], kind="stable")]
        used = observed[near] & (np.cumsum(observed[near], axis=0) <= k)
        right = (labels[near] * used).sum(axis=0)
        out[row] = (right + _PRIOR_LABELS * means) / (used.sum(axis=0) + _PRIOR_LABELS)
    return out


def unit_rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row scaled to length one, float32 (n, d); a row of zeros stays one."""
    unit: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return unit
