"""Questions that people have → those to ask a new LLM first, as lines that `ingest` takes back once they are graded.

Which questions to ask a new LLM first: those whose answers tell most about how it does on all of them. Pure.

Greedily, the next question is the one that lowers the mean predicted variance of the logit over all questions most
(V-optimal design; Chaloner and Verdinelli, 1995), when an LLM is a draw from the population. It needs no answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import sigmoid
from embedllm_router.artifact.weights import Artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.errors import DataError
from embedllm_router.evaluation.inputs import OnProgress
from embedllm_router.training.add_llm.add import embed
from embedllm_router.training.add_llm.population import Population

__all__ = ["Question", "choose_questions", "questions_to_ask"]

_BLOCK: Final = 4096
Floats = NDArray[np.float64]


def choose_questions(population: Population, columns: Floats, n: int) -> list[int]:
    """The questions to ask, most telling first.

    Args:
        population: What LLMs are like.
        columns: Of the questions there are, (n_questions, d + 1).
        n: How many to choose; all of them where there are fewer.

    Returns:
        Their indices.
    """
    x = columns @ population.spread
    d = x.shape[1]
    average = x.T @ x / len(x)
    information = _information(columns @ population.mean, np.einsum("ij,ij->i", x, x))
    covariance, open_ = np.eye(d), np.ones(len(x), dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(min(n, len(x))):
        gain = np.where(open_, _gains(x, information, covariance, average), -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        open_[best] = False
        along, weight = covariance @ x[best], information[best]
        covariance -= np.outer(along, along) * (weight / (1.0 + weight * (x[best] @ along)))
    return chosen


def _information(logit: Floats, variance: Floats) -> Floats:
    """Fisher information p (1 - p) of a new LLM's answer, p averaged over the population (MacKay, 1992)."""
    p = sigmoid(logit / np.sqrt(1.0 + np.pi * variance / 8.0))
    information: Floats = p * (1.0 - p)
    return information


def _gains(x: Floats, information: Floats, covariance: Floats, average: Floats) -> Floats:
    """How much each answer would lower the mean variance, (n_questions,)."""
    turned = covariance @ average @ covariance
    gains = np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        block, weight = x[start : start + _BLOCK], information[start : start + _BLOCK]
        own = np.einsum("ij,ij->i", block @ covariance, block)
        gains[start : start + _BLOCK] = weight * np.einsum("ij,ij->i", block @ turned, block) / (1.0 + weight * own)
    return gains


@dataclass(frozen=True, slots=True)
class Question:
    """A question to ask.

    Attributes:
        item_id: Its id in the data.
        category: Data set and category.
        prompt: The text.
    """

    item_id: str
    category: str
    prompt: str


def questions_to_ask(
    artifact: Artifact, matrix: CorrectnessMatrix, n: int, on_progress: OnProgress | None = None
) -> list[Question]:
    """Chooses questions; of several with the same stem, at most one.

    Args:
        artifact: Weights that shall know the new LLM.
        matrix: Its prompts are the questions; answers are not looked at.
        n: How many.
        on_progress: Called with what is being done, steps done and steps planned.

    Raises:
        ConfigError: The weights know too few LLMs.
        DataError: There are no prompts.
    """
    rows = _one_of_each([question_stem(prompt) for prompt in matrix.prompts])
    if not rows:
        raise DataError("the data hold no prompts to choose questions from.")
    population = Population.of(artifact, "prompt")
    embeddings = embed(artifact, [matrix.prompts[row] for row in rows], on_progress)
    names = matrix.category_names()
    chosen = [rows[i] for i in choose_questions(population, population.columns(embeddings), n)]
    return [Question(matrix.prompt_ids[row], str(names[row]), matrix.prompts[row]) for row in chosen]


def _one_of_each(stems: Sequence[str]) -> list[int]:
    return sorted({stem: row for row, stem in reversed(list(enumerate(stems)))}.values())
