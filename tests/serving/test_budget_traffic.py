"""The forecast of the requests to come: planted shapes are found, bursts are not mistaken for a level."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from embedllm_router.serving.budget_enforcer import HOUR_S, SLOTS, Traffic

MONDAY = 1_767_571_200.0  # 5 January 2026, UTC
MONDAY_HOUR = int(MONDAY // HOUR_S)
DAY_S = 24 * HOUR_S


class Counted:
    """A planted rate per hour, counted without noise as time passes."""

    def __init__(self, rate: "dict[int, float] | float") -> None:
        self.rate = rate
        self.now = MONDAY

    def of(self, hour: int) -> float:
        rate = self.rate if isinstance(self.rate, float) else self.rate.get(hour % 24, 0.0)
        return rate * min(max(self.now / HOUR_S - hour, 0.0), 1.0)


def watched(traffic: Traffic, counted: Counted, until: float) -> None:
    for now in np.arange(counted.now, until + 1, 60.0).tolist():
        counted.now = now
        traffic.advance(now, counted.of)


def test_before_anything_is_learned_every_hour_counts_alike() -> None:
    traffic, counted = Traffic(), Counted(600.0)
    watched(traffic, counted, MONDAY + 2_400)
    left_h = (DAY_S - 2_400) / HOUR_S
    assert traffic.expected(counted.now, MONDAY + DAY_S) == pytest.approx(600 * left_h, rel=0.05)


def test_the_hours_of_the_day_are_learned() -> None:
    office = dict.fromkeys(range(8, 18), 100.0)
    traffic, counted = Traffic(), Counted(office)
    watched(traffic, counted, MONDAY + 3 * DAY_S)
    start = MONDAY + 3 * DAY_S
    assert traffic.expected(start, start + DAY_S) == pytest.approx(1_000, rel=0.15)
    watched(traffic, counted, start + 18.5 * HOUR_S)
    assert traffic.expected(counted.now, start + DAY_S) < 60, "nobody comes in the evening"


def test_the_weekend_is_another_kind_of_day() -> None:
    traffic = Traffic()
    for day in range(28):
        for hour in range(24):
            traffic.learn_hour(MONDAY_HOUR + day * 24 + hour, 10.0 if day % 7 >= 5 else 100.0)
    saturday = MONDAY + 5 * DAY_S
    traffic.advance(saturday, lambda _hour: 0.0)
    assert traffic.expected(saturday, saturday + DAY_S) == pytest.approx(240, rel=0.2)
    monday = Traffic(traffic.rate, traffic.seen)
    monday.advance(MONDAY + 28 * DAY_S, lambda _hour: 0.0)
    assert monday.expected(MONDAY + 28 * DAY_S, MONDAY + 29 * DAY_S) == pytest.approx(2_400, rel=0.2)


def test_a_busier_day_than_usual_is_seen_as_one() -> None:
    traffic = Traffic([100.0] * SLOTS, [5] * SLOTS)
    counted = Counted(150.0)
    watched(traffic, counted, MONDAY + 12 * HOUR_S)
    assert traffic.expected(counted.now, MONDAY + DAY_S) == pytest.approx(150 * 12, rel=0.05)


def test_a_burst_is_expected_to_last_a_while_and_no_longer() -> None:
    traffic = Traffic([100.0] * SLOTS, [5] * SLOTS)
    counted = Counted({hour: 1_000.0 if hour == 6 else 100.0 for hour in range(24)})
    watched(traffic, counted, MONDAY + 6.5 * HOUR_S)
    during = traffic.expected(counted.now, MONDAY + DAY_S)
    assert 100 * 17.5 + 300 < during < 1_000 * 6
    watched(traffic, counted, MONDAY + 9 * HOUR_S)
    after = traffic.expected(counted.now, MONDAY + DAY_S)
    assert 100 * 15 * 0.95 < after < 100 * 15 * 1.35
    watched(traffic, counted, MONDAY + DAY_S)
    assert traffic.rate[6] < 0.4 * 1_000, "the usual has not become ten times as much"


def test_at_least_one_request_is_always_to_come() -> None:
    traffic = Traffic()
    assert traffic.expected(MONDAY, MONDAY) == 1.0
    traffic.advance(MONDAY, lambda _hour: 0.0)
    assert traffic.expected(MONDAY + DAY_S, MONDAY + DAY_S) == 1.0


def test_time_that_stands_still_or_goes_back_does_no_harm() -> None:
    traffic = Traffic()
    for now in (MONDAY, MONDAY, MONDAY + 7_200, MONDAY + 3_600, MONDAY + 7_200, MONDAY + 90 * DAY_S):
        traffic.advance(now, lambda _hour: 5.0)
        assert traffic.expected(now, MONDAY + 91 * DAY_S) >= 1.0


def test_the_first_hour_which_was_not_seen_whole_teaches_nothing() -> None:
    traffic = Traffic()
    traffic.advance(MONDAY + 3_000, lambda _hour: 1.0)
    traffic.advance(MONDAY + 3_700, lambda _hour: 1.0)
    assert sum(traffic.seen) == 0
    traffic.advance(MONDAY + 7_300, lambda _hour: 7.0)
    assert (traffic.seen[1], traffic.rate[1]) == (1, 7.0)


def test_hours_are_those_of_the_zone_also_after_clocks_are_put_back() -> None:
    """Offices in New York, from 9 to 17: in UTC their hours move in November, and Friday ends on Saturday."""
    zone = ZoneInfo("America/New_York")
    traffic = Traffic(timezone="America/New_York")
    monday = int(datetime(2026, 10, 5, tzinfo=zone).timestamp() // HOUR_S)

    def rate(hour: int) -> float:
        local = datetime.fromtimestamp(hour * HOUR_S, zone)
        return 100.0 if local.weekday() < 5 and 9 <= local.hour < 17 else 0.0

    for hour in range(monday, monday + 21 * 24):
        traffic.learn_hour(hour, rate(hour))
    for day in (datetime(2026, 10, 29, tzinfo=zone), datetime(2026, 11, 2, tzinfo=zone)):
        for at, expected in ((day.replace(hour=9), 800), (day.replace(hour=17), 0)):
            known = Traffic(traffic.rate, traffic.seen, "America/New_York")
            known.advance(at.timestamp(), lambda _hour: 0.0)
            assert known.expected(at.timestamp(), day.timestamp() + DAY_S) == pytest.approx(expected, abs=30)


def test_a_period_may_end_within_an_hour() -> None:
    """As days do in India, half an hour from every hour of UTC."""
    traffic = Traffic([100.0] * SLOTS, [5] * SLOTS, "Asia/Kolkata")
    traffic.advance(MONDAY, lambda _hour: 0.0)
    assert traffic.expected(MONDAY, MONDAY + 18.5 * HOUR_S) == pytest.approx(1_850, rel=0.02)
    assert traffic.expected(MONDAY, MONDAY + 0.5 * HOUR_S) == pytest.approx(50, rel=0.02)
