"""Keeps every budget: says what it asks of the next request, and counts what requests cost. Waits for nothing."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedllm_router.routing.budget import Pace, spend_of
from embedllm_router.routing.budget_budgets_budget import Scope
from embedllm_router.routing.budget_budgets_curve import SpendCurve
from embedllm_router.routing.decision import Decision
from embedllm_router.routing.pool import Floats
from embedllm_router.serving.budget_enforcer_budgets_account import Account, Shared

__all__ = ["BudgetStatus", "Hold", "Ledger"]

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
        period: Such as "2026-01-31" or "2026-01".
        committed_usd: Spent in this period, with what is in flight.
        in_flight_usd: Of this, what requests of this process in flight are expected to cost.
        cost_weight: The cost weight it asks for; None before the first request of the period.
        exhausted: Whether nothing is left.
        forecast_usd: Expected spend at the end of the period; None while too little is known.
    """

    scope: Scope
    period: str
    committed_usd: float
    in_flight_usd: float
    cost_weight: float | None
    exhausted: bool
    forecast_usd: float | None


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

    def status(self, now: float) -> list[BudgetStatus]:
        """Every budget that a request was counted by lately."""
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
        )

    def _account(self, scope: Scope, now: float) -> Account:
        key = scope.key
        account = self._accounts.get(key)
        if account is None:
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
