"""How sure a mean over requests is: percentile intervals from resampled requests, also for millions of them.

Beyond a few thousand requests, groups of them are resampled instead of single ones. Their sums vary as much, so the
interval is the same up to chance, and memory stays bounded. It knows nothing of what the figures mean.

Penalised logistic regression around given logits. Numpy only; it knows nothing of LLMs.

The coefficients are deviations from what is given, with a normal prior around zero, so the fit is the maximum a
posteriori one. Scores in [0, 1] count as shares of right answers.

How sure a figure is: intervals from resampled prompts.

Prompts, not labels, are drawn: the labels of one prompt go together. It knows nothing of what the figures mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DRAWS",
    "SEEDS",
    "Estimate",
    "Examples",
    "Resampling",
    "estimate",
    "fit",
    "losses",
    "mean_of",
    "paired_difference",
    "ratio_of_sums",
    "resamples",
]

_STEPS: Final = 30
_MAX_LOGIT: Final = 30.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Examples:
    """What to fit; every array has one row per example.

    Attributes:
        x: (n, d).
        base: (n,), logits when every coefficient is 0.
        score: (n,), in [0, 1].
        weight: (n,), at least 0.
    """

    x: Floats
    base: Floats
    score: Floats
    weight: Floats

    def select(self, rows: NDArray[np.bool_]) -> "Examples":
        """Some of them."""
        return Examples(self.x[rows], self.base[rows], self.score[rows], self.weight[rows])

    def narrowed(self, width: int) -> "Examples":
        """With the first columns only."""
        return Examples(self.x[:, :width], self.base, self.score, self.weight)


def losses(logit: Floats, score: Floats) -> Floats:
    """Negative log-likelihood of each score in nats, (n,)."""
    z = np.clip(logit, -_MAX_LOGIT, _MAX_LOGIT)
    loss: Floats = np.logaddexp(0.0, z) - score * z
    return loss


def fit(examples: Examples, precision: Floats) -> tuple[Floats, Floats]:
    """Newton's method on weighted log-loss plus `½ Σ precision · coefficient²`; a step that overshoots is halved.

    Args:
        examples: What to fit.
        precision: (d,), positive.

    Returns:
        The coefficients, (d,), and the curvature there, (d, d), whose inverse is their covariance.
    """
    theta = np.zeros(examples.x.shape[1])
    value = _objective(theta, examples, precision)
    for _ in range(_STEPS):
        gradient, curvature = _slopes(theta, examples, precision)
        step = np.linalg.solve(curvature, gradient)
        new, new_value = theta - step, _objective(theta - step, examples, precision)
        while new_value > value and float(np.abs(step).max()) > 1e-12:  # noqa: PLR2004 - no step at all
            step = step / 2.0
            new, new_value = theta - step, _objective(theta - step, examples, precision)
        gained = value - new_value
        if gained <= 0:
            break
        theta, value = new, new_value
        if gained < 1e-10 * (1.0 + value):
            break
    return theta, _slopes(theta, examples, precision)[1]


def _slopes(theta: Floats, examples: Examples, precision: Floats) -> tuple[Floats, Floats]:
    x, weight = examples.x, examples.weight
    p = 1.0 / (1.0 + np.exp(-np.clip(examples.base + x @ theta, -_MAX_LOGIT, _MAX_LOGIT)))
    gradient = x.T @ (weight * (p - examples.score)) + precision * theta
    curvature = (x * (weight * p * (1.0 - p))[:, None]).T @ x + np.diag(precision)
    return gradient, curvature


def _objective(theta: Floats, examples: Examples, precision: Floats) -> float:
    loss = losses(examples.base + examples.x @ theta, examples.score)
    return float(examples.weight @ loss + 0.5 * precision @ theta**2)


SEEDS: Final = (0, 1, 2, 3, 4)
DRAWS: Final = 400
"""Resamples per seed."""

_LEVEL: Final = 0.95


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


_MOST_GROUPS: Final = 1000
_DRAWS: Final = 1000


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
