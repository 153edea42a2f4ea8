"""Questions that people have → those to ask a new LLM first, as lines that `ingest` takes back once they are graded."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedllm_router.artifact.weights import Artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.errors import DataError
from embedllm_router.training.add_llm.add_adding_embedding import Tell, embed
from embedllm_router.training.add_llm.population import Population
from embedllm_router.training.add_llm.questions_adding_choosing import choose_questions

__all__ = ["Question", "questions_to_ask"]


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


def questions_to_ask(artifact: Artifact, matrix: CorrectnessMatrix, n: int, tell: Tell | None = None) -> list[Question]:
    """Chooses questions; of several with the same stem, at most one.

    Args:
        artifact: Weights that shall know the new LLM.
        matrix: Its prompts are the questions; answers are not looked at.
        n: How many.
        tell: Told about progress.

    Raises:
        ConfigError: The weights know too few LLMs.
        DataError: There are no prompts.
    """
    rows = _one_of_each([question_stem(prompt) for prompt in matrix.prompts])
    if not rows:
        raise DataError("the data hold no prompts to choose questions from.")
    population = Population.of(artifact, "prompt")
    embeddings = embed(artifact, [matrix.prompts[row] for row in rows], tell)
    names = matrix.category_names()
    chosen = [rows[i] for i in choose_questions(population, population.columns(embeddings), n)]
    return [Question(matrix.prompt_ids[row], str(names[row]), matrix.prompts[row]) for row in chosen]


def _one_of_each(stems: Sequence[str]) -> list[int]:
    return sorted({stem: row for row, stem in reversed(list(enumerate(stems)))}.values())
