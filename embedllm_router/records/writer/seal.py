"""Seals record files: JSON lines become Parquet, sorted by time, and lines that are no records are set aside.

    python -m embedllm_router.records.writer.seal FILE...

Only a file that nobody writes to is sealed; that its lock is free proves it. The Parquet file is written in a folder
beside, made durable, and then renamed into place: whenever this is interrupted, every record is in exactly one file of
those that `segments.readable` lists.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from embedllm_router.records.schema import FEEDBACK_COLUMNS, REQUEST_COLUMNS
from embedllm_router.records.writer.seal_store_merging import merge_days
from embedllm_router.records.writer.seal_store_parquet import put_in_place, quoted, quoted_path, scratch, write_sorted
from embedllm_router.records.writer.seal_store_sifting import sift
from embedllm_router.records.writer.segments import OPEN, REJECTED, SEALED, Kind, named
from embedllm_router.records.writer.segments_store_locks import try_lock

__all__ = ["Sealed", "seal_file", "seal_orphans"]

_COLUMNS: dict[Kind, Mapping[str, str]] = {"requests": REQUEST_COLUMNS, "feedback": FEEDBACK_COLUMNS}
_LONGEST_LINE = 16 * 2**20
_NICENESS = 15


@dataclass(frozen=True, slots=True)
class Sealed:
    """What became of one file of JSON lines.

    Attributes:
        path: The Parquet file; there is none when the file held no record.
        rows: Records in it.
        rejected: Lines that were no records; they are in the file of that name that ends in `.rejected`.
    """

    path: Path
    rows: int
    rejected: int = 0


def seal_orphans(folder: Path) -> list[Sealed]:
    """Seals every file of a folder that nobody writes to, such as those of processes that were killed.

    Raises:
        OSError: A file cannot be read, or the folder not be written to; the other files are sealed.
        duckdb.Error: A file cannot be converted and stays as it is; likewise.
    """
    sealed: list[Sealed] = []
    failures: list[OSError | duckdb.Error] = []
    for path in named(folder, OPEN):
        try:
            if (one := seal_file(path)) is not None:
                sealed.append(one)
        except (OSError, duckdb.Error) as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return sealed


def seal_file(path: Path) -> Sealed | None:
    """Seals one file of JSON lines.

    Returns:
        What became of it; None when somebody writes to it, seals it or has sealed it already.

    Raises:
        OSError: It cannot be read, or its folder not be written to.
        duckdb.Error: It cannot be converted; it stays as it is.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not try_lock(fd) or not path.exists():
            return None
        return _seal_locked(path, fd)
    finally:
        os.close(fd)


def _seal_locked(path: Path, fd: int) -> Sealed | None:
    target, last_written = path.with_suffix(SEALED), os.fstat(fd).st_mtime
    if target.exists():  # the last attempt ended between the rename and this
        path.unlink()
        return None
    with scratch(path) as draft:
        parquet, rejects = draft / target.name, draft / path.with_suffix(REJECTED).name
        rows, n_rejected = _convert(path, parquet, rejects)
        if n_rejected:
            put_in_place(rejects, path.parent, last_written)
        if rows:
            put_in_place(parquet, path.parent, last_written)
    path.unlink()
    return Sealed(target, rows, n_rejected)


def _convert(source: Path, parquet: Path, rejects: Path) -> tuple[int, int]:
    """Writes the Parquet file; returns its rows and how many lines were rejected."""
    kind: Kind = "feedback" if source.name.startswith("feedback-") else "requests"
    try:
        rows, empty = write_sorted(_select(source, kind), parquet)
    except duckdb.Error:
        empty = -1
    if empty == 0:
        return rows, 0
    sifted = parquet.with_suffix(".sifted")
    n_rejected = sift(source, sifted, rejects, kind)
    rows, _ = write_sorted(_select(sifted, kind), parquet)
    return rows, n_rejected


def _select(source: Path, kind: Kind) -> str:
    columns = ", ".join(f"{quoted(name)}: {quoted(sql_type)}" for name, sql_type in _COLUMNS[kind].items())
    options = f"format = 'newline_delimited', columns = {{{columns}}}, maximum_object_size = {_LONGEST_LINE}"
    return f"SELECT * FROM read_json({quoted_path(source)}, {options})"  # noqa: S608 - names of our own


def _main(files: list[str]) -> int:
    os.nice(_NICENESS)
    problems: list[str] = []
    paths = list(map(Path, files))
    for path in paths:
        try:
            sealed = seal_file(path)
        except (OSError, duckdb.Error) as error:
            problems.append(f"{path.name} cannot be sealed: {str(error).splitlines()[0]}")
            continue
        if sealed is not None and sealed.rejected:
            problems.append(f"{path.name} had {sealed.rejected} lines that are no records: see {path.stem}{REJECTED}")
    for folder in {path.parent for path in paths}:
        try:
            merge_days(folder)
        except (OSError, duckdb.Error) as error:
            problems.append(f"small files cannot be merged: {str(error).splitlines()[0]}")
    sys.stderr.write("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
