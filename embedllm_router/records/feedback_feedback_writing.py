"""Puts a lot of feedback into a store at the pace it can write, and makes sure that it arrived."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from embedllm_router.errors import EmbedLLMRouterError
from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.records.writer.store import RecordStore

__all__ = ["store_all"]

_AT_ONCE: Final = 10_000  # a store holds at least three times as many in its queue
_POLL_S: Final = 0.02
_PATIENCE_S: Final = 60.0


def store_all(
    store: RecordStore,
    records: Sequence[FeedbackRecord],
    *,
    tell: Callable[[int], None] | None = None,
    patience_s: float = _PATIENCE_S,
) -> None:
    """Stores feedback and closes the store.

    Args:
        store: A store nobody else puts into.
        records: What to store.
        tell: Told how many are stored, now and then.
        patience_s: How long the store may make no progress.

    Raises:
        EmbedLLMRouterError: Not everything could be stored; says how much was.
    """
    try:
        for start in range(0, len(records), _AT_ONCE):
            for record in records[start : start + _AT_ONCE]:
                store.put(record)
            _wait(store, patience_s)
            if tell is not None:
                tell(store.health().written)
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
