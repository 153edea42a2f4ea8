"""Seals record files: JSON lines become Parquet, sorted by time, and lines that are no records are set aside.

    python -m embedllm_router.records.writer.seal FILE...

Only a file that nobody writes to is sealed; that its lock is free proves it. The Parquet file is written in a folder
beside, made durable, and then renamed into place: whenever this is interrupted, every record is in exactly one file of
those that `file_source.record_files` lists.

Sealed files of a past day are merged to one, since a query opens every file, and four workers that seal every hour
make a hundred files a day. segments.py says in which order, so that merging may end at any moment: the next process
that merges finishes it.
"""

import glob
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
from pydantic import TypeAdapter, ValidationError

from embedllm_router._files import try_lock
from embedllm_router.records.schema import FEEDBACK_COLUMNS, REQUEST_COLUMNS, FeedbackRecord, RequestRecord
from embedllm_router.records.writer.segments import (
    MERGED,
    OPEN,
    REJECTED,
    SEALED,
    Kind,
    merged_into,
    named,
    sync_folder,
)

__all__ = [
    "Sealed",
    "merge_days",
    "merging_in",
    "put_in_place",
    "quoted",
    "quoted_path",
    "rewrite",
    "scratch",
    "seal_file",
    "seal_orphans",
    "sift",
    "write_sorted",
]


def sift(source: Path, good: Path, bad: Path, kind: Kind) -> int:
    """Copies every line that is a record to one file and every other to a second, made only when there are any.

    The start of a line at the very end is neither: a process was killed while it wrote, before that record counted as
    written.

    Returns:
        How many lines were no records.

    Raises:
        OSError: A file cannot be read or written.
    """
    adapter: TypeAdapter[RequestRecord | FeedbackRecord]
    adapter = TypeAdapter(RequestRecord if kind == "requests" else FeedbackRecord)
    rejected: list[bytes] = []
    with source.open("rb") as lines, good.open("wb") as kept:
        for line in lines:
            if _is_record(line, adapter):
                kept.write(line)
            elif line.endswith(b"\n") and line.strip():
                rejected.append(line)
    if rejected:
        bad.write_bytes(b"".join(rejected))
    return len(rejected)


def _is_record(line: bytes, adapter: TypeAdapter[RequestRecord | FeedbackRecord]) -> bool:
    try:
        adapter.validate_json(line, strict=True)
    except ValidationError:
        return False
    return True


_MEMORY, _ROW_GROUP = "512MB", "32MB"


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A folder beside a file for what is made of it, readable by this user alone; gone afterwards.

    Args:
        path: The file. Whoever uses this holds a lock, so what another left behind for the same file is removed.

    Raises:
        OSError: It cannot be made.
    """
    prefix = f".seal-{path.stem}-"
    for left_behind in path.parent.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(left_behind)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder:
        yield Path(folder)


def write_sorted(select: str, parquet: Path) -> tuple[int, int]:
    """Writes what a query finds to a file, sorted by time; far more than memory holds, in the order it is found.

    Args:
        select: The query.
        parquet: The file, in a folder that may be used for what does not fit into memory.

    Returns:
        How many rows there are, and how many of them have no id and so are no records.

    Raises:
        duckdb.Error: The query fails, or the file cannot be written.
    """
    try:
        return _write(f'{select} ORDER BY "at"', parquet)
    except duckdb.OutOfMemoryException:
        return _write(select, parquet)


def _write(select: str, parquet: Path) -> tuple[int, int]:
    limits: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": _MEMORY,
        "temp_directory": str(parquet.parent),
        "preserve_insertion_order": False,  # else row groups cannot be cut by their size
        "autoinstall_known_extensions": False,
    }
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '{_ROW_GROUP}'"
    with duckdb.connect(config=limits) as sql:
        sql.execute(f"COPY ({select}) TO {quoted(str(parquet))} ({options})")
        counted = sql.execute(
            "SELECT count(*), count(*) FILTER (request_id IS NULL) "  # noqa: S608 - a name of our own
            f"FROM read_parquet({quoted_path(parquet)})"
        ).fetchone()
    rows, empty = counted or (0, 0)
    return int(rows), int(empty)


def put_in_place(made: Path, folder: Path, last_written: float) -> None:
    """Moves a file into a folder, durable before it is there.

    Args:
        made: The file, on the same file system.
        folder: Where it goes, under the same name.
        last_written: When its last record was written, in seconds since 1970; becomes its time.

    Raises:
        OSError: It cannot be moved.
    """
    made.chmod(0o600)
    os.utime(made, (last_written, last_written))
    fd = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    made.replace(folder / made.name)
    sync_folder(folder)


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted_path(path: Path) -> str:
    """A path as SQL writes it, where DuckDB would take it as a pattern."""
    return quoted(glob.escape(str(path)))


_SMALL, _LARGEST = 4_000_000, 16_000_000
"""Bytes of a file that is worth merging, and of all that are merged to one."""
_FEWEST = 4
"""Files that are worth merging."""


def merge_days(folder: Path, today: date | None = None) -> list[Path]:
    """Merges the small sealed files of each day before today.

    Args:
        folder: Of the record files.
        today: In UTC; None asks the clock.

    Returns:
        The files that were made; none when another process is merging here.

    Raises:
        OSError: A file cannot be read, written or removed.
        duckdb.Error: The files of a day cannot be merged; they stay as they are.
    """
    with merging_in(folder) as ours:
        if not ours:
            return []
        before = f"{today or datetime.now(UTC).date():%Y%m%d}"
        return [_merge(parts) for parts in _days(folder, before) if len(parts) >= _FEWEST]


def _days(folder: Path, before: str) -> list[list[Path]]:
    """Small sealed files by kind and day, no more of a day than are to make one file."""
    days: defaultdict[str, list[Path]] = defaultdict(list)
    sizes: defaultdict[str, int] = defaultdict(int)
    for path in named(folder, SEALED):
        kind, _, rest = path.stem.partition("-")
        day, size = rest[:8], path.stat().st_size
        # A file that still hides its lines must not go: they would be back.
        if not day.isdigit() or day >= before or size > _SMALL or path.with_suffix(OPEN).exists():
            continue
        if sizes[kind + day] + size <= _LARGEST:
            sizes[kind + day] += size
            days[kind + day].append(path)
    return list(days.values())


def _merge(parts: list[Path]) -> Path:
    kind, day = parts[0].stem.split("-")[0], parts[0].stem.split("-")[1][:8]
    files = ", ".join(map(quoted_path, parts))
    select = f"SELECT * FROM read_parquet([{files}], union_by_name = true)"  # noqa: S608 - quoted paths
    merged = parts[0].with_name(f"{kind}-{day}T000000000000Z-day-{secrets.token_hex(4)}{SEALED}")
    rewrite(parts, select, merged)
    return merged


def rewrite(parts: list[Path], select: str, merged: Path) -> None:
    """Replaces sealed files by one, so that a reader sees either them or that one, whenever this ends.

    Args:
        parts: The files; the caller has the right to merge in their folder.
        select: Query of what the new file is to hold.
        merged: The new file, of a name that no file has.

    Raises:
        OSError: A file cannot be read, written or removed.
        duckdb.Error: The query fails; the files stay as they are.
    """
    manifest = merged.with_suffix(MERGED)
    last_written = max(path.stat().st_mtime for path in parts)
    kind, day = merged.stem.split("-")[0], merged.stem.split("-")[1][:8]
    with scratch(merged.with_name(f"{kind}-{day}-day")) as draft:
        write_sorted(select, draft / merged.name)
        (draft / manifest.name).write_text(json.dumps([path.name for path in parts]), encoding="utf-8")
        put_in_place(draft / manifest.name, merged.parent, last_written)
        put_in_place(draft / merged.name, merged.parent, last_written)
    _finish(manifest)


def _finish(manifest: Path) -> None:
    """Removes the files that were merged, if the merged one is there, and then the list of them."""
    if manifest.with_suffix(SEALED).exists():
        for part in merged_into(manifest):
            part.unlink(missing_ok=True)
    manifest.unlink()


@contextmanager
def merging_in(folder: Path) -> Iterator[bool]:
    """The right to replace files of a folder, False when another has it; a process that dies loses it.

    What an interrupted one left half done is finished first.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        ours = try_lock(fd)
        for manifest in named(folder, MERGED) if ours else ():
            _finish(manifest)
        yield ours
    finally:
        os.close(fd)


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
