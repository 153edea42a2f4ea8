"""Writes Parquet files with DuckDB: sorted by time, in little memory, and in place only when they are whole."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from embedllm_router.records.writer.segments_store_segment_file import sync_folder

__all__ = ["put_in_place", "quoted", "quoted_path", "scratch", "write_sorted"]

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
