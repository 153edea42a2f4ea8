"""Sums and entries that requests read from memory, and that the background shares with other processes.

Nothing a request calls here waits for a file or for Redis. Everything belongs to one thread, the event loop's.

Opens shared state as the options ask for it.
"""

import asyncio
import contextlib
import importlib.util
import secrets
import time
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from embedllm_router.config.state_options import StateHealth, StateOptions
from embedllm_router.errors import ConfigError
from embedllm_router.serving.state.files import FileLink
from embedllm_router.serving.state.replica_state import Counters, Entries, Known

if TYPE_CHECKING:
    from embedllm_router.serving.state.redis_link import RedisLink  # needs the extra `proxy`

__all__ = ["SharedState", "open_state"]

_PAUSE_S = 0.05  # between exchanges, so that a busy process sends its changes in groups
_PRUNE_S = 60.0
_SPARE = 10.0  # what an exchange takes, that many times as long it rests: large files are exchanged less often


class SharedState:
    """What several processes know together.

    Args:
        options: How often it is shared.
        known: What this process knows.
        files: The folder; None for none.
        redis: Redis; None for none.
    """

    def __init__(
        self,
        options: StateOptions,
        known: Known,
        files: FileLink | None,
        redis: "RedisLink | None",
    ) -> None:
        self._options = options
        self._known = known
        self._counters, self._entries = known.counters, known.entries
        self._files = files
        self._redis = redis
        self._changed = asyncio.Event()
        self._pruned_at = time.monotonic()
        self._ending = False

    def add(self, key: str, amount: float, ttl_s: float) -> None:
        """Adds to a sum; it is forgotten so many seconds after the last addition.

        Args:
            key: Name of the sum.
            amount: What to add; finite, may be negative.
            ttl_s: Seconds.
        """
        self._counters.add(key, amount, ttl_s)
        self._changed.set()

    def total(self, key: str) -> float:
        """The sum, as far as it is known here; 0 when nobody added to it. Asking has it refreshed from now on."""
        return self._counters.total(key)

    def get(self, key: str) -> str | None:
        """The text under a key; None when there is none, or none any more."""
        return self._entries.get(key)

    def put(self, key: str, value: str, ttl_s: float) -> None:
        """Puts a text, not an empty one, under a key for so many seconds."""
        self._entries.put(key, value, ttl_s)
        self._changed.set()

    def forget(self, key: str) -> None:
        """Takes an entry back."""
        self._entries.forget(key)
        self._changed.set()

    async def exchange(self) -> None:
        """Shares once, both ways; never raises for trouble with files or Redis."""
        self._changed.clear()
        if self._redis is not None:
            await self._redis.exchange()
        if self._files is not None:
            await self._files.exchange()
        if time.monotonic() - self._pruned_at > _PRUNE_S:
            self._pruned_at = time.monotonic()
            self._known.prune()

    async def run(self) -> None:
        """Shares every `refresh_s`, and with Redis soon after each change, until `end` or until it is cancelled."""
        while not self._ending:
            started = time.monotonic()
            await self.exchange()
            took_s = time.monotonic() - started
            until = started + took_s + max(self._options.refresh_s, _SPARE * took_s)
            while self._redis is not None and time.monotonic() < until and not self._ending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._options.refresh_s):  # wait_for may lose a cancellation in 3.11
                        await self._changed.wait()
                await asyncio.sleep(_PAUSE_S)
                self._changed.clear()
                await self._redis.exchange()
            await asyncio.sleep(0 if self._ending else max(until - time.monotonic(), 0))

    def end(self) -> None:
        """Has `run` return soon: a cancellation alone can be lost inside a client's own timeouts."""
        self._ending = True
        self._changed.set()

    async def aclose(self) -> None:
        """Shares a last time and lets go of Redis."""
        await self.exchange()
        if self._redis is not None:
            await self._redis.close()

    def save(self) -> None:
        """Writes what is known to the folder, without an event loop: for the end of the process."""
        if self._files is not None:
            self._files.save()

    def health(self) -> StateHealth:
        """How it is doing."""
        link = self._redis or self._files
        errors = [one.last_error for one in (self._redis, self._files) if one and one.last_error]
        unsent = self._redis.unsent if self._redis else self._files.unsaved if self._files else 0
        return StateHealth(
            kind="redis" if self._redis else "local",
            location=link.location if link else None,
            connected=not errors,
            unsent=unsent,
            sums=len(self._counters),
            entries=len(self._entries),
            last_error=errors[0] if errors else None,
        )


_REPLICA_BYTES = 6


def open_state(options: StateOptions, log: FilteringBoundLogger) -> SharedState:
    """Opens shared state and reads the folder. Redis is first called by `SharedState.run`; nothing is made on disk yet.

    Args:
        options: Where it is kept.
        log: Where trouble is reported, once per trouble.

    Returns:
        The state.

    Raises:
        ConfigError: Redis is asked for, and its client is not installed or its address cannot be read.
    """
    counters = Counters(secrets.token_hex(_REPLICA_BYTES), options.clock)
    known = Known(counters, Entries(options.max_entries, options.clock), options.clock)
    files = FileLink(options.path, known, log) if options.path else None
    if files is not None:
        files.load()
    if options.redis is None:
        return SharedState(options, known, files, None)
    if importlib.util.find_spec("redis") is None:
        raise ConfigError(
            "the state settings ask for Redis, but its client cannot be imported: pip install 'embedllm-router[proxy]'."
        )
    from embedllm_router.serving.state.redis_link import RedisLink  # noqa: PLC0415 - needs the extra `proxy`

    redis = RedisLink(options.redis, options.namespace, known, log)
    return SharedState(options, known, files, redis)
