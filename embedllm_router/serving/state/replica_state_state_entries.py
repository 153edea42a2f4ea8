"""Small texts by key, each for a limited time, the least recently used of too many dropped. Pure but for its clock."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Entries", "Entry"]

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
