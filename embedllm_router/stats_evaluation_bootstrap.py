"""How sure a figure is: intervals from resampled prompts.

Prompts, not labels, are drawn: the labels of one prompt go together. It knows nothing of what the figures mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS", "SEEDS", "Estimate", "estimate", "paired_difference", "ratio_of_sums", "resamples"]

SEEDS: Final = (0, 1, 2, 3, 4)
DRAWS: Final = 400
"""Resamples per seed."""

_LEVEL: Final = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its bootstrap interval.

    Attributes:
        value: The figure on the data as they are.
        low: Lower end of the 95 % percentile interval.
        high: Upper end.
        n: Prompts that were resampled.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def positive(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def negative(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0


def resamples(n: int, *, seeds: Sequence[int] = SEEDS, draws: int = DRAWS) -> NDArray[np.float32]:
    """How often each of n prompts occurs in each resample.

    Args:
        n: Prompts, at least one.
        seeds: One stream of random numbers each.
        draws: Resamples per seed.

    Returns:
        float32 (len(seeds) · draws, n); each row sums to n.
    """
    counts = np.empty((len(seeds) * draws, n), dtype=np.float32)
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        for draw in range(draws):
            counts[i * draws + draw] = np.bincount(rng.integers(0, n, n), minlength=n)
    return counts


def estimate(value: float, samples: Floats, n: int) -> Estimate:
    """A figure with the interval that holds 95 % of its resampled values.

    Args:
        value: On the data as they are.
        samples: float64 (n_resamples,); NaN where the figure was not defined.
        n: Prompts that were resampled.

    Returns:
        NaN ends when no resample defined the figure.
    """
    known = samples[np.isfinite(samples)]
    if not known.size:
        return Estimate(value, np.nan, np.nan, n)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n)


def paired_difference(a: Floats, b: Floats, *, seeds: Sequence[int] = SEEDS, draws: int = DRAWS) -> Estimate:
    """Mean of a minus b over the same prompts, which are resampled together.

    Args:
        a: float64 (n_prompts,).
        b: float64 (n_prompts,).
        seeds: See `resamples`.
        draws: See `resamples`.

    Returns:
        The difference.
    """
    difference = (a - b).astype(np.float64)
    counts = resamples(len(difference), seeds=seeds, draws=draws)
    return estimate(float(difference.mean()), counts @ difference / len(difference), len(difference))


def ratio_of_sums(total: Floats, count: Floats, counts: NDArray[np.float32]) -> Estimate:
    """A mean over labels, resampled by prompt: sum of `total` over sum of `count`.

    Args:
        total: Per prompt, sum over its labels, float64 (n_prompts,).
        count: Per prompt, how many labels, float64 (n_prompts,).
        counts: From `resamples`.

    Returns:
        The mean.
    """
    below = counts @ count
    samples = np.divide(counts @ total, below, out=np.full(len(counts), np.nan), where=below > 0)
    return estimate(float(total.sum() / count.sum()), samples, len(total))
