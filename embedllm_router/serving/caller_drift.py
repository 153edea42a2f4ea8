"""How novel the prompts of each caller are of late: whether traffic is of a kind that was learned. No clock, no files.

One prompt says little: benchmarks that were never seen overlap with ordinary prompts. A hundred say enough. On held-out
prompts of any single learned category, mean novelty stays below 0.62 (docs/experiments.md); new kinds lie above.

What is known of a caller is shared with other workers and survives a restart, under a hash. Of two workers that learn
of a caller at the same moment one may be overruled by the other: that is a few prompts learned later.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from embedllm_router._hashing import digest_of

__all__ = ["Shared", "Traffic"]

_ORDINARY = 0.5
_MEMORY = 100  # prompts over which novelty is averaged
_DOUBT = 20  # ordinary prompts a new caller is credited with: chance alone reaches 0.6 at three standard errors
_FAMILIAR, _UNFAMILIAR = 0.6, 0.7  # mean novelty at which hedging begins, and at which it is full
_MAX_CALLERS = 10_000
_TOGETHER = 5  # prompts of a caller that are told to others at once
_PREFIX = "novelty:"
_KEPT_S = 7 * 86_400.0


class Shared(Protocol):
    """What of shared state this needs; `state.SharedState` is one."""

    def put(self, key: str, value: str, ttl_s: float) -> None:
        """Puts a text under a key."""

    def get(self, key: str) -> str | None:
        """The text under a key."""


class _Mean(NamedTuple):
    """An average, and of how many prompts."""

    novelty: float = _ORDINARY
    n: int = _DOUBT

    def with_more(self, total: float, n: int) -> "_Mean":
        """The average with so many more prompts of a total novelty; earlier ones fade beyond `_MEMORY`."""
        kept = min(self.n + n, _MEMORY)
        return _Mean(self.novelty + (total - n * self.novelty) / kept, kept)


_NEW = _Mean()


@dataclass(slots=True)
class _Caller:
    """What this process knows of a caller, and what of it others were not told yet."""

    mean: _Mean = _NEW
    told: str | None = None
    untold: float = 0.0
    n_untold: int = 0


class Traffic:
    """A running average of novelty by caller; the caller not heard of for longest is forgotten first.

    Args:
        shared: Where it is shared with other workers; None keeps it in this process.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    @staticmethod
    def key(*whose: str) -> str:
        """A key for the methods below: a hash of who calls what, decided by which weights."""
        return digest_of(*whose)

    def mean_novelty(self, key: str) -> float:
        """Average novelty of a caller's last hundred prompts or so, in [0, 1]; 0.5 of one who is new."""
        return self._known(key).mean.novelty

    def demands(self, key: str) -> float:
        """How far predictions for a caller shall be hedged, from 0 to 1."""
        return min(max((self.mean_novelty(key) - _FAMILIAR) / (_UNFAMILIAR - _FAMILIAR), 0.0), 1.0)

    def add(self, key: str, novelty: float) -> None:
        """Takes a prompt's novelty, in [0, 1], into account."""
        caller = self._known(key)
        caller.mean = caller.mean.with_more(novelty, 1)
        caller.untold += novelty
        caller.n_untold += 1
        self._callers[key] = caller
        self._callers.move_to_end(key)
        if len(self._callers) > _MAX_CALLERS:
            self._callers.popitem(last=False)
        if self._shared is not None and caller.n_untold >= _TOGETHER:
            caller.told, caller.untold, caller.n_untold = _written(caller.mean), 0.0, 0
            self._shared.put(_PREFIX + key, caller.told, _KEPT_S)

    def _known(self, key: str) -> _Caller:
        """What is known of a caller, news from others included."""
        caller = self._callers.get(key) or _Caller()
        text = None if self._shared is None else self._shared.get(_PREFIX + key)
        if text is not None and text != caller.told:
            caller.told = text
            theirs = _read(text)
            if theirs is not None:
                caller.mean = theirs.with_more(caller.untold, caller.n_untold)
        return caller


def _written(mean: _Mean) -> str:
    return f"{mean.novelty:.4f} {mean.n}"


def _read(text: str) -> _Mean | None:
    """None of what no version of this wrote."""
    try:
        novelty, n = text.split(" ")
        mean = _Mean(float(novelty), int(n))
    except ValueError:
        return None
    return mean if 0 <= mean.novelty <= 1 and _DOUBT <= mean.n <= _MEMORY else None
