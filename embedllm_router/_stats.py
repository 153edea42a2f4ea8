"""Statistics that several rooms share: the logistic function, a logistic regression with a prior, and intervals.

Intervals are of a share (Wilson; Clopper and Pearson) or of any figure by the bootstrap: prompts or requests are
drawn with replacement, with everything that is known of each, so that the labels of one prompt stay together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DRAWS",
    "SEEDS",
    "Estimate",
    "Examples",
    "Resampling",
    "clopper_pearson",
    "estimate",
    "fit_logistic",
    "logit",
    "losses",
    "mean_of",
    "paired_difference",
    "ratio_of_sums",
    "resamples",
    "sigmoid",
    "wilson",
]

Floats = NDArray[np.float64]
_F = TypeVar("_F", np.float32, np.float64)

# The logistic function

_MAX_EXPONENT: Final = 60.0  # both float32 and float64 hold exp(±60)
_MAX_LOGIT: Final = 30.0


def sigmoid(logits: NDArray[_F]) -> NDArray[_F]:
    """The probability of each logit, `1 / (1 + exp(-logit))`.

    Args:
        logits: float32 or float64, any shape; beyond ±60 they count as ±60.

    Returns:
        In [0, 1], the dtype and shape of the logits.
    """
    inside = np.minimum(np.maximum(logits, -_MAX_EXPONENT), _MAX_EXPONENT)
    return np.reciprocal(1.0 + np.exp(-inside), dtype=logits.dtype)


def logit(p: NDArray[_F]) -> NDArray[_F]:
    """The logit of each probability, `ln(p / (1 - p))`.

    Args:
        p: float32 or float64, any shape, strictly between 0 and 1.

    Returns:
        The dtype and shape of p.
    """
    found: NDArray[_F] = np.log(p / (1 - p))
    return found


def losses(logits: Floats, score: Floats) -> Floats:
    """Negative log-likelihood of each score in nats, float64 (n,).

    Args:
        logits: float64 (n,); beyond ±30 they count as ±30.
        score: float64 (n,), in [0, 1]; a score between counts as that share of a right answer.
    """
    z = np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)
    loss: Floats = np.logaddexp(0.0, z) - score * z
    return loss


# Logistic regression with a normal prior

_STEPS: Final = 30
_SMALL_STEP: Final = 1e-8  # Newton's error after such a step is far below the rounding of float32
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Examples:
    """What to fit; every array has one row per example.

    Attributes:
        x: float64 (n, d).
        base: float64 (n,), logits when every coefficient is 0.
        score: float64 (n,), in [0, 1].
        weight: float64 (n,), at least 0.
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


def fit_logistic(examples: Examples, precision: Floats) -> tuple[Floats, Floats]:
    """Fits coefficients by Newton's method: deviations from the given logits, with a normal prior around 0.

    The fit is the maximum a posteriori one: it minimises the weighted log-loss plus `½ Σ precision · coefficient²`. A
    step that overshoots is halved.

    Args:
        examples: What to fit.
        precision: float64 (d,), positive.

    Returns:
        The coefficients, float64 (d,), and the curvature there, float64 (d, d), whose inverse is their covariance.
    """
    theta = np.zeros(examples.x.shape[1])
    value = _objective(theta, examples, precision)
    for _ in range(_STEPS):
        gradient, curvature = _slopes(theta, examples, precision)
        step = np.linalg.solve(curvature, gradient)
        while float(np.abs(step).max()) > _SMALL_STEP:
            new_value = _objective(theta - step, examples, precision)
            if new_value <= value + _ROUNDING * (1.0 + value):
                value = new_value
                break
            step = step / 2.0
        theta = theta - step
        if float(np.abs(step).max()) <= _SMALL_STEP:
            break
    return theta, _slopes(theta, examples, precision)[1]


def _slopes(theta: Floats, examples: Examples, precision: Floats) -> tuple[Floats, Floats]:
    x, weight = examples.x, examples.weight
    p = sigmoid(np.clip(examples.base + x @ theta, -_MAX_LOGIT, _MAX_LOGIT))
    gradient = x.T @ (weight * (p - examples.score)) + precision * theta
    curvature = (x * (weight * p * (1.0 - p))[:, None]).T @ x + np.diag(precision)
    return gradient, curvature


def _objective(theta: Floats, examples: Examples, precision: Floats) -> float:
    loss = losses(examples.base + examples.x @ theta, examples.score)
    return float(examples.weight @ loss + 0.5 * precision @ theta**2)


# Intervals

_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure on the data as they are.
        low: Lower end of the interval.
        high: Upper end.
        n: Prompts, requests or answers it was measured on.
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


def wilson(mean: float, n: int) -> Estimate:
    """A mean of n values in [0, 1] with its score interval (Wilson, 1927), which also holds for small n.

    The interval is meant for values of 0 and 1; values between vary less, so for them it is wider than need be.

    Args:
        mean: In [0, 1].
        n: At least 1.
    """
    z2 = NormalDist().inv_cdf((1 + _LEVEL) / 2) ** 2
    centre = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 / n * (mean * (1 - mean) + z2 / (4 * n))) / (1 + z2 / n)
    return Estimate(mean, max(centre - half, 0.0), min(centre + half, 1.0), n)


def clopper_pearson(n_right: int, n: int, low_tail: float, high_tail: float) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson, 1934): at each end, so few or so many have its tail.

    It needs scipy, which is in the extra `learn`.

    Args:
        n_right: How many of n were right.
        n: At least one, independent of each other.
        low_tail: Probability left below the lower end.
        high_tail: Probability left above the upper end.

    Returns:
        Both ends, in [0, 1].
    """
    from scipy.stats import beta  # noqa: PLC0415 - the other figures need no scipy

    low = float(beta.ppf(low_tail, n_right, n - n_right + 1)) if n_right else 0.0
    high = float(beta.ppf(1 - high_tail, n_right + 1, n - n_right)) if n_right < n else 1.0
    return low, high


# The bootstrap

SEEDS: Final = (0, 1, 2, 3, 4)
DRAWS: Final = 400
"""Resamples per seed."""

_MAX_GROUPS: Final = 1000
_GROUP_DRAWS: Final = 1000


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


def ratio_samples(total: NDArray[_F], count: NDArray[_F], counts: NDArray[_F]) -> Floats:
    """A sum over a sum in each resample.

    Args:
        total: (n,), finite.
        count: (n,), finite.
        counts: (n_resamples, n), from `resamples`.

    Returns:
        float64 (n_resamples,); NaN where the count is zero.
    """
    above, below = ((counts @ values).astype(np.float64) for values in (total, count))
    ratios: Floats = np.divide(above, below, out=np.full(len(below), np.nan), where=below != 0)
    return ratios


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
    samples = ratio_samples(total, count, counts.astype(np.float64))
    return estimate(float(total.sum() / count.sum()), samples, len(total))


@dataclass(frozen=True)
class Resampling:
    """The bootstrap for up to millions of requests; all figures of one object use the same resamples, so are paired.

    Beyond a thousand requests, groups of them are resampled instead of single ones. Their sums vary as much, so the
    interval is the same up to chance, and memory stays bounded.

    Attributes:
        n: Requests, at least one.
        seed: Decides groups and draws.
        draws: How many resamples.
    """

    n: int
    seed: int = 0
    draws: int = _GROUP_DRAWS

    def ratio(self, total: Floats, count: Floats | None = None) -> Estimate:
        """A sum over a sum, or a mean.

        Args:
            total: float64 (n,), finite.
            count: float64 (n,), finite; None counts every request once.

        Returns:
            The ratio with its interval; NaN where the count is zero.
        """
        below = np.ones(self.n) if count is None else count
        n_counted = int(np.count_nonzero(below))
        value = float(total.sum() / below.sum()) if below.sum() else np.nan
        return estimate(value, self.samples(total, below), n_counted)

    def samples(self, total: Floats, count: Floats) -> Floats:
        """The ratio in each resample, float64 (draws,); NaN where the count is zero."""
        counts = _group_counts(self._n_groups, self.seed, self.draws)
        return ratio_samples(self._grouped(total), self._grouped(count), counts)

    @property
    def _n_groups(self) -> int:
        return min(self.n, _MAX_GROUPS)

    @cached_property
    def _group(self) -> NDArray[np.intp]:
        """Which group each request is in: sizes differ by at most one."""
        return np.random.default_rng(self.seed).permutation(self.n) % self._n_groups

    def _grouped(self, values: Floats) -> Floats:
        return np.bincount(self._group, weights=values, minlength=self._n_groups).astype(np.float64)


@lru_cache(maxsize=2)
def _group_counts(n_groups: int, seed: int, draws: int) -> Floats:
    return resamples(n_groups, seeds=(seed,), draws=draws).astype(np.float64)


def mean_of(values: Floats) -> Estimate:
    """Mean of the finite values with its interval; NaN without any."""
    known = values[np.isfinite(values)]
    return Resampling(len(known)).ratio(known) if len(known) else Estimate(np.nan, np.nan, np.nan, 0)
