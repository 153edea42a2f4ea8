"""Which LLMs can be compared on which prompts: per data set, those that graded nearly every prompt of it.

A missing label is never counted as wrong: a pool has none. It knows nothing of predictions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix

__all__ = ["Pool", "find_pools", "pool_means"]

_MIN_SHARE: Final = 0.9  # an LLM joins a data set's pool when it answered this share of the set's prompts


@dataclass(frozen=True, slots=True)
class Pool:
    """Prompts and LLMs without a missing label.

    Attributes:
        dataset: Where the prompts are from.
        rows: int64 (n_prompts,), rows of the matrix; at least one.
        columns: int64 (n_llms,), columns of the matrix; at least two.
    """

    dataset: str
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def block(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """The pool's part of a matrix of all prompts and LLMs, float64 (n_prompts, n_llms)."""
        return values[np.ix_(self.rows, self.columns)].astype(np.float64)


def find_pools(matrix: CorrectnessMatrix, allowed: NDArray[np.bool_] | None = None) -> tuple[Pool, ...]:
    """Per data set, LLMs that answered nearly all its prompts, and the prompts all of those answered.

    Args:
        matrix: Labels.
        allowed: bool (n_llms,), LLMs that may join; None allows all.

    Returns:
        Pools of at least two LLMs and one prompt, in the order of the data sets.
    """
    return tuple(_pools(matrix, np.ones(len(matrix.llm_ids), dtype=np.bool_) if allowed is None else allowed))


def _pools(matrix: CorrectnessMatrix, allowed: NDArray[np.bool_]) -> Iterator[Pool]:
    datasets = np.array(matrix.datasets)
    for name in dict.fromkeys(matrix.datasets):
        rows = np.flatnonzero(datasets == name)
        columns = np.flatnonzero((matrix.observed[rows].mean(axis=0) >= _MIN_SHARE) & allowed)
        rows = rows[matrix.observed[np.ix_(rows, columns)].all(axis=1)]
        if len(rows) and len(columns) > 1:
            yield Pool(name, rows, columns)


def pool_means(pool: Pool, train: CorrectnessMatrix) -> NDArray[np.float64]:
    """Correctness in training of a pool's LLMs on the pool's data set, float64 (n_llms,); 0 for one without labels."""
    mine = np.array(train.datasets) == pool.dataset
    seen = train.observed[mine][:, pool.columns]
    right = (train.labels()[mine][:, pool.columns] * seen).sum(axis=0)
    means: NDArray[np.float64] = right / np.maximum(seen.sum(axis=0), 1)
    return means
