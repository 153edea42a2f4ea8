"""Files of verdicts → feedback: CSV, JSON lines, and what an LLM judge wrote. It stores nothing.

A row that cannot be used is reported with file, row, column and reason, and never guessed at.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.feedback_feedback_verdicts import Scale, to_score
from embedllm_router.records.schema import LONGEST_ID, FeedbackRecord

__all__ = ["BadRow", "Layout", "Read", "pattern_of", "read_feedback"]

_IDS: Final = ("request_id", "custom_id")
_LONGEST_SOURCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a file has what.

    Attributes:
        score_field: Column of the verdict; a path with dots reaches into JSON, also into JSON that is text there.
        id_field: Column of the request id; None takes `request_id`, else `custom_id`.
        scale: What verdicts that are numbers are measured in.
        pattern: What to look for in a verdict that is text; its first group is the verdict. None takes it whole.
        source: Source of rows that name none.
    """

    score_field: str = "score"
    id_field: str | None = None
    scale: Scale = field(default_factory=Scale)
    pattern: re.Pattern[str] | None = None
    source: str = "import"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was not used.

    Attributes:
        file: Its file.
        row: Its line in the file, from 1.
        column: What is wrong of it; None when the row as a whole is.
        reason: Why.
    """

    file: str
    row: int
    column: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Read:
    """What files hold.

    Attributes:
        records: Feedback, in the order of the files.
        bad: Rows that were not used.
    """

    records: Sequence[FeedbackRecord]
    bad: Sequence[BadRow]


class _Bad(Exception):  # noqa: N818 - a row, not an error: it becomes a BadRow
    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, reason


def read_feedback(files: Iterable[Path], layout: Layout, now: datetime) -> Read:
    """Reads files of verdicts.

    Args:
        files: `.csv`, or JSON lines (`.jsonl`, `.ndjson`, `.json`).
        layout: Where they have what.
        now: Time of rows that name none, UTC.

    Returns:
        Feedback and bad rows.

    Raises:
        DataError: A file cannot be read, or is of another kind.
    """
    records: list[FeedbackRecord] = []
    bad: list[BadRow] = []
    for file in files:
        for number, row in _rows(file):
            try:
                records.append(_record(row, layout, now))
            except _Bad as error:
                bad.append(BadRow(str(file), number, error.column, error.reason))
    return Read(records, bad)


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | _Bad]]:
    if file.suffix not in {".csv", ".jsonl", ".ndjson", ".json"}:
        raise DataError(f"{file}: expected .csv or JSON lines (.jsonl), found {file.suffix or 'no suffix'!r}.")
    try:
        yield from _csv_rows(file) if file.suffix == ".csv" else _json_rows(file)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not a UTF-8 text file of its kind: {error}.") from error


def _csv_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | _Bad]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        for row in reader:
            if None in row:
                yield reader.line_num, _Bad(None, f"more fields than the {len(reader.fieldnames or ())} columns")
            else:
                yield reader.line_num, {name: value for name, value in row.items() if value not in {None, ""}}


def _json_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | _Bad]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield number, _Bad(None, f"not JSON: {error}")
                continue
            yield number, row if isinstance(row, dict) else _Bad(None, f"expected an object, found {_kind(row)}")


def _record(row: Mapping[str, Any] | _Bad, layout: Layout, now: datetime) -> FeedbackRecord:
    if isinstance(row, _Bad):
        raise row
    verdict = _reach(row, layout.score_field)
    score, problem = to_score(verdict, layout.scale, layout.pattern)
    if score is None:
        raise _Bad(layout.score_field, problem)
    return FeedbackRecord(
        at=_at(row.get("at"), now),
        request_id=_request_id(row, layout.id_field),
        score=score,
        source=_text(row.get("source", layout.source), "source", _LONGEST_SOURCE),
    )


def _reach(row: Mapping[str, Any], path: str) -> Any:
    """The value at a path; a column of that very name comes first."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, str):
            value = _json_in(value, path)
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            raise _Bad(path, f"missing: no {part!r}")
    return value


def _json_in(text: str, path: str) -> Any:
    fenced = re.search(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
    try:
        return orjson.loads(fenced[1] if fenced else text)
    except orjson.JSONDecodeError:
        raise _Bad(path, f"not JSON inside the text {text[:40]!r}") from None


def _request_id(row: Mapping[str, Any], field: str | None) -> str:
    name = field or next((one for one in _IDS if one in row), _IDS[0])
    if name not in row:
        raise _Bad(name, "missing")
    return _text(row[name], name, LONGEST_ID)


def _text(value: object, column: str, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise _Bad(column, f"expected a text of 1 to {longest} characters, found {_kind(value)}")
    return value


def _at(value: object, now: datetime) -> datetime:
    if value is None:
        return now
    if not isinstance(value, str):
        raise _Bad("at", f"expected a time such as 2026-01-31T08:00:00Z, found {_kind(value)}")
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise _Bad("at", f"expected a time such as 2026-01-31T08:00:00Z, found {value[:40]!r}") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _kind(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__


def pattern_of(text: str | None) -> re.Pattern[str] | None:
    """Reads `--score-pattern`.

    Raises:
        ConfigError: It is no regular expression, or has no group.
    """
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"--score-pattern {text!r} is no regular expression: {error}.") from error
    if not pattern.groups:
        raise ConfigError(f"--score-pattern {text!r} has no group: put the verdict in brackets, such as (\\d+).")
    return pattern
