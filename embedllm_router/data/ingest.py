"""Correctness data of any known format → one canonical folder, written whole or not at all.

    items.parquet     item_id, category, prompt, and split where a source has one
    results.parquet   item_id, model, score, and what is known of tokens, cost and length
    ingest.json       where it came from: files with SHA-256, formats, counts, the conflict rule, choices made
    rejected.jsonl    rows that were not used: file, row, line, column, reason; only if there are any

Answers from any source are gathered in columns: about 36 bytes an answer, each prompt's text held once. A prompt's id
is the hash of its text, so the same prompt has the same id in every source and every run. `folder` reads the result
back.
"""

import dataclasses
import hashlib
import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import orjson
import polars as pl

from embedllm_router._files import draft_beside, put_in_place
from embedllm_router.data.formats.detect import detect, files_of, reader_of
from embedllm_router.data.formats.llmrouterbench import latest_runs
from embedllm_router.data.formats.rows import Answer, Input, Rejected, clear_read_errors, kind, open_table
from embedllm_router.data.ingest_options import Format, IngestOptions, OnConflict
from embedllm_router.data.matrix import Conflicts
from embedllm_router.errors import DataError

__all__ = ["AnswerTable", "IngestReport", "ingest", "item_id"]

_ID_CHARS: Final = 20  # 80 bits: among a million prompts two share an id with a chance of 4e-13
_NAN: Final = float("nan")
_AMOUNTS: Final = ("input_tokens", "output_tokens", "cost_usd", "output_chars", "parsed")
_WHOLE: Final = ("input_tokens", "output_tokens", "output_chars")
_PAIR: Final = ("item", "llm")


def item_id(prompt: str) -> str:
    """The id of a prompt: the first 20 hexadecimal digits of the SHA-256 of its UTF-8 text."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:_ID_CHARS]


class AnswerTable:
    """Grows by one answer at a time; then gives the items and the results."""

    def __init__(self) -> None:
        self._items: dict[str, int] = {}
        self._categories: list[str] = []
        self._splits: list[str] = []
        self._llms: dict[str, int] = {}
        self._item = array("I")
        self._llm = array("I")
        self._score = array("f")
        self._amounts = {name: array("d" if name == "cost_usd" else "f") for name in _AMOUNTS}

    def __len__(self) -> int:
        return len(self._score)

    def add(self, answer: Answer) -> None:
        """Adds an answer; a prompt keeps the first category and split that it came with."""
        item = self._items.get(answer.prompt)
        if item is None:
            item = self._items[answer.prompt] = len(self._items)
            self._categories.append(answer.category)
            self._splits.append(answer.split)
        self._item.append(item)
        self._llm.append(self._llms.setdefault(answer.llm, len(self._llms)))
        self._score.append(answer.score)
        for name, value in zip(_AMOUNTS, answer[5:], strict=True):
            self._append(name, value)

    def items(self) -> pl.DataFrame:
        """Columns item_id, category, prompt, in the order first seen; split where any source names one."""
        frame = pl.DataFrame({"item_id": self._ids(), "category": self._categories, "prompt": list(self._items)})
        if any(self._splits):
            frame = frame.with_columns(pl.Series("split", self._splits))
        return frame

    def results(self, rule: OnConflict) -> tuple[pl.DataFrame, Conflicts]:
        """One row per prompt and LLM, sorted by item and LLM.

        Args:
            rule: What becomes of repeated pairs. `mean` averages all columns, the others take a whole row: the first,
                the last, the first of those with the highest score; `error` refuses conflicts.

        Returns:
            Columns item_id, model, score and what is known of input_tokens, output_tokens, cost_usd, output_chars and
            parsed; n_samples where scores were averaged. And the count of repeated pairs.

        Raises:
            DataError: The rule is `error` and scores conflict.
        """
        frame = self._frame()
        conflicts = Conflicts(0, 0)
        is_repeated = self._is_repeated()
        if is_repeated is not None:
            repeated = frame.filter(is_repeated)
            conflicts = self._count(repeated)
            if rule is OnConflict.ERROR and conflicts.conflicting:
                raise self._conflict(repeated, conflicts)
            frame = pl.concat([frame.filter(~is_repeated), _resolve(repeated, rule)], how="diagonal")
        if "n_samples" in frame.columns:
            frame = frame.with_columns(pl.col("n_samples").fill_null(1))
        return self._named(frame), conflicts

    def _append(self, name: str, value: float | None) -> None:
        values = self._amounts[name]
        if value is None and not values:
            return  # a column no answer has yet costs nothing
        values.extend(repeat(_NAN, len(self) - 1 - len(values)))
        values.append(_NAN if value is None else value)

    def _ids(self) -> list[str]:
        ids = [item_id(prompt) for prompt in self._items]
        if len(set(ids)) != len(ids):
            raise DataError("two different prompts have the same id, which chance does once in 10^12 data sets.")
        return ids

    def _frame(self) -> pl.DataFrame:
        columns = {
            "item": np.frombuffer(self._item, dtype=np.uint32),
            "llm": np.frombuffer(self._llm, dtype=np.uint32),
            "score": np.frombuffer(self._score, dtype=np.float32),
        }
        for name, values in self._amounts.items():
            if values:
                columns[name] = np.frombuffer(values, dtype=np.float64 if name == "cost_usd" else np.float32)
        return pl.DataFrame(columns).with_columns(pl.col(n).fill_nan(None) for n in _AMOUNTS if n in columns)

    def _is_repeated(self) -> pl.Series | None:
        """Which answers share their pair with another; None where none do. Sorting needs less memory than hashing."""
        pairs = np.frombuffer(self._item, dtype=np.uint32).astype(np.uint64) * len(self._llms)
        pairs += np.frombuffer(self._llm, dtype=np.uint32)
        order = np.argsort(pairs, kind="stable")
        is_next = np.diff(pairs[order]) == 0
        if not is_next.any():
            return None
        is_repeated = np.zeros(len(self), dtype=np.bool_)
        is_repeated[order[1:][is_next]] = True
        is_repeated[order[:-1][is_next]] = True
        return pl.Series(is_repeated)

    def _named(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with ids and names for numbers, sorted; amounts that count things as whole numbers."""
        ranks = {llm: rank for rank, llm in enumerate(sorted(self._llms))}
        rank_of = pl.Series([ranks[llm] for llm in self._llms], dtype=pl.UInt32)
        frame = frame.with_columns(rank_of.gather(frame["llm"]).alias("llm")).sort(_PAIR)
        ids, llms = pl.Series(self._ids(), dtype=pl.String), pl.Series(sorted(self._llms), dtype=pl.String)
        whole = [name for name in _WHOLE if name in frame.columns]
        return frame.select(
            ids.gather(frame["item"]).alias("item_id"),
            llms.gather(frame["llm"]).alias("model"),
            "score",
            *(pl.col(name).round().cast(pl.Int64) for name in whole),
            *(name for name in frame.columns if name not in {*_PAIR, "score", *whole}),
        )

    def _count(self, repeated: pl.DataFrame) -> Conflicts:
        pairs = repeated.group_by(_PAIR).agg(pl.col("score").n_unique())
        return Conflicts(repeated.height - pairs.height, pairs.filter(pl.col("score") > 1).height)

    def _conflict(self, repeated: pl.DataFrame, conflicts: Conflicts) -> DataError:
        pairs = repeated.group_by(_PAIR, maintain_order=True).agg(pl.col("score").unique())
        item, llm, scores = pairs.filter(pl.col("score").list.len() > 1).row(0)
        return DataError(
            f"{conflicts.conflicting} pairs of prompt and LLM have several scores; the first is prompt "
            f"{self._ids()[item]}, LLM {list(self._llms)[llm]!r}, scores {sorted(scores)}. Expected one each: mend "
            "the data or choose --on-conflict mean, first, last or max."
        )


def _resolve(repeated: pl.DataFrame, rule: OnConflict) -> pl.DataFrame:
    if rule is OnConflict.MEAN:
        return repeated.group_by(_PAIR, maintain_order=True).agg(
            pl.all().mean(), pl.len().cast(pl.UInt32).alias("n_samples")
        )
    if rule is OnConflict.MAX:
        repeated = repeated.sort("score", descending=True, maintain_order=True)
    return repeated.unique(_PAIR, keep="last" if rule is OnConflict.LAST else "first", maintain_order=True)


@dataclass(frozen=True, slots=True)
class FileRead:
    """One input file as it was read.

    Attributes:
        file: Its path below its source.
        format: Its format.
        bytes: Its size; of a canonical folder both files together.
        sha256: Of its content; of a canonical folder that of both, items first.
        rows: Answers found, rejected ones included.
        rejected: Answers not used.
    """

    file: str
    format: str
    bytes: int
    sha256: str
    rows: int
    rejected: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What was made of which files; ingest.json holds the same.

    Attributes:
        files: Read, in this order.
        ignored: Files that look like no known format, or that a later run replaces.
        notes: Choices the readers made on their own.
        n_items: Prompts.
        n_llms: LLMs.
        n_results: Pairs of prompt and LLM.
        n_rows: Answers found, rejected ones included.
        n_rejected: Answers not used.
        n_repeated: Answers beyond the first of their prompt and LLM.
        n_conflicting: Pairs with different scores.
        on_conflict: The rule that resolved them.
        llms: Names, sorted.
        llms_sha256: Of the names, one per line: whether two data sets have the same LLMs.
        categories: Prompts per category.
    """

    files: tuple[FileRead, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    n_items: int
    n_llms: int
    n_results: int
    n_rows: int
    n_rejected: int
    n_repeated: int
    n_conflicting: int
    on_conflict: str
    llms: tuple[str, ...]
    llms_sha256: str
    categories: dict[str, int]


MANIFEST: Final = "ingest.json"
REJECTED: Final = "rejected.jsonl"
_TELL_EVERY: Final = 20_000


def ingest(
    sources: Sequence[Path],
    out: Path,
    *,
    options: IngestOptions | None = None,
    on_rejected: Callable[[Rejected], None] = lambda _: None,
    progress: Callable[[str, int], None] = lambda _file, _rows: None,
) -> IngestReport:
    """Reads sources and writes the canonical folder.

    Args:
        sources: Files or folders, read in this order.
        out: Folder to make; one made by an earlier ingestion is replaced, anything else in the way is refused.
        options: What the user chose; the defaults by default.
        on_rejected: Called for each row that is not used.
        progress: Called now and then with the file's name and the rows read of it.

    Returns:
        The report.

    Raises:
        DataError: A source cannot be used, too many rows are bad, scores conflict under the rule `error`, or `out` is
            in the way. Nothing is written then, except the list of rejected rows when they are too many.
    """
    options = options or IngestOptions()
    _check_out(out)
    inputs, ignored = _plan(sources, out, options)
    with _clear_write_errors(out), draft_beside(out) as draft:
        _rejected_beside(out).unlink(missing_ok=True)
        with (draft / REJECTED).open("wb") as listed:
            run = _Run(options, listed, on_rejected, progress)
            files = tuple(run.read(source, format_) for source, format_ in inputs)
        _check_counts(out, draft, run, options)
        report = _write(draft, run, files, tuple(ignored))
        put_in_place(draft, out)
    return report


class _Run:
    """The state of one ingestion: the table that grows, and the list of rejected rows on disk."""

    def __init__(
        self,
        options: IngestOptions,
        listed: BinaryIO,
        on_rejected: Callable[[Rejected], None],
        progress: Callable[[str, int], None],
    ) -> None:
        self.options = options
        self.table = AnswerTable()
        self.rejected = 0
        self.notes: list[str] = []
        self._listed = listed
        self._on_rejected, self._progress = on_rejected, progress

    def read(self, source: Input, format_: Format) -> FileRead:
        noted = dataclasses.replace(source, note=self.notes.append)
        n_bytes, sha256 = _fingerprint(source)
        before, rows = self.rejected, 0
        for rows, answer in enumerate(reader_of(source.path, format_)(noted), start=1):
            if isinstance(answer, Rejected):
                self._reject(answer)
            else:
                self.table.add(answer)
            if rows % _TELL_EVERY == 0:
                self._progress(source.label, rows)
        self._progress(source.label, rows)
        return FileRead(source.label, format_.value, n_bytes, sha256, rows, self.rejected - before)

    def _reject(self, rejected: Rejected) -> None:
        self.rejected += 1
        fields = {**rejected.place._asdict(), "column": rejected.column, "reason": rejected.reason}
        self._listed.write(orjson.dumps(fields) + b"\n")
        self._on_rejected(rejected)


def _plan(sources: Sequence[Path], out: Path, options: IngestOptions) -> tuple[list[tuple[Input, Format]], list[str]]:
    """The files to read with their formats, and the labels of those left out. What lies in `out` is about to go."""
    inputs: list[tuple[Input, Format]] = []
    ignored: list[str] = []
    for source in sources:
        known: list[tuple[Path, Format]] = []
        for path in files_of(source, options.format):
            if out.resolve() in (path.resolve(), *path.resolve().parents):
                continue
            format_ = options.format or detect(path)
            if format_ is None:
                ignored.append(_label(path, source))
            else:
                known.append((path, format_))
        if not known:
            raise DataError(
                f"{source}: no format recognised, expected one of {[f.value for f in Format]}"
                f"{_found(source)}. The plain one has the columns prompt, llm and score, separated by commas; "
                "docs/ingest.md shows the others'."
            )
        _, older = latest_runs(path for path, format_ in known if format_ is Format.LLMROUTERBENCH)
        ignored += [_label(path, source) for path in older]
        inputs += [
            (Input(path, _label(path, source), options.metric, options.filter), format_)
            for path, format_ in known
            if path not in older
        ]
    return inputs, ignored


def _found(source: Path) -> str:
    """The columns of a single CSV, JSON lines or parquet file that no format knows."""
    if not source.is_file() or kind(source) not in {"csv", "jsonl", "ndjson", "parquet"}:
        return ""
    return f", found the columns {list(open_table(source, source.name).columns)!a}"


def _label(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix() if path != source else source.resolve().name


def _fingerprint(source: Input) -> tuple[int, str]:
    files = sorted(source.path.glob("*.parquet")) if source.path.is_dir() else [source.path]
    digest, n_bytes = hashlib.sha256(), 0
    with clear_read_errors(source.label):
        for path in files:
            with path.open("rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
                    n_bytes += len(chunk)
    return n_bytes, digest.hexdigest()


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, expected a folder to make. Name another.")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise DataError(
            f"{out} is not empty and holds no {MANIFEST}: not made by ingest, so it is not replaced. "
            "Name a new or empty folder."
        )


def _rejected_beside(out: Path) -> Path:
    """Where the rejected rows are listed when there is no folder to list them in."""
    return out.with_name(f"{out.name}.{REJECTED}")


def _check_counts(out: Path, draft: Path, run: _Run, options: IngestOptions) -> None:
    rows = len(run.table) + run.rejected
    if not rows:
        raise DataError("no rows found in any source. Check that the files hold graded answers.")
    if len(run.table) and options.max_bad_rows.allows(run.rejected, rows):
        return
    listed = _rejected_beside(out)
    shutil.move(draft / REJECTED, listed)
    raise DataError(
        f"{run.rejected} of {rows} rows cannot be used, expected at most {options.max_bad_rows}. All are listed in "
        f"{listed}. Mend the data or raise --max-bad-rows; nothing was written."
    )


def _write(draft: Path, run: _Run, files: tuple[FileRead, ...], ignored: tuple[str, ...]) -> IngestReport:
    items = run.table.items()
    results, conflicts = run.table.results(run.options.on_conflict)
    items.write_parquet(draft / "items.parquet")
    results.write_parquet(draft / "results.parquet")
    llms = tuple(sorted(results["model"].unique().to_list()))
    counts = items["category"].value_counts(sort=True, name="n").sort("category")
    report = IngestReport(
        files=files,
        ignored=ignored,
        notes=tuple(run.notes),
        n_items=items.height,
        n_llms=len(llms),
        n_results=results.height,
        n_rows=len(run.table) + run.rejected,
        n_rejected=run.rejected,
        n_repeated=conflicts.repeated,
        n_conflicting=conflicts.conflicting,
        on_conflict=run.options.on_conflict.value,
        llms=llms,
        llms_sha256=hashlib.sha256("\n".join(llms).encode()).hexdigest(),
        categories=dict(counts.iter_rows()),
    )
    (draft / MANIFEST).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    if not run.rejected:
        (draft / REJECTED).unlink()
    return report


@contextmanager
def _clear_write_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # of writing: what reading raises has become a DataError before
        reason = error.strerror or error
        raise DataError(f"{out}: cannot be written ({reason}). Check the rights and the space there.") from error
