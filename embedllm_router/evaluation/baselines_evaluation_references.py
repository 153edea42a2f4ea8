"""Ways to choose that predict nothing of a prompt: random, the best single LLM, and two that know the answers.

Their scores order LLMs; they are no probabilities, so correctness metrics are not taken of them. It knows nothing of
cost.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.inputs_evaluation_parts import Part
from embedllm_router.evaluation.inputs_evaluation_pools import find_pools

__all__ = ["BestSingle", "DatasetOracle", "Oracle", "RandomChoice"]

_UNSEEN = -1.0


class RandomChoice:
    """A uniformly random LLM for every prompt.

    Args:
        seed: Decides the choices.
    """

    probabilistic: ClassVar[bool] = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, train: Part) -> None:
        """Learns nothing."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Random scores, float32 (n_prompts, n_llms), in [0, 1)."""
        return np.random.default_rng(self._seed).random(test.matrix.observed.shape, dtype=np.float32)


class BestSingle:
    """In every data set, always the LLM that was most often right there in training."""

    probabilistic: ClassVar[bool] = False

    def __init__(self) -> None:
        self._means: dict[str, NDArray[np.float32]] = {}

    def fit(self, train: Part) -> None:
        """Learns each LLM's share of correct answers per data set."""
        self._means = _dataset_means(train.matrix)

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Each LLM's share of correct training answers in the data set, float32 (n_prompts, n_llms)."""
        unseen = np.full(len(test.matrix.llm_ids), _UNSEEN, dtype=np.float32)
        scores = {name: self._means.get(name, unseen) for name in dict.fromkeys(test.matrix.datasets)}
        return np.stack([scores[name] for name in test.matrix.datasets])


class DatasetOracle:
    """In every data set, always the LLM most often right there on test: LLMRouterBench's "Max Expert", in hindsight."""

    probabilistic: ClassVar[bool] = False

    def fit(self, train: Part) -> None:
        """Learns nothing."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Each LLM's share of correct answers to the prompts of the data set's pool, float32 (n_prompts, n_llms)."""
        scores = np.full(test.matrix.observed.shape, _UNSEEN, dtype=np.float32)
        datasets = np.array(test.matrix.datasets)
        for pool in find_pools(test.matrix):
            scores[np.ix_(datasets == pool.dataset, pool.columns)] = pool.block(test.matrix.labels()).mean(axis=0)
        return scores


class Oracle:
    """For every prompt, an LLM that is right if any is: the bound no router can beat."""

    probabilistic: ClassVar[bool] = False

    def fit(self, train: Part) -> None:
        """Learns nothing."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """The test labels themselves, float32 (n_prompts, n_llms); -1 where there is none."""
        return np.where(test.matrix.observed, test.matrix.labels(), np.float32(_UNSEEN))


def _dataset_means(matrix: CorrectnessMatrix) -> dict[str, NDArray[np.float32]]:
    datasets, labels = np.array(matrix.datasets), matrix.labels()
    means = {}
    for name in dict.fromkeys(matrix.datasets):
        mine = datasets == name
        seen = matrix.observed[mine].sum(axis=0)
        right = (labels[mine] * matrix.observed[mine]).sum(axis=0)
        means[name] = np.where(seen > 0, right / np.maximum(seen, 1), _UNSEEN).astype(np.float32)
    return means
