"""Sums, such as spend, and short-lived entries, such as pinned LLMs, that proxies share.

Requests call `SharedState.add`, `total`, `get`, `put` and `forget`, which work in memory and never wait. The background
task `SharedState.run` exchanges the replica state with other processes: through the database of `sqlite.py` on one
host, through `redis.py` between hosts. All of it belongs to one thread, the event loop's.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple, Protocol

__all__ = [
    "Counters",
    "DiskLink",
    "Entries",
    "Entry",
    "Link",
    "ReplicaState",
    "Share",
    "SharedState",
    "StateHealth",
    "SteadyClock",
    "Sum",
]

_WANTED_S = 120.0  # a sum that was neither read nor added to for so long is not read again from Redis
_FORGOTTEN_S = 60.0  # long enough for every process to hear that an entry was forgotten
_PAUSE_S = 0.05  # between exchanges with Redis, so that a busy process sends its changes in groups
_DISK_PAUSE_S = 0.1  # likewise with the disk: shorter than most LLMs take to answer
_SPARE_FOR_NEWS = 3.0  # rest between exchanges with the disk that a change asks for, in multiples of their duration
_PRUNE_S = 60.0
_REPLICA_BYTES = 6
_SPARE = 10.0  # rest after an exchange with the disk, in multiples of its duration: a slow disk is used less often


class Share(NamedTuple):
    """What one replica has added to one sum.

    Attributes:
        version: Rises with every change; the higher version is the newer one.
        amount: The share itself.
    """

    version: int
    amount: float


@dataclass(frozen=True, slots=True)
class Sum:
    """One sum at one moment.

    Attributes:
        key: Its name.
        expires_at: When it is forgotten, in seconds since the epoch.
        shares: The share of each replica, by the replica's name.
    """

    key: str
    expires_at: float
    shares: Mapping[str, Share]


@dataclass(slots=True)
class _Row:
    expires_at: float
    touched_at: float = 0.0
    shares: dict[str, Share] = field(default_factory=dict)
    total: float = 0.0

    def version(self, replica: str) -> int:
        share = self.shares.get(replica)
        return share.version if share else 0


class Counters:
    """Sums that several processes add to without asking each other.

    Each replica, which is one process, owns its share of a sum and alone changes it; every change raises the share's
    version. A share is sent whole, never as a difference, and the higher version wins. So a message that is lost,
    repeated or late neither loses nor doubles an amount: a state-based replicated counter (Shapiro, Preguiça, Baquero
    and Zawirski, "Conflict-free replicated data types", SSS 2011), with versions so that a share may also fall.

    Args:
        replica: Name of this process; no two may share it.
        clock: Seconds since the epoch.
    """

    def __init__(self, replica: str, clock: Callable[[], float]) -> None:
        self.replica = replica
        self._clock = clock
        self._rows: OrderedDict[str, _Row] = OrderedDict()  # the last touched last
        self._followers: list[dict[str, None]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        """Keys of the sums that somebody has added to."""
        return (key for key, row in self._rows.items() if row.shares)

    def follow(self) -> dict[str, None]:
        """Keys of the sums that change from now on, here or by a merge; the follower takes them out."""
        changed: dict[str, None] = {}
        self._followers.append(changed)
        return changed

    def add(self, key: str, amount: float, ttl_s: float) -> None:
        """Adds to a sum, which is forgotten so many seconds after the last addition."""
        now = self._clock()
        row = self._touch(key, now)
        row.expires_at = now + ttl_s if not row.shares else max(row.expires_at, now + ttl_s)
        version, before = row.shares.get(self.replica, (0, 0.0))
        version = max(version + 1, round(now * 1e3))  # so that a sum begun anew is newer than one just expired
        row.shares[self.replica] = Share(version, before + amount)
        row.total += amount  # summed exactly again by the next merge
        for changed in self._followers:
            changed[key] = None

    def total(self, key: str) -> float:
        """The sum of all shares in this replica state; 0 without any. Redis is asked for the sum from now on."""
        return self._touch(key, self._clock()).total

    def merge(
        self, key: str, shares: Mapping[str, Share], expires_at: float, *, source: dict[str, None] | None = None
    ) -> bool:
        """Merges shares from elsewhere, of which those of a higher version win.

        Args:
            key: Name of the sum.
            shares: The share of each replica.
            expires_at: When the sum is forgotten, in seconds since the epoch.
            source: The follower that brought them, which need not hear of them.

        Returns:
            Whether any of them was newer.
        """
        row = self._rows.get(key)
        if row is not None and row.expires_at <= self._clock():
            row = None
        newer = {who: share for who, share in shares.items() if row is None or share.version > row.version(who)}
        if not newer:
            return False
        row = row or self._new(key, expires_at)
        row.shares.update(newer)
        row.expires_at = max(row.expires_at, expires_at)
        row.total = math.fsum(share.amount for share in row.shares.values())
        for changed in self._followers:
            if changed is not source:
                changed[key] = None
        return True

    def sum_of(self, key: str) -> Sum | None:
        """A copy of a sum; None when nobody added to it or it has expired."""
        row = self._rows.get(key)
        if row is None or not row.shares or row.expires_at <= self._clock():
            return None
        return Sum(key, row.expires_at, dict(row.shares))

    def newer_than(self, key: str, versions: Mapping[str, int]) -> dict[str, Share]:
        """The shares of a sum that are newer here than somewhere else.

        Args:
            key: Name of the sum.
            versions: The version of each replica's share there.
        """
        row = self._rows.get(key)
        shares = row.shares if row else {}
        return {who: share for who, share in shares.items() if share.version > versions.get(who, 0)}

    def ttl_s(self, key: str) -> float:
        """Seconds until a sum is forgotten."""
        row = self._rows.get(key)
        return max(row.expires_at - self._clock(), 0.0) if row else 0.0

    def wanted(self) -> list[str]:
        """Keys that were read or added to in the last minutes, the latest first."""
        since = self._clock() - _WANTED_S
        return list(takewhile(lambda key: self._rows[key].touched_at >= since, reversed(self._rows)))

    def prune(self) -> None:
        """Drops what has expired."""
        now = self._clock()
        for key in [key for key, row in self._rows.items() if row.expires_at <= now]:
            del self._rows[key]
            for changed in self._followers:
                changed.pop(key, None)

    def _touch(self, key: str, now: float) -> _Row:
        row = self._rows.get(key)
        if row is None or row.expires_at <= now:
            row = self._rows[key] = _Row(now)
        row.touched_at = now
        if not row.shares:
            row.expires_at = now + _WANTED_S
        self._rows.move_to_end(key)
        return row

    def _new(self, key: str, expires_at: float) -> _Row:
        row = self._rows[key] = _Row(expires_at)
        self._rows.move_to_end(key, last=False)
        return row


@dataclass(frozen=True, slots=True)
class Entry:
    """A text.

    Attributes:
        value: The text; empty when the entry was forgotten.
        expires_at: When it is dropped, in seconds since the epoch.
        stamp: When it was put, in seconds since the epoch.
    """

    value: str
    expires_at: float
    stamp: float


class Entries:
    """Short texts by key, each for a limited time; of too many the least recently used are dropped.

    Args:
        max_entries: How many are kept.
        clock: Seconds since the epoch.
    """

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        self.max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # the least recently used first
        self._followers: list[dict[str, None]] = []
        self._put_followers: list[dict[str, None]] = []
        self._all_followers: list[dict[str, None]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """Keys, the least recently used first."""
        return iter(self._entries)

    def follow(self) -> dict[str, None]:
        """Keys that are put, forgotten or overwritten from now on; the follower takes them out."""
        changed: dict[str, None] = {}
        self._followers.append(changed)
        self._all_followers.append(changed)
        return changed

    def follow_puts(self) -> dict[str, None]:
        """Keys that this process puts or forgets from now on; until they are taken out, no merge changes them."""
        changed: dict[str, None] = {}
        self._put_followers.append(changed)
        self._all_followers.append(changed)
        return changed

    def get(self, key: str) -> str | None:
        """The text under a key; None when there is none any more."""
        entry = self._entries.get(key)
        if entry is None or not entry.value:
            return None
        if entry.expires_at <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: str, value: str, ttl_s: float) -> None:
        """Puts a text under a key for so many seconds."""
        now = self._clock()
        self._place(key, Entry(value, now + ttl_s, now))
        for changed in self._all_followers:
            changed[key] = None

    def forget(self, key: str) -> None:
        """Forgets an entry, here and in every process that hears of it."""
        self.put(key, "", _FORGOTTEN_S)

    def entry(self, key: str) -> Entry | None:
        """The entry under a key, a forgotten or expired one included; reading it so does not count as use."""
        return self._entries.get(key)

    def overwrite(self, key: str, entry: Entry) -> bool:
        """Takes up an entry from elsewhere whatever the stamps are, unless it has expired; returns whether it did."""
        if entry.expires_at <= self._clock():
            return False
        self._place(key, entry)
        for changed in self._followers:
            changed[key] = None
        return True

    def merge(self, key: str, entry: Entry) -> bool:
        """Takes up an entry from elsewhere if it was put later than the one here.

        Args:
            key: Its key.
            entry: The entry; one that has expired is ignored.

        Returns:
            Whether it was taken up.
        """
        present = self._entries.get(key)
        if present is not None and present.stamp >= entry.stamp:
            return False
        if entry.expires_at <= self._clock() or any(key in changed for changed in self._put_followers):
            return False
        self._place(key, entry)
        return True

    def prune(self) -> None:
        """Drops what has expired."""
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if entry.expires_at <= now]:
            self._drop(key)

    def _place(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self.max_entries:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        del self._entries[key]
        for changed in self._all_followers:
            changed.pop(key, None)


_LEAP_S = 3_600.0
_BELIEVED_AFTER_S = 600.0


def _since_boot() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps where the system has one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class SteadyClock:
    """Seconds since the epoch, by a clock that may be set.

    When it leaps by more than an hour, either way, time goes on as before until the leap has lasted for ten minutes. So
    a clock that is wrong for a moment puts no spend into another day, and lets nothing expire.

    Args:
        wall: The clock that may be set.
        steady: One that nobody sets.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _since_boot) -> None:
        self._wall, self._steady = wall, steady
        self._ahead = wall() - steady()
        self._leapt_at: float | None = None

    def __call__(self) -> float:
        """The time now."""
        steady = self._steady()
        ahead = self._wall() - steady
        if abs(ahead - self._ahead) <= _LEAP_S:
            self._ahead, self._leapt_at = ahead, None
        elif self._leapt_at is None:
            self._leapt_at = steady
        elif steady - self._leapt_at >= _BELIEVED_AFTER_S:
            self._ahead, self._leapt_at = ahead, None
        return steady + self._ahead


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The sums and entries of one process.

    Attributes:
        counters: The sums.
        entries: The entries.
        clock: Seconds since the epoch.
    """

    counters: Counters
    entries: Entries
    clock: Callable[[], float]

    @classmethod
    def new(cls, *, max_entries: int = 10_000, clock: Callable[[], float] | None = None) -> "ReplicaState":
        """An empty state under a random name.

        Args:
            max_entries: Most entries kept; beyond it the least recently used are dropped.
            clock: Seconds since the epoch; None takes a `SteadyClock`.
        """
        clock = clock or SteadyClock()
        return cls(Counters(secrets.token_hex(_REPLICA_BYTES), clock), Entries(max_entries, clock), clock)

    def prune(self) -> None:
        """Drops what has expired."""
        self.counters.prune()
        self.entries.prune()


class Link(Protocol):
    """A place through which processes exchange their replica states."""

    last_error: str | None
    """Class of the latest failure; None since the last success."""

    @property
    def location(self) -> str:
        """The place, without credentials."""

    @property
    def unsent(self) -> int:
        """Number of sums and entries of which the place lacks the latest."""

    def lacks(self, key: str) -> bool:
        """Whether the place lacks the latest entry under a key."""

    async def exchange(self) -> None:
        """Exchanges once, both ways; trouble with the place is logged, not raised."""

    async def close(self) -> None:
        """Releases connections; the next exchange opens them again."""


class DiskLink(Link, Protocol):
    """A link that outlives a restart."""

    def save(self) -> None:
        """Writes what is unsent, without an event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHealth:
    """How shared state is doing.

    Attributes:
        kind: "local" or "redis".
        location: Folder, or Redis's address without credentials; None when nothing is kept.
        connected: Whether the last exchange succeeded; with "local", whether the database could be read and written.
        unsent: Number of sums and entries of which others lack the latest.
        sums: Number of sums in this process.
        entries: Number of entries in this process.
        last_error: Class of the latest failure; None since the last success.
    """

    kind: str
    location: str | None
    connected: bool
    unsent: int
    sums: int
    entries: int
    last_error: str | None


class SharedState:
    """Sums and entries that several processes share.

    Args:
        state: The sums and entries of this process.
        disk: What keeps them across a restart and shares them on this host; None for nothing.
        redis: What shares them between hosts; None for nothing.
    """

    def __init__(self, state: ReplicaState, disk: DiskLink | None = None, redis: Link | None = None) -> None:
        self._state = state
        self._counters, self._entries = state.counters, state.entries
        self.clock = state.clock
        """Seconds since the epoch; by it sums and entries expire."""
        self._disk = disk
        self._redis = redis
        self._changed = asyncio.Event()
        self._exchanging = asyncio.Lock()
        self._pruned_at = time.monotonic()
        self._disk_took_s = 0.0
        self._ending = False
        self._delivering: set[asyncio.Task[None]] = set()

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
        """The sum in this process's memory; 0 when nobody added to it. Reading it has it refreshed from now on."""
        return self._counters.total(key)

    def get(self, key: str) -> str | None:
        """The text under a key; None when there is none, or none any more."""
        return self._entries.get(key)

    def put(self, key: str, value: str, ttl_s: float) -> None:
        """Puts a text, not an empty one, under a key for so many seconds."""
        self._entries.put(key, value, ttl_s)
        self._changed.set()

    def forget(self, key: str) -> None:
        """Forgets an entry, here and in the other processes."""
        self._entries.forget(key)
        self._changed.set()

    async def deliver(self, key: str, within_s: float) -> None:
        """Returns when other processes can read what was put under a key, or after so long.

        Args:
            key: The entry's.
            within_s: Longest wait in seconds, for a place that is slow or cannot be reached.
        """
        link = self._redis or self._disk
        if link is None or not link.lacks(key):
            return
        task = asyncio.create_task(self._deliver(link, key))
        self._delivering.add(task)
        task.add_done_callback(self._delivering.discard)
        await asyncio.wait([task], timeout=within_s)

    async def _deliver(self, link: Link, key: str) -> None:
        async with self._exchanging:
            if link.lacks(key):  # else the exchange that was under way has sent it
                await link.exchange()

    async def exchange(self) -> None:
        """Exchanges once, both ways; never raises for trouble with the disk or Redis."""
        async with self._exchanging:
            self._changed.clear()
            if self._redis is not None:
                await self._redis.exchange()
            if self._disk is not None:
                started = time.monotonic()
                await self._disk.exchange()
                self._disk_took_s = time.monotonic() - started
        if time.monotonic() - self._pruned_at > _PRUNE_S:
            self._pruned_at = time.monotonic()
            self._state.prune()

    async def run(self, refresh_s: float = 1.0) -> None:
        """Exchanges again and again, and soon after each change, until `end` or until it is cancelled.

        Args:
            refresh_s: How often, in seconds.
        """
        while not self._ending:
            await self.exchange()
            until = time.monotonic() + max(refresh_s, _SPARE * self._disk_took_s)
            while self._redis is not None and time.monotonic() < until and not self._ending:
                await self._change(refresh_s)
                await asyncio.sleep(_PAUSE_S)
                async with self._exchanging:
                    self._changed.clear()
                    await self._redis.exchange()
            if self._redis is None and not self._ending:
                await asyncio.sleep(max(_DISK_PAUSE_S, _SPARE_FOR_NEWS * self._disk_took_s))
                await self._change(refresh_s)
            else:
                await asyncio.sleep(0 if self._ending else max(until - time.monotonic(), 0))

    async def _change(self, longest_s: float) -> None:
        """Waits for a change, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):  # wait_for may lose a cancellation in 3.11
                await self._changed.wait()

    def end(self) -> None:
        """Has `run` return soon: a cancellation alone can be lost inside a client's own timeouts."""
        self._ending = True
        self._changed.set()

    async def aclose(self) -> None:
        """Exchanges a last time and closes the links."""
        await self.exchange()
        for link in (self._redis, self._disk):
            if link is not None:
                await link.close()

    def save(self) -> None:
        """Writes to the disk what is not on it yet, without an event loop: for the end of the process."""
        if self._disk is not None:
            self._disk.save()

    def health(self) -> StateHealth:
        """How it is doing."""
        link = self._redis or self._disk
        errors = [one.last_error for one in (self._redis, self._disk) if one and one.last_error]
        return StateHealth(
            kind="redis" if self._redis else "local",
            location=link.location if link else None,
            connected=not errors,
            unsent=link.unsent if link else 0,
            sums=len(self._counters),
            entries=len(self._entries),
            last_error=errors[0] if errors else None,
        )
