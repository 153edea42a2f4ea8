"""Feedback from outside: the metadata of a request, or files of scores, become records of feedback.

In a request's metadata, for a client that cannot call another endpoint:

    metadata={"embedllm_feedback_for": "<id of an earlier answer>", "embedllm_thumb": "up"}

OpenAI's metadata are strings, so a score may be one: `"embedllm_score": "0.8"`.

Files are CSV, JSON lines, or what an LLM judge wrote. A row that cannot be used is reported with file, row, column and
reason, and never guessed at. `store_all` puts much feedback into a store at the pace it can write.
"""

import csv
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from embedllm_router.errors import ConfigError, DataError, EmbedLLMRouterError, RequestError
from embedllm_router.records.owners import USER, Giver, owners_of
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.schema import LONGEST_ID, FeedbackRecord
from embedllm_router.records.writer.store import RecordStore

__all__ = [
    "FIELDS",
    "THUMB_SCORES",
    "BadRow",
    "Layout",
    "Read",
    "Scale",
    "feedback_in",
    "on_record",
    "pattern_of",
    "read_feedback",
    "store_all",
    "to_score",
]

_GOOD: Final = frozenset({"up", "true", "yes", "y", "correct", "right", "pass", "passed", "good", "\N{THUMBS UP SIGN}"})
_BAD: Final = frozenset(
    {"down", "false", "no", "n", "incorrect", "wrong", "fail", "failed", "bad", "\N{THUMBS DOWN SIGN}"}
)


@dataclass(frozen=True, slots=True)
class Scale:
    """What numbers are measured in.

    Attributes:
        worst: The number of a wrong answer.
        best: The number of a right one; may be the smaller of the two.
    """

    worst: float = 0.0
    best: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Scale":
        """Reads `1:10`, worst first.

        Raises:
            ConfigError: It is something else.
        """
        try:
            worst, best = (float(part) for part in text.split(":"))
        except ValueError:
            worst = best = math.nan
        if not (math.isfinite(worst) and math.isfinite(best)) or worst == best:
            raise ConfigError(f"--scale takes two different numbers, worst:best, for example 1:10; found {text!r}.")
        return cls(worst, best)

    def score(self, number: float) -> float | None:
        """The score of a number; None when it lies outside."""
        score = (number - self.worst) / (self.best - self.worst)
        return score if 0 <= score <= 1 else None


def to_score(verdict: object, scale: Scale, pattern: re.Pattern[str] | None = None) -> tuple[float | None, str]:
    """Reads a verdict.

    Args:
        verdict: A boolean, a number, or a text: a number or a word such as "up", "yes", "correct", "pass".
        scale: What numbers are measured in.
        pattern: Looked for in a text; its first group is the verdict.

    Returns:
        The score, or None and why there is none.
    """
    if isinstance(verdict, bool):
        return float(verdict), ""
    if isinstance(verdict, str):
        return _read_text(verdict, scale, pattern)
    if isinstance(verdict, int | float):
        return _in_scale(verdict, scale)
    return None, "missing" if verdict is None else f"expected a number or a word, found {type(verdict).__name__}"


def _read_text(text: str, scale: Scale, pattern: re.Pattern[str] | None) -> tuple[float | None, str]:
    if pattern is not None:
        found = pattern.search(text)
        if found is None or found[1] is None:
            return None, f"the pattern is not found in {text[:40]!r}"
        text = found[1]
    word = text.strip().strip(".!\"'").casefold()
    if word in _GOOD or word in _BAD:
        return float(word in _GOOD), ""
    try:
        return _in_scale(float(word), scale)
    except ValueError:
        return None, f"expected a number or a word such as up, yes or correct, found {text[:40]!r}"


def _in_scale(number: float, scale: Scale) -> tuple[float | None, str]:
    try:
        number = float(number)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    score = scale.score(number)
    if score is None:
        return None, f"expected a number from {scale.worst:g} to {scale.best:g}, found {number:g}"
    return score, ""


_FOR, _THUMB, _SCORE, _SOURCE = FIELDS = (
    "embedllm_feedback_for",
    "embedllm_thumb",
    "embedllm_score",
    "embedllm_source",
)
"""Names of the metadata that are ours."""

THUMB_SCORES: Final = {"up": 1.0, "down": 0.0}
"""Scores of the two words that stand for one."""

_LONGEST_SOURCE = 64


def feedback_in(metadata: object, *, at: datetime, giver: Giver) -> FeedbackRecord | None:
    """Reads feedback on an earlier answer out of a request's metadata.

    Args:
        metadata: What the request sent as `metadata`; anything that is no mapping holds no feedback.
        at: When it came, UTC.
        giver: Who sent the request.

    Returns:
        The feedback; None when there is none.

    Raises:
        RequestError: It is incomplete or wrong; names the field.
    """
    if not isinstance(metadata, Mapping) or not any(name in metadata for name in FIELDS):
        return None
    if (_THUMB in metadata) == (_SCORE in metadata):
        raise RequestError(f"metadata.{_SCORE}", f"expected either {_SCORE} or {_THUMB}")
    score = _up_or_down(metadata[_THUMB]) if _THUMB in metadata else _score(metadata[_SCORE])
    source = _metadata_text(metadata.get(_SOURCE, USER), _SOURCE, _LONGEST_SOURCE)
    if source != USER and not giver.admin:
        raise RequestError(f"metadata.{_SOURCE}", f"only an administrator's key names a source other than {USER}")
    return FeedbackRecord(
        at=at,
        request_id=_metadata_text(metadata.get(_FOR), _FOR, LONGEST_ID),
        score=score,
        source=source,
        key_alias=giver.key_alias,
    )


def _up_or_down(value: object) -> float:
    if not isinstance(value, str) or value not in THUMB_SCORES:
        raise RequestError(f"metadata.{_THUMB}", "expected up or down")
    return THUMB_SCORES[value]


def _score(value: object) -> float:
    problem = RequestError(f"metadata.{_SCORE}", "expected a number between 0 and 1")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise problem
    try:
        score = float(value)
    except (ValueError, OverflowError):
        raise problem from None
    if not math.isfinite(score) or not 0 <= score <= 1:
        raise problem
    return score


def _metadata_text(value: object, name: str, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise RequestError(f"metadata.{name}", f"expected a text of 1 to {longest} characters")
    return value


_AT_ONCE: Final = 10_000  # a store holds at least three times as many in its queue
_POLL_S: Final = 0.02
_PATIENCE_S: Final = 60.0


def store_all(
    store: RecordStore,
    records: Sequence[FeedbackRecord],
    *,
    on_progress: Callable[[int], None] | None = None,
    patience_s: float = _PATIENCE_S,
) -> None:
    """Stores feedback and closes the store.

    Args:
        store: A store nobody else puts into.
        records: What to store.
        on_progress: Called with how many are stored, now and then.
        patience_s: How long the store may make no progress.

    Raises:
        EmbedLLMRouterError: Not everything could be stored; says how much was.
    """
    try:
        for start in range(0, len(records), _AT_ONCE):
            for record in records[start : start + _AT_ONCE]:
                store.put(record)
            _wait(store, patience_s)
            if on_progress is not None:
                on_progress(store.health().written)
    finally:
        store.close()
    health = store.health()
    if health.written < len(records):
        why = f": {health.last_error}" if health.last_error else ""
        raise EmbedLLMRouterError(
            f"only {health.written:,} of {len(records):,} records were stored in {health.location}{why}. "
            "Storing them all again does no harm: of equal feedback, one counts."
        )


def _wait(store: RecordStore, patience_s: float) -> None:
    """Until nothing waits, or nothing has moved for too long."""
    written, deadline = -1, time.monotonic() + patience_s
    while (health := store.health()).queued and time.monotonic() < deadline:
        if health.written != written:
            written, deadline = health.written, time.monotonic() + patience_s
        time.sleep(_POLL_S)


_FIELD_LIMIT: Final = 16 * 2**20  # characters of a CSV field: a longer one costs its row
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = frozenset({b"\xff\xfe", b"\xfe\xff"})
_IDS: Final = ("request_id", "custom_id")


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
        places: File and line of each record.
    """

    records: list[FeedbackRecord]
    bad: list[BadRow]
    places: list[tuple[str, int]]


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
    read = Read([], [], [])
    for file in files:
        for number, row in _rows(file):
            try:
                read.records.append(_record(row, layout, now))
                read.places.append((str(file), number))
            except _Bad as error:
                read.bad.append(BadRow(str(file), number, error.column, error.reason))
    return read


_LOOKED_UP: Final = 5_000  # ids in one query


def on_record(read: Read, source: RecordSource) -> Read:
    """The same without feedback on requests that are not on record, whose rows are bad.

    Args:
        read: What files hold.
        source: The records the feedback is on.
    """
    ids = list(dict.fromkeys(one.request_id for one in read.records))
    chunks = (ids[start : start + _LOOKED_UP] for start in range(0, len(ids), _LOOKED_UP))
    known = {row["given_for"] for chunk in chunks for row in owners_of(source, chunk)}
    found = Read([], [*read.bad], [])
    for one, place in zip(read.records, read.places, strict=True):
        if one.request_id in known:
            found.records.append(one)
            found.places.append(place)
        else:
            found.bad.append(BadRow(*place, None, f"no request on record has the id {one.request_id[:80]!r}"))
    return found


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | _Bad]]:
    if file.exists() and file.suffix not in {".csv", ".jsonl", ".ndjson", ".json"}:
        raise DataError(f"{file}: expected .csv or JSON lines (.jsonl), found {file.suffix or 'no suffix'!r}.")
    try:
        with file.open("rb") as start:
            if start.read(2) in _UTF16_MARKS:
                raise DataError(f"{file}: expected UTF-8, found UTF-16. Save the file as UTF-8.")
        yield from _csv_rows(file) if file.suffix == ".csv" else _json_rows(file)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}.") from error


def _csv_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | _Bad]]:
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines)
        names = list(reader.fieldnames or ())
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{file}: columns {repeated} occur twice in the header. Rename or remove them.")
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, _Bad(None, f"not readable as CSV: {error}")
                continue
            if None in row:
                yield reader.line_num, _Bad(None, f"more fields than the {len(names)} columns")
            else:
                yield reader.line_num, {name: value for name, value in row.items() if value not in {None, ""}}


def _json_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | _Bad]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(_UTF8_MARK) if number == 1 else line
            if not text.strip():
                continue
            try:
                row = _json(text)
            except ValueError as error:
                yield number, _Bad(None, f"not JSON: {error}")
                continue
            yield number, row if isinstance(row, dict) else _Bad(None, f"expected an object, found {_kind(row)}")


def _json(text: bytes | str) -> Any:
    """Parses JSON, with NaN, Infinity and lone surrogates, which Python writes: what is read of them is judged later.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


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
        return _json(fenced[1] if fenced else text)
    except ValueError:
        raise _Bad(path, f"not JSON inside the text {text[:40]!r}") from None


def _request_id(row: Mapping[str, Any], field: str | None) -> str:
    name = field or next((one for one in _IDS if one in row), _IDS[0])
    if name not in row:
        raise _Bad(name, "missing")
    return _text(row[name], name, LONGEST_ID)


def _text(value: object, column: str, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise _Bad(column, f"expected a text of 1 to {longest} characters, found {_kind(value)}")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):  # how such bytes are carried
        raise _Bad(column, "bytes that are not UTF-8; save the file as UTF-8")
    return value


def _at(value: object, now: datetime) -> datetime:
    if value is None:
        return now
    if not isinstance(value, str):
        raise _Bad("at", f"expected a time such as 2026-01-31T08:00:00Z, found {_kind(value)}")
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _Bad("at", f"expected a time such as 2026-01-31T08:00:00Z, found {value[:40]!r}") from None


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
