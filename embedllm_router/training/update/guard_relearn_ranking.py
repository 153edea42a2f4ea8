"""Does feedback have anything to do with what the weights know? The area under the ROC curve, with its error.

It knows nothing of LLMs or of where feedback comes from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.evaluation.metrics import auc

__all__ = ["Ranking", "expected_auc", "ranking"]

Floats = NDArray[np.float64]
_RIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well predictions rank answers.

    Attributes:
        n_right: Answers with a score of at least one half.
        n_wrong: The others.
        auc: Probability that a right answer was predicted likelier than a wrong one, in [0, 1].
        error: Its standard error (Hanley and McNeil, 1982); NaN unless there are answers of both kinds.
    """

    n_right: int
    n_wrong: int
    auc: float
    error: float

    @property
    def n(self) -> int:
        """All answers."""
        return self.n_right + self.n_wrong

    @property
    def chance_error(self) -> float:
        """Standard error of a ranking that is pure chance."""
        return _error(_RIGHT, self.n_right, self.n_wrong)


def ranking(score: Floats, predicted: Floats) -> Ranking:
    """Ranks answers by prediction.

    Args:
        score: (n,), in [0, 1].
        predicted: (n,), larger is likelier right.
    """
    right = score >= _RIGHT
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    area = auc(right.astype(np.float64), predicted)
    return Ranking(n_right, n_wrong, area, _error(area, n_right, n_wrong))


def expected_auc(p: Floats) -> float:
    """The area that predictions would have if they were true: near one half when they are all alike.

    Args:
        p: (n,), in [0, 1].
    """
    ordered = np.sort(p)
    starts = np.flatnonzero(np.append(True, ordered[1:] > ordered[:-1]))  # a tie counts half
    right, wrong = np.add.reduceat(ordered, starts), np.add.reduceat(1.0 - ordered, starts)
    total = float(right.sum() * wrong.sum())
    return float(right @ (np.cumsum(wrong) - wrong / 2)) / total if total > 0 else _RIGHT


def _error(area: float, n_right: int, n_wrong: int) -> float:
    if not n_right or not n_wrong:
        return float("nan")
    two_right, two_wrong = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (n_right - 1) * (two_right - area**2) + (n_wrong - 1) * (two_wrong - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (n_right * n_wrong)))
