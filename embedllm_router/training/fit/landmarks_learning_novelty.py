"""What novelty.py needs: distances of ordinary prompts, and how much unknown prompts shrink what is predicted.

It sees embeddings and labels; it knows nothing of folders or texts.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import NoveltySpec
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.prediction.landmarks import Landmarks

__all__ = ["difficulty_spread", "measure_novelty"]

_MAX_RANKS: Final = 1001
_MIN_PROMPTS: Final = 20
_STEPS: Final = 20
Floats = NDArray[np.float64]


def measure_novelty(
    landmarks: Landmarks, train: CorrectnessMatrix, held_out: NDArray[np.float32]
) -> NoveltySpec | None:
    """Measures what tells new kinds of prompts from ordinary ones.

    Args:
        landmarks: Made of the training part.
        train: The training part.
        held_out: Embeddings of ordinary prompts that no landmark was made of, float32 (n_prompts, d_prompt).

    Returns:
        What was measured; None without landmarks or held-out prompts.
    """
    if not len(landmarks) or not len(held_out):
        return None
    near = [landmarks.nearest(row, 1)[0] for row in held_out]
    distances = np.array([one.distance / one.spread for one in near])
    ranks = np.quantile(distances, np.linspace(0, 1, min(len(distances), _MAX_RANKS)))
    spread = difficulty_spread(train.labels(), train.observed, train.category_names())
    return NoveltySpec(
        ranks=tuple(round(float(value), 5) for value in ranks),
        shrinkage=round(1 / math.sqrt(1 + math.pi * spread**2 / 8), 4),
        n_prompts=len(held_out),
    )


def difficulty_spread(labels: NDArray[np.floating], observed: NDArray[np.bool_], categories: NDArray[np.str_]) -> float:
    """How much categories differ in difficulty: standard deviation of what each adds to every LLM's logit.

    An offset is the mode of its posterior under a standard normal prior, so that a category of few labels, or one that
    everybody gets right, says little.

    Args:
        labels: In [0, 1], (n_prompts, n_llms).
        observed: Which are known, of the same shape.
        categories: Of each prompt, (n_prompts,); those with fewer than 20 prompts are left out.

    Returns:
        At least 0; 0 with fewer than two categories.
    """
    n_right, n = np.where(observed, labels, 0).sum(axis=0, dtype=np.float64), observed.sum(axis=0)
    prior = np.log((n_right + 1) / (n - n_right + 1))
    names, counts = np.unique(categories, return_counts=True)
    offsets = []
    for name in names[counts >= _MIN_PROMPTS]:
        rows = categories == name
        right = np.where(observed[rows], labels[rows], 0).sum(axis=0, dtype=np.float64)
        offsets.append(_offset(right, observed[rows].sum(axis=0).astype(np.float64), prior))
    return float(np.std(offsets)) if offsets else 0.0


def _offset(right: Floats, n: Floats, prior: Floats) -> float:
    """The offset by Newton's method; right and n are (n_llms,)."""
    offset = 0.0
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(prior + offset)))
        slope, curvature = (right - n * p).sum() - offset, (n * p * (1 - p)).sum() + 1
        offset += min(max(slope / curvature, -1.0), 1.0)
    return offset
