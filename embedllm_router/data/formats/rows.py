"""Files as rows, and rows as checked answers: what every format's reader is made of.

CSV, JSON lines, JSON and parquet files are read as one stream of rows. CSV goes through the standard library's reader,
not a data-frame library's: one stray quote or undecodable byte makes those give up the whole file, while here it costs
one row, named with its line. Memory stays at one row.

Every reader ends in `check_answer`, so a score of 1.5 or an empty prompt is refused in the same words whatever the
format.
"""

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias, cast

import orjson
import polars as pl

from embedllm_router.errors import DataError
from embedllm_router.routing.prompt import read_body

__all__ = [
    "Answer",
    "Input",
    "Place",
    "Read",
    "Reader",
    "Rejected",
    "Row",
    "Table",
    "as_mapping",
    "check_answer",
    "clear_read_errors",
    "kind",
    "open_table",
    "parse_json",
    "prompt_text",
    "read_json",
]

_SHOWN_CHARS = 40
_MOST = 1e15  # of tokens, characters or dollars: beyond it a number is no amount
_BOOLEANS = {"true": 1.0, "false": 0.0}


_FIELD_LIMIT: Final = 16 * 2**20  # an unclosed quote swallows at most this much before its row is given up
_LINE_LIMIT: Final = 2**28  # a longer JSON line is read in pieces, none of them valid
_PARQUET_ROWS: Final = 20_000
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class Answer(NamedTuple):  # millions are made of a large file: half the time of a frozen dataclass
    """One LLM's graded answer to one prompt.

    Attributes:
        prompt: What was asked.
        llm: Who answered, as its source names it.
        score: In [0, 1].
        category: Benchmark or subject; empty where unknown.
        split: Part of the data its source put the prompt in: `train`, `val`, `test`; empty where it says nothing.
        input_tokens: Tokens of the request.
        output_tokens: Tokens of the answer, hidden reasoning included where the source counts it.
        cost_usd: What the answer cost.
        output_chars: Characters of the visible answer.
        parsed: 0 where no verdict could be read from the answer.
    """

    prompt: str
    llm: str
    score: float
    category: str = ""
    split: str = ""
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None
    output_chars: float | None = None
    parsed: float | None = None


class Place(NamedTuple):
    """Where a row stands.

    Attributes:
        file: Label of the file: its path below the source it belongs to.
        row: Data row, from 1: a CSV's header does not count, in JSON the number of the record.
        line: Line of the text file the row starts on, from 1; None where the file has no lines.
    """

    file: str
    row: int
    line: int | None = None


class Rejected(NamedTuple):
    """A row that is not used, and why."""

    place: Place
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read, and what the user chose for it.

    Attributes:
        path: The file; for the canonical long form its folder.
        label: How reports name it.
        metric: Metric or scorer that counts as correctness; None leaves the choice to the reader.
        filter: Answer filter of lm-evaluation-harness; None leaves the choice to the reader.
        note: Called once for each choice the reader made on its own.
    """

    path: Path
    label: str
    metric: str | None = None
    filter: str | None = None
    note: Callable[[str], None] = lambda _: None


Read: TypeAlias = Iterator[Answer | Rejected]
Reader: TypeAlias = Callable[[Input], Read]


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


class _Bad(Exception):  # noqa: N818 - never leaves this file
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, reason


def check_answer(  # noqa: PLR0913 - the columns of one row
    place: Place,
    *,
    prompt: object,
    llm: object,
    score: object,
    category: object = "",
    split: str = "",
    input_tokens: object = None,
    output_tokens: object = None,
    cost_usd: object = None,
    output_chars: object = None,
    parsed: object = None,
) -> Answer | Rejected:
    """Makes an answer of raw values, or says which of them is wrong.

    Args:
        place: Where the row stands.
        prompt: A text.
        llm: A name.
        score: A number in [0, 1], a boolean, or a text that reads as one.
        category: A name; None is empty.
        split: Part of the data.
        input_tokens: A number of at least 0; None, NaN and the empty text mean unknown, here and below.
        output_tokens: As before.
        cost_usd: As before.
        output_chars: As before.
        parsed: As before.

    Returns:
        The answer, or the first value that is wrong.
    """
    try:
        return Answer(
            _text("prompt", prompt),
            _text("llm", llm).strip(),
            _score(score),
            _label("category", category),
            _label("split", split),
            _amount("input_tokens", input_tokens),
            _amount("output_tokens", output_tokens),
            _amount("cost_usd", cost_usd),
            _amount("output_chars", output_chars),
            _amount("parsed", parsed),
        )
    except _Bad as bad:
        return Rejected(place, bad.column, bad.reason)


def prompt_text(value: object) -> object:
    """The text of a prompt that may be chat messages, as a served request would be read; other values unchanged."""
    if isinstance(value, list) and value:
        return read_body({"messages": value}).text
    return value


def _text(column: str, value: object) -> str:
    if not isinstance(value, str):
        raise _Bad(column, "missing" if value is None else f"expected a text, found {_shown(value)}")
    if not value or value.isspace():
        raise _Bad(column, "missing")
    if not value.isascii() and not _is_unicode(value):
        raise _Bad(column, "bytes that are not UTF-8; save the file as UTF-8")
    return value


def _label(column: str, value: object) -> str:
    """A name that may be missing."""
    text = "" if value is None else str(value)
    if not text.isascii() and not _is_unicode(text):
        raise _Bad(column, "bytes that are not UTF-8; save the file as UTF-8")
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: how undecodable bytes are carried this far
        return False
    return True


def _score(value: object) -> float:
    number = _number("score", value)
    if number is None:
        raise _Bad("score", "missing")
    if not 0 <= number <= 1:  # NaN too
        raise _Bad("score", f"expected a number in [0, 1], found {_shown(value)}")
    return number


def _amount(column: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    number = _number(column, value)
    if number is None or math.isnan(number):
        return None
    if not 0 <= number <= _MOST:
        raise _Bad(column, f"expected a number of at least 0, found {_shown(value)}")
    return number


def _number(column: str, value: object) -> float | None:
    if isinstance(value, int | float | Decimal):  # Decimal is what DECIMAL in parquet becomes
        return _as_float(value)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Bad(column, f"expected a number, found {_shown(value)}")
    try:
        return float(value)
    except ValueError:
        pass
    word = value.strip().lower()
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    raise _Bad(column, f"expected a number, found {_shown(value)}")


def _as_float(value: float | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
