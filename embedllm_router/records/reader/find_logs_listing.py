"""The newest requests, without what takes long to read."""

from dataclasses import replace
from typing import Any, Final

from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.reader.source_logs_filters import Filters
from embedllm_router.records.schema import REQUEST_COLUMNS

__all__ = ["COLUMNS", "newest"]

_LONG: Final = frozenset({"candidates", "needs", "prompt", "embedding"})

COLUMNS: Final = tuple(name for name in REQUEST_COLUMNS if name not in _LONG)
"""What is read of each request."""


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
