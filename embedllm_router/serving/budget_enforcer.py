"""Keeps every budget and guard: says what it asks of the next request, and counts what requests cost. Never waits.

The cost weight is the dual price of the budget. It is solved for anew from the requests seen lately, so that the rest
of the money meets the requests still to come, and followed in steps of bounded size on a logarithmic scale, as dual
mirror descent with an entropic map does: Balseiro and Gur, "Learning in repeated auctions with budgets: regret
minimization and equilibrium", Management Science 65(9), 2019; Balseiro, Lu and Mirrokni, "The best of many worlds: dual
mirror descent for online allocation problems", Operations Research 71(1), 2023.

How many requests are still to come is learned by hour of the day, on working days and at weekends. A plan of what to
spend when, learned from the past, is what keeps a paced budget near the best possible under traffic that changes with
the time: Balseiro, Kumar, Mirrokni, Sivan and Wang, "Robust budget pacing with a single sample", ICML 2023. Before
anything is learned every hour counts alike. Hours are those of the budget's time zone, since people keep to their own:
elsewhere a weekend would begin in the middle of a working day, and habits would move by an hour twice a year. What was
learned outlives the process as JSON, checked when it is read.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal, Protocol
from zoneinfo import ZoneInfo

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedllm_router.routing.budget import (
    LADDER,
    MAX_COST_WEIGHT,
    MIN_COST_WEIGHT,
    NO_PACE,
    UTC,
    Guarded,
    Pace,
    Period,
    Scope,
    SpendCurve,
    is_dear,
    period_of,
    spend_of,
)
from embedllm_router.routing.decision import Decision
from embedllm_router.routing.pool import Floats

__all__ = [
    "HOUR_S",
    "SLOTS",
    "Account",
    "BudgetEnforcer",
    "BudgetStatus",
    "DearShares",
    "Hold",
    "Ledger",
    "Scopes",
    "Shared",
    "Traffic",
    "pack",
    "stepped",
    "unpack",
]

HOUR_S = 3_600.0
SLOTS = 48
"""Hours of a working day, then of a day at the weekend, in the budget's time zone."""

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
        timezone: IANA name of the zone whose hours they are.
    """

    def __init__(
        self, rate: Sequence[float] | None = None, seen: Sequence[int] | None = None, timezone: str = UTC
    ) -> None:
        self._zone = timezone
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
            until: The end of a period; in some zones in the middle of an hour.
        """
        hours_left = max(until - now, 0.0) / HOUR_S
        hour = int(now // HOUR_S)
        usual_now = self._usual[_slot(hour, self._zone)]
        if any(self.seen):
            level = self._level_now(now)
            usual_now *= level
            usual = usual_now * min(1 - now / HOUR_S % 1, hours_left) + level * self._usual_ahead(hour, until)
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
        slot = _slot(hour, self._zone)
        usual = self._usual[slot]
        self.seen[slot] += 1
        if self.seen[slot] > 2:  # noqa: PLR2004 - two days are not yet usual
            count = min(count, _BURST * usual + _BURST_FLOOR)
        self.rate[slot] += (count - self.rate[slot]) * max(1 / self.seen[slot], _LEAST_SHARE)
        self._usual = _usual(self.rate, self.seen)
        self._ahead = None

    def _close(self, hour: int, count: float) -> None:
        usual = self._usual[_slot(hour, self._zone)]
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
        usual = self._usual[_slot(int(now // HOUR_S), self._zone)] * (now / HOUR_S % 1) if self._whole else 0.0
        count = min(self._count, _BURST * usual + _BURST_FLOOR) if self._whole else 0.0
        expected = self._level[1] + usual + average
        return (self._level[0] + count + average) / expected if expected > 0 else 1.0

    def _usual_ahead(self, hour: int, until: float) -> float:
        """What is usual for the hours after this one."""
        if self._ahead is None or self._ahead[:2] != (hour, until):
            last = int(until // HOUR_S)
            total = sum(self._usual[_slot(one, self._zone)] for one in range(hour + 1, last))
            if last > hour:
                total += self._usual[_slot(last, self._zone)] * (until / HOUR_S % 1)
            self._ahead = (hour, until, total)
        return self._ahead[2]


@lru_cache(maxsize=4_096)
def _slot(hour: int, timezone: str) -> int:
    """Where an hour, by its number since the epoch, lies in a zone's day; by its start, where zones split hours."""
    local = datetime.fromtimestamp(hour * HOUR_S, ZoneInfo(timezone))
    return local.hour + (_HOURS if local.weekday() >= 5 else 0)  # noqa: PLR2004 - Saturday


def _usual(rate: Sequence[float], seen: Sequence[int]) -> list[float]:
    """Requests usual for each slot: what was seen of it, of the same hour on the other kind of day, or on average."""
    known = [r for r, n in zip(rate, seen, strict=True) if n]
    average = sum(known) / len(known) if known else 0.0

    def usual(slot: int) -> float:
        one = slot if seen[slot] else (slot + _HOURS) % SLOTS
        return (seen[one] * rate[one] + _SHRINK * average) / (seen[one] + _SHRINK)

    return [usual(slot) for slot in range(SLOTS)]


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Learned(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    spend: Annotated[list[Amount], Field(min_length=len(LADDER), max_length=len(LADDER))]
    n: Count
    rate: Annotated[list[Amount], Field(min_length=SLOTS, max_length=SLOTS)]
    seen: Annotated[list[Count], Field(min_length=SLOTS, max_length=SLOTS)]


def pack(curve: SpendCurve, traffic: Traffic) -> str:
    """What was learned, as JSON."""
    learned = {"format": 1, "spend": curve.spend.tolist(), "n": curve.n, "rate": traffic.rate, "seen": traffic.seen}
    return orjson.dumps(learned).decode()


def unpack(text: str | None, timezone: str = UTC) -> tuple[SpendCurve, Traffic]:
    """What was learned; nothing where the text is none, or not what `pack` makes.

    Args:
        text: What `pack` made.
        timezone: IANA name of the zone whose hours it tells of.
    """
    if text is not None:
        try:
            learned = _Learned.model_validate(orjson.loads(text))
        except (orjson.JSONDecodeError, ValidationError):
            return SpendCurve(), Traffic(timezone=timezone)
        return SpendCurve(learned.spend, learned.n), Traffic(learned.rate, learned.seen, timezone)
    return SpendCurve(), Traffic(timezone=timezone)


STEP = 0.25
"""Largest step of the cost weight from one request to the next, in its logarithm."""
STEP_PER_PERIOD = 24.0
"""What time adds to it, per period: a cost weight that no request has tested for long may move further."""

_BORROWED = 20  # requests' worth of the virtual model's curve in that of a key or team
_KNOWS_ENOUGH = 500  # requests, after which it borrows nothing
_MARGIN_S = 3 * 86_400.0
_HOUR_KEPT_S = 26 * HOUR_S
_LEARNED_KEPT_S = 40 * 86_400.0
_SAVE_S = 300.0
_MEMORY = 0.998  # of billed against expected cost, per request
_TRUST = 20.0  # requests' worth of belief that forecasts are right


class Shared(Protocol):
    """What of shared state a budget needs; `state.SharedState` is one."""

    def add(self, key: str, amount: float, ttl_s: float) -> None:
        """Adds to a sum."""

    def total(self, key: str) -> float:
        """The sum as it is known here."""

    def put(self, key: str, value: str, ttl_s: float) -> None:
        """Puts a text under a key."""

    def get(self, key: str) -> str | None:
        """The text under a key."""


class Account:
    """Keeps one scope.

    Args:
        scope: The budget and its holder.
        state: Where spend and requests are counted with the other proxies.
        now: Seconds since the epoch.
    """

    def __init__(self, scope: Scope, state: Shared, now: float) -> None:
        self.scope = scope
        self.key = scope.key
        self._state = state
        self.timezone = scope.budget.timezone
        self.curve, self.traffic = unpack(state.get(self._learned_key), self.timezone)
        self.period: Period = period_of(scope.budget.per, now, self.timezone)
        self.cost_weight: float | None = None
        self.in_flight_usd = 0.0
        self._moved_at = now
        self._saved_at = now
        self._billed, self._expected, self._n_billed = 0.0, 0.0, 0.0

    @property
    def spent_key(self) -> str:
        """Name of the sum of this period's spend."""
        return f"spend:{self.key}:{self.period.name}"

    @property
    def _learned_key(self) -> str:
        """Where what is learned is kept; what was learned of one zone's hours says nothing of another's."""
        return f"learned:{self.key}" if self.timezone == UTC else f"learned:{self.key}:{self.timezone}"

    @property
    def committed_usd(self) -> float:
        """Spent or about to be in this period, by all proxies; at least 0."""
        return max(self._state.total(self.spent_key), 0.0)

    @property
    def left_usd(self) -> float:
        """What is left of the budget; below 0 when it is overspent."""
        return self.scope.budget.usd - self.committed_usd

    @property
    def bias(self) -> float:
        """Billed per expected cost, as it was lately."""
        if self._n_billed == 0 or self._expected <= 0:
            return 1.0
        trust = _TRUST * self._expected / self._n_billed
        return min(max((self._billed + trust) / (self._expected + trust), 0.2), 5.0)

    def roll(self, now: float) -> None:
        """Begins another period when this one is over, or was begun by a clock that has since been set back."""
        if not self.period.start <= now < self.period.end:
            self.period = period_of(self.scope.budget.per, now, self.timezone)
            self.cost_weight = None  # solved for anew, in one step

    def pace(self, budget_usd_left: float, curve: SpendCurve, now: float) -> float:
        """The cost weight now.

        Args:
            budget_usd_left: What is left.
            curve: What requests cost at each cost weight.
            now: Seconds since the epoch.

        Returns:
            In [0, MAX_COST_WEIGHT]; the highest when nothing is left.
        """
        if budget_usd_left <= 0:
            return MAX_COST_WEIGHT
        self.traffic.advance(now, lambda hour: self._state.total(self._arrivals(hour)))
        if curve.n == 0:
            return 0.0
        wanted = curve.cost_weight_for(self.affordable_usd(budget_usd_left, now))
        share = max(now - self._moved_at, 0.0) / (self.period.end - self.period.start)
        self.cost_weight = stepped(self.cost_weight, wanted, STEP + STEP_PER_PERIOD * share)
        self._moved_at = now
        return self.cost_weight

    def affordable_usd(self, left_usd: float, now: float) -> float:
        """What a request may be expected to cost so that what is left lasts to the end of the period."""
        return left_usd / (self.bias * self.expected_requests(now))

    def expected_requests(self, now: float) -> float:
        """Requests still to come in this period."""
        return self.traffic.expected(now, self.period.end)

    def charge(self, expected_usd: float, now: float) -> tuple[str, float]:
        """Counts a request and what it will probably be billed; returns the sum's name and the amount."""
        usd = expected_usd * self.bias
        self._state.add(self._arrivals(int(now // HOUR_S)), 1.0, _HOUR_KEPT_S)
        self._state.add(self.spent_key, usd, self._kept_s(now))
        self.in_flight_usd += usd
        return self.spent_key, usd

    def correct(self, spent_key: str, charged_usd: float, billed_usd: float, now: float) -> None:
        """Replaces what was charged by what was billed, in the period it was charged in."""
        self.in_flight_usd = max(self.in_flight_usd - charged_usd, 0.0)
        if billed_usd != charged_usd:
            self._state.add(spent_key, billed_usd - charged_usd, self._kept_s(now))

    def compare(self, expected_usd: float, billed_usd: float) -> None:
        """Learns how far forecasts of cost are off."""
        self._billed = _MEMORY * self._billed + billed_usd
        self._expected = _MEMORY * self._expected + expected_usd
        self._n_billed = _MEMORY * self._n_billed + 1

    def save(self, now: float) -> None:
        """Hands what was learned to shared state, every few minutes."""
        if abs(now - self._saved_at) >= _SAVE_S:
            self._saved_at = now
            self._state.put(self._learned_key, pack(self.curve, self.traffic), _LEARNED_KEPT_S)

    def curve_with(self, parent: SpendCurve) -> SpendCurve:
        """Its own curve, leaning on the virtual model's while it has seen few requests."""
        return self.curve if self.curve.n >= _KNOWS_ENOUGH else self.curve.mixed_with(parent, _BORROWED)

    def _arrivals(self, hour: int) -> str:
        return f"requests:{self.key}:{hour}"

    def _kept_s(self, now: float) -> float:
        return max(self.period.end - now, 0.0) + _MARGIN_S


def stepped(current: float | None, wanted: float, most: float) -> float:
    """Moves a cost weight towards another, at most so far in its logarithm.

    Args:
        current: Where it is; None jumps.
        wanted: Where it shall be, in [0, MAX_COST_WEIGHT].
        most: Largest step, above 0.

    Returns:
        In [0, MAX_COST_WEIGHT].
    """
    if current is None:
        return wanted
    here, there = (math.log(min(max(one, MIN_COST_WEIGHT), MAX_COST_WEIGHT)) for one in (current, wanted))
    moved = math.exp(here + min(max(there - here, -most), most))
    return wanted if abs(there - here) <= most else moved


_MAX_ACCOUNTS = 10_000


@dataclass(slots=True)
class Hold:
    """What one request in flight was charged.

    Attributes:
        charges: The sum's name and the amount in USD, of each account.
        accounts: The accounts.
        expected_usd: The request's expected cost in USD.
        settled: Whether its bill is known.
    """

    charges: tuple[tuple[str, float], ...]
    accounts: tuple[Account, ...]
    expected_usd: float
    settled: bool = False


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """One budget now.

    Attributes:
        scope: The budget and its holder.
        period: Such as "2026-01-31", "2026-W05" or "2026-01".
        committed_usd: Spent in this period, with what is in flight.
        in_flight_usd: Of this, what requests of this process in flight are expected to cost.
        cost_weight: The cost weight it asks for; None before the first request of the period.
        exhausted: Whether nothing is left.
        forecast_usd: Expected spend at the end of the period; None while too little is known.
        ends_at: When the period ends, in seconds since the epoch.
    """

    scope: Scope
    period: str
    committed_usd: float
    in_flight_usd: float
    cost_weight: float | None
    exhausted: bool
    forecast_usd: float | None
    ends_at: float


class Ledger:
    """Every budget's account.

    Args:
        state: Where spend is counted with the other proxies.
    """

    def __init__(self, state: Shared) -> None:
        self._state = state
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._curves: dict[str, SpendCurve] = {}

    def pace(self, scopes: Sequence[Scope], wanted: Decision, now: float) -> Pace:
        """Learns from a request what requests cost, and says what the budgets ask of it.

        Args:
            scopes: The budgets that count it.
            wanted: The decision by its objective alone.
            now: Seconds since the epoch.

        Returns:
            The strictest of what they ask.
        """
        if scopes and wanted.ranking:
            self._learn(scopes, spend_of(wanted), now)
        strictest = Pace()
        for scope in scopes:
            left, weight = self._ask(scope, now)
            if weight > strictest.cost_weight or (left <= 0 and not strictest.exhausted):
                strictest = Pace(weight, left <= 0, str(scope.budget.scope), left)
        return strictest

    def cost_weight(self, scope: Scope, base_cost_weight: float, now: float) -> float:
        """A request's own cost weight, or the budget's if that is higher; nothing is learned from the request."""
        return max(base_cost_weight, self._ask(scope, now)[1])

    def reserve(self, scopes: Sequence[Scope], expected_usd: float, now: float) -> Hold:
        """Charges a request that is being sent with what it will probably be billed.

        Args:
            scopes: The budgets that count it.
            expected_usd: Expected cost of the candidate it is sent to; 0 when unknown.
            now: Seconds since the epoch.

        Returns:
            What was charged, for `settle`.
        """
        accounts = tuple(self._account(scope, now) for scope in scopes)
        return Hold(tuple(account.charge(expected_usd, now) for account in accounts), accounts, expected_usd)

    def settle(self, hold: Hold, billed_usd: float | None, now: float) -> None:
        """Replaces what was charged by what was billed; the first call counts.

        Args:
            hold: What `reserve` returned.
            billed_usd: The bill in USD, 0 for a request that failed; None leaves the expected cost standing.
            now: Seconds since the epoch.
        """
        if hold.settled:
            return
        hold.settled = True
        for account, (key, usd) in zip(hold.accounts, hold.charges, strict=True):
            account.correct(key, usd, usd if billed_usd is None else billed_usd, now)
            if billed_usd:
                account.compare(hold.expected_usd, billed_usd)

    def teach(self, scope: Scope, requests_by_hour: Mapping[int, float], now: float) -> None:
        """Tells a budget that has learned nothing yet when requests used to come, such as records of them say.

        Args:
            scope: The budget and its holder.
            requests_by_hour: By the hour's number since the epoch; an hour left out had none.
            now: Seconds since the epoch.
        """
        traffic = self._account(scope, now).traffic
        if requests_by_hour and not any(traffic.seen):
            for hour in range(min(requests_by_hour), max(requests_by_hour) + 1):
                traffic.learn_hour(hour, requests_by_hour.get(hour, 0.0))

    def status(self, now: float, configured: Sequence[Scope] = ()) -> list[BudgetStatus]:
        """Every budget that a request was counted by lately, and those configured, whether one was or not."""
        for scope in configured:
            self._account(scope, now)
        for account in self._accounts.values():
            account.roll(now)
        return [self._status(account, now) for account in self._accounts.values()]

    def _status(self, account: Account, now: float) -> BudgetStatus:
        curve = account.curve_with(self._curve(account.scope.virtual_model))
        left, weight = account.left_usd, account.cost_weight
        forecast = None
        if curve.n and weight is not None:
            forecast = account.committed_usd + curve.at(weight) * account.bias * account.expected_requests(now)
        return BudgetStatus(
            account.scope,
            account.period.name,
            account.committed_usd,
            account.in_flight_usd,
            weight,
            left <= 0,
            forecast,
            account.period.end,
        )

    def _account(self, scope: Scope, now: float) -> Account:
        key = scope.key
        account = self._accounts.get(key)
        if account is None or account.timezone != scope.budget.timezone:
            account = self._accounts[key] = Account(scope, self._state, now)
        account.scope = scope  # its amount may have been configured anew
        self._accounts.move_to_end(key)
        while len(self._accounts) > _MAX_ACCOUNTS:
            self._accounts.popitem(last=False)
        account.roll(now)
        return account

    def _ask(self, scope: Scope, now: float) -> tuple[float, float]:
        """What is left of a budget, and its cost weight."""
        account = self._account(scope, now)
        left = account.left_usd
        weight = account.pace(left, account.curve_with(self._curve(scope.virtual_model)), now)
        account.save(now)
        return left, weight

    def _learn(self, scopes: Sequence[Scope], spend: Floats, now: float) -> None:
        for scope in scopes:
            self._account(scope, now).curve.learn(spend)
        for virtual_model in {scope.virtual_model for scope in scopes}:
            self._curve(virtual_model).learn(spend)

    def _curve(self, virtual_model: str) -> SpendCurve:
        return self._curves.setdefault(virtual_model, SpendCurve())


_PARTS = 6  # of a window: what was counted in its oldest part fades as the next one begins


class DearShares:
    """How often the requests of each API key went to dear candidates of late.

    Args:
        state: Where it is counted with the other proxies.
    """

    def __init__(self, state: Shared) -> None:
        self._state = state

    def is_full(self, guarded: Guarded, now: float) -> bool:
        """Whether one more request to a dear candidate would be more than the guard allows."""
        guard, key = guarded.guard, guarded.key
        asked, dear = (self._lately(f"guard:{what}:{key}", guard.window_s, now) for what in ("asked", "dear"))
        return asked >= guard.min_requests and dear + 1 > guard.share * (asked + 1)

    def count(self, guarded: Guarded, now: float, *, dear: bool) -> None:
        """Counts a request that is being sent."""
        key, part = guarded.key, int(now * _PARTS / guarded.guard.window_s)
        for what in ("asked", "dear") if dear else ("asked",):
            self._state.add(f"guard:{what}:{key}:{part}", 1.0, 2 * guarded.guard.window_s)

    def _lately(self, name: str, window_s: float, now: float) -> float:
        at = now * _PARTS / window_s
        part = int(at)
        counts = [self._state.total(f"{name}:{part - ago}") for ago in range(_PARTS + 1)]
        return sum(counts[:-1]) + (1 - (at - part)) * counts[-1]


Scopes = tuple[Scope, ...]
"""The budgets that count a request."""


class BudgetEnforcer:
    """Keeps decisions within budgets and guards.

    Args:
        ledger: The budgets' accounts.
        shares: How often dear candidates were chosen.
        clock: Seconds since the epoch.
    """

    def __init__(self, ledger: Ledger, shares: DearShares, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._shares = shares
        self._clock = clock

    def pace(self, scopes: Scopes, guarded: Guarded | None, by_objective: Decision) -> Pace:
        """Learns from a request what requests cost, and says what budgets and the guard ask of it.

        Args:
            scopes: The budgets that count it; see `routing.budget.scopes_of`.
            guarded: The guard that counts it; None for none.
            by_objective: The decision by the objective alone.
        """
        now = self._clock()
        pace = self._ledger.pace(scopes, by_objective, now) if scopes else NO_PACE
        if guarded is None or not self._shares.is_full(guarded, now):
            return pace
        return replace(pace, dear_above=guarded.guard.times_median)

    def charge(self, scopes: Scopes, guarded: Guarded | None, decision: Decision) -> Callable[[float | None], None]:
        """Reserves the expected cost of what is sent, and counts it; returns what settles it by the bill."""
        chosen = decision.chosen
        if chosen is None:
            return lambda _: None
        if guarded is not None:
            dear = bool(is_dear(decision, guarded.guard.times_median)[decision.ranking[0]])
            self._shares.count(guarded, self._clock(), dear=dear)
        if not scopes:
            return lambda _: None
        hold: Hold = self._ledger.reserve(scopes, chosen.cost_usd or 0.0, self._clock())
        return lambda billed_usd: self._ledger.settle(hold, billed_usd, self._clock())

    def status(self, configured: Scopes = ()) -> list[BudgetStatus]:
        """Every budget that was asked lately, and those configured; to be called where decisions are made."""
        return self._ledger.status(self._clock(), configured)
