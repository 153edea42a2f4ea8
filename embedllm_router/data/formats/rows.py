"""CSV, JSON lines, JSON and parquet files as one stream of rows. It knows nothing of what the columns mean.

CSV goes through the standard library's reader, not a data-frame library's: one stray quote or undecodable byte makes
those give up the whole file, while here it costs one row, named with its line. Memory stays at one row.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import orjson
import polars as pl

from embedllm_router.data.formats.answer import Place, Rejected
from embedllm_router.errors import DataError

__all__ = ["Row", "Table", "as_mapping", "clear_read_errors", "kind", "open_table", "parse_json", "read_json"]

_FIELD_LIMIT: Final = 16 * 2**20  # an unclosed quote swallows at most this much before its row is given up
_LINE_LIMIT: Final = 2**28  # a longer JSON line is read in pieces, none of them valid
_PARQUET_ROWS: Final = 20_000
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class Row(NamedTuple):
    """One row's values by column name."""

    place: Place
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Table:
    """A table being read.

    Attributes:
        columns: Names; of JSON lines those of the first object.
        rows: Rows in the file's order, once.
    """

    columns: tuple[str, ...]
    rows: Iterator[Row | Rejected]

    def require(self, label: str, *names: str) -> None:
        """Refuses a table that lacks a column.

        Raises:
            DataError: One is missing; the message names all that are, and those found.
        """
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise DataError(
                f"{label}: columns {missing} are missing, expected {list(names)}, found {list(self.columns)}. "
                "Rename or add them."
            )


def kind(path: Path) -> str:
    """The file's type by its name, compression aside: `csv`, `jsonl`, `json`, `parquet`, … or an empty text."""
    name = path.name.lower().removesuffix(".gz")
    return name.rpartition(".")[2] if "." in name else ""


def open_table(path: Path, label: str) -> Table:
    """Opens a CSV, JSON lines, JSON or parquet file, the text forms also gzipped.

    Args:
        path: The file.
        label: How errors name it.

    Returns:
        Its columns, and its rows one at a time.

    Raises:
        DataError: The file is empty, of no known type, or cannot be read; also while rows are taken.
    """
    match kind(path):
        case "csv":
            return _csv_table(path, label)
        case "jsonl" | "ndjson":
            return _keyed(label, _json_lines(path, label))
        case "json":
            return _keyed(label, _json_records(path, label))
        case "parquet":
            return _parquet_table(path, label)
    raise DataError(f"{label}: expected .csv, .jsonl, .json or .parquet (text also .gz), found {path.name!r}.")


def read_json(path: Path, label: str) -> object:
    """Reads a whole JSON document.

    Raises:
        DataError: It cannot be read, or is not JSON.
    """
    with clear_read_errors(label), _opened(path, label) as file:
        content = file.read()
    try:
        return parse_json(content)
    except ValueError as error:
        raise DataError(f"{label}: not valid JSON ({error}): damaged or cut short. Get the file again.") from error


def parse_json(content: bytes) -> object:
    """Parses JSON; NaN, Infinity and lone surrogates, which Python writes, are let through to be judged as values.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return cast("object", orjson.loads(content))
    except orjson.JSONDecodeError:
        try:
            return cast("object", json.loads(content))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def as_mapping(value: object) -> Mapping[str, object]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


@contextmanager
def clear_read_errors(label: str) -> Iterator[None]:
    """Turns what a damaged or unreadable file raises into one sentence about it.

    Raises:
        DataError: Instead of the foreign error.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{label}: compressed data is damaged or cut short ({error}). Get the file again.") from error
    except OSError as error:
        raise DataError(
            f"{label}: cannot be read ({error.strerror or error}). Check the path and its rights."
        ) from None
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{label}: not readable as parquet ({error}). Get the file again.") from error


@contextmanager
def _opened(path: Path, label: str) -> Iterator[BinaryIO]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        file = io.BufferedReader(cast("io.RawIOBase", stream)) if isinstance(stream, gzip.GzipFile) else stream
        start = file.peek(4)[:4]
        if not start:
            raise DataError(f"{label}: the file is empty.")
        if start[:2] in _UTF16_MARKS:
            raise DataError(f"{label}: expected UTF-8, found UTF-16. Save the file as UTF-8.")
        if start.startswith(_UTF8_MARK):
            file.read(len(_UTF8_MARK))
        yield cast("BinaryIO", file)


def _csv_table(path: Path, label: str) -> Table:
    rows = _csv_rows(path, label)
    header = next(rows)
    if not isinstance(header, Row):
        raise DataError(f"{label}: the header is not readable: {header.reason}.")
    columns = tuple(header.fields)
    return Table(columns, rows)


def _csv_rows(path: Path, label: str) -> Iterator[Row | Rejected]:
    """The header's names as the fields of row 0, then the rows."""
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    with clear_read_errors(label), _opened(path, label) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        reader = csv.reader(text, strict=True)
        names: list[str] | None = None
        for place, values in _numbered(reader, label):
            if isinstance(values, str):
                yield Rejected(place, "", values)
            elif names is None:
                names = _checked_header(label, values)
                yield Row(place, dict.fromkeys(names))
            elif values == names:
                yield Rejected(place, "", "the header again")
            elif len(values) != len(names):
                yield Rejected(place, "", f"expected {len(names)} fields, found {len(values)}")
            elif values:
                yield Row(place, dict(zip(names, values, strict=True)))
        if names is None:
            raise DataError(f"{label}: the file is empty.")


def _numbered(reader: "Iterator[list[str]]", label: str) -> Iterator[tuple[Place, list[str] | str]]:
    """Rows with their place, blank lines left out; a text is the reason why a row cannot be read."""
    row = 0
    while True:
        place = Place(label, row, reader.line_num + 1)  # type: ignore[attr-defined]  # csv's reader has no public type
        try:
            values: list[str] | str = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            values = f"not readable as CSV: {error}"
        if values:
            yield place, values
            row += 1


def _checked_header(label: str, names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{label}: columns {repeated} occur twice in the header. Rename or remove them.")
    return names


def _keyed(label: str, rows: Iterator[Row | Rejected]) -> Table:
    """A table whose columns are those of its first object; what precedes it stays in the stream."""
    before: list[Row | Rejected] = []
    for row in rows:
        before.append(row)
        if isinstance(row, Row):
            return Table(tuple(row.fields), chain(before, rows))
    reason = f"{before[0].reason} ({len(before)} rows)" if before and isinstance(before[0], Rejected) else "no rows"
    raise DataError(f"{label}: {reason}. Expected one JSON object per row.")


def _json_lines(path: Path, label: str) -> Iterator[Row | Rejected]:
    with clear_read_errors(label), _opened(path, label) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LINE_LIMIT), b""), start=1):
            if not line.isspace():
                yield _json_row(Place(label, number, number), line)


def _json_row(place: Place, line: bytes) -> Row | Rejected:
    try:
        value = parse_json(line)
    except ValueError as error:
        return Rejected(place, "", f"not valid JSON: {error}")
    return _object_row(place, value)


def _json_records(path: Path, label: str) -> Iterator[Row | Rejected]:
    document = read_json(path, label)
    records = document if isinstance(document, list) else as_mapping(document).get("records", [document])
    for number, record in enumerate(records if isinstance(records, list) else [records], start=1):
        yield _object_row(Place(label, number), record)


def _object_row(place: Place, value: object) -> Row | Rejected:
    if isinstance(value, dict):
        return Row(place, value)
    return Rejected(place, "", f"expected a JSON object, found {type(value).__name__}")


def _parquet_table(path: Path, label: str) -> Table:
    with clear_read_errors(label):
        if not path.stat().st_size:
            raise DataError(f"{label}: the file is empty.")
        columns = tuple(pl.read_parquet_schema(path))
    return Table(columns, _parquet_rows(path, label))


def _parquet_rows(path: Path, label: str) -> Iterator[Row]:
    with clear_read_errors(label):
        lazy = pl.scan_parquet(path)
        n_rows = lazy.select(pl.len()).collect().item()
        for start in range(0, n_rows, _PARQUET_ROWS):
            batch = lazy.slice(start, _PARQUET_ROWS).collect()
            for number, fields in enumerate(batch.iter_rows(named=True), start=start + 1):
                yield Row(Place(label, number), fields)
