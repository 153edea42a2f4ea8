"""One budget of one holder: what is left of it, and the cost weight that makes it last. Waits for nothing.

The cost weight is the dual price of the budget. It is solved for anew from the requests seen lately, so that the rest
of the money meets the requests still to come, and followed in steps of bounded size on a logarithmic scale, as dual
mirror descent with an entropic map does: Balseiro and Gur, "Learning in repeated auctions with budgets: regret
minimization and equilibrium", Management Science 65(9), 2019; Balseiro, Lu and Mirrokni, "The best of many worlds: dual
mirror descent for online allocation problems", Operations Research 71(1), 2023.
"""

import math
from typing import Protocol

from embedllm_router.routing.budget_budgets_budget import Period, Scope, period_of
from embedllm_router.routing.budget_budgets_curve import MAX_COST_WEIGHT, MIN_COST_WEIGHT, SpendCurve
from embedllm_router.serving.budget_enforcer_budgets_learned import pack, unpack
from embedllm_router.serving.budget_enforcer_budgets_traffic import HOUR_S

__all__ = ["Account", "Shared", "stepped"]

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
        self.curve, self.traffic = unpack(state.get(f"learned:{self.key}"))
        self.period: Period = period_of(scope.budget.per, now)
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
            self.period = period_of(self.scope.budget.per, now)
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
            self._state.put(f"learned:{self.key}", pack(self.curve, self.traffic), _LEARNED_KEPT_S)

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
