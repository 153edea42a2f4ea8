"""A matrix with its prompt embeddings: what baselines learn from and are measured on.

It knows nothing of artifacts; inputs.py makes parts from one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import DataError

__all__ = ["Part", "Standardiser", "llm_means"]

_MIN_SCALE = 1e-4


@dataclass(frozen=True, slots=True)
class Part:
    """Prompts, their labels and their embeddings.

    Attributes:
        matrix: Labels and texts.
        x: Prompt embeddings, float32 (n_prompts, d_prompt), in the matrix's order.

    Raises:
        DataError: The two do not have the same number of rows.
    """

    matrix: CorrectnessMatrix
    x: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.matrix.prompts):
            raise DataError(
                f"{len(self.x)} prompt embeddings for {len(self.matrix.prompts)} prompts; expected as many."
            )


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Shifts and scales embeddings so that a row's length is about 1, as a sentence embedding's is.

    Attributes:
        mean: float32 (d_prompt,).
        scale: float32 (d_prompt,), positive.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, x: NDArray[np.float32]) -> "Standardiser":
        """Learns mean and scale from float32 (n_prompts, d_prompt)."""
        scale = np.maximum(x.std(axis=0), _MIN_SCALE) * np.sqrt(x.shape[1])
        return cls(x.mean(axis=0), scale.astype(np.float32))

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised embeddings, float32 (n_prompts, d_prompt)."""
        z: NDArray[np.float32] = (x - self.mean) / self.scale
        return z


def llm_means(train: CorrectnessMatrix) -> NDArray[np.float32]:
    """Share of correct answers of each LLM, float32 (n_llms,); 0.5 for an LLM without labels."""
    counts = train.observed.sum(axis=0)
    right = (train.labels() * train.observed).sum(axis=0)
    means: NDArray[np.float32] = ((right + 0.5) / (counts + 1)).astype(np.float32)
    return means
