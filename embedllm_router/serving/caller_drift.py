"""How far the recent prompts of each caller are from what was learned: the drift that shrinks predictions for them.

One prompt says little: benchmarks that were never seen overlap with ordinary prompts. A hundred say enough. On held-out
prompts of any single learned category the mean OOD score stays below 0.62 (docs/experiments.md); new kinds lie above.

What is known of a caller is shared with other workers and survives a restart, under a hash. Of two workers that learn
of a caller at the same moment one may be overruled by the other: that is a few prompts learned later.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["CallerDrift", "Shared"]

_ORDINARY = 0.5
_MEMORY = 100  # prompts over which OOD scores are averaged
_DOUBT = 20  # ordinary prompts a new caller is credited with: chance alone reaches 0.6 at three standard errors
_FAMILIAR, _UNFAMILIAR = 0.6, 0.7  # mean OOD score at which shrinkage begins, and at which it is full
_MAX_CALLERS = 10_000
_TOGETHER = 5  # prompts of a caller that are shared at once
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

    ood_score: float = _ORDINARY
    n: int = _DOUBT

    def with_more(self, total: float, n: int) -> "_Mean":
        """The average with so many more prompts of a total OOD score; earlier ones fade beyond `_MEMORY`."""
        kept = min(self.n + n, _MEMORY)
        return _Mean(self.ood_score + (total - n * self.ood_score) / kept, kept)


_NEW = _Mean()


@dataclass(slots=True)
class _Caller:
    """What this process knows of a caller, and what of it was not shared yet."""

    mean: _Mean = _NEW
    shared: str | None = None
    unshared: float = 0.0
    n_unshared: int = 0


class CallerDrift:
    """A running average of OOD scores by caller; the caller not heard of for longest is forgotten first.

    Args:
        shared: Where it is shared with other workers; None keeps it in this process.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def mean_ood_score(self, key: str) -> float:
        """Average OOD score of a caller's last hundred prompts or so, in [0, 1]; 0.5 of a new one.

        Args:
            key: A hash of who calls which virtual model, and of the arm and weights that decide.
        """
        caller = self._callers.get(key) or _Caller()
        text = None if self._shared is None else self._shared.get(_PREFIX + key)
        if text is not None and text != caller.shared:  # news from another worker
            caller.shared = text
            theirs = _read(text)
            if theirs is not None:
                caller.mean = theirs.with_more(caller.unshared, caller.n_unshared)
            self._keep(key, caller)
        return caller.mean.ood_score

    def shrinkage(self, key: str) -> float:
        """How far predictions for a caller shall be shrunk, from 0 to 1; `key` as for `mean_ood_score`."""
        return min(max((self.mean_ood_score(key) - _FAMILIAR) / (_UNFAMILIAR - _FAMILIAR), 0.0), 1.0)

    def add(self, key: str, ood_score: float) -> None:
        """Takes a prompt's OOD score, in [0, 1], into account, on top of what `shrinkage` has read of the caller."""
        caller = self._callers.get(key) or _Caller()
        caller.mean = caller.mean.with_more(ood_score, 1)
        caller.unshared += ood_score
        caller.n_unshared += 1
        self._keep(key, caller)
        if self._shared is not None and caller.n_unshared >= _TOGETHER:
            caller.shared, caller.unshared, caller.n_unshared = _written(caller.mean), 0.0, 0
            self._shared.put(_PREFIX + key, caller.shared, _KEPT_S)

    def _keep(self, key: str, caller: _Caller) -> None:
        self._callers[key] = caller
        self._callers.move_to_end(key)
        if len(self._callers) > _MAX_CALLERS:
            self._callers.popitem(last=False)


def _written(mean: _Mean) -> str:
    return f"{mean.ood_score:.4f} {mean.n}"


def _read(text: str) -> _Mean | None:
    """None of what no version of this wrote."""
    try:
        ood_score, n = text.split(" ")
        mean = _Mean(float(ood_score), int(n))
    except ValueError:
        return None
    return mean if 0 <= mean.ood_score <= 1 and _DOUBT <= mean.n <= _MEMORY else None
