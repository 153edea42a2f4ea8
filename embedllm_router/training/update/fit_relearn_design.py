"""What may change about one LLM, as the columns of a regression, and what a fit means for its embedding and bias.

    new logit = logit + common + slope · (logit - mean logit) + offset + v · φ

φ are the main directions of f(x) in the log, scaled so that a prompt's φ has length 1 on average: the prior on v then
says how far the logit of a usual prompt may move.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Directions", "LLMChange"]

_MOST_DIRECTIONS: Final = 32
_MIN_SLOPE: Final = -0.9  # a slope that undoes or reverses what was learned is no calibration
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Directions:
    """The main directions of f(x).

    Attributes:
        mean: (d_llm,).
        basis: (d_llm, n_directions), orthogonal columns.
    """

    mean: Floats
    basis: Floats

    @classmethod
    def of(cls, hidden: NDArray[np.float32]) -> "Directions":
        """Principal components, most varied first.

        Args:
            hidden: (n, d_llm), at least one row, finite.
        """
        mean = hidden.mean(axis=0, dtype=np.float64)
        spread = hidden - mean
        _, singular, right = np.linalg.svd(spread.T @ spread / len(hidden), hermitian=True)
        n = min(_MOST_DIRECTIONS, int((singular > singular[0] * 1e-6).sum()) if singular[0] > 0 else 0)
        scale = np.sqrt(max(float(singular.sum()), 1e-12))
        return cls(mean, (right[:n] / scale).T)

    def __len__(self) -> int:
        return int(self.basis.shape[1])

    def of_prompts(self, hidden: NDArray[np.float32]) -> Floats:
        """φ, (n, n_directions)."""
        phi: Floats = (hidden - self.mean) @ self.basis
        return phi


@dataclass(frozen=True, slots=True)
class LLMChange:
    """A fit for one LLM.

    Attributes:
        common: Shift of every LLM's logit.
        mean_logit: Where the slope turns.
        slope: At least -0.9; 0 is no change.
        offset: Shift of its own.
        along: (n_directions,), v; None when only the calibration changes.
    """

    common: float
    mean_logit: float = 0.0
    slope: float = 0.0
    offset: float = 0.0
    along: Floats | None = None

    @classmethod
    def from_fit(cls, fit: Floats, common: float, mean_logit: float, *, embedding: bool) -> "LLMChange":
        """Reads the coefficients of `columns`."""
        return cls(common, mean_logit, max(float(fit[0]), _MIN_SLOPE), float(fit[1]), fit[2:] if embedding else None)

    @property
    def changes(self) -> bool:
        """Whether it differs from the common shift."""
        return bool(self.slope or self.offset or self.along is not None)

    def logit(self, logit: Floats, phi: Floats | None) -> Floats:
        """New logits of old ones, (n,); `phi` is (n, n_directions)."""
        moved: Floats = logit + self.common + self.slope * (logit - self.mean_logit) + self.offset
        return moved if self.along is None or phi is None else moved + phi @ self.along

    def folded(self, embedding: Floats, bias: float, directions: Directions | None) -> tuple[Floats, float]:
        """The LLM's new embedding, (d_llm,), and bias: e · f(x) + b is then the new logit."""
        stretch = 1.0 + self.slope
        new_bias = stretch * bias + self.common + self.offset - self.slope * self.mean_logit
        if self.along is None or directions is None:
            return stretch * embedding, new_bias
        turn = directions.basis @ self.along
        return stretch * embedding + turn, new_bias - float(directions.mean @ turn)


def columns(logit: Floats, mean_logit: float, phi: Floats | None) -> Floats:
    """The regression's columns, (n, 2 + n_directions): slope, offset, directions."""
    line = np.stack([logit - mean_logit, np.ones(len(logit))], axis=1)
    return line if phi is None else np.concatenate([line, phi], axis=1)
