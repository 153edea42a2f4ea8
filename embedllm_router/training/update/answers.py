"""Recorded requests with feedback, or graded data → answers to learn from: which LLM, how good, what was predicted.

The LLM is the one that answered, a fallback included.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import logit
from embedllm_router.artifact.weights import Artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.evaluation.inputs import OnProgress
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.records.reader.recorded import Basis, Embedder, Recorded, RecordedRequest
from embedllm_router.records.reader.verdicts import Verdict

__all__ = ["Answers", "gather", "graded"]

RECORDED_P: Final = "recorded probability by the same weights"
_NO_FEEDBACK: Final = "no feedback"
_NOBODY: Final = "no LLM answered that these weights know"
_NOTHING: Final = "neither text nor embedding, and decided by other weights"
_SURE: Final = 1e-6
_EVERY: Final = 500
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers with feedback, oldest first; every array has one entry per answer.

    Attributes:
        llm: intp, row of the LLM that answered.
        score: Mean verdict, in [0, 1].
        weight: How often it counts: one over the propensity, clipped; 1 where the decision was deterministic.
        logit: What the current weights predict.
        own: The part of it that comes from the free entries of the LLM's row: all of it but with a hedge. NaN where
            only a probability was recorded and one cannot tell.
        columns: float32 (n, n_free), what those entries are multiplied by; NaN where neither text nor embedding was
            recorded.
        typical: What they predict of the mean LLM; NaN where the prompt is unknown. The next likewise.
        own_typical: The part of it that comes from the free entries of its row.
        shared: float32 (n, n_shared), `LinearDecoder.shared`.
        shared_widths: Of the blocks of these.
        hedged: Whether the weights have a hedge, so that LLMs share a part of the logit.
        key: Equal for equal prompts, where they can be told.
        verdicts: Everything that was said.
    """

    llm: NDArray[np.intp]
    score: Floats
    weight: Floats
    logit: Floats
    own: Floats
    columns: NDArray[np.float32]
    typical: Floats
    own_typical: Floats
    shared: NDArray[np.float32]
    shared_widths: tuple[int, ...]
    hedged: bool
    key: tuple[str, ...]
    verdicts: tuple[tuple[Verdict, ...], ...]

    def __len__(self) -> int:
        return len(self.llm)

    @property
    def has_columns(self) -> NDArray[np.bool_]:
        """Of which ones the prompt is known."""
        return np.isfinite(self.columns[:, 0])

    def select(self, rows: NDArray[np.bool_]) -> "Answers":
        """Some of them."""
        which = np.flatnonzero(rows).tolist()
        return Answers(
            llm=self.llm[rows],
            score=self.score[rows],
            weight=self.weight[rows],
            logit=self.logit[rows],
            own=self.own[rows],
            columns=self.columns[rows],
            typical=self.typical[rows],
            own_typical=self.own_typical[rows],
            shared=self.shared[rows],
            shared_widths=self.shared_widths,
            hedged=self.hedged,
            key=tuple(self.key[i] for i in which),
            verdicts=tuple(self.verdicts[i] for i in which),
        )


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a log holds to learn from.

    Attributes:
        answers: The answers.
        basis: How many were embedded from what.
        skipped: How many requests were not used, by reason.
        n_clipped: Weights that were clipped.
    """

    answers: Answers
    basis: Counter[str]
    skipped: Counter[str]
    n_clipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    row: int
    score: float
    weight: float = 1.0
    key: str
    verdicts: tuple[Verdict, ...] = ()
    p_recorded: float | None = None
    embedding: NDArray[np.float32] | None = None
    embedded: bool = True


def graded(artifact: Artifact, matrix: CorrectnessMatrix, prompts: Sequence[NDArray[np.float32] | None]) -> Answers:
    """The answers of graded data, each counting once.

    Args:
        artifact: The weights to update; answers of LLMs that it does not know are left out.
        matrix: The data.
        prompts: Embeddings of its prompts, float32 (d_prompt,) each; None for a prompt without text.
    """
    rows = {llm.id: row for row, llm in enumerate(artifact.manifest.llms)}
    labels = matrix.labels()
    found = [
        _Answer(
            row=rows[matrix.llm_ids[column]],
            score=float(labels[item, column]),
            key=question_stem(matrix.prompts[item]),
            embedding=prompts[item],
        )
        for item, column in np.argwhere(matrix.observed).tolist()
        if matrix.llm_ids[column] in rows
    ]
    return _lay_out(found, LinearDecoder(artifact), 1.0)[0]


def gather(
    recorded: Recorded, artifact: Artifact, *, max_weight: float, on_progress: OnProgress | None = None
) -> Gathered:
    """Gathers the answers with feedback.

    Args:
        recorded: The log, with text.
        artifact: The weights to update.
        max_weight: Largest weight of an answer.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The answers; one without text and embedding only where these very weights decided.
    """
    rows = {llm.id: row for row, llm in enumerate(artifact.manifest.llms)}
    embedder, basis, skipped = Embedder(artifact), Counter[str](), Counter[str]()
    found: list[_Answer] = []
    for i, request in enumerate(recorded.requests):
        answer = _answer(request, rows, embedder, artifact.id)
        if isinstance(answer, str):
            skipped[answer] += 1
        else:
            found.append(answer[0])
            basis[answer[1]] += 1
        if on_progress is not None and i % _EVERY == 0:
            on_progress("embedding", i, len(recorded.requests))
    answers, n_clipped = _lay_out(found, LinearDecoder(artifact), max_weight)
    return Gathered(answers, basis, skipped, n_clipped)


def _answer(
    request: RecordedRequest, rows: dict[str, int], embedder: Embedder, artifact_id: str
) -> tuple[_Answer, str] | str:
    if not request.verdicts:
        return _NO_FEEDBACK
    served = request.candidate(request.served)
    row = rows.get(served.llm) if served is not None and served.llm is not None else None
    if served is None or row is None:
        return _NOBODY
    basis, embedding = embedder.embed(request)
    if basis not in {Basis.NOTHING, Basis.DAMAGED}:
        return _of_request(request, row, embedding=embedding), str(basis)
    if request.artifact != artifact_id or served.p_correct is None:
        return _NOTHING
    return _of_request(request, row, p_recorded=served.p_correct), RECORDED_P


def _of_request(
    request: RecordedRequest,
    row: int,
    *,
    embedding: NDArray[np.float32] | None = None,
    p_recorded: float | None = None,
) -> _Answer:
    assert request.score is not None
    return _Answer(
        row=row,
        score=request.score,
        weight=_weight(request),
        key=request.prompt_hash or request.request_id,
        verdicts=request.verdicts,
        p_recorded=p_recorded,
        embedding=embedding,
        embedded=p_recorded is None,
    )


def _lay_out(found: list[_Answer], decoder: LinearDecoder, max_weight: float) -> tuple[Answers, int]:
    llm = np.array([one.row for one in found], dtype=np.intp)
    embedded = np.array([one.embedded for one in found], dtype=bool)
    n, rows = decoder.n_free, decoder.evened_rows()
    mean_row = rows.mean(axis=0)
    columns = np.full((len(found), decoder.rows.shape[1]), np.nan, dtype=np.float32)
    shared = np.full((len(found), decoder.n_shared), np.nan, dtype=np.float32)
    prompts = [one.embedding for one in found if one.embedded]
    columns[embedded] = decoder.columns(prompts)
    shared[embedded] = decoder.shared(prompts, columns[embedded])
    own = np.einsum("ij,ij->i", columns[:, :n], rows[llm, :n], dtype=np.float64)
    rest = np.einsum("ij,ij->i", columns[:, n:], rows[llm, n:], dtype=np.float64)
    p_recorded = np.array([np.nan if one.p_recorded is None else one.p_recorded for one in found])
    recorded = logit(np.clip(p_recorded, _SURE, 1 - _SURE))
    weight = np.array([one.weight for one in found], dtype=np.float64)
    answers = Answers(
        llm=llm,
        score=np.array([one.score for one in found], dtype=np.float64),
        weight=np.minimum(weight, max_weight),
        logit=np.where(embedded, own + rest, recorded),
        own=np.where(embedded | (n < columns.shape[1]), own, recorded),
        columns=columns[:, :n],
        typical=columns @ mean_row,
        own_typical=columns[:, :n] @ mean_row[:n],
        shared=shared,
        shared_widths=decoder.shared_widths,
        hedged=n < columns.shape[1],
        key=tuple(one.key for one in found),
        verdicts=tuple(one.verdicts for one in found),
    )
    return answers, int((weight > max_weight).sum())


def _weight(request: RecordedRequest) -> float:
    """A fallback's own probability of answering is not recorded: its answer counts once."""
    return 1.0 / request.propensity if request.served == request.chosen else 1.0
