"""The records that wait to be written, in memory and bounded. It knows nothing of where they go."""

import threading
import time
from collections import deque

from embedllm_router.records.schema import FeedbackRecord, RequestRecord

__all__ = ["Backlog"]

_RECORD, _CANDIDATE = 1_500, 200
"""Bytes that a record and each of its candidates take in memory, about."""
_BATCH = 2_000
"""Records that are taken at once: few enough that taking them holds the lock for a tenth of a millisecond."""


class Backlog:
    """A queue that any thread may put into and one thread takes from; full, it refuses the newest."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._waiting: deque[tuple[float, int, RequestRecord | FeedbackRecord]] = deque()
        self._in_hand: list[tuple[float, int, RequestRecord | FeedbackRecord]] = []
        self._bytes = 0
        self._arrived, self._urgent = threading.Event(), threading.Event()
        self.refused = 0

    def put(self, record: RequestRecord | FeedbackRecord) -> None:
        """Queues a record, or counts it as refused when the queue is full. Takes about a microsecond."""
        size = _size(record)
        with self._lock:
            if self._bytes + size > self._limit:
                self.refused += 1
                return
            first = not self._waiting
            self._waiting.append((time.monotonic(), size, record))
            self._bytes += size
        if first:
            self._arrived.set()
        if 2 * self._bytes > self._limit:
            self._urgent.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits until a record has arrived, or for so long; returns whether one has."""
        return self._arrived.wait(timeout_s)

    def gather(self, timeout_s: float) -> None:
        """Waits so long for more records, less when the queue is half full."""
        self._urgent.wait(timeout_s)

    def hurry(self) -> None:
        """Ends every wait, now and later: no more records will be put."""
        self._arrived.set()
        self._urgent.set()

    def take(self) -> list[RequestRecord | FeedbackRecord]:
        """The oldest records, not too many; they count as waiting until `done`. Empty when none waits."""
        with self._lock:
            self._arrived.clear()
            self._urgent.clear()
            self._in_hand = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        return [record for _, _, record in self._in_hand]

    def done(self) -> None:
        """What was taken is written, or lost."""
        with self._lock:
            self._bytes -= sum(size for _, size, _ in self._in_hand)
            self._in_hand = []

    def abandon(self, *, everything: bool) -> int:
        """Forgets what was taken and not done, or everything; returns how many records that were."""
        with self._lock:
            lost = len(self._in_hand)
            if everything:
                lost += len(self._waiting)
                self._waiting.clear()
        self.done()
        return lost

    @property
    def queued(self) -> int:
        """Records that wait, those taken and not done included."""
        return len(self._waiting) + len(self._in_hand)

    @property
    def lag_s(self) -> float:
        """Age of the oldest of them in seconds; 0 when there is none."""
        with self._lock:
            oldest = self._in_hand or self._waiting
            return time.monotonic() - oldest[0][0] if oldest else 0.0


def _size(record: RequestRecord | FeedbackRecord) -> int:
    if isinstance(record, FeedbackRecord):
        return _RECORD
    texts = len(record.prompt or "") + len(record.embedding or "")
    return _RECORD + _CANDIDATE * len(record.candidates) + texts
