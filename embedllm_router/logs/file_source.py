"""Records in files, queried with DuckDB in this process. It reads and never writes them."""

import contextlib
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from embedllm_router.errors import DataError, EmbedLLMRouterError
from embedllm_router.logs.places import RecordFiles, record_files
from embedllm_router.logs.source import Limits
from embedllm_router.records import FEEDBACK_COLUMNS, REQUEST_COLUMNS

__all__ = ["FileSource", "view"]

_ATTEMPTS: Final = 5
"""A file may be sealed between listing and reading it; then the folder is listed again."""

_LONGEST_LINE: Final = 64 * 2**20
_EXCLUDED_FOR: Final = (
    "CREATE TEMP MACRO excluded_for(weighed, reason) AS list_contains([one.excluded for one in weighed], reason)"
)
_UNREADABLE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)


class FileSource:
    """Implements `RecordSource` over files.

    Args:
        places: Folders, files and globs.
        limits: Threads and memory of all queries together.
    """

    kind: Literal["files", "postgres"] = "files"

    def __init__(self, places: Sequence[str], limits: Limits) -> None:
        self.where = ", ".join(places)
        self._places = tuple(places)
        record_files(self._places)
        self._database = _connect(limits)

    def files(self) -> RecordFiles:
        """The files as they are now."""
        return record_files(self._places)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Runs a query over the files as they are now; see `RecordSource.rows`."""
        used = {name: value for name, value in (parameters or {}).items() if re.search(rf"\${name}\b", sql)}
        for attempt in range(_ATTEMPTS):
            files = self.files()
            try:
                with _translated(), self.cursor(files) as cursor:
                    cursor.execute(sql, used)
                    names = [column[0] for column in cursor.description or ()]
                    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            except DataError:
                if attempt == _ATTEMPTS - 1 or self.files() == files:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextlib.contextmanager
    def cursor(self, files: RecordFiles) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of its own with the views over some files."""
        cursor = self._database.cursor()
        try:
            requests = view(files.requests_parquet, files.requests_jsonl, REQUEST_COLUMNS)
            feedback = view(files.feedback_parquet, files.feedback_jsonl, FEEDBACK_COLUMNS)
            cursor.execute(f"CREATE TEMP VIEW requests AS {requests}")
            cursor.execute(f"CREATE TEMP VIEW feedback AS {feedback}")
            cursor.execute(_EXCLUDED_FOR)
            yield cursor
        finally:
            cursor.close()

    def close(self) -> None:
        """Closes the database."""
        self._database.close()


def view(sealed: Sequence[Path], lines: Sequence[Path], columns: Mapping[str, str]) -> str:
    """SQL of the union of some files.

    Args:
        sealed: Parquet files.
        lines: Files of JSON lines; a line that is no record, such as a torn last one, is skipped.
        columns: Name → type of every column; one that a file lacks is NULL there.

    Returns:
        A SELECT with these columns first.
    """
    nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    parts = [f"SELECT {nothing} WHERE false"]
    if sealed:
        parts.append(f"SELECT * FROM read_parquet({_listed(sealed)}, union_by_name=true)")  # noqa: S608 - quoted paths
    if lines:
        kinds = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
        options = f"format='newline_delimited', ignore_errors=true, maximum_object_size={_LONGEST_LINE}"
        records = f"read_json({_listed(lines)}, columns={{{kinds}}}, {options})"
        parts.append(f"SELECT * FROM {records} WHERE request_id IS NOT NULL")  # noqa: S608 - quoted paths, own columns
    return " UNION ALL BY NAME ".join(parts)


def _listed(files: Sequence[Path]) -> str:
    quoted = ("'" + _literal(str(file)).replace("'", "''") + "'" for file in files)
    return f"[{', '.join(quoted)}]"


def _literal(path: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", path)  # DuckDB takes every path as a glob


def _connect(limits: Limits) -> duckdb.DuckDBPyConnection:
    options: dict[str, str | bool | int | float | list[str]] = {
        "threads": limits.threads,
        "memory_limit": limits.memory,
        "temp_directory": str(Path(tempfile.gettempdir()) / f"embedllm-router-{uuid.uuid4().hex}"),  # made when needed
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        database = duckdb.connect(":memory:", config=options)
        database.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
    except duckdb.Error as error:
        raise DataError(f"the limits {limits} are not usable: {_first_line(error)}.") from error
    return database


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(f"a record file cannot be read: {_first_line(error)}. Move it away or repair it.") from error
    except duckdb.OutOfMemoryException as error:
        raise EmbedLLMRouterError(
            f"the query needs more memory than allowed: {_first_line(error)}. Raise --memory, or narrow the time."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
