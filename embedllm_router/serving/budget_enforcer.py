"""Budgets around a decision: what they ask of it, and what it is charged to. Waits for nothing."""

import time
from collections.abc import Callable
from dataclasses import replace

from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.routing.budget import paced
from embedllm_router.routing.budget_budgets_budget import Scope, scopes_of
from embedllm_router.routing.decision import Decision, Reason
from embedllm_router.serving.budget_enforcer_budgets_ledger import BudgetStatus, Hold, Ledger
from embedllm_router.telemetry.record_builder import Arrival

__all__ = ["Scopes", "Spending"]


Scopes = tuple[Scope, ...]
"""The budgets that count a request."""


class Spending:
    """Keeps decisions within budgets.

    Args:
        ledger: The budgets' accounts.
        clock: Seconds since the epoch.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock

    def within(
        self, decision: Decision, settings: VirtualModelSettings, arrival: Arrival
    ) -> tuple[Decision, tuple[Scope, ...]]:
        """Decides again where the budgets ask for it.

        Args:
            decision: By the objective alone.
            settings: The virtual model's.
            arrival: Who asks.

        Returns:
            The decision within the budgets, and those it is to be charged to.
        """
        if not settings.budgets:
            return decision, ()
        budgets = [one.budget for one in settings.budgets]
        scopes = scopes_of(budgets, arrival.virtual_model, arrival.key_id, arrival.team_id)
        pace = self._ledger.pace(scopes, decision, self._clock())
        kept = paced(decision, pace)
        if kept.ranking[:1] != decision.ranking[:1]:
            kept = replace(kept, instead=Reason.WITHIN_BUDGET)
        return kept, scopes

    def charge(self, scopes: Scopes, decision: Decision) -> Callable[[float | None], None]:
        """Reserves the expected cost of what is sent; returns what settles it by the bill."""
        chosen = decision.chosen
        if not scopes or chosen is None:
            return lambda _: None
        hold: Hold = self._ledger.reserve(scopes, chosen.cost_usd or 0.0, self._clock())
        return lambda billed_usd: self._ledger.settle(hold, billed_usd, self._clock())

    def status(self) -> list[BudgetStatus]:
        """Every budget that was asked lately."""
        return self._ledger.status(self._clock())
