"""The tables of records in PostgreSQL, with the columns of records.py; migrations/ is how a database gets them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.types import TypeEngine

from embedllm_router.records.schema import FEEDBACK_COLUMNS, REQUEST_COLUMNS
from embedllm_router.records.writer.segments import Kind

__all__ = ["METADATA", "TABLES", "VERSION_TABLE"]

VERSION_TABLE = "embedllm_router_version"
"""Which migrations a database has seen."""

METADATA = MetaData()

_TYPES: Mapping[str, TypeEngine[Any]] = {
    "VARCHAR": Text(),
    "VARCHAR[]": ARRAY(Text()),
    "DOUBLE": Double(),
    "BIGINT": BigInteger(),
    "BOOLEAN": Boolean(),
    "TIMESTAMP": TIMESTAMP(timezone=False),
}


def _columns(columns: Mapping[str, str], key: tuple[str, ...]) -> list[Column[Any]]:
    return [
        Column(
            name, JSONB() if name == "candidates" else _TYPES[kind], primary_key=name in key, nullable=name not in key
        )
        for name, kind in columns.items()
    ]


_REQUESTS = Table(
    "requests",
    METADATA,
    *_columns(REQUEST_COLUMNS, ("request_id", "at")),
    Index("requests_at", "at"),
    Index("requests_response_id", "response_id"),
)
_FEEDBACK = Table(
    "feedback", METADATA, *_columns(FEEDBACK_COLUMNS, ("request_id", "at", "source")), Index("feedback_at", "at")
)

TABLES: Mapping[Kind, Table] = {"requests": _REQUESTS, "feedback": _FEEDBACK}
"""A record's keys say which it is, so that writing it twice keeps it once."""
