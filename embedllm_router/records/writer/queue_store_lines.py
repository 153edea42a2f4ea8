"""A record as one line of JSON, with what may not be kept taken out. Pure."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from embedllm_router.config.store_options import StoreOptions
from embedllm_router.records.schema import FeedbackRecord, RequestRecord, bounded_id
from embedllm_router.records.writer.segments import Kind

__all__ = ["LONGEST_LINE", "kind_of", "to_line"]

LONGEST_LINE = 8 * 2**20
"""Bytes of the longest line; half of what DuckDB reads by default. A longer prompt is left out."""

Record = RequestRecord | FeedbackRecord

_NUL = b"\\u0000"
"""How JSON writes the one character that PostgreSQL keeps in no text."""


def kind_of(record: RequestRecord | FeedbackRecord) -> Kind:
    """Where a record belongs."""
    return "requests" if isinstance(record, RequestRecord) else "feedback"


def to_line(record: RequestRecord | FeedbackRecord, options: StoreOptions) -> bytes:
    """One JSON object and a line feed, times in UTC.

    Raises:
        TypeError: A field holds something that is no JSON.
    """
    if isinstance(record, RequestRecord):
        record = _redacted(record, options)
        if record.response_id is not None:
            record = _with_id(record, "response_id", record.response_id)
    record = _with_id(record, "request_id", record.request_id)
    if record.at.tzinfo is not UTC:
        record = replace(record, at=_utc(record.at))
    try:
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        line = orjson.dumps(_storable(record), option=orjson.OPT_APPEND_NEWLINE)
    if _NUL in line:
        line = orjson.dumps(_storable(record), option=orjson.OPT_APPEND_NEWLINE)
    if len(line) > LONGEST_LINE and isinstance(record, RequestRecord) and record.prompt is not None:
        return to_line(replace(record, prompt=None), options)
    return line


def _with_id(record: Record, field: str, found: str) -> Record:
    """The record with an id that an index can hold."""
    kept = bounded_id(found)
    return record if kept == found else replace(record, **{field: kept})  # type: ignore[arg-type]  # a text field


def _redacted(record: RequestRecord, options: StoreOptions) -> RequestRecord:
    if record.prompt is not None and not options.prompt:
        record = replace(record, prompt=None)
    if record.embedding is not None and not options.embedding:
        record = replace(record, embedding=None)
    return record


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _storable(record: RequestRecord | FeedbackRecord) -> RequestRecord | FeedbackRecord:
    """Without what a client may send as JSON and a store cannot hold: halves of surrogate pairs, and NUL."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    valid: dict[str, Any] = {name: _valid(value) for name, value in values.items() if isinstance(value, str)}
    return replace(record, **valid)


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
