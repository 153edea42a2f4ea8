"""Prompt embedding → the inputs of the decoder's layers. Numpy only."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_DEVIATION", "standardised"]

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
