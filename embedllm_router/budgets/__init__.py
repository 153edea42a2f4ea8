"""Spend targets per day or month that a cost weight adapts to: spend where it gains most, and last to the end.

scopes = scopes_of(budgets, "auto", key=None, team="research")
pace = ledger.pace(scopes, now)                   # before the request: microseconds, memory only
decision = paced(wanted, pace)                    # the decision by the objective alone, under the budgets
hold = ledger.reserve(scopes, wanted, expected_usd, now)
ledger.settle(hold, billed_usd, now)              # when the answer is through
"""

from embedllm_router.budgets.budget import Budget, Per, Scope, Whose, scopes_of
from embedllm_router.budgets.ledger import BudgetStatus, Hold, Ledger
from embedllm_router.budgets.paced import Pace, paced

__all__ = ["Budget", "BudgetStatus", "Hold", "Ledger", "Pace", "Per", "Scope", "Whose", "paced", "scopes_of"]
