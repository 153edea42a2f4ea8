"""What would have to change for another candidate to be chosen: exact, by the rules of `policy.rank`.

Every objective turns one knob: the cost weight λ, the floor τ under p_correct, or the distance `within` of the best.
The choice is a step function of it. It knows nothing of records; `usable` says which candidates it is about.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router.routing.policy import Objective, rank

__all__ = ["Change", "Knob", "Range", "Weighed", "best", "knob_of", "overtakes", "ranges", "to_win"]

Floats = NDArray[np.float64]
Knob = Literal["cost_weight", "min_p_correct", "within"]


@dataclass(frozen=True, slots=True)
class Weighed:
    """The candidates of one decision.

    Attributes:
        p_correct: (n,), in [0, 1] or NaN.
        cost_usd: (n,), or NaN.
        usable: (n,), which ones can be chosen; each of them has both numbers.
        waiting: (n,), what waiting takes off the utility; a floor does not look at it.
    """

    p_correct: Floats
    cost_usd: Floats
    usable: NDArray[np.bool_]
    waiting: Floats | float = 0.0

    @property
    def indices(self) -> list[int]:
        """Those that can be chosen."""
        return [int(i) for i in np.flatnonzero(self.usable)]

    @property
    def worth(self) -> Floats:
        """Utility at λ = 0, (n,)."""
        return self.p_correct - self.waiting


@dataclass(frozen=True, slots=True)
class Range:
    """Settings of the knob that choose the same candidate.

    Attributes:
        index: The candidate.
        low: Lower end.
        high: Upper end; infinite for the last range of λ.
        ends: Which of its two ends belongs to it: "low" or "high". The other belongs to its neighbour, if there is one.
    """

    index: int
    low: float
    high: float
    ends: Literal["low", "high"]

    def __contains__(self, value: float) -> bool:
        if self.ends == "low":
            return self.low <= value < self.high
        return self.low < value <= self.high or value == self.low == 0


@dataclass(frozen=True, slots=True)
class Change:
    """Where on the knob one candidate overtakes the one that is chosen.

    Attributes:
        at: The setting.
        side: Whether it does so below it or above it.
    """

    at: float
    side: Literal["below", "above"]


def knob_of(objective: Objective) -> Knob:
    """What an objective turns."""
    if objective.within is not None:
        return "within"
    return "cost_weight" if objective.min_p_correct is None else "min_p_correct"


def best(objective: Objective, weighed: Weighed) -> int | None:
    """The candidate that an objective chooses; None when there is none."""
    order, _ = rank(objective, weighed.p_correct, weighed.cost_usd, weighed.usable, weighed.waiting)
    return next((int(i) for i in order if weighed.usable[i]), None)


def ranges(objective: Objective, weighed: Weighed) -> tuple[Range, ...]:
    """Every setting of the objective's knob, from 0, and whom it chooses; neighbours differ."""
    if not weighed.usable.any():
        return ()
    knob = knob_of(objective)
    if knob == "cost_weight":
        return _by_cost_weight(weighed)
    return _by_floor(weighed) if knob == "min_p_correct" else _by_distance(weighed)


def _by_cost_weight(weighed: Weighed) -> tuple[Range, ...]:
    """The upper envelope of the lines worth - λ · cost, walked from λ = 0 to cheaper and cheaper ones."""
    worth, cost = weighed.worth, weighed.cost_usd
    here, low = min(weighed.indices, key=lambda i: (-worth[i], cost[i], i)), 0.0
    found: list[Range] = []
    while True:
        cheaper = [i for i in weighed.indices if cost[i] < cost[here]]
        crossings = [(float((worth[here] - worth[i]) / (cost[here] - cost[i])), cost[i], i) for i in cheaper]
        if not crossings:
            return (*found, Range(here, low, math.inf, "low"))
        high, _, following = min(crossings)
        if high > low:
            found.append(Range(here, low, high, "low"))
        here, low = following, max(high, low)


def _by_floor(weighed: Weighed) -> tuple[Range, ...]:
    """A floor between two probabilities chooses as one at the upper of them does."""
    levels = sorted({0.0, 1.0, *(float(weighed.p_correct[i]) for i in weighed.indices)})
    steps: list[Range] = []
    for low, high in zip([0.0, *levels], levels, strict=False):
        chosen = best(Objective(min_p_correct=high), weighed)
        assert chosen is not None
        steps.append(Range(chosen, low, high, "high"))
    return _merged(steps)


def _by_distance(weighed: Weighed) -> tuple[Range, ...]:
    """A distance lets in whoever is that far below the best or less."""
    p, cost, top = weighed.p_correct, weighed.cost_usd, _top(weighed)
    bounds = sorted({top - float(p[i]) for i in weighed.indices})
    inside = [[i for i in weighed.indices if top - float(p[i]) <= bound] for bound in bounds]
    chosen = [min(members, key=lambda i: (cost[i], -p[i], i)) for members in inside]
    ends = [*bounds[1:], math.inf]
    return _merged([Range(i, low, high, "low") for i, low, high in zip(chosen, bounds, ends, strict=True)])


def _merged(steps: list[Range]) -> tuple[Range, ...]:
    found: list[Range] = []
    for step in steps:
        if found and found[-1].index == step.index:
            found[-1] = Range(step.index, found[-1].low, step.high, step.ends)
        else:
            found.append(step)
    return tuple(found)


def overtakes(objective: Objective, weighed: Weighed, index: int) -> Change | None:
    """Where a candidate overtakes the chosen one, whoever else may then be ahead of both.

    Args:
        objective: What was asked for.
        weighed: The candidates.
        index: One of them that can be chosen, and is not.

    Returns:
        None when no setting of the knob makes it overtake.
    """
    chosen = best(objective, weighed)
    assert chosen is not None
    knob = knob_of(objective)
    worth = weighed.worth if knob == "cost_weight" else weighed.p_correct
    more_worth = float(worth[index] - worth[chosen])
    more_cost = float(weighed.cost_usd[index] - weighed.cost_usd[chosen])
    if more_worth * more_cost <= 0:
        return None  # dearer and no better, or as dear
    if knob == "cost_weight":
        return Change(more_worth / more_cost, "below" if more_cost > 0 else "above")
    weaker = float(min(weighed.p_correct[index], weighed.p_correct[chosen]))
    if knob == "min_p_correct":
        return Change(weaker, "above" if more_cost > 0 else "below")
    return Change(_top(weighed) - weaker, "below" if more_cost > 0 else "above")


def to_win(objective: Objective, weighed: Weighed, index: int) -> tuple[float | None, float | None]:
    """What a candidate would have to cost, or how likely it would have to be, to be chosen; all else the same.

    Args:
        objective: What was asked for.
        weighed: The candidates.
        index: One of them that can be chosen, and is not.

    Returns:
        The cost in USD it must fall below and the p_correct it must reach or exceed; None where no cost, or no
        probability up to 1, would do.
    """
    chosen = best(objective, weighed)
    assert chosen is not None
    by_utility = knob_of(objective) == "cost_weight"
    cost, p = (_to_win_utility if by_utility else _to_win_floor)(objective, weighed, index, chosen)
    return (cost if cost is not None and cost > 0 else None), (p if p is not None and p <= 1 else None)


def _to_win_utility(
    objective: Objective, weighed: Weighed, index: int, chosen: int
) -> tuple[float | None, float | None]:
    worth, cost, weight = weighed.worth, weighed.cost_usd, objective.cost_weight
    utility = float(worth[chosen] - weight * cost[chosen])
    needed = utility + weight * float(cost[index]) + float(weighed.p_correct[index] - worth[index])
    if weight:
        return (float(worth[index]) - utility) / weight, needed
    return (float(cost[chosen]) if worth[index] == worth[chosen] else None), needed


def _to_win_floor(objective: Objective, weighed: Weighed, index: int, chosen: int) -> tuple[float | None, float | None]:
    p, cost, within = weighed.p_correct, weighed.cost_usd, objective.within
    floor = objective.min_p_correct if within is None else _top(weighed) - within
    assert floor is not None
    if p[chosen] < floor:
        return None, float(min(p[chosen], floor))
    affordable = float(cost[chosen]) if p[index] >= floor else None
    if cost[index] < cost[chosen]:
        return affordable, floor
    if within is None:
        return affordable, None
    cheaper = [float(p[i]) for i in weighed.indices if i != index and cost[i] <= cost[index]]
    return affordable, max(cheaper) + within  # so likely that the floor leaves all of them behind


def _top(weighed: Weighed) -> float:
    return float(np.max(weighed.p_correct, where=weighed.usable, initial=0.0))
