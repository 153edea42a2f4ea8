"""Single requests: one by its id, the newest ones, and new ones as they are recorded.

A request is recorded when its outcome is known, so a slow one comes after quicker ones that were decided later.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import orjson

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.reader.file_source import FileSource, location
from embedllm_router.records.reader.source import Filters, Limits, RecordSource
from embedllm_router.records.reader.verdicts import request_key, verdicts_on
from embedllm_router.records.schema import REQUEST_COLUMNS
from embedllm_router.records.writer.segments import OPEN

__all__ = ["COLUMNS", "Follower", "Found", "check_virtual_model", "find", "follow", "newest"]

_LONG: Final = frozenset({"candidates", "needs", "prompt", "embedding"})

COLUMNS: Final = tuple(name for name in REQUEST_COLUMNS if name not in _LONG)
"""What is read of each request."""


def check_virtual_model(source: RecordSource, filters: Filters) -> None:
    """Refuses the name of a virtual model that no record has, where others are recorded.

    Raises:
        ConfigError: Which names there are.
    """
    wanted = filters.virtual_model
    if wanted is None:
        return
    names = [str(row["name"]) for row in source.rows("SELECT DISTINCT virtual_model AS name FROM requests ORDER BY 1")]
    if names and wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.0)
        raise ConfigError(
            f"no record at {source.where} is of a virtual model {wanted!r}; there are {', '.join(names)}. "
            f"Did you mean {near[0]!r}?"
        )


def newest(source: RecordSource, filters: Filters, n: int) -> list[dict[str, Any]]:
    """The newest requests that meet some filters.

    Args:
        source: The records.
        filters: Which requests are meant.
        n: How many at most.

    Returns:
        Column of `COLUMNS` → value per request, oldest first.
    """
    where, parameters = filters.where()
    last = f'FROM requests WHERE {where} ORDER BY "at" DESC, request_id DESC LIMIT {int(n)}'
    # The times alone first: with a time to begin at, few parts of the files are read for all the other columns.
    times = source.rows(f'SELECT "at" {last}', parameters)
    if not times:
        return []
    where, parameters = replace(filters, since=times[-1]["at"]).where()
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    last = f'FROM requests WHERE {where} ORDER BY "at" DESC, request_id DESC LIMIT {int(n)}'
    return source.rows(f"SELECT {columns} {last}", parameters)[::-1]


Row = Mapping[str, Any]

_MOST: Final = 10_000
"""Rows of a database that one look takes."""
_SLOWEST: Final = timedelta(minutes=5)
"""In a database, a request whose outcome came later than this after newer ones is missed by a follower."""
_MERGED: Final = "-day-"
"""In the names of files that are merged of older ones, whose records were given before."""
_CHUNK: Final = 4 * 2**20


class Follower(Protocol):
    """Tells of new requests."""

    def new(self) -> list[Row]:
        """Requests recorded since the last call, by time; each is given once."""
        ...

    def close(self) -> None:
        """Lets go of files; the source stays open."""
        ...


def follow(source: RecordSource, filters: Filters) -> Follower:
    """Starts following: the first call of `new` tells of what was recorded after this one.

    Args:
        source: The records.
        filters: Which requests are meant.
    """
    if isinstance(source, FileSource):
        return _FileFollower(source, filters)
    return _DatabaseFollower(source, filters)


class _FileFollower:
    """Reads what is appended to files, across rotation and sealing: an open file can be read after it was removed."""

    def __init__(self, source: FileSource, filters: Filters) -> None:
        self._source, self._filters = source, filters
        files = source.files()
        self._known = {path.with_suffix("") for path in (*files.requests_parquet, *files.requests_jsonl)}
        self._tails = {path: _Tail(path, from_end=True) for path in files.requests_jsonl}

    def new(self) -> list[Row]:
        """See `Follower.new`."""
        files = self._source.files()
        rows: list[Row] = []
        for path in files.requests_jsonl:
            if path.with_suffix("") not in self._known:
                self._tails[path] = _Tail(path)
        for path, tail in list(self._tails.items()):
            rows.extend(tail.rows())
            if path not in files.requests_jsonl:  # sealed or deleted: nobody appends to it any more
                self._tails.pop(path).close()
        for path in files.requests_parquet:
            is_new = path.with_suffix("") not in self._known and path.with_suffix(OPEN) not in self._tails
            if is_new and _MERGED not in path.name:
                rows.extend(self._sealed(path))
        self._known |= {path.with_suffix("") for path in (*files.requests_jsonl, *files.requests_parquet)}
        return sorted((row for row in rows if row["judged_for"] is None and self._filters.accept(row)), key=_time)

    def close(self) -> None:
        """Closes the files."""
        for tail in self._tails.values():
            tail.close()
        self._tails = {}

    def _sealed(self, path: Path) -> list[dict[str, Any]]:
        """A file that came and was sealed between two looks."""
        one = FileSource([location(path)], Limits(threads=1), must_exist=False)
        try:
            return one.rows("SELECT * FROM requests")
        finally:
            one.close()


class _Tail:
    """The lines that are appended to one file."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._rest = b""
        self._file: BinaryIO | None = None
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            return  # sealed meanwhile
        if from_end:
            self._file.seek(0, 2)

    def rows(self) -> Iterator[Row]:
        """Records appended since the last call."""
        while self._file is not None and (chunk := self._file.read(_CHUNK)):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                row = _row(line)
                if row is not None:
                    yield row

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _row(line: bytes) -> Row | None:
    try:
        found = orjson.loads(line)
        return {name: found.get(name) for name in REQUEST_COLUMNS} | {"at": _parsed(found["at"])}
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError, ValueError):
        return None  # no record: readers skip such a line


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def _time(row: Row) -> datetime:
    at: datetime = row["at"]
    return at


class _DatabaseFollower:
    """Queries recent requests and leaves out those it has given before."""

    def __init__(self, source: RecordSource, filters: Filters) -> None:
        self._source, self._filters = source, filters
        self._given: dict[tuple[str, datetime], None] = {}
        self._since: datetime | None = None
        self.new()

    def new(self) -> list[Row]:
        """See `Follower.new`."""
        rows = newest(self._source, self._recent(), _MOST)
        fresh: list[Row] = [row for row in rows if (row["request_id"], row["at"]) not in self._given]
        self._given = {(row["request_id"], row["at"]): None for row in rows}
        if rows:
            self._since = rows[-1]["at"] - _SLOWEST
        return fresh

    def close(self) -> None:
        """Forgets what it has given."""
        self._given = {}

    def _recent(self) -> Filters:
        given_at = self._filters.given().get("since")
        starts = [at for at in (given_at, self._since) if isinstance(at, datetime)]
        return replace(self._filters, since=max(starts, default=None))


_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Found:
    """One request.

    Attributes:
        row: Column → value, as in records.py.
        feedback: The verdicts on it, likewise: the newest of each source, oldest first.
    """

    row: Mapping[str, Any]
    feedback: tuple[Mapping[str, Any], ...]


def find(source: RecordSource, text: str) -> Found:
    """Finds one request.

    Args:
        source: The records.
        text: Its request id, its response id, or the beginning of either.

    Returns:
        The request; the newest where several have the same id.

    Raises:
        DataError: No request has such an id, or requests of different ids begin so.
    """
    exact = (
        'SELECT request_id, "at" FROM requests WHERE request_id = $text '
        'UNION ALL SELECT request_id, "at" FROM requests WHERE response_id = $text ORDER BY "at" DESC LIMIT 1'
    )
    named = source.rows(exact, {"text": text}) or [_by_beginning(source, text)]
    row = source.rows('SELECT * FROM requests WHERE request_id = $request_id AND "at" = $at', named[0])[0]
    return Found(row, tuple(verdicts_on(source, [row]).get(request_key(row), ())))


def _by_beginning(source: RecordSource, text: str) -> dict[str, Any]:
    begins = "starts_with(request_id, $text) OR starts_with(response_id, $text)"
    found = source.rows(
        f'SELECT request_id, max("at") AS "at" FROM requests WHERE {begins} GROUP BY request_id ORDER BY request_id '  # noqa: S608 - our own
        f"LIMIT {_SHOWN + 1}",
        {"text": text},
    )
    if not found or not text:
        raise DataError(
            f"no request with the id {text!r} in {source.where}: expected a request id (x-litellm-call-id), a response "
            "id, or the beginning of either. `embedllm-router logs tail` lists the newest."
        )
    if len(found) > 1:
        shown = ", ".join(row["request_id"] for row in found[:_SHOWN]) + (" and more" if len(found) > _SHOWN else "")
        raise DataError(f"several requests have an id that begins with {text!r}: {shown}. Give more of it.")
    return found[0]
