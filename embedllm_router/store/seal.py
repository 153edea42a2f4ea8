"""Seals record files: JSON lines become Parquet, sorted by time, and lines that are no records are set aside.

    python -m embedllm_router.store.seal FILE...

Only a file that nobody writes to is sealed; that its lock is free proves it. The Parquet file is written in a folder
beside, made durable, and then renamed into place: whenever this is interrupted, every record is in exactly one file of
those that `segments.readable` lists.
"""

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from embedllm_router.records import FEEDBACK_COLUMNS, REQUEST_COLUMNS
from embedllm_router.store.locks import try_lock
from embedllm_router.store.segment_file import sync_folder
from embedllm_router.store.segments import REJECTED, SEALED, Kind, unsealed
from embedllm_router.store.sifting import sift

__all__ = ["Sealed", "seal_file", "seal_orphans"]

_COLUMNS: dict[Kind, Mapping[str, str]] = {"requests": REQUEST_COLUMNS, "feedback": FEEDBACK_COLUMNS}
_MEMORY = "512MB"
_LONGEST_LINE = 32 * 2**20
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
        OSError: A file cannot be read, or the folder not be written to.
        duckdb.Error: A file cannot be converted; it stays as it is.
    """
    return [sealed for path in unsealed(folder) if (sealed := seal_file(path)) is not None]


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
    for left_behind in path.parent.glob(f".seal-{glob.escape(path.stem)}-*"):  # by one that was killed
        shutil.rmtree(left_behind)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".seal-{path.stem}-") as draft:
        parquet, rejects = Path(draft, target.name), Path(draft, path.with_suffix(REJECTED).name)
        rows, n_rejected = _convert(path, parquet, rejects)
        for made in (rejects, parquet):
            if made.exists():
                made.chmod(0o600)
                os.utime(made, (last_written, last_written))
                _sync(made)
                made.replace(path.parent / made.name)
        sync_folder(path.parent)
    path.unlink()
    return Sealed(target, rows, n_rejected)


def _convert(source: Path, parquet: Path, rejects: Path) -> tuple[int, int]:
    """Writes the Parquet file; returns its rows and how many lines were rejected."""
    kind: Kind = "feedback" if source.name.startswith("feedback-") else "requests"
    try:
        rows, good = _copy(source, parquet, kind)
    except duckdb.Error:
        good = False
    n_rejected = 0
    if not good:
        sifted = parquet.with_suffix(".sifted")
        n_rejected = sift(source, sifted, rejects, kind)
        rows, _ = _copy(sifted, parquet, kind)
    if rows == 0:
        parquet.unlink()
    return rows, n_rejected


def _copy(source: Path, parquet: Path, kind: Kind) -> tuple[int, bool]:
    """Rows written, and whether every one of them is a record rather than what DuckDB makes of `{}` or `null`."""
    columns = ", ".join(f"{_text(name)}: {_text(sql_type)}" for name, sql_type in _COLUMNS[kind].items())
    with duckdb.connect(config={"threads": 1, "memory_limit": _MEMORY, "temp_directory": str(parquet.parent)}) as sql:
        sql.execute(
            f"""COPY (
                SELECT * FROM read_json(
                    {_text(glob.escape(str(source)))}, format = 'newline_delimited', columns = {{{columns}}},
                    maximum_object_size = {_LONGEST_LINE}
                ) ORDER BY "at"
            ) TO {_text(str(parquet))} (FORMAT parquet, COMPRESSION zstd)"""  # noqa: S608 - names of our own
        )
        counted = sql.execute(
            "SELECT count(*), count(*) FILTER (request_id IS NULL) FROM read_parquet(?)", [glob.escape(str(parquet))]
        ).fetchone()
    rows, empty = counted or (0, 0)
    return int(rows), empty == 0


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sync(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _main(files: list[str]) -> int:
    os.nice(_NICENESS)
    problems: list[str] = []
    for path in map(Path, files):
        try:
            sealed = seal_file(path)
        except (OSError, duckdb.Error) as error:
            problems.append(f"{path.name} cannot be sealed: {str(error).splitlines()[0]}")
            continue
        if sealed is not None and sealed.rejected:
            problems.append(f"{path.name} had {sealed.rejected} lines that are no records: see {path.stem}{REJECTED}")
    sys.stderr.write("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
