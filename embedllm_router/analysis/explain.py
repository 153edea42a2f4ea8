"""One recorded decision, explained: who was weighed, why the winner won, and what would flip it.

Everything is computed from the record alone; the numbers are those that the policy saw. It draws nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.explain_logs_flips import Change, Knob, Weighed, best, knob_of, overtakes, ranges, to_win
from embedllm_router.routing.policy import Objective

__all__ = ["Explained", "Explanation", "Flip", "Span", "explain"]

_ROUNDING: Final = 1e-9
"""A recorded utility that is off by no more weighs no waiting."""


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
    setting: float = getattr(objective, knob)
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
    p, cost, utility = (_floats(members, name) for name in ("p_correct", "cost_usd", "utility"))
    free = np.array([one["excluded"] is None for one in members], dtype=bool)
    waiting = p - (row["cost_weight"] or 0.0) * cost - utility
    waiting[~(np.abs(waiting) > _ROUNDING)] = 0.0
    return Weighed(p, cost, free & np.isfinite(p) & np.isfinite(cost), waiting)


def _floats(members: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if one[name] is None else one[name] for one in members], dtype=np.float64)


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
    return Explained(**{name: one[name] for name in recorded}, **found)
