"""Which records a page shows: a span of time that ends now or at a given moment, a virtual model, an API key."""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from embedllm_router.records.reader.source import Filters, RecordSource

__all__ = ["RecordQuery", "Span", "Window", "window_of"]


class Span(StrEnum):
    """How far back to look."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    ALL = "all"


_LENGTH: Final = {
    Span.HOUR: timedelta(hours=1),
    Span.DAY: timedelta(days=1),
    Span.WEEK: timedelta(days=7),
    Span.MONTH: timedelta(days=30),
}
_STEPS_S: Final = (60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400)
_MOST_STEPS: Final = 60
_WEEK_S: Final = 7 * 86400


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """The records that a page shows.

    Attributes:
        span: How far back.
        until: End of the span, UTC without zone; None is now.
        virtual_model: Model name in the request; None means any.
        key_alias: Alias of the API key; None means any.
    """

    span: Span = Span.DAY
    until: datetime | None = None
    virtual_model: str | None = None
    key_alias: str | None = None

    def filters(self) -> Filters:
        """The same as conditions on records, its start reckoned from now."""
        length = _LENGTH.get(self.span)
        end = self.until or _now()
        return Filters(
            since=None if length is None else end - length,
            until=self.until,
            virtual_model=self.virtual_model,
            key_alias=self.key_alias,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time cut into equal steps.

    Attributes:
        filters: The records in it.
        since: Its start, UTC without zone.
        until: Its end.
        step_s: Length of a step in seconds; steps start at its multiples, counted from 1970.
    """

    filters: Filters
    since: datetime
    until: datetime
    step_s: int

    @property
    def starts(self) -> tuple[int, ...]:
        """Start of every step, seconds since 1970."""
        first, last = (int(t.replace(tzinfo=UTC).timestamp()) // self.step_s for t in (self.since, self.until))
        return tuple(number * self.step_s for number in range(first, last + 1))


def window_of(source: RecordSource, query: RecordQuery) -> Window:
    """Finds where the records shown begin and end, and a step that cuts the time into at most 61 parts.

    Args:
        source: Read only where the span is everything.
        query: What a page asks about.

    Returns:
        The window; an hour long where there are no records at all.
    """
    filters, end = query.filters(), query.until or _now()
    since = filters.since or _oldest(source, filters) or end - _LENGTH[Span.HOUR]
    return Window(replace(filters, since=since), since, max(end, since), _step_s((end - since).total_seconds()))


def _oldest(source: RecordSource, filters: Filters) -> datetime | None:
    where, given = filters.where()
    found = source.rows(f'SELECT min("at") AS oldest FROM requests WHERE {where}', given)  # noqa: S608 - our own SQL
    oldest: datetime | None = found[0]["oldest"]
    return oldest


def _step_s(length_s: float) -> int:
    fitting = (step for step in _STEPS_S if length_s / step <= _MOST_STEPS)
    return next(fitting, _WEEK_S * math.ceil(length_s / _WEEK_S / _MOST_STEPS))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
