"""A decision under a budget: a cost weight may rise and a floor may give way, never the other way round. Pure."""

from dataclasses import dataclass, replace

import numpy as np

from embedllm_router.routing.budget_budgets_curve import spend_at_each
from embedllm_router.routing.decision import Decision
from embedllm_router.routing.pool import Floats

__all__ = ["Pace", "paced", "spend_of"]


@dataclass(frozen=True, slots=True)
class Pace:
    """What budgets ask of a request.

    Attributes:
        cost_weight: The lowest cost weight that keeps all of them, in [0, 1e9].
        exhausted: Whether one of them has nothing left, so that the cheapest answers.
        budget: Whose budget asks for it, such as "team"; None when none asks for anything.
        left_usd: What is left of that one; None likewise.
    """

    cost_weight: float = 0.0
    exhausted: bool = False
    budget: str | None = None
    left_usd: float | None = None


def paced(wanted: Decision, pace: Pace) -> Decision:
    """Decides again under a budget.

    Args:
        wanted: The decision by the objective alone.
        pace: What the budgets ask.

    Returns:
        The same decision where it costs no more than they allow; else one that ranks by utility at their cost weight.
        With a floor in the objective the floor holds as long as its choice is no dearer than that.
    """
    objective = wanted.request.objective
    if not wanted.ranking or pace.cost_weight <= objective.cost_weight:
        return wanted
    utility = wanted.utility - (pace.cost_weight - objective.cost_weight) * wanted.cost_usd
    ranked = np.array(wanted.ranking)
    best_first = np.lexsort((wanted.cost_usd[ranked], -utility[ranked]))
    ranking = tuple(ranked[best_first].tolist())
    if _has_floor(wanted) and wanted.cost_usd[wanted.ranking[0]] <= wanted.cost_usd[ranking[0]]:
        return wanted
    request = replace(wanted.request, objective=replace(objective, cost_weight=pace.cost_weight))
    return replace(wanted, request=request, utility=utility, ranking=ranking, floor_met=_floor_met(wanted, ranking[0]))


def spend_of(wanted: Decision) -> Floats:
    """What a request costs at each cost weight of the ladder, (66,); `wanted` has a ranking that is not empty."""
    objective, usable = wanted.request.objective, np.array(wanted.ranking)
    cost = wanted.cost_usd[usable]
    value = wanted.utility[usable] + objective.cost_weight * cost
    at_floor = float(wanted.cost_usd[wanted.ranking[0]]) if _has_floor(wanted) else None
    return spend_at_each(value, cost, objective.cost_weight, at_floor)


def _has_floor(decision: Decision) -> bool:
    objective = decision.request.objective
    return objective.min_p_correct is not None or objective.within is not None


def _floor_met(wanted: Decision, first: int) -> bool | None:
    objective = wanted.request.objective
    if not _has_floor(wanted):
        return None
    floor = objective.min_p_correct
    if objective.within is not None:
        floor = float(max(wanted.p_correct[i] for i in wanted.ranking)) - objective.within
    assert floor is not None
    return bool(wanted.p_correct[first] >= floor)
