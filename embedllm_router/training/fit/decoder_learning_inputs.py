"""What training is given and what it gives back, as plain values. It knows nothing of files or optimisers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.split import Split
from embedllm_router.training.fit.decoder import Decoder

__all__ = ["EpochRecord", "LearningData", "Progress", "Trained"]

Progress = Callable[[str, int, int, float], None]
"""Called after each epoch with the head's name, epochs done, epochs planned, validation loss.

Before training, likewise, with "perturbed copies", how many are encoded, how many there shall be, and NaN.
"""


@dataclass(frozen=True, slots=True)
class LearningData:
    """Everything training sees, row for row.

    Attributes:
        x: Prompt embeddings, float32 (n_prompts, d_prompt).
        labels: uint8 or float32 (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        log_tokens: Natural logarithm of output tokens, float32 (n_prompts, n_llms), NaN where unknown.
        thinking: bool (n_llms,).
        categories: Number of each prompt's category, int64 (n_prompts,), from 0.
        split: Which rows train, which stop training and calibrate.
        datasets: Number of each prompt's data set, int64 (n_prompts,), from 0; None when there is only one.
        copies: Embeddings of perturbed copies of the training part's prompts, float16 (n_copies, n_train, d_prompt), in
            the order of `split.train`; None without.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.float32] | NDArray[np.uint8]
    observed: NDArray[np.bool_]
    log_tokens: NDArray[np.float32]
    thinking: NDArray[np.bool_]
    categories: NDArray[np.int64]
    split: Split
    datasets: NDArray[np.int64] | None = None
    copies: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of the training history."""

    head: str
    epoch: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A calibrated decoder and how it came to be."""

    decoder: Decoder
    history: tuple[EpochRecord, ...]
