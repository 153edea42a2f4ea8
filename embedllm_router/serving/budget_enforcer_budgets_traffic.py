"""How many requests are still to come: learned by hour of the day, on working days and at weekends. Pure.

A plan of what to spend when, learned from the past, is what keeps a paced budget near the best possible under traffic
that changes with the time: Balseiro, Kumar, Mirrokni, Sivan and Wang, "Robust budget pacing with a single sample",
ICML 2023. Before anything is learned every hour counts alike.
"""

import math
from collections.abc import Callable, Sequence

__all__ = ["HOUR_S", "SLOTS", "Traffic"]

HOUR_S = 3_600.0
SLOTS = 48
"""Hours of a working day, then of a day at the weekend, in UTC."""

_HOURS = 24
_LEAST_SHARE = 0.25  # of a new day in what is known of an hour: older days fade
_SHRINK = 0.1  # of a day: how much the average hour counts beside what was seen of an hour
_FADE = 0.9  # per hour: how long today's level remembers
_BURST, _BURST_FLOOR = (
    3.0,
    20.0,
)  # more than so many times the usual, and so many requests more, is a burst: not a level
_SAMPLE_S = 10.0
_RECENT_S = 300.0
_UNSURE_S = 60.0
_LASTS_H, _LASTS_UNLEARNED_H = 0.5, 4.0  # how long a departure from the usual is expected to last
_LONGEST_GAP_H = 48


class Traffic:
    """Forecasts the requests of one scope.

    Args:
        rate: (48,), requests per hour learned before, by slot; None for nothing.
        seen: (48,), on how many days.
    """

    def __init__(self, rate: Sequence[float] | None = None, seen: Sequence[int] | None = None) -> None:
        self.rate = list(rate) if rate is not None else [0.0] * SLOTS
        self.seen = list(seen) if seen is not None else [0] * SLOTS
        self._usual = _usual(self.rate, self.seen)
        self._level = (0.0, 0.0)  # requests of late, and what was usual for those hours
        self._hour: int | None = None
        self._whole = False  # whether the current hour has been counted from its start
        self._count = 0.0  # of the current hour
        self._closed = 0.0  # of the hours before
        self._since = 0.0
        self._sample = (0.0, 0.0)
        self._recent = (0.0, 0.0)
        self._ahead: tuple[int, float, float] | None = None

    def advance(self, now: float, count_of: Callable[[int], float]) -> None:
        """Takes up what has come since it was last called.

        Args:
            now: Seconds since the epoch.
            count_of: Requests of an hour, by its number since the epoch, counted by all proxies together.
        """
        hour = int(now // HOUR_S)
        if self._hour is None or not 0 <= hour - self._hour <= _LONGEST_GAP_H:  # clocks are set back, too
            self._hour, self._whole, self._since = hour, False, now
            self._closed, self._recent, self._sample = 0.0, (0.0, 0.0), (now, count_of(hour))
        while self._hour < hour:
            self._close(self._hour, count_of(self._hour))
            self._hour += 1
        self._count = count_of(hour)
        self._sample_recent(now)

    def expected(self, now: float, until: float) -> float:
        """Requests still to come, at least 1.

        Args:
            now: Seconds since the epoch; not before the last `advance`.
            until: The end of an hour.
        """
        hours_left = max(until - now, 0.0) / HOUR_S
        hour, usual_now = int(now // HOUR_S), self._usual[_slot(int(now // HOUR_S))]
        if any(self.seen):
            level = self._level_now(now)
            usual_now *= level
            usual = usual_now * (1 - now / HOUR_S % 1) + level * self._usual_ahead(hour, until)
        else:
            usual_now = (self._closed + self._count + 1) / (now - self._since + _UNSURE_S) * HOUR_S
            usual = usual_now * hours_left
        lasts = _LASTS_H if sum(map(bool, self.seen)) >= _HOURS else _LASTS_UNLEARNED_H
        beyond = (self._recent_per_hour(usual_now) - usual_now) * lasts * -math.expm1(-hours_left / lasts)
        return max(usual + beyond, 1.0)

    def learn_hour(self, hour: int, count: float) -> None:
        """Takes up one whole hour.

        Args:
            hour: Its number since the epoch.
            count: Requests that came in it.
        """
        slot = _slot(hour)
        usual = self._usual[slot]
        self.seen[slot] += 1
        if self.seen[slot] > 2:  # noqa: PLR2004 - two days are not yet usual
            count = min(count, _BURST * usual + _BURST_FLOOR)
        self.rate[slot] += (count - self.rate[slot]) * max(1 / self.seen[slot], _LEAST_SHARE)
        self._usual = _usual(self.rate, self.seen)
        self._ahead = None

    def _close(self, hour: int, count: float) -> None:
        usual = self._usual[_slot(hour)]
        clipped = min(count, _BURST * usual + _BURST_FLOOR)
        if any(self.seen):
            self._level = (_FADE * self._level[0] + clipped, _FADE * self._level[1] + usual)
        if self._whole:
            self.learn_hour(hour, count)
        self._whole, self._closed, self._ahead = True, self._closed + count, None

    def _sample_recent(self, now: float) -> None:
        at, count = self._sample
        total = self._closed + self._count
        if 0 <= now - at < _SAMPLE_S:
            return
        if now < at:
            self._sample = (now, total)
            return
        fades = math.exp((at - now) / _RECENT_S)
        rate = (total - count) / (now - at) * HOUR_S
        amount, weight = self._recent
        self._recent = (amount * fades + rate * (1 - fades), weight * fades + 1 - fades)
        self._sample = (now, total)

    def _recent_per_hour(self, usual: float) -> float:
        amount, weight = self._recent
        return amount + (1 - weight) * usual

    def _level_now(self, now: float) -> float:
        """How busy it is, as a multiple of the usual; 1 when nothing speaks against it."""
        average = sum(self._usual) / SLOTS
        usual = self._usual[_slot(int(now // HOUR_S))] * (now / HOUR_S % 1) if self._whole else 0.0
        count = min(self._count, _BURST * usual + _BURST_FLOOR) if self._whole else 0.0
        expected = self._level[1] + usual + average
        return (self._level[0] + count + average) / expected if expected > 0 else 1.0

    def _usual_ahead(self, hour: int, until: float) -> float:
        """What is usual for the hours after this one."""
        if self._ahead is None or self._ahead[:2] != (hour, until):
            total = sum(self._usual[_slot(one)] for one in range(hour + 1, int(until // HOUR_S)))
            self._ahead = (hour, until, total)
        return self._ahead[2]


def _slot(hour: int) -> int:
    weekday = (hour // _HOURS + 3) % 7  # the epoch was a Thursday
    return hour % _HOURS + (_HOURS if weekday >= 5 else 0)  # noqa: PLR2004 - Saturday


def _usual(rate: Sequence[float], seen: Sequence[int]) -> list[float]:
    """Requests usual for each slot: what was seen of it, of the same hour on the other kind of day, or on average."""
    known = [r for r, n in zip(rate, seen, strict=True) if n]
    average = sum(known) / len(known) if known else 0.0

    def usual(slot: int) -> float:
        one = slot if seen[slot] else (slot + _HOURS) % SLOTS
        return (seen[one] * rate[one] + _SHRINK * average) / (seen[one] + _SHRINK)

    return [usual(slot) for slot in range(SLOTS)]
