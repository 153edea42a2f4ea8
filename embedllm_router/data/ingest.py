"""Correctness data of any known format → one canonical folder, written whole or not at all.

    items.parquet     item_id, category, prompt, and split where a source has one
    results.parquet   item_id, model, score, and what is known of tokens, cost and length
    ingest.json       where it came from: files with SHA-256, formats, counts, the conflict rule, choices made
    rejected.jsonl    rows that were not used: file, row, line, column, reason; only if there are any

folder.py reads the folder back. Nothing here knows a format; formats/ does.
"""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from embedllm_router._files import draft_beside, put_in_place
from embedllm_router.data.formats.answer import Input, Rejected
from embedllm_router.data.formats.detect import Format, detect, files_of, reader_of
from embedllm_router.data.formats.llmrouterbench import latest_runs
from embedllm_router.data.formats.rows import clear_read_errors, kind, open_table
from embedllm_router.data.ingest_data_answer_table import AnswerTable
from embedllm_router.data.ingest_data_ingest_report import FileRead, IngestOptions, IngestReport
from embedllm_router.errors import DataError

__all__ = ["MANIFEST", "REJECTED", "ingest"]

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
