"""Stored requests with the verdicts on their answers, to decide again and to learn from.

`Rescorer` predicts for a stored request by other weights, from its recorded text or embedding. A recorded embedding
stands for the text only where the encoder is the same; without either there is no prediction.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.weights import Artifact
from embedllm_router.config.settings import encoder_place
from embedllm_router.prediction.loading import encoder_id, load_encoder
from embedllm_router.prediction.scorer import Scorer, Scores
from embedllm_router.records.reader.source import Filters, RecordSource
from embedllm_router.records.reader.verdicts import RequestKey, Verdict, counting, mean_score, request_key
from embedllm_router.records.schema import CandidateRecord
from embedllm_router.routing.policy import Objective

__all__ = [
    "Basis",
    "Beside",
    "Embedder",
    "Recorded",
    "RecordedRequest",
    "Rescorer",
    "Wanted",
    "read_recorded",
    "usual_baseline",
]

_SAME: Final = (
    *(
        "at",
        "request_id",
        "virtual_model",
        "call_type",
        "category",
        "objective_from",
        "chosen",
        "served",
        "artifact",
        "encoder",
        "reason",
        "baseline",
    ),
    *("prompt_chars", "input_tokens", "max_output_tokens", "service_tier", "prompt_hash", "billed_cost_usd"),
)
"""Fields that are taken over as they are."""

_COLUMNS: Final = (
    *(f'"{name}"' for name in _SAME),
    *("cost_weight", "min_p_correct", "within", "max_cost_usd", "latency_weight", "near_tie_margin"),
    *("propensity", "candidates", "needs"),
)
_TEXT: Final = ("prompt", "embedding")

_JUDGED: Final = """(request_id IN (SELECT request_id FROM feedback)
  OR response_id IN (SELECT request_id FROM feedback))"""


@dataclass(frozen=True, slots=True)
class Beside:
    """Another LLM's answer to a request, which a judge scored beside the answer that the user got.

    Attributes:
        name: Candidate that gave it.
        score: Its score, in [0, 1].
        score_served: That of the user's answer, by the same judge.
        odds: Probability with which it was asked, in (0, 1]: that the request was drawn, and that this LLM was.
    """

    name: str
    score: float
    score_served: float
    odds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One stored request, as far as deciding it again takes.

    Attributes:
        at: When it was decided, UTC without a zone.
        request_id: LiteLLM's call id.
        virtual_model: Model name in the request.
        category: Training category nearest to the prompt; None when unknown.
        objective: What it was decided by.
        objective_from: Who set the objective.
        reason: Why the chosen one was chosen.
        chosen: Model group it was sent to.
        served: Model group that answered; None when none did.
        propensity: Probability with which the policy chose it.
        candidates: Everything weighed, in the recorded order.
        artifact: Id of the weights that decided.
        encoder: Id of the prompt encoder.
        prompt_chars: Length of the embedded text; None when unknown.
        input_tokens: Estimated tokens of the whole request; None when unknown.
        max_output_tokens: The request's own limit on the answer; None when it set none.
        service_tier: The tier of service it asked for; None for the usual one.
        needs: What an LLM had to be able to do.
        prompt_hash: Keyed hash of the text; None when unknown.
        prompt: The embedded text; None when it was not kept or not read.
        embedding: Prompt embedding as base64 of little-endian float16; None likewise.
        billed_cost_usd: Billed cost in USD; None when unknown.
        verdicts: The verdicts on the answer, the newest of each source; empty without feedback.
        baseline: The candidate that the virtual model named as its baseline; None without one.
        call_type: LiteLLM's name of the endpoint; empty when unknown.
        beside: Other LLMs' answers that were scored beside this one; empty where they were not read.
    """

    at: datetime
    request_id: str
    virtual_model: str
    category: str | None
    objective: Objective
    objective_from: str | None
    reason: str
    chosen: str
    served: str | None
    propensity: float
    candidates: tuple[CandidateRecord, ...]
    artifact: str | None
    encoder: str | None
    prompt_chars: int | None
    input_tokens: int | None
    max_output_tokens: int | None
    service_tier: str | None = None
    needs: tuple[str, ...]
    prompt_hash: str | None
    prompt: str | None
    embedding: str | None
    billed_cost_usd: float | None
    verdicts: tuple[Verdict, ...] = ()
    baseline: str | None = None
    call_type: str = ""
    beside: tuple[Beside, ...] = ()

    @property
    def score(self) -> float | None:
        """Mean of the verdicts, in [0, 1]; None without feedback."""
        return mean_score([verdict.score for verdict in self.verdicts])

    def candidate(self, name: str | None) -> CandidateRecord | None:
        """What was weighed for one candidate; None when it was not among them."""
        return next((one for one in self.candidates if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a log holds.

    Attributes:
        requests: Oldest first; every one has candidates.
        n_meant: Requests that meet the filters.
        n_beyond_limit: Of those, older ones that were not read.
        n_without_decision: Of those read, the ones that failed open: there is nothing to decide again.
        n_invalid: Of those read, the ones whose propensity is no probability.
        where: Where the log lies, without credentials.
    """

    requests: tuple[RecordedRequest, ...]
    n_meant: int
    n_beyond_limit: int
    n_without_decision: int
    n_invalid: int
    where: str


def usual_baseline(requests: Iterable[RecordedRequest]) -> str | None:
    """The baseline that most requests name; None where none does."""
    named = Counter(request.baseline for request in requests if request.baseline is not None)
    return named.most_common(1)[0][0] if named else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to read of a log.

    Attributes:
        filters: Which requests are meant.
        limit: Most requests to read, the newest.
        with_text: Whether prompts and embeddings are read, where they were kept.
        only_judged: Whether only requests with feedback are meant.
        sources: Sources of feedback that count; None counts all.
        with_contenders: Whether answers that judged evaluation got from other LLMs are meant, too.
        with_pairs: Whether their scores are read with the user's request.
    """

    filters: Filters = field(default_factory=Filters)
    limit: int = 100_000
    with_text: bool = False
    only_judged: bool = False
    sources: Collection[str] | None = None
    with_contenders: bool = False
    with_pairs: bool = False


def read_recorded(source: RecordSource, wanted: Wanted | None = None) -> Recorded:
    """Reads requests and the feedback on them.

    Args:
        source: The log.
        wanted: What to read; None takes the newest requests of all.

    Returns:
        The requests.

    Raises:
        DataError: The log cannot be read.
    """
    want = wanted or Wanted()
    meant, parameters = want.filters.where()
    where = f"({meant}) AND {_JUDGED}" if want.only_judged else meant
    columns = ", ".join((*_COLUMNS, *_TEXT) if want.with_text else _COLUMNS)
    view = "answers" if want.with_contenders else "requests"
    newest = f'SELECT {columns} FROM {view} WHERE {where} ORDER BY "at" DESC, request_id LIMIT {want.limit:d}'  # noqa: S608 - own columns and conditions
    rows = source.rows(newest, parameters)
    n_meant = int(source.rows(f"SELECT count(*) AS n FROM {view} WHERE {where}", parameters)[0]["n"])  # noqa: S608 - as above
    said = _verdicts(source, f"FROM {view} WHERE {meant}", parameters, want.sources)
    beside = _beside(source, meant, parameters) if want.with_pairs else {}
    decided = [row for row in reversed(rows) if row["candidates"] and row["cost_weight"] is not None]
    valid = [row for row in decided if row["propensity"] is None or 0 < row["propensity"] <= 1]
    return Recorded(
        requests=tuple(
            _request(row, tuple(said.get(request_key(row), ())), tuple(beside.get(request_key(row), ())))
            for row in valid
        ),
        n_meant=n_meant,
        n_beyond_limit=max(n_meant - len(rows), 0),
        n_without_decision=len(rows) - len(decided),
        n_invalid=len(decided) - len(valid),
        where=source.where,
    )


def _verdicts(
    source: RecordSource, meant: str, parameters: Mapping[str, object], sources: Collection[str] | None
) -> dict[RequestKey, list[Verdict]]:
    requests = f'SELECT request_id, response_id, "at" {meant}'
    sql = f'SELECT request_id, "at", source, score FROM ({counting(requests)}) AS v ORDER BY request_id, source'  # noqa: S608 - as above
    said: dict[RequestKey, list[Verdict]] = {}
    for row in source.rows(sql, parameters):
        if sources is None or row["source"] in sources:
            said.setdefault(request_key(row), []).append(Verdict(row["source"], row["score"]))
    return said


def _beside(source: RecordSource, meant: str, parameters: Mapping[str, object]) -> dict[RequestKey, list[Beside]]:
    """The scores of other LLMs' answers, by the request they are an answer to; a record of one has its time."""
    sql = f"""
    SELECT judged_for AS request_id, "at", chosen, judge_score, judge_score_served, judging_share, propensity
    FROM answers WHERE judging = 'contender' AND judge_score IS NOT NULL AND judging_share > 0 AND propensity > 0
      AND judged_for IN (SELECT request_id FROM requests WHERE {meant})
    ORDER BY "at", judged_for, chosen
    """  # noqa: S608 - as above
    found: dict[RequestKey, list[Beside]] = {}
    for row in source.rows(sql, parameters):
        odds = row["judging_share"] * row["propensity"]
        one = Beside(row["chosen"], row["judge_score"], row["judge_score_served"], odds)
        found.setdefault(request_key(row), []).append(one)
    return found


def _request(row: Mapping[str, Any], verdicts: tuple[Verdict, ...], beside: tuple[Beside, ...]) -> RecordedRequest:
    objective = Objective(
        row["cost_weight"],
        row["min_p_correct"],
        row["within"],
        row["max_cost_usd"],
        row["latency_weight"] or 0.0,  # files that lack these two are of before there were any
        row["near_tie_margin"] or 0.0,
    )
    return RecordedRequest(
        objective=objective,
        propensity=1.0 if row["propensity"] is None else row["propensity"],  # files that lack it are deterministic
        candidates=tuple(_candidate(one) for one in row["candidates"]),
        needs=tuple(row["needs"] or ()),
        prompt=row.get("prompt"),
        embedding=row.get("embedding"),
        verdicts=verdicts,
        beside=beside,
        **{name: row[name] for name in _SAME},
    )


def _candidate(one: Mapping[str, Any]) -> CandidateRecord:
    return CandidateRecord(
        one["name"],
        one["llm"],
        one["p_correct"],
        one["expected_output_tokens"],
        one["cost_usd"],
        one["utility"],
        one["excluded"],
        one.get("usual_p_correct"),
        one.get("usual_cost_usd"),
        one.get("propensity"),
        one.get("known_by"),
        one.get("p_correct_low"),
        one.get("p_correct_high"),
        one.get("p_unshrunk"),
    )


class Basis(StrEnum):
    """What a prompt embedding was made of."""

    TEXT = "recorded text"
    EMBEDDING = "recorded embedding"
    NO_TEXT = "prompt without text"
    NOTHING = "neither text nor an embedding by this encoder recorded"
    DAMAGED = "recorded embedding damaged"


@dataclass(frozen=True, slots=True)
class _Embedded:
    basis: Basis
    vector: NDArray[np.float32] | None = None


class Embedder:
    """Recorded requests → prompt embeddings of an artifact's encoder.

    Args:
        artifact: Loaded weights.

    Raises:
        ArtifactError: The encoder cannot be loaded.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._encoder = load_encoder(artifact, place=encoder_place())
        self._d_prompt = artifact.manifest.encoder.d_prompt
        self.encoder_id = encoder_id(artifact.manifest)

    def embed(self, request: RecordedRequest) -> tuple[Basis, NDArray[np.float32] | None]:
        """Embeds a request.

        Returns:
            What it was made of, and float32 (d_prompt,); None for a prompt without text, and where there is nothing
            to make it of.
        """
        found = self._embedded(request)
        return found.basis, found.vector

    def _embedded(self, request: RecordedRequest) -> _Embedded:
        if request.prompt_chars == 0 or (request.prompt is not None and not request.prompt.strip()):
            return _Embedded(Basis.NO_TEXT)
        if request.prompt is not None:
            return _Embedded(Basis.TEXT, self._encoder.encode(request.prompt).prompt_embedding)
        if request.embedding is None or request.encoder != self.encoder_id:
            return _Embedded(Basis.NOTHING)
        vector = _unpacked(request.embedding, self._d_prompt)
        return _Embedded(Basis.DAMAGED) if vector is None else _Embedded(Basis.EMBEDDING, vector)


class Rescorer:
    """Predictions of an artifact for recorded requests.

    Args:
        artifact: Loaded weights.

    Raises:
        ArtifactError: The encoder cannot be loaded.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.rows = {llm.id: row for row, llm in enumerate(artifact.manifest.llms)}
        self._embedder = Embedder(artifact)
        self._scorer = Scorer.from_artifact(artifact)

    def score(self, request: RecordedRequest) -> tuple[Basis, Scores | None]:
        """Scores a request for every LLM.

        Returns:
            What the prediction is made of, and the prediction; None where there is nothing to make it of.
        """
        basis, vector = self._embedder.embed(request)
        if basis in {Basis.NOTHING, Basis.DAMAGED}:
            return basis, None
        return basis, self._scorer.score(vector)


def _unpacked(text: str, d_prompt: int) -> NDArray[np.float32] | None:
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(packed) != 2 * d_prompt:
        return None
    vector = np.frombuffer(packed, dtype="<f2").astype(np.float32)
    return vector if bool(np.isfinite(vector).all()) else None
