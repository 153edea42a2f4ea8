"""The learned LLMs, which of them get the same prompts right, and the requests of each."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embedllm_router.analysis.span import RecordQuery
from embedllm_router.artifact.weights import Artifact
from embedllm_router.evaluation.embeddings import centred_embeddings
from embedllm_router.records.reader.source import RecordSource

__all__ = ["LearnedLLM", "LearnedLLMs", "learned_llms"]

_NEIGHBOURS: Final = 5


@dataclass(frozen=True, slots=True)
class LearnedLLM:
    """One learned LLM.

    Attributes:
        id: Canonical id.
        vendor: Who made it.
        thinking: Whether it reasons before it answers.
        labels: Graded answers it was learned from.
        mean_correctness: Share of those that were right.
        input_usd_per_mtok: List price per million input tokens in USD; None when unknown.
        output_usd_per_mtok: List price per million output tokens in USD; None when unknown.
        nearest: The most alike others with the cosine of their centred embeddings, best first.
        chosen: Requests it was chosen for in the span of time.
    """

    id: str
    vendor: str
    thinking: bool
    labels: int
    mean_correctness: float
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    nearest: tuple[tuple[str, float], ...]
    chosen: int


@dataclass(frozen=True, slots=True)
class LearnedLLMs:
    """All learned LLMs.

    Attributes:
        artifact: Id of the weights; None when there are none, and then there are no LLMs.
        llms: In the order of the weights.
    """

    artifact: str | None
    llms: tuple[LearnedLLM, ...]


def learned_llms(artifact: Artifact | None, source: RecordSource, query: RecordQuery) -> LearnedLLMs:
    """Lists them.

    Args:
        artifact: The live weights; None makes an empty list.
        source: The records that say who was chosen.
        query: Which of them.

    Returns:
        The LLMs, each with those that are most alike.

    Raises:
        DataError: The records cannot be read.
    """
    if artifact is None:
        return LearnedLLMs(None, ())
    where, given = query.filters().where()
    sql = f"SELECT llm, count(*) AS n FROM requests WHERE {where} AND llm IS NOT NULL GROUP BY llm"  # noqa: S608 - our own SQL
    chosen = {row["llm"]: row["n"] for row in source.rows(sql, given)}
    with ThreadpoolController().limit(limits=1, user_api="blas"):  # a second thread for so little waits for seconds
        alike = _cosines(centred_embeddings(artifact))
    found = tuple(
        LearnedLLM(
            id=llm.id,
            vendor=llm.vendor,
            thinking=llm.thinking,
            labels=llm.n_labels,
            mean_correctness=llm.mean_correctness,
            input_usd_per_mtok=llm.input_usd_per_mtok,
            output_usd_per_mtok=llm.output_usd_per_mtok,
            nearest=_nearest(artifact, alike, row),
            chosen=chosen.get(llm.id, 0),
        )
        for row, llm in enumerate(artifact.manifest.llms)
    )
    return LearnedLLMs(artifact.id, found)


def _cosines(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.maximum(np.sqrt((embeddings**2).sum(axis=1, keepdims=True)), 1e-12)
    unit = embeddings / lengths
    cosines: NDArray[np.float64] = unit @ unit.T
    return cosines


def _nearest(artifact: Artifact, alike: NDArray[np.float64], row: int) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-alike[row], kind="stable").tolist()
    others = [other for other in order if other != row][:_NEIGHBOURS]
    return tuple((artifact.manifest.llms[other].id, float(alike[row, other])) for other in others)
