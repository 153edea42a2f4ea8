"""How sure a mean over requests is: percentile intervals from resampled requests, also for millions of them.

Beyond a few thousand requests, groups of them are resampled instead of single ones. Their sums vary as much, so the
interval is the same up to chance, and memory stays bounded. It knows nothing of what the figures mean.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.stats_evaluation_bootstrap import Estimate, estimate, resamples

__all__ = ["Estimate", "Resampling", "mean_of"]

_MOST_GROUPS: Final = 1000
_DRAWS: Final = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """The resamples of n requests; every figure of the same object is resampled alike, so differences are paired.

    Attributes:
        n: Requests, at least one.
        seed: Decides groups and draws.
        draws: How many resamples.
    """

    n: int
    seed: int = 0
    draws: int = _DRAWS

    def ratio(self, total: Floats, count: Floats | None = None) -> Estimate:
        """A sum over a sum, or a mean.

        Args:
            total: (n,), finite.
            count: (n,), finite; None counts every request once.

        Returns:
            The ratio with its interval; NaN where the count is zero.
        """
        below = np.ones(self.n) if count is None else count
        n_counted = int(np.count_nonzero(below))
        value = float(total.sum() / below.sum()) if below.sum() else np.nan
        return estimate(value, self.samples(total, below), n_counted)

    def samples(self, total: Floats, count: Floats) -> Floats:
        """The ratio in each resample, (draws,); NaN where the count is zero."""
        draws = _draws(self._n_groups, self.seed, self.draws)
        totals, counts = draws @ self._grouped(total), draws @ self._grouped(count)
        ratios: Floats = np.divide(totals, counts, out=np.full(len(totals), np.nan), where=counts != 0)
        return ratios

    @property
    def _n_groups(self) -> int:
        return min(self.n, _MOST_GROUPS)

    @cached_property
    def _group(self) -> NDArray[np.intp]:
        """Which group each request is in: sizes differ by at most one."""
        return np.random.default_rng(self.seed).permutation(self.n) % self._n_groups

    def _grouped(self, values: Floats) -> Floats:
        return np.bincount(self._group, weights=values, minlength=self._n_groups).astype(np.float64)


@lru_cache(maxsize=2)
def _draws(n_groups: int, seed: int, draws: int) -> Floats:
    return resamples(n_groups, seeds=(seed,), draws=draws).astype(np.float64)


def mean_of(values: Floats) -> Estimate:
    """Mean of the finite values with its interval; NaN without any."""
    known = values[np.isfinite(values)]
    return Resampling(len(known)).ratio(known) if len(known) else Estimate(np.nan, np.nan, np.nan, 0)
