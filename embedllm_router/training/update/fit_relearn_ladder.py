"""How far an LLM may move: a ladder of priors that starts with no change at all, climbed by cross-validation.

Of the rungs within one standard error of the best, the lowest is taken (Breiman et al., 1984): data that show nothing
change nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.stats_relearn_logistic import Examples, fit, losses

__all__ = ["LADDER", "Rung", "choose_rung", "fit_rung", "hashed"]

_FOLDS: Final = 5
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rung:
    """How far an LLM may move.

    Attributes:
        line: Precision of the prior on slope and offset; None fixes both at no change.
        along: Precision of the prior on the directions of f(x); None fixes them.
    """

    line: float | None = None
    along: float | None = None

    @property
    def name(self) -> str:
        """For reports."""
        if self.line is None:
            return "unchanged"
        return "calibration" if self.along is None else "embedding"


LADDER: Final = (
    Rung(),
    Rung(line=40.0),
    Rung(line=10.0),
    Rung(line=40.0, along=100.0),
    Rung(line=10.0, along=25.0),
    Rung(line=10.0, along=6.0),
    Rung(line=2.5, along=1.5),
)
"""From no change to much of it. A precision κ lets a logit move by about 1/√κ before the data have to pay for it; 40 is
what the calibration of training uses."""


def fit_rung(examples: Examples, rung: Rung) -> Floats:
    """Fits one rung; columns it does not have are 0.

    Args:
        examples: Columns are slope, offset, then the directions of f(x), if any.
        rung: How far they may move.

    Returns:
        (d,).
    """
    theta = np.zeros(examples.x.shape[1])
    if rung.line is None:
        return theta
    width = 2 if rung.along is None else len(theta)
    precision = np.array([rung.line, rung.line, *([rung.along] * (width - 2))], dtype=np.float64)
    theta[:width], _ = fit(examples.narrowed(width), precision)
    return theta


def choose_rung(examples: Examples, keys: Sequence[str], ladder: Sequence[Rung] = LADDER) -> Rung:
    """The lowest rung whose cross-validated loss is within one standard error of the best rung's.

    Args:
        examples: As for `fit_rung`, at least one.
        keys: (n,); answers of equal keys are never on both sides.
        ladder: Rungs, least change first.

    Returns:
        The rung.
    """
    folds = np.array([int(hashed(key) * _FOLDS) for key in keys])
    loss = np.stack([_cross_validated(examples, folds, rung) for rung in ladder])
    share = examples.weight / examples.weight.sum()
    best = int(np.argmin(loss @ share))
    for rung, own in zip(ladder[:best], loss[:best], strict=True):
        excess = own - loss[best]
        middle = float(excess @ share)
        if middle <= float(np.sqrt(share**2 @ (excess - middle) ** 2)):
            return rung
    return ladder[best]


def _cross_validated(examples: Examples, folds: NDArray[np.intp], rung: Rung) -> Floats:
    """Loss of each answer by a fit to the other folds, (n,)."""
    loss = losses(examples.base, examples.score)
    if rung.line is None:
        return loss
    for part in np.unique(folds):
        out = folds == part
        if not out.all():
            theta = fit_rung(examples.select(~out), rung)
            loss[out] = losses(examples.base[out] + examples.x[out] @ theta, examples.score[out])
    return loss


def hashed(key: str) -> float:
    """A number in [0, 1) that a key always has."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
