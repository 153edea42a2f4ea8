"""The newest requests, without what takes long to read."""

from typing import Any, Final

from embedllm_router.logs.filters import Filters
from embedllm_router.logs.source import RecordSource
from embedllm_router.records import REQUEST_COLUMNS

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
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    rows = source.rows(
        f'SELECT {columns} FROM requests WHERE {where} ORDER BY "at" DESC, request_id DESC LIMIT {int(n)}',  # noqa: S608 - our own columns and conditions
        parameters,
    )
    return rows[::-1]
