"""How the router and its records are. It knows nothing of HTTP."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embedllm_router.records.reader.source import RecordSource
from embedllm_router.telemetry.status import Status

__all__ = ["Health", "RecordsHeld", "health", "records_held"]


@dataclass(frozen=True, slots=True)
class RecordsHeld:
    """The records that can be read.

    Attributes:
        kind: "files" or "postgres".
        where: Where they lie, without credentials.
        requests: How many there are.
        oldest: When the first was decided, UTC; None without any.
        newest: When the last was.
        feedback: How many pieces of feedback there are.
    """

    kind: str
    where: str
    requests: int
    oldest: datetime | None
    newest: datetime | None
    feedback: int


@dataclass(frozen=True, slots=True)
class Health:
    """All the health page shows of the router.

    Attributes:
        status: The plugin as it is now.
        not_ready: Why routing is not at work; None when it is.
    """

    status: Status
    not_ready: str | None


def health(status: Status) -> Health:
    """The plugin's status, with its verdict."""
    return Health(status, status.not_ready)


def records_held(source: RecordSource) -> RecordsHeld:
    """Counts the records.

    Args:
        source: The records.

    Returns:
        How many there are, and of what time.

    Raises:
        DataError: The records cannot be read.
    """
    asked = 'SELECT count(*) AS n, min("at") AS oldest, max("at") AS newest FROM requests'
    requests: dict[str, Any] = source.rows(asked)[0]
    feedback = source.rows("SELECT count(*) AS n FROM feedback")[0]["n"]
    return RecordsHeld(source.kind, source.where, requests["n"], requests["oldest"], requests["newest"], feedback)
