"""How novel the prompts of each caller are of late: whether traffic is of a kind that was learned. No clock, no files.

One prompt says little: benchmarks that were never seen overlap with ordinary prompts. A hundred say enough. On held-out
prompts of any single learned category, mean novelty stays below 0.62 (docs/experiments.md); new kinds lie above.
"""

from collections import OrderedDict

__all__ = ["Traffic"]

_ORDINARY = 0.5
_MEMORY = 100  # prompts over which novelty is averaged
_DOUBT = 20  # ordinary prompts a new caller is credited with: chance alone reaches 0.6 at three standard errors
_FAMILIAR, _UNFAMILIAR = 0.6, 0.7  # mean novelty at which hedging begins, and at which it is full
_MAX_CALLERS = 10_000
_NEW = (_ORDINARY, _DOUBT)  # mean novelty, and prompts it is a mean of


class Traffic:
    """A running average of novelty by caller; the caller not heard of for longest is forgotten first."""

    def __init__(self) -> None:
        self._novelty: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def mean_novelty(self, caller: str) -> float:
        """Average novelty of a caller's last hundred prompts or so, in [0, 1]; 0.5 of one who is new."""
        return self._novelty.get(caller, _NEW)[0]

    def demands(self, caller: str) -> float:
        """How far predictions for a caller shall be hedged, from 0 to 1."""
        return min(max((self.mean_novelty(caller) - _FAMILIAR) / (_UNFAMILIAR - _FAMILIAR), 0.0), 1.0)

    def add(self, caller: str, novelty: float) -> None:
        """Takes a prompt's novelty, in [0, 1], into account."""
        mean, n = self._novelty.pop(caller, _NEW)
        n = min(n + 1, _MEMORY)
        self._novelty[caller] = mean + (novelty - mean) / n, n
        if len(self._novelty) > _MAX_CALLERS:
            self._novelty.popitem(last=False)
