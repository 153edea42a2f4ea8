"""Prompt embedding → the inputs of the decoder's layers. Numpy only."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_DEVIATION", "standardised", "usual_embeddings"]

MAX_DEVIATION = 8.0
"""Standardised inputs are clipped to this: a strange prompt extrapolates no further than training saw."""


def standardised(
    prompt_embedding: NDArray[np.float32], mean: NDArray[np.float32], per_scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A prompt embedding in units of how training prompts vary.

    Args:
        prompt_embedding: float32 (d_prompt,).
        mean: Of the training prompts, float32 (d_prompt,).
        per_scale: One over their spread, float32 (d_prompt,).

    Returns:
        float32 (d_prompt,), within ± `MAX_DEVIATION`.
    """
    x = (prompt_embedding - mean) * per_scale
    np.maximum(x, -MAX_DEVIATION, out=x)  # np.clip does the same in three times the time
    np.minimum(x, MAX_DEVIATION, out=x)
    return x


def usual_embeddings(decoder: Mapping[str, NDArray[np.generic]], n: int) -> NDArray[np.float32]:
    """Embeddings such as training prompts have: weights hold no prompts, but the mean and spread of their embeddings.

    They are drawn from a normal distribution with both, always the same ones.

    Args:
        decoder: With `input_mean` and `input_scale`, (d_prompt,) each.
        n: How many.

    Returns:
        float32 (n, d_prompt).
    """
    mean, spread = (decoder[name].astype(np.float32) for name in ("input_mean", "input_scale"))
    return mean + spread * np.random.default_rng(0).standard_normal((n, len(mean)), dtype=np.float32)
