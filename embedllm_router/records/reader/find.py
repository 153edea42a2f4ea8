"""One request by its id, or by the beginning of one, with what was said of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedllm_router.errors import DataError
from embedllm_router.records.reader.source import RecordSource

__all__ = ["Found", "find"]

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Found:
    """One request.

    Attributes:
        row: Column → value, as in records.py.
        feedback: Likewise, one for each verdict, oldest first.
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
    said = source.rows(
        'SELECT * FROM feedback WHERE request_id = $request OR request_id = $response ORDER BY "at"',
        {"request": row["request_id"], "response": row["response_id"] or row["request_id"]},
    )
    return Found(row, tuple(said))


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
