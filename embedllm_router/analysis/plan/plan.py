"""Recorded traffic and a goal → the setting to use, its outcome, and what else is possible.

Both kinds of setting are searched: a cost weight λ spends where it pays most, a floor τ holds for every request. A plan
comes with notes on what it rests on, and with the setting as YAML for the proxy's configuration.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import yaml

from embedllm_router.analysis.plan.figures import Figures
from embedllm_router.analysis.plan.goal import Goal, Setting, just_beyond, pick
from embedllm_router.analysis.plan.result import Alone, FrontierRow, Observed, Outcome, Plan
from embedllm_router.analysis.plan.switches import Steps, cost_weight_steps, floor_steps, select
from embedllm_router.analysis.plan.traffic import Traffic
from embedllm_router.analysis.replay.batch import singles
from embedllm_router.artifact.guarantees import floor_that_keeps
from embedllm_router.artifact.manifest import GuaranteeRow
from embedllm_router.errors import ConfigError
from embedllm_router.routing.policy import Objective

__all__ = ["make_plan", "notes", "snippet"]

_SHORT_DAYS: Final = 7.0
_FEW: Final = 200


def notes(  # noqa: PLR0913 - what a plan rests on, each said something about
    traffic: Traffic,
    goal: Goal,
    best: Outcome,
    observed: Observed | None,
    contract: Sequence[GuaranteeRow],
    *,
    known: bool,
) -> tuple[str, ...]:
    """A sentence for each thing to know."""
    return (
        *_traffic(traffic),
        *_contract(goal, best, contract, known=known),
        *_feedback(observed),
        "Sessions, exploration and budgets change choices too; the plan knows the objective only.",
        "Near ties, which go to the LLM that is best on average, change choices too, by at most near_tie_margin each.",
    )


def _traffic(traffic: Traffic) -> Iterator[str]:
    if traffic.rate.measured and traffic.rate.days < _SHORT_DAYS:
        yield (
            f"The records span {traffic.rate.days:.1f} days: a month of such days is assumed. "
            "--requests-per-month says otherwise."
        )
    if len(traffic.requests) < _FEW:
        yield f"{len(traffic.requests):,} requests are few: see the intervals."
    if len(traffic.virtual_models) > 1:
        names = ", ".join(traffic.virtual_models)
        yield f"{names} are planned together; --virtual-model plans one."
    if not traffic.virtual_models:
        yield "Every request's objective was set by its client, key or team: no setting of a virtual model changes it."


def _contract(goal: Goal, best: Outcome, contract: Sequence[GuaranteeRow], *, known: bool) -> Iterator[str]:
    if best.held_out is None:
        lacking = (
            "hold no guarantees: `embedllm-router guarantee` measures them" if known else "are not at hand: --artifact"
        )
        yield f"How far the probabilities can be trusted is not known here; the weights that predicted them {lacking}."
        return
    yield (
        "The held-out answers are to benchmark prompts and benchmark LLMs, not to this traffic: they show how "
        "promises fared there."
    )
    if goal.accuracy is None:
        return
    short = goal.accuracy - best.held_out.accuracy.value
    if best.feasible and short > 0:
        yield (
            f"As held-out answers fared, the target would be missed by {short:.3f}. To allow for that, plan with "
            f"--target-accuracy {min(goal.accuracy + short, 1.0):.3f}."
        )
    floor = floor_that_keeps(contract, goal.accuracy)
    if floor is not None:
        yield (
            f"To promise {goal.accuracy:g} for the requests where some LLM reaches the floor: min_p_correct "
            f"{floor.value:g}; {floor.correct:.1%} of {floor.n_labels:,} such held-out answers were right, at least "
            f"{floor.at_least:.1%} with 95 % confidence."
        )


def _feedback(observed: Observed | None) -> Iterator[str]:
    if observed is None:
        yield "No feedback: whether any recorded answer was right was not observed."
    elif observed.difference.positive or observed.difference.negative:
        side = "more" if observed.difference.positive else "less"
        yield (
            f"Feedback says that answers were {side} often right than predicted, by "
            f"{abs(observed.difference.value):.3f}; `embedllm-router learn` corrects the weights."
        )


def snippet(virtual_models: Sequence[str], outcome: Outcome, goal: Goal) -> str:
    """What to paste under the virtual models' own settings; it replaces `profile` and the like.

    Args:
        virtual_models: Whose requests were planned; empty when the setting reaches none.
        outcome: The setting.
        goal: A budget is repeated as a comment: a fixed setting keeps to it only while traffic stays what it was.

    Returns:
        YAML; empty without a virtual model.
    """
    if not virtual_models or outcome.setting is None:
        return ""
    models = {name: {outcome.setting: outcome.value} for name in virtual_models}
    nested = {"callback_settings": {"embedllm_router": {"virtual_models": models}}}
    text = yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)
    if goal.usd is None:
        return text
    return f"{text}# or, to keep to the budget as traffic changes: budgets: [{{usd: {goal.usd:g}, per: {goal.per}}}]\n"


_FRONTIER_POINTS: Final = 9


def make_plan(  # noqa: PLR0913 - what a plan rests on, each said by the caller
    traffic: Traffic,
    goal: Goal,
    contract: Sequence[GuaranteeRow] = (),
    *,
    where: str = "",
    known: bool = False,
    baseline: str | None = None,
) -> Plan:
    """Plans.

    Args:
        traffic: The requests.
        goal: What to reach.
        contract: Of the weights that predicted; empty when there is none at hand.
        where: Where the log lies, for the reader.
        known: Whether the weights that predicted are at hand.
        baseline: Model group that was used before; None when it was not said.

    Raises:
        ConfigError: The baseline was no candidate.

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
    chosen = figures.chosen_by(_objective_of(best))
    return Plan(
        goal=goal,
        best=best,
        other=other,
        recorded=recorded,
        single=_better_single(figures, goal, best, chosen),
        baseline=None if baseline is None else _alone_as(figures, goal, _column(traffic, baseline), chosen),
        apart=figures.apart(),
        frontier=(*_frontier(figures, weights), *_singles(figures)),
        observed=observed,
        billed=figures.billed_ratio,
        billed_counts=figures.billed_counts,
        yaml=snippet(traffic.virtual_models, best, goal) if best.feasible else "",
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


def _outcome(figures: Figures, goal: Goal, setting: Setting, steps: Steps, contract: Sequence[GuaranteeRow]) -> Outcome:
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


_MOSTLY: Final = 0.95  # of the requests that a setting decides, or an LLM is no alternative to it


def _better_single(figures: Figures, goal: Goal, best: Outcome, chosen: np.ndarray) -> Alone | None:
    """The one LLM that serves the goal at least as well as the best setting, if there is one.

    In place of the requests that the setting decides; else of all, those with an objective of their own included.
    """
    for everyone in (False, True):
        columns = range(len(figures.traffic.batch.names))
        found = (_alone_as(figures, goal, column, chosen, everyone=everyone) for column in columns)
        good = [one for one in found if one.could_take >= _MOSTLY and _rank(goal, one.outcome) <= _rank(goal, best)]
        if good:
            return min(good, key=lambda one: _rank(goal, one.outcome))
    return None


def _alone_as(figures: Figures, goal: Goal, column: int, chosen: np.ndarray, *, everyone: bool = False) -> Alone:
    given, share = figures.alone(column, chosen, everyone=everyone)
    return Alone(figures.traffic.batch.names[column], share, figures.outcome(given, goal), everyone)


def _column(traffic: Traffic, name: str) -> int:
    names = traffic.batch.names
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    raise ConfigError(
        f"the baseline {name!r} was no candidate of these requests; they were {', '.join(names)}. "
        f"Did you mean {near[0]!r}?"
    )


def _objective_of(one: Outcome) -> Objective:
    assert one.setting is not None
    assert one.value is not None
    return _objective(one.setting, one.value)


def _singles(figures: Figures) -> Iterator[FrontierRow]:
    """Every candidate as the only one, over the requests it can take; the most accurate first."""
    batch, factor = figures.traffic.batch, figures.usd_factor
    for one in sorted(singles(batch), key=lambda one: -one.p_correct):
        yield FrontierRow(one.name, None, one.p_correct, one.cost_usd * factor, one.could_take / len(batch))
