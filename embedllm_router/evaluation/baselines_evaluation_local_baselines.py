"""Baselines that average over similar prompts: all of them, the nearest, a cluster, a complexity tier.

It knows nothing of gradients; learned_baselines.py has those.
"""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.evaluation.baselines_evaluation_complexity import N_TIERS, complexity_tier
from embedllm_router.evaluation.baselines_evaluation_yardsticks import knn, repeat_means, unit_rows
from embedllm_router.evaluation.inputs_evaluation_parts import Part, Standardiser, llm_means

__all__ = ["Clusters", "ComplexityTiers", "LLMMeans", "NearestNeighbours"]

_LLOYD_STEPS: Final = 25
Matrix = NDArray[np.float32]


class LLMMeans:
    """Every LLM's share of correct answers in training, whatever the prompt."""

    probabilistic: ClassVar[bool] = True

    def __init__(self) -> None:
        self._means: Matrix = np.zeros(0, dtype=np.float32)

    def fit(self, train: Part) -> None:
        """Counts."""
        self._means = llm_means(train.matrix)

    def predict(self, test: Part) -> Matrix:
        """The means, once per prompt, float32 (n_prompts, n_llms)."""
        return repeat_means(self._means, len(test.x))


class NearestNeighbours:
    """Per LLM, mean label of the k most similar train prompts it was graded on; see yardsticks.py.

    Args:
        k: Neighbours.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, k: int = 40) -> None:
        self._k = k

    def fit(self, train: Part) -> None:
        """Keeps the train part."""
        self._standardiser = Standardiser.fit(train.x)
        self._x = self._standardiser.apply(train.x)
        self._known = train.matrix
        self._means = llm_means(train.matrix)

    def predict(self, test: Part) -> Matrix:
        """Means of neighbours by cosine, smoothed by the LLM's own mean, float32 (n_prompts, n_llms)."""
        x = self._standardiser.apply(test.x)
        return knn(self._x, self._known.labels(), self._known.observed, self._means, x, k=self._k)


class Clusters:
    """Mean label of the LLM in the prompt's k-means cluster (Avengers-Pro, arXiv 2508.12631; UniRoute, 2502.08773).

    Args:
        n_clusters: Clusters of train prompts.
        prior: Labels that the LLM's own mean counts for.
        seed: Decides the first centres.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, n_clusters: int = 64, prior: float = 5.0, seed: int = 0) -> None:
        self._n_clusters, self._prior, self._seed = n_clusters, prior, seed

    def fit(self, train: Part) -> None:
        """Lloyd's algorithm on unit vectors, then counts per cluster."""
        self._standardiser = Standardiser.fit(train.x)
        x = unit_rows(self._standardiser.apply(train.x))
        self._centres = _k_means(x, min(self._n_clusters, len(x)), self._seed)
        self._means = _group_means(_nearest_centre(x, self._centres), len(self._centres), train, self._prior)

    def predict(self, test: Part) -> Matrix:
        """Each cluster's means, float32 (n_prompts, n_llms)."""
        return self._means[_nearest_centre(unit_rows(self._standardiser.apply(test.x)), self._centres)]


class ComplexityTiers:
    """Mean label of the LLM in the prompt's complexity tier, after LiteLLM's heuristic router; see complexity.py.

    LiteLLM leaves it to the user which LLM serves a tier. Here train decides, which is more than LiteLLM can know.

    Args:
        prior: Labels that the LLM's own mean counts for.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, prior: float = 5.0) -> None:
        self._prior = prior

    def fit(self, train: Part) -> None:
        """Counts per tier."""
        self._means = _group_means(_tiers(train), N_TIERS, train, self._prior)

    def predict(self, test: Part) -> Matrix:
        """Each tier's means, float32 (n_prompts, n_llms)."""
        return self._means[_tiers(test)]


def _tiers(part: Part) -> NDArray[np.int64]:
    return np.array([complexity_tier(prompt) for prompt in part.matrix.prompts], dtype=np.int64)


def _group_means(group: NDArray[np.int64], n_groups: int, train: Part, prior: float) -> Matrix:
    """Smoothed share of correct answers per group, float32 (n_groups, n_llms)."""
    n_llms = len(train.matrix.llm_ids)
    right, seen = np.zeros((n_groups, n_llms), np.float32), np.zeros((n_groups, n_llms), np.float32)
    np.add.at(right, group, train.matrix.labels() * train.matrix.observed)
    np.add.at(seen, group, train.matrix.observed.astype(np.float32))
    means: Matrix = (right + prior * llm_means(train.matrix)) / (seen + prior)
    return means


def _k_means(x: Matrix, n_clusters: int, seed: int) -> Matrix:
    """Unit centres, float32 (n_clusters, d_prompt); an empty cluster keeps its centre."""
    centres = x[np.random.default_rng(seed).choice(len(x), n_clusters, replace=False)]
    for _ in range(_LLOYD_STEPS):
        group = _nearest_centre(x, centres)
        total = np.zeros_like(centres)
        np.add.at(total, group, x)
        empty = np.bincount(group, minlength=n_clusters) == 0
        centres = np.where(empty[:, None], centres, unit_rows(total))
    return centres


def _nearest_centre(x: Matrix, centres: Matrix) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = np.argmax(x @ centres.T, axis=1)
    return nearest
