"""The form in which a process's knowledge lies in a file: JSON, checked when it is read.

Sums that several processes add to without asking each other. Pure but for the clock it is given.

Each replica, which is one process, owns its share of a sum and alone changes it; every change raises the share's
version. A share is sent whole, never as a difference, and the higher version wins. So a message that is lost, repeated
or late neither loses nor doubles an amount: a state-based replicated counter (Shapiro, Preguiça, Baquero and Zawirski,
"Conflict-free replicated data types", SSS 2011), with versions so that a share may also fall.

Small texts by key, each for a limited time, the least recently used of too many dropped. Pure but for its clock.

Everything one process knows, in one hand.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Annotated, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["Counters", "Entries", "Entry", "Known", "Saved", "Share", "dumps", "pack", "take_up", "unpack"]

_WANTED_S = 120.0  # a sum that nobody asked for or added to so long is not read again from elsewhere


class Share(NamedTuple):
    """What one replica has added to one sum.

    Attributes:
        version: Rises with every change; the higher version is the newer one.
        amount: The share itself.
    """

    version: int
    amount: float


@dataclass(slots=True)
class _Row:
    expires_at: float
    touched_at: float = 0.0
    shares: dict[str, Share] = field(default_factory=dict)
    total: float = 0.0

    def version(self, who: str) -> int:
        share = self.shares.get(who)
        return share.version if share else 0


class Counters:
    """Every sum this process knows of.

    Args:
        replica: Name of this process; no two may share it.
        clock: Seconds since the epoch.
    """

    def __init__(self, replica: str, clock: Callable[[], float]) -> None:
        self.replica = replica
        self._clock = clock
        self._rows: OrderedDict[str, _Row] = OrderedDict()  # the last touched last
        self.changed: dict[str, None] = {}
        """Keys of sums whose shares have changed here, by this process or by what it learned; readers take them out."""
        self.n_changes = 0
        """How often this process changed a share of its own."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, key: str, amount: float, ttl_s: float) -> None:
        """Adds to a sum, which is forgotten so many seconds after the last addition."""
        now = self._clock()
        row = self._touch(key, now)
        row.expires_at = now + ttl_s if not row.shares else max(row.expires_at, now + ttl_s)
        version, before = row.shares.get(self.replica, (0, 0.0))
        version = max(version + 1, round(now * 1e3))  # so that a sum begun anew is newer than one just expired
        row.shares[self.replica] = Share(version, before + amount)
        row.total += amount  # summed exactly again by the next `learn`
        self.changed[key] = None
        self.n_changes += 1

    def total(self, key: str) -> float:
        """The sum of all shares known here; 0 when there are none. Asking makes it wanted."""
        return self._touch(key, self._clock()).total

    def learn(self, key: str, shares: Mapping[str, Share], expires_at: float) -> bool:
        """Takes up shares that are newer than those known; returns whether there were any."""
        known = self._rows.get(key)
        newer = {who: share for who, share in shares.items() if known is None or share.version > known.version(who)}
        if not newer:
            return False
        row = known or self._new(key, expires_at)
        row.shares.update(newer)
        row.expires_at = max(row.expires_at, expires_at)
        row.total = math.fsum(share.amount for share in row.shares.values())
        self.changed[key] = None
        return True

    def newer_than(self, key: str, versions: Mapping[str, int]) -> dict[str, Share]:
        """The shares of a sum that are newer here than somewhere else."""
        row = self._rows.get(key)
        shares = row.shares if row else {}
        return {who: share for who, share in shares.items() if share.version > versions.get(who, 0)}

    def ttl_s(self, key: str) -> float:
        """Seconds until a sum is forgotten."""
        row = self._rows.get(key)
        return max(row.expires_at - self._clock(), 0.0) if row else 0.0

    def wanted(self) -> list[str]:
        """Keys somebody asked for or added to lately, the last one first."""
        since = self._clock() - _WANTED_S
        return list(takewhile(lambda key: self._rows[key].touched_at >= since, reversed(self._rows)))

    def __iter__(self) -> Iterator[tuple[str, float, Mapping[str, Share]]]:
        """Key, when it expires, shares; of every sum that has any."""
        return ((key, row.expires_at, row.shares) for key, row in self._rows.items() if row.shares)

    def prune(self) -> None:
        """Drops what has expired."""
        now = self._clock()
        for key in [key for key, row in self._rows.items() if row.expires_at <= now]:
            del self._rows[key]
            self.changed.pop(key, None)

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


_FORGOTTEN_S = 60.0  # long enough for the news that an entry is gone to reach everyone


@dataclass(frozen=True, slots=True)
class Entry:
    """A text.

    Attributes:
        value: The text; empty when the entry was taken back.
        expires_at: When it is forgotten, in seconds since the epoch.
        stamp: When it was put, in seconds since the epoch.
    """

    value: str
    expires_at: float
    stamp: float


class Entries:
    """Every entry this process knows of.

    Args:
        most: How many are kept.
        clock: Seconds since the epoch.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.most = most
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._unsent: dict[str, None] = {}
        self.n_changes = 0
        """How often this process put or took back an entry."""

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """Key and entry, the least recently used first."""
        return iter(self._entries.items())

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
        self._unsent[key] = None
        self.n_changes += 1

    def forget(self, key: str) -> None:
        """Takes an entry back, here and wherever it was sent."""
        self.put(key, "", _FORGOTTEN_S)

    def learn(self, key: str, entry: Entry) -> bool:
        """Takes up an entry from elsewhere, unless it has expired or this process has news of its own to send.

        Returns:
            Whether it was taken up.
        """
        if key in self._unsent or entry.expires_at <= self._clock():
            return False
        self._place(key, entry)
        return True

    def learn_newer(self, key: str, entry: Entry) -> bool:
        """Takes up an entry from elsewhere if it was put later than the one known; returns whether it was."""
        known = self._entries.get(key)
        return (known is None or known.stamp < entry.stamp) and self.learn(key, entry)

    def unsent(self) -> dict[str, Entry]:
        """What this process put and did not yet send."""
        return {key: self._entries[key] for key in self._unsent}

    def sent(self, key: str, entry: Entry) -> None:
        """Notes that an entry has arrived elsewhere; one that has changed since stays unsent."""
        if self._entries.get(key) is entry:
            self._unsent.pop(key, None)

    def prune(self) -> None:
        """Drops what has expired."""
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if entry.expires_at <= now]:
            self._drop(key)

    def _place(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self.most:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        del self._entries[key]
        self._unsent.pop(key, None)


@dataclass(frozen=True, slots=True)
class Known:
    """What one process knows.

    Attributes:
        counters: The sums.
        entries: The entries.
        clock: Seconds since the epoch.
    """

    counters: Counters
    entries: Entries
    clock: Callable[[], float]

    @property
    def changes(self) -> tuple[int, int]:
        """How often this process changed a sum, and an entry."""
        return self.counters.n_changes, self.entries.n_changes

    def prune(self) -> None:
        """Drops what has expired."""
        self.counters.prune()
        self.entries.prune()


Number = Annotated[float, Field(allow_inf_nan=False)]
Version = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Sum(_Part):
    expires_at: Number
    shares: dict[str, tuple[Version, Number]]


class _Text(_Part):
    value: str
    expires_at: Number
    stamp: Number


class Saved(_Part):
    """What one process knew.

    Attributes:
        format: Version of this form.
        replica: Name of the process.
        sums: Every sum, with each replica's share.
        entries: Every entry, the least recently used first.
    """

    format: Literal[1]
    replica: str
    sums: dict[str, _Sum]
    entries: dict[str, _Text]


def pack(known: Known) -> dict[str, object]:
    """Everything known, as `dumps` takes it; a copy, made quickly."""
    sums = {key: {"expires_at": expires_at, "shares": dict(shares)} for key, expires_at, shares in known.counters}
    return {"format": 1, "replica": known.counters.replica, "sums": sums, "entries": dict(known.entries)}


def dumps(packed: dict[str, object]) -> bytes:
    """What was packed, as JSON."""
    return orjson.dumps(packed, default=tuple)  # of a share, which is a named tuple


def unpack(data: bytes) -> Saved:
    """Reads a file's bytes.

    Raises:
        ValueError: They are not what `pack` makes.
    """
    try:
        return Saved.model_validate(orjson.loads(data))
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise ValueError("not a state file of this version") from error


def take_up(saved: Saved, known: Known, since: float = 0.0) -> float:
    """Learns what another process knew.

    Args:
        saved: Its knowledge.
        known: This process's.
        since: Entries put before this, in seconds since the epoch, were taken up already.

    Returns:
        When the latest of its entries was put.
    """
    for key, one in saved.sums.items():
        known.counters.learn(key, {who: Share(*share) for who, share in one.shares.items()}, one.expires_at)
    for key, text in saved.entries.items():
        if text.stamp >= since:
            known.entries.learn_newer(key, Entry(text.value, text.expires_at, text.stamp))
    return max((text.stamp for text in saved.entries.values()), default=since)
