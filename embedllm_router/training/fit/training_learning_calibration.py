"""Makes probabilities mean what they say: a slope and an offset per LLM, fitted on validation labels.

Platt scaling (Platt, 1999) in two levels: one fit for all LLMs, then one per LLM pulled towards it, so an LLM with few
labels keeps the common correction. It knows nothing of networks; it folds into their last layer.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Calibration", "fit_calibration"]

_STEPS: Final = 25
_MIN_SLOPE: Final = 0.1  # a slope of zero or less would undo or reverse what was learned


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibrated logit = slope · logit + offset`.

    Attributes:
        slope: float64 (n_llms,), positive.
        offset: float64 (n_llms,).
    """

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]


def fit_calibration(
    logits: NDArray[np.float32],
    labels: NDArray[np.float32],
    observed: NDArray[np.bool_],
    *,
    strength: float = 40.0,
) -> Calibration:
    """Fits slopes and offsets that minimise log-loss.

    Args:
        logits: float32 (n_prompts, n_llms).
        labels: float32 (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        strength: Pull of an LLM's own fit towards the common one, in units of labels at p = 0.5 times four.

    Returns:
        The calibration; an LLM without labels gets the common fit.
    """
    common = _fit_line(logits[observed], labels[observed], np.array([1.0, 0.0]), strength)
    lines = np.array(
        [_fit_line(logits[seen, llm], labels[seen, llm], common, strength) for llm, seen in enumerate(observed.T)]
    )
    return Calibration(slope=np.maximum(lines[:, 0], _MIN_SLOPE), offset=lines[:, 1])


def _fit_line(
    logits: NDArray[np.float32], labels: NDArray[np.float32], prior: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """Newton's method on log-loss plus `strength/2 · |line - prior|²`."""
    x = np.stack([logits.astype(np.float64), np.ones(len(logits))], axis=1)
    line = prior.copy()
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ line, -30.0, 30.0)))
        gradient = x.T @ (p - labels) + strength * (line - prior)
        curvature = (x * (p * (1.0 - p))[:, None]).T @ x + strength * np.eye(2)
        step = np.asarray(np.linalg.solve(curvature, gradient), dtype=np.float64)
        line -= step
        if float(np.abs(step).max()) < 1e-8:  # noqa: PLR2004 - converged to far below any effect
            break
    return line
