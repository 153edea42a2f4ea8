"""A day's records with what was said of them, and plain second ways to count them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.store import open_store


@dataclass(frozen=True, slots=True)
class Day:
    end: datetime
    requests: Sequence[RequestRecord]
    feedback: Sequence[FeedbackRecord]

    def within(self, length: timedelta) -> list[RequestRecord]:
        """Those of the last so much; the edge of the span moves with the clock, so none may lie on it."""
        return [r for r in self.requests if r.at >= self.end - length]

    def scores(self) -> dict[str, float]:
        """Request id → mean score; feedback may name either id."""
        by_id = {key: r.request_id for r in self.requests for key in (r.request_id, r.response_id) if key}
        given: dict[str, list[float]] = {}
        for one in self.feedback:
            given.setdefault(by_id[one.request_id], []).append(one.score)
        return {key: sum(scores) / len(scores) for key, scores in given.items()}


def stored(where: Path | str, day: Day) -> None:
    """Writes them with the real store."""
    store = open_store(StoreSettings(path=where) if isinstance(where, Path) else StoreSettings(url=SecretStr(where)))
    records: list[RequestRecord | FeedbackRecord] = [*day.requests, *day.feedback]
    for record in records:
        store.put(record)
    store.close()
    assert store.health().written == len(day.requests) + len(day.feedback)


def percentile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the two nearest."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
