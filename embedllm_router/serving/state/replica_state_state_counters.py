"""Sums that several processes add to without asking each other. Pure but for the clock it is given.

Each replica, which is one process, owns its share of a sum and alone changes it; every change raises the share's
version. A share is sent whole, never as a difference, and the higher version wins. So a message that is lost, repeated
or late neither loses nor doubles an amount: a state-based replicated counter (Shapiro, Preguiça, Baquero and Zawirski,
"Conflict-free replicated data types", SSS 2011), with versions so that a share may also fall.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

__all__ = ["Counters", "Share"]

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
