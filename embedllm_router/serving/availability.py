"""Which model groups are left alone at the moment: those that LiteLLM would refuse, and those that keep failing.

A circuit breaker for each model group. LiteLLM lets single deployments rest, and one that is alone in its group hardly
ever, so that a group which fails every request would be chosen, fail and be fallen back from again and again.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from embedllm_router.config.process import RestingSettings
from embedllm_router.routing.pool import Exclusion

__all__ = ["Availability"]


@dataclass(slots=True)
class _Group:
    """One model group.

    Attributes:
        failed: Whether its latest calls failed, oldest first; empty while it rests.
        rest_s: How long it rests now; 0 where it does not.
        until: When the rest ends, on the clock; after that one request may try it.
        since: When its state was last changed: calls that began before say nothing of it.
        tried: Whether a request may try it, or does.
    """

    failed: deque[bool] = field(default_factory=deque)
    rest_s: float = 0.0
    until: float = 0.0
    since: float = 0.0
    tried: bool = False


class Availability:
    """What nobody's request is sent to at the moment.

    Each process finds out for itself which groups fail; what LiteLLM refuses is told to it.

    Args:
        settings: When a group rests, and for how long; asked each time, since they may be replaced.
        log: Where the beginning and the end of a rest are reported.
        clock: Monotonic, in seconds.

    Attributes:
        excluded: Model groups that are left alone, with the reason; replaced whole, never changed.
        on_trial: Groups that have rested, and wait for one request to try them.
    """

    def __init__(
        self,
        settings: Callable[[], RestingSettings],
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._log, self._clock = settings, log, clock
        self._refused: dict[Exclusion, frozenset[str]] = {}
        self._groups: dict[str, _Group] = {}
        self.excluded: Mapping[str, Exclusion] = {}
        self.on_trial: frozenset[str] = frozenset()

    def refuse(self, reason: Exclusion, groups: Iterable[str]) -> None:
        """Takes note of all groups that LiteLLM refuses for a reason, in place of those noted before."""
        self._refused[reason] = frozenset(groups)
        self._update()

    def failed(self, group: str, took_s: float) -> None:
        """Takes note of a call that failed for no fault of the client's.

        Args:
            group: The model group that was called.
            took_s: How long ago the call began.
        """
        rule, one = self._settings(), self._groups.setdefault(group, _Group())
        if rule.failures is None or self._clock() - took_s < one.since:
            return
        if one.rest_s:
            if one.tried:
                self._rest(group, one, min(one.rest_s * 2, rule.max_rest_s))
            return
        self._note(one, failed=True)
        if sum(one.failed) >= rule.failures:
            self._rest(group, one, min(rule.rest_s, rule.max_rest_s))

    def answered(self, group: str, took_s: float) -> None:
        """Takes note of a call that was answered.

        Args:
            group: The model group that was called.
            took_s: How long ago the call began.
        """
        one = self._groups.get(group)
        if one is None or self._clock() - took_s < one.since:
            return
        if one.rest_s:
            self._groups[group] = _Group(since=self._clock())
            self._log.info("routing.llm_answers_again", llm=group)
            self._update()
        else:
            self._note(one, failed=False)

    def trying(self, group: str) -> None:
        """Takes note that a request tries a group that has rested; others wait for what comes of it."""
        one = self._groups[group]
        one.until = self._clock() + one.rest_s
        self._update()

    def look_at_the_clock(self) -> None:
        """Has groups tried whose rest is over; to be called about once a second."""
        if self._settings().failures is None:
            self._groups.clear()
        for one in self._groups.values():
            one.tried = one.tried or bool(one.rest_s and self._clock() >= one.until)
        self._update()

    def _note(self, one: _Group, *, failed: bool) -> None:
        one.failed.append(failed)
        while len(one.failed) > self._settings().of_calls:
            one.failed.popleft()

    def _rest(self, group: str, one: _Group, rest_s: float) -> None:
        now = self._clock()
        self._log.warning("routing.llm_rests", llm=group, rest_s=rest_s, failures=sum(one.failed) or 1)
        self._groups[group] = _Group(rest_s=rest_s, until=now + rest_s, since=now)
        self._update()

    def _update(self) -> None:
        now = self._clock()
        resting = {name: one for name, one in self._groups.items() if one.rest_s}
        self.on_trial = frozenset(name for name, one in resting.items() if one.tried and now >= one.until)
        excluded = dict.fromkeys(resting.keys() - self.on_trial, Exclusion.RESTING)
        for reason, groups in self._refused.items():
            excluded.update(dict.fromkeys(groups, reason))
        self.excluded = excluded
