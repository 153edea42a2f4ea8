"""Do the answers bear a row out? Cross-validated beside the LLM's own mean and beside what one expects of any LLM.

It knows nothing of files or of people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._hashing import digest_of
from embedllm_router._stats import Estimate, Resampling
from embedllm_router.stats_relearn_logistic import losses
from embedllm_router.training.add_llm.add_adding_newcomer import newcomer
from embedllm_router.training.add_llm.population import Population
from embedllm_router.training.update.guard_relearn_ranking import ranking

__all__ = ["Judged", "judge"]

_FOLDS: Final = 5
_SURE: Final = 3.0  # standard errors: a false alarm costs more than a late one, for cross-validation tells it anyway
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """How well answers are predicted by a fit to the other folds' answers.

    Attributes:
        log_loss: In nats, of the row.
        log_loss_mean: Of the LLM's mean on the other folds, one answer of each kind added.
        log_loss_population: Of an LLM of which nothing is known.
        change: `log_loss` - `log_loss_mean`, with a paired bootstrap interval over answers.
        auc_population: How well what is expected of any LLM ranks its answers, in [0, 1]; NaN when all are alike.
        auc_error: Its standard error; NaN likewise.
    """

    log_loss: float
    log_loss_mean: float
    log_loss_population: float
    change: Estimate
    auc_population: float
    auc_error: float

    @property
    def contradicts(self) -> bool:
        """Whether it is right where LLMs are usually wrong, and wrong where they are right."""
        return self.auc_population + _SURE * self.auc_error < 0.5  # noqa: PLR2004 - chance


def judge(population: Population, columns: Floats, correct: Floats, keys: Sequence[str]) -> Judged | None:
    """Cross-validates a new LLM.

    Args:
        population: What LLMs are like.
        columns: Of the prompts it answered, (n, d + 1).
        correct: Whether it was right, in [0, 1], (n,).
        keys: (n,); prompts of equal keys are never on both sides.

    Returns:
        The figures; None where all prompts are one.
    """
    fold = _folds(keys)
    if fold.max() == 0:
        return None
    of_row, of_mean = np.empty(len(correct)), np.empty(len(correct))
    for out in np.unique(fold):
        held, rest = fold == out, fold != out
        row = newcomer(population, columns[rest], correct[rest]).row
        of_row[held] = losses(columns[held] @ row, correct[held])
        share = (correct[rest].sum() + 1.0) / (rest.sum() + 2.0)
        of_mean[held] = losses(np.full(int(held.sum()), np.log(share / (1.0 - share))), correct[held])
    expected = columns @ population.mean
    ranked = ranking(correct, expected)
    return Judged(
        log_loss=float(of_row.mean()),
        log_loss_mean=float(of_mean.mean()),
        log_loss_population=float(losses(expected, correct).mean()),
        change=Resampling(len(correct)).ratio(of_row - of_mean),
        auc_population=ranked.auc,
        auc_error=ranked.error,
    )


def _folds(keys: Sequence[str]) -> NDArray[np.intp]:
    """The fold of each key, from 0; every fold has about as many keys, whatever they are."""
    ordered = sorted(set(keys), key=digest_of)
    place = {key: i % _FOLDS for i, key in enumerate(ordered)}
    return np.array([place[key] for key in keys], dtype=np.intp)
