"""A file of prompts → what the router makes of each: part by part, so that an interrupted run goes on where it was.

A part is a run of rows of the file and one Parquet file of the folder; who makes it, this process or a worker of
`ray_scoring`, makes the same.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import polars as pl

from embedllm_router._files import why_no_place, write_whole
from embedllm_router.config.settings import encoder_place
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.prediction.loading import encode_all, load_encoder
from embedllm_router.prediction.static_encoder import EncodedPrompt
from embedllm_router.routing.decision import Objective, Request
from embedllm_router.routing.pipeline import Embedded, Policy, Routing, decide
from embedllm_router.routing.pool import CandidatePool
from embedllm_router.routing.prompt import read_body
from embedllm_router.routing.router import Router

__all__ = ["ChosenLLM", "Job", "Scored", "begin", "chosen_llms", "load_router", "score_file", "score_part"]

_MARK: Final = "scoring.json"
_FORMATS: Final[Mapping[str, Callable[[Path], pl.LazyFrame]]] = {
    ".parquet": pl.scan_parquet,
    ".jsonl": pl.scan_ndjson,
    ".ndjson": pl.scan_ndjson,
}
_ACCURATE: Final = Objective()
_BLOCK: Final = 256
"""Prompts that are embedded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is scored and how.

    Attributes:
        file: Parquet, or one JSON object a line.
        out: Folder of the parts.
        artifact: Weights folder; None takes the shipped one.
        column: Where the prompts are; null is scored as a prompt without text.
        candidates: Names of learned LLMs; None takes all.
        objective: What the best candidate is.
        every_llm: Whether each candidate's p_correct is written, too.
        rows_per_part: Rows of a part.
    """

    file: Path
    out: Path
    artifact: Path | None = None
    column: str = "prompt"
    candidates: tuple[str, ...] | None = None
    objective: Objective = _ACCURATE
    every_llm: bool = False
    rows_per_part: int = 20_000

    def part(self, number: int) -> Path:
        """The file of a part, counted from 0."""
        return self.out / f"part-{number:06}.parquet"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a run has done.

    Attributes:
        n_rows: Rows of the file.
        n_parts: Parts of the folder.
        n_new: Parts that this run made; the others were there.
    """

    n_rows: int
    n_parts: int
    n_new: int


@dataclass(frozen=True, slots=True)
class ChosenLLM:
    """What one LLM would answer.

    Attributes:
        name: Of the LLM; None for prompts for which none could be chosen.
        n: How many prompts.
        p_correct: Mean probability of a correct answer; None without an LLM.
        cost_usd: Expected cost of all of them, at list prices; None likewise.
    """

    name: str | None
    n: int
    p_correct: float | None
    cost_usd: float | None


def chosen_llms(job: Job) -> tuple[ChosenLLM, ...]:
    """Counts the finished parts by the LLM that was chosen, most prompts first.

    Raises:
        DataError: A part cannot be read.
    """
    parts = sorted(job.out.glob("part-*.parquet"))
    if not parts:
        return ()
    try:
        counted = (
            pl.scan_parquet(parts)
            .group_by("chosen")
            .agg(pl.len(), pl.col("p_correct").mean(), pl.col("cost_usd").sum())
            .sort(["len", "chosen"], descending=[True, False])
            .collect()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"the parts in {job.out} cannot be read ({error}). Delete the broken one and run again."
        ) from None
    return tuple(ChosenLLM(name, n, p, None if name is None else usd) for name, n, p, usd in counted.iter_rows())


def begin(job: Job, router: Router) -> tuple[int, list[int]]:
    """Makes the folder, or makes sure that what is in it is of the same job.

    Args:
        job: What is scored and how.
        router: Its weights; loading them and naming the candidates comes before anything is written.

    Returns:
        Rows of the file, and the numbers of the parts that are missing.

    Raises:
        ConfigError: The folder cannot be used, or holds parts of another job.
        DataError: The file or its column cannot be read.
    """
    pool = _pool(job, router)
    n_rows = _count(job)
    reason = why_no_place(job.out, _MARK, "the result of a scoring")
    if reason is not None:
        raise ConfigError(reason)
    described = json.dumps(
        {
            "file": str(job.file.absolute()),
            "bytes": job.file.stat().st_size,
            "n_rows": n_rows,
            "column": job.column,
            "artifact": router.artifact_id,
            "candidates": hashlib.sha256("\0".join(one.name for one in pool.candidates).encode()).hexdigest(),
            "objective": asdict(job.objective),
            "every_llm": job.every_llm,
            "rows_per_part": job.rows_per_part,
        },
        indent=1,
    )
    mark = job.out / _MARK
    try:
        if mark.exists() and mark.read_text(encoding="utf-8") != described:
            raise ConfigError(f"{job.out} holds parts of another file, weights or options. Name another folder.")
        job.out.mkdir(parents=True, exist_ok=True)
        write_whole(mark, described.encode())
    except OSError as error:
        raise ConfigError(f"{job.out} cannot be written ({error.strerror}). Name another folder.") from error
    n_parts = -(-n_rows // job.rows_per_part)
    return n_rows, [number for number in range(n_parts) if not job.part(number).exists()]


def load_router(job: Job) -> Router:
    """The job's weights.

    Raises:
        ArtifactError: They cannot be loaded.
    """
    return Router.load(job.artifact, lambda weights: load_encoder(weights, place=encoder_place()))


def score_file(job: Job, on_progress: Callable[[str, int, int], None] = lambda *_: None) -> Scored:
    """Scores what is missing, in this process.

    Args:
        job: What is scored and how.
        on_progress: Called with what is being done, parts done and parts planned.

    Raises:
        ConfigError: As `begin`.
        DataError: As `begin`.
    """
    router = load_router(job)
    n_rows, missing = begin(job, router)
    for done, number in enumerate(missing):
        on_progress("scoring", done, len(missing))
        score_part(job, router, number)
    return Scored(n_rows, -(-n_rows // job.rows_per_part), len(missing))


def score_part(job: Job, router: Router, number: int) -> None:
    """Scores a part and writes it whole.

    Args:
        job: What is scored and how.
        router: Its weights.
        number: The part, counted from 0.

    Raises:
        DataError: The file cannot be read.
        ConfigError: The part cannot be written.
    """
    start, pool = number * job.rows_per_part, _pool(job, router)
    texts = _read(job, start)
    rows: list[dict[str, object]] = []
    for first in range(0, len(texts), _BLOCK):
        block = texts[first : first + _BLOCK]
        rows += [_row(job, one) for one in _decided(job, router, pool, block)]
    frame = pl.DataFrame(rows, schema=_schema(job, pool), orient="row")
    frame = frame.with_columns(pl.Series("row", range(start, start + len(rows)), pl.Int64)).select(
        "row", pl.exclude("row")
    )
    written = io.BytesIO()
    frame.write_parquet(written)
    try:
        write_whole(job.part(number), written.getvalue())
    except OSError as error:
        raise ConfigError(f"{job.out} cannot be written ({error.strerror}). Make room, then run it again.") from error


def _decided(job: Job, router: Router, pool: CandidatePool, texts: Sequence[str]) -> list[Routing]:
    told = [text for text in texts if text.strip()]
    encoded: dict[str, EncodedPrompt] = dict(zip(told, encode_all(router.encoder, told), strict=True))
    found = []
    for text in texts:
        prompt = read_body({"prompt": text})
        request = Request(job.objective, prompt.input_tokens, prompt.max_output_tokens)
        embedded = Embedded(encoded[text].prompt_embedding if text in encoded else None)
        found.append(decide(router, prompt, request, Policy(pool), embedded=embedded))
    return found


def _row(job: Job, routing: Routing) -> dict[str, object]:
    decision, shrinkage = routing.decision, routing.shrinkage
    chosen = decision.chosen
    row: dict[str, object] = {
        "chosen": chosen.name if chosen else None,
        "p_correct": chosen.p_correct if chosen else None,
        "cost_usd": chosen.cost_usd if chosen else None,
        "output_tokens": chosen.expected_output_tokens if chosen else None,
        "category": shrinkage.nearest.name if shrinkage.nearest else None,
        "ood_score": shrinkage.ood_score,
    }
    if job.every_llm:
        names = (f"p_correct/{one.name}" for one in decision.pool.candidates)
        row |= dict(zip(names, decision.p_correct.tolist(), strict=True))
    return row


def _schema(job: Job, pool: CandidatePool) -> dict[str, type[pl.DataType]]:
    schema: dict[str, type[pl.DataType]] = {"chosen": pl.String, "p_correct": pl.Float64, "cost_usd": pl.Float64}
    schema |= {"output_tokens": pl.Float64, "category": pl.String, "ood_score": pl.Float64}
    if job.every_llm:
        schema |= {f"p_correct/{one.name}": pl.Float64 for one in pool.candidates}
    return schema


def _pool(job: Job, router: Router) -> CandidatePool:
    return router.pool(job.candidates)


def _scan(job: Job) -> pl.LazyFrame:
    read = _FORMATS.get(job.file.suffix)
    if not job.file.is_file():
        raise DataError(f"{job.file}: no such file. Expected prompts in one that ends with {', '.join(_FORMATS)}.")
    if read is None:
        raise DataError(f"{job.file}: expected a file that ends with {', '.join(_FORMATS)}.")
    return read(job.file)


def _count(job: Job) -> int:
    try:
        frame = _scan(job)
        columns = frame.collect_schema()
        if columns.get(job.column) != pl.String:
            found = ", ".join(name for name, kind in columns.items() if kind == pl.String) or "none"
            remedy = "--column names another."
            raise DataError(
                f"{job.file}: expected texts in a column {job.column!r}; columns of texts: {found}. {remedy}"
            )
        n_rows: int = frame.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{job.file} cannot be read ({str(error).splitlines()[0]}).") from error
    if not n_rows:
        raise DataError(f"{job.file} has no rows.")
    return n_rows


def _read(job: Job, start: int) -> list[str]:
    try:
        column = _scan(job).select(job.column).slice(start, job.rows_per_part).collect().to_series()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{job.file} cannot be read ({str(error).splitlines()[0]}).") from error
    return column.fill_null("").to_list()
