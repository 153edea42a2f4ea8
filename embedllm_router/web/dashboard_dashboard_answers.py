"""Answers that take a while: computed in worker threads, few at a time, and kept for a moment.

However many pages are open, the dashboard takes no more than these threads from the requests the proxy is there for.
It knows nothing of what is computed.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

import anyio
import orjson
from anyio import to_thread

__all__ = ["Answers", "as_json"]

_SHARE: Final = 10.0
"""An answer is kept this many times as long as it took, so that reloading one page costs a tenth of a core at most."""


@dataclass(frozen=True, slots=True)
class _Kept:
    body: bytes
    until: float


class Answers:
    """Computes answers and keeps them.

    Args:
        at_once: How many are computed at the same time, at least 1.
        keep_s: How long an answer is kept at least, in seconds.
        keep_most_s: How long at most.
        most: How many are kept.
    """

    def __init__(self, at_once: int = 1, keep_s: float = 2.0, keep_most_s: float = 10.0, most: int = 128) -> None:
        self._at_once = at_once
        self._keep_s = keep_s
        self._keep_most_s = keep_most_s
        self._most = most
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._turns: anyio.CapacityLimiter | None = None

    async def answer(self, key: Hashable, compute: Callable[[], object], *, wait_s: float = 20.0) -> bytes:
        """An answer as JSON, computed unless it is still kept.

        Args:
            key: Says which answer it is.
            compute: Makes it, in a worker thread.
            wait_s: Longest time to wait for a turn, in seconds.

        Raises:
            TimeoutError: No turn came in time.
        """
        if (kept := self._look_up(key)) is not None:
            return kept
        with anyio.fail_after(wait_s) as waiting:
            async with self._limiter():
                waiting.deadline = float("inf")
                if (kept := self._look_up(key)) is not None:
                    return kept
                started = time.monotonic()
                body = await to_thread.run_sync(lambda: as_json(compute()))
                self._keep(key, body, time.monotonic() - started)
                return body

    def _limiter(self) -> anyio.CapacityLimiter:
        if self._turns is None:
            self._turns = anyio.CapacityLimiter(self._at_once)
        return self._turns

    def _look_up(self, key: Hashable) -> bytes | None:
        kept = self._kept.get(key)
        return kept.body if kept is not None and time.monotonic() < kept.until else None

    def _keep(self, key: Hashable, body: bytes, took_s: float) -> None:
        keep_s = min(max(self._keep_s, _SHARE * took_s), self._keep_most_s)
        self._kept[key] = _Kept(body, time.monotonic() + keep_s)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


def as_json(value: object) -> bytes:
    """Any value as JSON; times end in Z."""
    return orjson.dumps(value, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY)
