"""Recorded traffic and a goal → the setting to use, what comes of it, and what else is possible.

Both kinds of setting are searched: a cost weight λ spends where it pays most, a floor τ promises a probability for
every request. It opens and prints nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from embedllm_router.analysis.plan.figures import Figures
from embedllm_router.analysis.plan.goal import Goal, Setting, just_beyond, pick
from embedllm_router.analysis.plan.plan_planning_notes import notes
from embedllm_router.analysis.plan.plan_planning_snippet import snippet
from embedllm_router.analysis.plan.result import FrontierRow, Outcome, Plan
from embedllm_router.analysis.plan.switches import Steps, cost_weight_steps, floor_steps, select
from embedllm_router.analysis.plan.traffic import Traffic
from embedllm_router.artifact.manifest import ContractRow
from embedllm_router.routing.policy import Objective

__all__ = ["make_plan"]

_FRONTIER_POINTS: Final = 9


def make_plan(
    traffic: Traffic, goal: Goal, contract: Sequence[ContractRow] = (), *, where: str = "", known: bool = False
) -> Plan:
    """Plans.

    Args:
        traffic: The requests.
        goal: What to reach.
        contract: Of the weights that predicted; empty when there is none at hand.
        where: Where the log lies, for the reader.
        known: Whether the weights that predicted are at hand.

    Returns:
        The plan; infeasible where no setting meets the goal, and as near to it as any then.
    """
    figures = Figures.of(traffic)
    free = select(traffic.batch, traffic.free)
    weights, floors = cost_weight_steps(free), floor_steps(free)
    by_weight = _outcome(figures, goal, "cost_weight", weights, contract)
    by_floor = _outcome(figures, goal, "min_p_correct", floors, contract)
    best, other = sorted((by_weight, by_floor), key=lambda one: _rank(goal, one))
    recorded, observed = figures.outcome(traffic.recorded, goal), figures.observed()
    return Plan(
        goal=goal,
        best=best,
        other=other,
        recorded=recorded,
        frontier=(*_frontier(figures, weights), *_alone(figures)),
        observed=observed,
        billed=figures.billed_ratio,
        billed_counts=figures.billed_counts,
        yaml=snippet(traffic.virtual_models, best, goal),
        where=where,
        since=traffic.since,
        until=traffic.until,
        n=len(traffic.requests),
        n_fixed=int((~traffic.free).sum()),
        rate=traffic.rate,
        scored=traffic.scored,
        skipped=traffic.skipped,
        notes=notes(traffic, goal, best, observed, contract, known=known),
    )


def _outcome(figures: Figures, goal: Goal, setting: Setting, steps: Steps, contract: Sequence[ContractRow]) -> Outcome:
    """What the best step comes to at a number of few digits; at an exact one where rounding would miss the goal."""
    accuracy, usd = _totals(figures, steps)
    found = pick(goal, setting, steps, accuracy, usd)
    value = found.setting
    if found.feasible and not goal.met(*figures.means(figures.chosen_by(_objective(setting, value)))):
        value = found.exact
    return figures.outcome(figures.chosen_by(_objective(setting, value)), goal, setting, value, contract)


def _objective(setting: Setting, value: float) -> Objective:
    return Objective(cost_weight=value) if setting == "cost_weight" else Objective(min_p_correct=value)


def _rank(goal: Goal, one: Outcome) -> tuple[bool, float, float]:
    """Smallest first: what meets the goal, then what the goal leaves open."""
    cost_first = (goal.accuracy is not None) == one.feasible
    figures = (one.usd_per_month.value, -one.accuracy.value)
    return not one.feasible, *(figures if cost_first else figures[::-1])


def _totals(figures: Figures, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Mean p_correct and cost of a month in every step, the requests that are not free included."""
    batch, fixed, n = figures.traffic.batch, figures.traffic.fixed, len(figures.traffic.requests)
    p, usd = (float(np.nansum(batch.at(column, fixed))) for column in (batch.p_correct, batch.cost_usd))
    return (steps.p_correct + p) / n, (steps.cost_usd + usd) / n * figures.usd_factor


def _frontier(figures: Figures, steps: Steps) -> Iterator[FrontierRow]:
    """Cost weights whose accuracies are evenly spaced, from the cheapest to the most accurate."""
    accuracy, usd = _totals(figures, steps)
    levels = np.linspace(accuracy[-1], accuracy.max(), _FRONTIER_POINTS)
    cheapest = {int(np.flatnonzero(accuracy >= level - 1e-12)[-1]) for level in levels}
    for step in sorted(cheapest, reverse=True):
        yield FrontierRow(None, just_beyond(float(steps.at[step]), 1), float(accuracy[step]), float(usd[step]), 1.0)


def _alone(figures: Figures) -> Iterator[FrontierRow]:
    """Every candidate as the only one, over the requests it can take; likeliest first."""
    batch = figures.traffic.batch
    rows = []
    for column, name in enumerate(batch.names):
        able = batch.usable[:, column]
        if able.any():
            accuracy = float(batch.p_correct[able, column].mean())
            usd = float(batch.cost_usd[able, column].mean()) * figures.usd_factor
            rows.append(FrontierRow(name, None, accuracy, usd, float(able.mean())))
    yield from sorted(rows, key=lambda row: -row.accuracy)
