"""Records in files, queried with DuckDB in this process; files are read and never written.

A place is a folder of record files, one such file, a glob that matches either, or a prefix of a bucket (bucket.py);
`record_files` lists the files of some places so that each record is there once.
"""

import contextlib
import glob
import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import duckdb

from embedllm_router.errors import DataError, EmbedLLMRouterError
from embedllm_router.records.reader.source import Limits, is_bucket
from embedllm_router.records.schema import CANDIDATE_COLUMNS, FEEDBACK_COLUMNS, REQUEST_COLUMNS, storable
from embedllm_router.records.writer.segments import MERGED, OPEN, REJECTED, SEALED, named, superseded

__all__ = ["FileSource", "RecordFiles", "location", "record_files", "view"]

_PARQUET, _LINES = ".parquet", ".jsonl"
_FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The files that hold each record once.

    Attributes:
        requests_parquet: Sealed requests.
        requests_jsonl: Requests that are still being written, one JSON object a line.
        feedback_parquet: Sealed feedback.
        feedback_jsonl: Feedback that is still being written.
    """

    requests_parquet: tuple[Path, ...] = ()
    requests_jsonl: tuple[Path, ...] = ()
    feedback_parquet: tuple[Path, ...] = ()
    feedback_jsonl: tuple[Path, ...] = ()


def record_files(places: Sequence[str], *, must_exist: bool = True) -> RecordFiles:
    """Lists the record files of some places.

    Args:
        places: Folders, files and globs.
        must_exist: Whether a place that is not there is an error.

    Returns:
        Each record once: what is being sealed or merged is listed either in its old or in its new form.

    Raises:
        DataError: A place does not exist, or a glob matches nothing.
    """
    found = {
        file.absolute() for place in places if not is_bucket(place) for file in _files_of(place, must_exist=must_exist)
    }
    merges = {merge for folder in {file.parent for file in found} for merge in named(folder, MERGED)}
    found |= {file for place in places if is_bucket(place) for file in _objects_of(place, must_exist=must_exist)}
    left = found - superseded(found | merges)
    return RecordFiles(
        requests_parquet=_of(left, SEALED, feedback=False),
        requests_jsonl=_of(left, OPEN, feedback=False),
        feedback_parquet=_of(left, SEALED, feedback=True),
        feedback_jsonl=_of(left, OPEN, feedback=True),
    )


def _of(files: Iterable[Path], suffix: str, *, feedback: bool) -> tuple[Path, ...]:
    return tuple(sorted(f for f in files if f.suffix == suffix and f.name.startswith(_FEEDBACK) is feedback))


def _files_of(place: str, *, must_exist: bool) -> list[Path]:
    path = Path(place).expanduser()
    if path.is_dir():
        return _inside(path)
    if path.is_file():
        _check_suffix(path)
        return [path]
    matched = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern
    if must_exist and not matched:
        raise DataError(
            f"no records at {place}: expected a folder, a file or a glob that matches some. Name the folder in the "
            "setting store.path of the proxy, or a postgresql:// URL."
        )
    return [file for match in matched for file in (_inside(match) if match.is_dir() else [match])]


def _objects_of(place: str, *, must_exist: bool) -> list[Path]:
    from embedllm_router.records.reader.bucket import bucket_files  # noqa: PLC0415 - an extra that few install

    found = bucket_files(place)
    if must_exist and not found:
        raise DataError(f"no records at {place}: expected objects such as requests-….parquet under this prefix.")
    return found


def _inside(folder: Path) -> list[Path]:
    # While files are sealed and merged, one listing may miss old and new names of the same records. Twice it cannot.
    return [file for _ in range(2) for ending in (OPEN, SEALED) for file in named(folder, ending)]


def _check_suffix(path: Path) -> None:
    if path.suffix not in {SEALED, OPEN}:
        raise DataError(f"{path} is no record file: expected a name that ends in {SEALED} or {OPEN}.")


Result = TypeVar("Result")
Files = tuple[Path, ...]

_ATTEMPTS: Final = 10
"""A file may be sealed between listing and reading it; then the folder is listed again."""

_LONGEST_LINE: Final = 64 * 2**20
_FUNCTIONS: Final = (
    "CREATE MACRO excluded_for(members, why) AS list_contains([one.excluded for one in members], why)",
    "CREATE MACRO draw_of(words) AS (hash(words) % 2147483648) / 2147483648",
)
_REQUESTS: Final = "CREATE OR REPLACE VIEW requests AS SELECT * FROM answers WHERE judged_for IS NULL"
_WEIGHED: Final = (
    "CREATE OR REPLACE VIEW weighed AS SELECT * EXCLUDE (candidates, one), "  # noqa: S608 - our own columns
    + ", ".join(f"one.{name} AS candidate_{name}" for name in CANDIDATE_COLUMNS)
    + " FROM (SELECT *, unnest(candidates) AS one FROM requests)"
)
_SCHEMAS: Final = """
SELECT file_name, string_agg(concat_ws(' ', name, type, num_children, converted_type, logical_type), ',' ORDER BY name)
FROM parquet_schema({files}) GROUP BY file_name
"""
_UNREADABLE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)


class FileSource:
    """Implements `RecordSource` over files.

    Args:
        places: Folders, files and globs.
        limits: Threads and memory of all queries together.
        must_exist: Whether a place that is not there is an error; else it holds no records yet.
    """

    kind: Literal["files", "postgres"] = "files"

    def __init__(self, places: Sequence[str], limits: Limits, *, must_exist: bool = True) -> None:
        self.where = ", ".join(places)
        self._places, self._must_exist = tuple(places), must_exist
        self.files()
        self._database = _connect(limits)
        if any(map(is_bucket, places)):
            from embedllm_router.records.reader.bucket import Buckets  # noqa: PLC0415 - an extra that few install

            self._database.register_filesystem(Buckets())
        self._lock = threading.Lock()
        self._viewed: dict[str, tuple[Files, Files]] = {}
        self._schemas: dict[Path, str] = {}

    def files(self) -> RecordFiles:
        """The files as they are now."""
        return record_files(self._places, must_exist=self._must_exist)

    def rejected_lines(self) -> int:
        """Lines that were no records when their file was sealed; they are set aside beside it."""
        files = self.files()
        listed = (*files.requests_parquet, *files.requests_jsonl, *files.feedback_parquet, *files.feedback_jsonl)
        aside = [path for folder in {file.parent for file in listed} for path in named(folder, REJECTED)]
        return sum(path.read_bytes().count(b"\n") for path in aside)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Runs a query over the files as they are now; see `RecordSource.rows`."""
        return self.read(sql, parameters, _as_dicts)

    def read(
        self, sql: str, parameters: Mapping[str, object] | None, take: Callable[[duckdb.DuckDBPyConnection], Result]
    ) -> Result:
        """Runs a query and hands the cursor, which holds its result, to a function.

        Raises:
            DataError: A file is damaged.
        """
        used = {name: storable(value) for name, value in (parameters or {}).items() if re.search(rf"\${name}\b", sql)}
        for attempt in range(_ATTEMPTS):
            files = self.files()
            try:
                with _translated(), contextlib.closing(self._database.cursor()) as cursor:
                    files = self._look(cursor, with_feedback="feedback" in sql)
                    return take(cursor.execute(sql, used))
            except DataError:
                if attempt == _ATTEMPTS - 1 or self.files() == files:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def _look(self, cursor: duckdb.DuckDBPyConnection, *, with_feedback: bool) -> RecordFiles:
        """Makes the views those of the files as they are now, which it returns; queries that run keep what they had."""
        with self._lock:
            files = self.files()
            requests = (files.requests_parquet, files.requests_jsonl)
            feedback = (files.feedback_parquet, files.feedback_jsonl)
            self._view("answers", requests, REQUEST_COLUMNS, cursor)
            if with_feedback:
                self._view("feedback", feedback, FEEDBACK_COLUMNS, cursor)
            return files

    def _view(
        self, name: str, files: tuple[Files, Files], columns: Mapping[str, str], cursor: duckdb.DuckDBPyConnection
    ) -> None:
        if self._viewed.get(name) == files:
            return
        self._viewed.pop(name, None)
        sealed, lines = files
        cursor.execute(f"CREATE OR REPLACE VIEW {name} AS {view(self._alike(sealed, cursor), lines, columns)}")
        if name == "answers":
            cursor.execute(_REQUESTS)
            cursor.execute(_WEIGHED)
        self._viewed[name] = files

    def _alike(self, files: Sequence[Path], cursor: duckdb.DuckDBPyConnection) -> list[list[Path]]:
        """Groups files by their columns: such can be read together without comparing them at every query."""
        new = [file for file in files if file not in self._schemas]
        if new:
            found = cursor.execute(_SCHEMAS.format(files=_listed(new))).fetchall()
            self._schemas |= {Path(name): schema for name, schema in found}
        groups: dict[str, list[Path]] = {}
        for file in files:
            groups.setdefault(self._schemas[file], []).append(file)
        return list(groups.values())


def view(sealed: Sequence[Sequence[Path]], lines: Sequence[Path], columns: Mapping[str, str]) -> str:
    """SQL of the union of some files.

    Args:
        sealed: Parquet files; those of one group have the same columns.
        lines: Files of JSON lines; a line that is no record, such as a torn last one, is skipped.
        columns: Name → type of every column; one that a file lacks is NULL there.

    Returns:
        A SELECT with these columns first.
    """
    nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    parts = [f"SELECT {nothing} WHERE false"]
    parts += [f"SELECT * FROM read_parquet({_listed(group)})" for group in sealed]  # noqa: S608 - quoted paths
    if lines:
        kinds = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
        options = f"format='newline_delimited', ignore_errors=true, maximum_object_size={_LONGEST_LINE}"
        records = f"read_json({_listed(lines)}, columns={{{kinds}}}, {options})"
        parts.append(f"SELECT * FROM {records} WHERE request_id IS NOT NULL")  # noqa: S608 - quoted paths, own columns
    return " UNION ALL BY NAME ".join(parts)


def _as_dicts(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _listed(files: Sequence[Path]) -> str:
    escaped = (glob.escape(location(file)).replace("'", "''") for file in files)  # DuckDB takes every path as a glob
    return "[" + ", ".join(f"'{path}'" for path in escaped) + "]"


def location(file: Path) -> str:
    """A file's path; an object's address, of which a path keeps one slash. Other files have absolute paths."""
    return str(file) if file.is_absolute() else str(file).replace("s3:/", "s3://", 1)


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
        for function in _FUNCTIONS:
            database.execute(function)
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
