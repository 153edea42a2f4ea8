"""One recorded decision, explained: the candidates, why one was chosen, and what would have changed the choice.

Everything is computed from the record alone, exactly by the rules of `policy.rank`. Every objective has one setting
(knob): the cost weight λ, the floor τ under p_correct, or the distance `within` of the best. The choice is a step
function of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.replay.batch import floats, waiting_of
from embedllm_router.routing.policy import Objective, rank

__all__ = [
    "Change",
    "Explained",
    "Explanation",
    "Flip",
    "Knob",
    "Range",
    "Span",
    "Weighed",
    "best",
    "explain",
    "knob_of",
    "overtakes",
    "ranges",
    "to_win",
]

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
    if objective.max_accuracy_drop is not None:
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
        objective: The objective of the request.
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
        objective: The objective of the request.
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
    p, cost, within = weighed.p_correct, weighed.cost_usd, objective.max_accuracy_drop
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


@dataclass(frozen=True, slots=True)
class Explained:
    """One candidate.

    Attributes:
        name: The model group.
        llm: The learned LLM it stands for; None when none does.
        p_correct: Probability of a correct answer; None when unknown.
        expected_output_tokens: Tokens expected of its answer; None when unknown.
        cost_usd: Expected cost; None when unknown.
        utility: Its utility; None when unknown.
        excluded: Why it could not be chosen; None when it could.
        overtakes: Where on the knob it overtakes the best one; None when it nowhere does, or is excluded or the best.
        cost_to_win_usd: Cost it would have to fall below to be chosen, all else the same; None when no cost would do.
        p_to_win: p_correct it would have to reach; None when none up to 1 would do.
        would_win: Whether it would be chosen if it were not excluded; None when it is not, or its numbers are unknown.
        known_by: What its LLM was known by; None in records that do not say it.
        p_correct_low: Lower end of the 95 % interval of p_correct; None likewise.
        p_correct_high: Upper end.
        p_unshrunk: p_correct before it was shrunk; None where nothing was, and in older records.
    """

    name: str
    llm: str | None
    p_correct: float | None
    expected_output_tokens: float | None
    cost_usd: float | None
    utility: float | None
    excluded: str | None
    overtakes: Change | None = None
    cost_to_win_usd: float | None = None
    p_to_win: float | None = None
    would_win: bool | None = None
    known_by: str | None = None
    p_correct_low: float | None = None
    p_correct_high: float | None = None
    p_unshrunk: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Settings of the knob that choose one candidate.

    Attributes:
        name: The candidate.
        low: Lower end.
        high: Upper end; None for no end.
    """

    name: str
    low: float
    high: float | None


@dataclass(frozen=True, slots=True)
class Flip:
    """The nearest setting of the knob at which the choice changes.

    Attributes:
        at: The setting.
        name: Who is chosen beyond it.
    """

    at: float
    name: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision.

    Attributes:
        request_id: LiteLLM's call id.
        chosen: Model group the request was sent to.
        best: The candidate that the objective chooses, by the recorded numbers; None when routing failed open.
        knob: What the objective turns; None when routing failed open. So are the next four.
        setting: Where it stood.
        below: The nearest flip below; None without one.
        above: The nearest flip above.
        spans: Every setting of the knob, and whom it chooses.
        candidates: In the recorded order: the ranked ones best first, then the excluded ones.
    """

    request_id: str
    chosen: str
    best: str | None
    knob: Knob | None
    setting: float | None
    below: Flip | None
    above: Flip | None
    spans: tuple[Span, ...]
    candidates: tuple[Explained, ...]


def explain(row: Mapping[str, Any]) -> Explanation:
    """Explains one recorded request.

    Args:
        row: Column → value, as a `RecordSource` gives it.
    """
    members: Sequence[Mapping[str, Any]] = row["candidates"] or ()
    weighed = _weighed(row)
    if row["cost_weight"] is None or not weighed.usable.any():
        plain = tuple(_explained(one) for one in members)
        return Explanation(row["request_id"], row["chosen"], None, None, None, None, None, (), plain)
    objective = Objective(row["cost_weight"], row["min_p_correct"], row["within"], row["max_cost_usd"])
    names = [one["name"] for one in members]
    knob, chosen = knob_of(objective), best(objective, weighed)
    assert chosen is not None
    setting: float = getattr(objective, "max_accuracy_drop" if knob == "within" else knob)
    found = ranges(objective, weighed)
    here = next((i for i, one in enumerate(found) if setting in one), 0)
    return Explanation(
        request_id=row["request_id"],
        chosen=row["chosen"],
        best=names[chosen],
        knob=knob,
        setting=setting,
        below=Flip(found[here].low, names[found[here - 1].index]) if here else None,
        above=Flip(found[here].high, names[found[here + 1].index]) if here + 1 < len(found) else None,
        spans=tuple(Span(names[one.index], one.low, None if math.isinf(one.high) else one.high) for one in found),
        candidates=tuple(_candidate(one, i, objective, weighed) for i, one in enumerate(members)),
    )


def _weighed(row: Mapping[str, Any]) -> Weighed:
    members = row["candidates"] or ()
    p, cost, utility = (floats([one[name] for one in members]) for name in ("p_correct", "cost_usd", "utility"))
    free = np.array([one["excluded"] is None for one in members], dtype=bool)
    waiting = waiting_of(p, cost, np.full(len(members), row["cost_weight"] or 0.0), utility)
    return Weighed(p, cost, free & np.isfinite(p) & np.isfinite(cost), waiting)


def _candidate(one: Mapping[str, Any], index: int, objective: Objective, weighed: Weighed) -> Explained:
    if not weighed.usable[index]:
        return _explained(one, would_win=_would_win(index, objective, weighed))
    if index == best(objective, weighed):
        return _explained(one)
    cost, p = to_win(objective, weighed, index)
    return _explained(one, overtakes=overtakes(objective, weighed, index), cost_to_win_usd=cost, p_to_win=p)


def _would_win(index: int, objective: Objective, weighed: Weighed) -> bool | None:
    if not (np.isfinite(weighed.p_correct[index]) and np.isfinite(weighed.cost_usd[index])):
        return None
    let_in = weighed.usable | (np.arange(len(weighed.usable)) == index)
    return best(objective, replace(weighed, usable=let_in)) == index


def _explained(one: Mapping[str, Any], **found: Any) -> Explained:
    recorded = ("name", "llm", "p_correct", "expected_output_tokens", "cost_usd", "utility", "excluded")
    later = ("known_by", "p_correct_low", "p_correct_high", "p_unshrunk")
    since_later: dict[str, Any] = {name: one.get(name) for name in later}
    return Explained(**{name: one[name] for name in recorded}, **since_later, **found)
