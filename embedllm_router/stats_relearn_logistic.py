"""Penalised logistic regression around given logits. Numpy only; it knows nothing of LLMs.

The coefficients are deviations from what is given, with a normal prior around zero, so the fit is the maximum a
posteriori one. Scores in [0, 1] count as shares of right answers.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Examples", "fit", "losses"]

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
