"""Which prompts to ask which LLM next: those whose answers tell most about choices that are not yet clear.

Of each LLM is known what `training.add_llm` knows of a new one: a row of the decoder and how sure it is. Draws of the
rows of all LLMs show at which prompts which LLM may turn out to be the best. An answer is worth as much as it narrows
what is known of its LLM at those prompts (V-optimal design weighted by the chance that the choice changes).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import sigmoid
from embedllm_router.training.add_llm import Newcomer, Population, choose_questions, newcomer

__all__ = ["Known", "choose"]

_N_DRAWS: Final = 64
_EVERYWHERE: Final = (
    0.1  # of the weight of a prompt, whatever the choice there: an LLM is to be known off its prompts too
)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one LLM before any answer, and its answers.

    Attributes:
        population: The LLMs that it may be one of.
        columns: Of all prompts, (n_prompts, width).
        asked: Prompts with a grade, intp (n,).
        score: Their grades in [0, 1], (n,).
    """

    population: Population
    columns: Floats
    asked: NDArray[np.intp]
    score: Floats

    def fitted(self) -> Newcomer:
        """The LLM as its answers have it."""
        return newcomer(self.population, self.columns[self.asked], self.score)


def choose(
    known: Mapping[str, Known],
    cost_usd: Mapping[str, float],
    cost_weight: float,
    n: int,
    taken: Mapping[str, Collection[int]],
) -> dict[str, list[int]]:
    """Chooses prompts.

    Args:
        known: By LLM.
        cost_usd: Of an answer, by LLM.
        cost_weight: λ, by which LLMs are chosen.
        n: How many for each LLM.
        taken: Prompts that an LLM is not to be asked any more.

    Returns:
        By LLM, the most telling prompts first.
    """
    fitted = {llm: one.fitted() for llm, one in known.items()}
    weights = _contested(known, fitted, cost_usd, cost_weight)
    chosen = dict[str, list[int]]()
    for row, (llm, one) in enumerate(known.items()):
        open_ = np.setdiff1d(np.arange(len(one.columns)), np.fromiter(taken.get(llm, ()), dtype=np.intp))
        if not len(open_):
            chosen[llm] = []
            continue
        narrowed = _as_population(one.population, fitted[llm])
        picked = choose_questions(narrowed, one.columns[open_], n, weights[row, open_])
        chosen[llm] = open_[picked].tolist()
    return chosen


def _as_population(population: Population, fitted: Newcomer) -> Population:
    """The LLMs that one may still be, given its answers."""
    return replace(population, mean=fitted.row, spread=fitted.root)


def _contested(
    known: Mapping[str, Known], fitted: Mapping[str, Newcomer], cost_usd: Mapping[str, float], cost_weight: float
) -> Floats:
    """How open it is whether an LLM is chosen at a prompt, (n_llms, n_prompts): most where its chance is one half."""
    draws = np.random.default_rng(0)
    utility = []
    for llm, one in known.items():
        mine = fitted[llm]
        rows = mine.row[:, None] + mine.root @ draws.standard_normal((len(mine.row), _N_DRAWS))
        utility.append(sigmoid(one.columns @ rows) - cost_weight * cost_usd[llm])
    best = np.argmax(np.stack(utility), axis=0)  # (n_prompts, n_draws)
    chance = np.stack([(best == row).mean(axis=1) for row in range(len(known))])
    weights: Floats = _EVERYWHERE + 4.0 * chance * (1.0 - chance)
    return weights
