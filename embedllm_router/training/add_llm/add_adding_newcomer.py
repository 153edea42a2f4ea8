"""A few answers of a new LLM → its row of the decoder, and how sure that is. Pure.

The row is the most probable one given the answers and the population (maximum a posteriori): with few answers an LLM
like the others, with many one of its own. It knows nothing of files.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.stats_relearn_logistic import Examples, fit
from embedllm_router.training.add_llm.population import Population

__all__ = ["Newcomer", "length_row", "newcomer"]

_DRAWS: Final = 400
_VARIANCE: Final = 0.5  # of a log length around its prediction, as the shipped weights have it
_VARIANCE_COUNTS: Final = 10.0
_SMEAR_COUNTS: Final = 20.0
_PASSES: Final = 3
_MAX_LOG: Final = 30.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What is known of a new LLM.

    Attributes:
        row: The most probable row, (d + 1,).
        root: (d + 1, d + 1); row + root · z with standard normal z is as probable as the answers leave it.
    """

    row: Floats
    root: Floats

    def mean_p(self, columns: Floats) -> tuple[float, float, float]:
        """Its mean probability of a correct answer over some prompts, and the ends of the 95 % credible interval.

        Args:
            columns: (n_prompts, d + 1).
        """
        drawn = self.row[:, None] + self.root @ np.random.default_rng(0).standard_normal((len(self.row), _DRAWS))
        low, high = np.quantile(_probability(columns @ drawn).mean(axis=0), [0.025, 0.975])
        return float(_probability(columns @ self.row).mean()), float(low), float(high)


def newcomer(population: Population, columns: Floats, correct: Floats) -> Newcomer:
    """Fits a new LLM.

    Args:
        population: What LLMs are like.
        columns: Of the prompts it answered, (n, d + 1); see `Population.columns`.
        correct: Whether it was right, in [0, 1], (n,).
    """
    n, d = columns.shape
    examples = Examples(columns @ population.spread, columns @ population.mean, correct, np.ones(n))
    theta, curvature = fit(examples, np.ones(d))
    root = np.linalg.solve(np.linalg.cholesky(curvature).T, np.eye(d))
    return Newcomer(population.mean + population.spread @ theta, population.spread @ root)


def length_row(population: Population, columns: Floats, tokens: Floats) -> Floats:
    """The row that predicts the logarithm of a new LLM's output tokens; the population's mean without any length.

    A linear regression with the population as prior, whose noise is estimated along with it. Its offset is then moved
    so that the mean of the predicted tokens is that of the billed ones, as far as there are enough (Duan, 1983).

    Args:
        population: Of the length network.
        columns: Of prompts it answered, (n, d + 1).
        tokens: Its output tokens, at least 1, (n,).
    """
    row = population.mean
    if not len(tokens):
        return row
    x, log = columns @ population.spread, np.log(tokens)
    variance = _VARIANCE
    for _ in range(_PASSES):
        z = np.linalg.solve(x.T @ x / variance + np.eye(x.shape[1]), x.T @ (log - columns @ population.mean) / variance)
        row = population.mean + population.spread @ z
        wrong = log - columns @ row
        variance = float((wrong @ wrong + _VARIANCE_COUNTS * _VARIANCE) / (len(log) + _VARIANCE_COUNTS))
    predicted = np.exp(np.minimum(columns @ row, _MAX_LOG))
    usual = float(predicted.mean()) * _SMEAR_COUNTS
    smeared = row.copy()
    smeared[-1] += np.log((tokens.sum() + usual) / (predicted.sum() + usual))
    return smeared


def _probability(logit: Floats) -> Floats:
    p: Floats = 1.0 / (1.0 + np.exp(-np.clip(logit, -_MAX_LOG, _MAX_LOG)))
    return p
