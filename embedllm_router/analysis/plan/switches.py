"""Every value of a cost weight or floor at which some recorded request changes hands, and what the sums are between.

As λ rises a request moves along the upper convex hull of its candidates in cost and utility; as τ rises, along the
candidates that are likelier than every cheaper one. Both lists are finite, so a search over them is exact. It agrees
with `policy.rank` up to the rounding of ties at the switch points themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.replay.batch import CandidateBatch, choose
from embedllm_router.routing.policy import Objective

__all__ = ["Steps", "cost_weight_steps", "floor_steps", "select"]

_ROWS: Final = 8192  # requests at a time: bounds memory
_APART: Final = 1e-9  # switch points nearer than this are the same one, told apart by rounding
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Steps:
    """What a setting does as it rises: step k holds strictly between `at[k]` and `at[k + 1]`, the last one beyond.

    At a switch point itself a cost weight is in the step above it, a floor in the step below.

    Attributes:
        at: float64 (n_steps,), rising; the first is 0.
        p_correct: float64 (n_steps,), sum over requests.
        cost_usd: float64 (n_steps,), sum over requests, in USD.
    """

    at: Floats
    p_correct: Floats
    cost_usd: Floats

    def __len__(self) -> int:
        return len(self.at)

    def end(self, step: int) -> float:
        """Where a step ends; infinity for the last."""
        return float(self.at[step + 1]) if step + 1 < len(self.at) else np.inf


@dataclass(frozen=True, slots=True)
class _Moves:
    """Requests that change hands, in any order; each array is float64 (n_moves,)."""

    at: Floats
    p_correct: Floats
    cost_usd: Floats


def select(batch: CandidateBatch, rows: NDArray[np.generic]) -> CandidateBatch:
    """Some requests of a batch."""
    columns = (one.name for one in fields(batch) if one.name != "names")
    return replace(batch, **{name: getattr(batch, name)[rows] for name in columns})


def cost_weight_steps(batch: CandidateBatch) -> Steps:
    """Steps of λ, from 0 up.

    Args:
        batch: Requests that each have a usable candidate; possibly none.

    Returns:
        The steps; cost never rises with λ.
    """
    start, moves = list[tuple[float, float]](), list[_Moves]()
    for part in _parts(batch):
        first = choose(part, Objective(0.0))
        start.append(_sums(part, first))
        moves += _along_the_hull(part, first)
    return _steps(start, moves)


def floor_steps(batch: CandidateBatch) -> Steps:
    """Steps of τ, from 0 up to 1.

    Args:
        batch: Requests that each have a usable candidate; possibly none.

    Returns:
        The steps; neither cost nor p_correct ever falls with τ.
    """
    start, moves = list[tuple[float, float]](), list[_Moves]()
    for part in _parts(batch):
        start.append(_sums(part, choose(part, Objective(min_p_correct=0.0))))
        moves += _up_the_stairs(part)
    return _steps(start, moves, below=1.0)


def _parts(batch: CandidateBatch) -> Iterator[CandidateBatch]:
    for first in range(0, len(batch), _ROWS):
        yield select(batch, np.arange(first, min(first + _ROWS, len(batch))))


def _sums(batch: CandidateBatch, chosen: Indices) -> tuple[float, float]:
    p, cost = batch.at(batch.p_correct, chosen), batch.at(batch.cost_usd, chosen)
    return float(p.sum()), float(cost.sum())


def _along_the_hull(batch: CandidateBatch, now: Indices) -> Iterator[_Moves]:
    """From the most accurate candidate to the cheapest: next is whoever a rising λ prefers first."""
    p, rows = batch.p_correct, np.arange(len(batch))
    value = np.where(batch.usable, p - batch.waiting, -np.inf)
    cost = np.where(batch.usable, batch.cost_usd, np.inf)
    reached = np.zeros(len(batch))
    while rows.size:
        v, c, here = value[rows], cost[rows], (np.arange(len(rows)), now)
        dearer_by, better_by = c[here][:, None] - c, v[here][:, None] - v
        point = np.divide(better_by, dearer_by, out=np.full(c.shape, np.inf), where=dearer_by > 0)
        nearest = point.min(axis=1)
        then = np.where(point == nearest[:, None], c, np.inf).argmin(axis=1)
        moves = np.isfinite(nearest)
        rows, before, now = rows[moves], now[moves], then[moves]
        reached[rows] = np.maximum(reached[rows], nearest[moves])  # rounding must not turn a hull around
        yield _Moves(reached[rows], p[rows, now] - p[rows, before], cost[rows, now] - cost[rows, before])


def _up_the_stairs(batch: CandidateBatch) -> Iterator[_Moves]:
    """From the cheapest candidate to the most accurate: next is the cheapest of those more accurate than all before."""
    p = np.where(batch.usable, batch.p_correct, -np.inf)
    cost = np.where(batch.usable, batch.cost_usd, np.inf)
    order = np.lexsort((batch.position, -p, cost), axis=-1)
    p_up, cost_up = np.take_along_axis(p, order, axis=1), np.take_along_axis(cost, order, axis=1)
    before = np.maximum.accumulate(p_up, axis=1)
    before = np.concatenate([np.full((len(p), 1), -np.inf), before[:, :-1]], axis=1)
    rows, columns = np.nonzero(p_up > before)
    stair_p, stair_cost = p_up[rows, columns], cost_up[rows, columns]
    same = rows[1:] == rows[:-1]
    yield _Moves(stair_p[:-1][same], np.diff(stair_p)[same], np.diff(stair_cost)[same])
    last = np.append(~same, True)[: len(rows)]
    unreached = batch.at(batch.cost_usd, choose(batch, Objective(min_p_correct=2.0)))  # equals go by position then
    yield _Moves(stair_p[last], np.zeros(len(batch)), unreached - stair_cost[last])


def _steps(start: list[tuple[float, float]], moves: list[_Moves], below: float = np.inf) -> Steps:
    at = np.concatenate([one.at for one in moves] or [np.zeros(0)])
    p, cost = (np.concatenate([getattr(one, n) for one in moves] or [np.zeros(0)]) for n in ("p_correct", "cost_usd"))
    kept = (at < below) & ((p != 0) | (cost != 0))
    order = np.argsort(at[kept], kind="stable")
    at, p, cost = at[kept][order], p[kept][order], cost[kept][order]
    sums = np.array(start, dtype=np.float64).reshape(-1, 2).sum(axis=0)
    at, p, cost = (np.concatenate([[first], rest]) for first, rest in ((0.0, at), (sums[0], p), (sums[1], cost)))
    last = np.append(at[1:] > at[:-1] * (1 + _APART), [True])
    return Steps(at[last], np.cumsum(p)[last], np.cumsum(cost)[last])
