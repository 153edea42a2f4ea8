"""Many recorded decisions as arrays: whom an objective would choose in each, and what comes of some choices.

Choosing is `policy.rank`, vectorised. What comes of choices is the mix of LLMs, and what one LLM alone would do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedllm_router.records.schema import CandidateRecord
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import Exclusion

__all__ = [
    "CandidateBatch",
    "CandidateColumns",
    "Objectives",
    "SingleLLM",
    "choose",
    "floats",
    "mix_of",
    "singles",
    "usable_under",
    "waiting_of",
]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

_WEIGHED_ANEW = frozenset({Exclusion.TOO_EXPENSIVE, Exclusion.GUARDED})  # by the limit asked for; by nobody
_LAST = np.iinfo(np.int32).max
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class CandidateColumns:
    """Candidates one under another, as an unnested query gives them.

    Attributes:
        request: (n_rows,), index of the request each belongs to, rising.
        name: (n_rows,), the candidate; at most once per request.
        p_correct: (n_rows,), NaN where unknown.
        cost_usd: (n_rows,), NaN where unknown.
        excluded: (n_rows,), why it could not be chosen; None when it could.
        waiting: (n_rows,), what waiting for it takes off its utility; 0 where nothing does.
        usual_p_correct: (n_rows,), its mean p_correct on typical prompts; NaN where unknown.
        usual_cost_usd: (n_rows,), what a typical request to it costs; NaN where unknown.
    """

    request: NDArray[np.integer]
    name: Sequence[str]
    p_correct: Floats
    cost_usd: Floats
    excluded: Sequence[str | None]
    waiting: Floats
    usual_p_correct: Floats
    usual_cost_usd: Floats


@dataclass(frozen=True, slots=True)
class CandidateBatch:
    """The candidates of many requests; columns are names, and one that a request did not weigh is NaN there.

    Attributes:
        names: (n_names,), sorted.
        p_correct: (n_requests, n_names), in [0, 1] or NaN.
        cost_usd: (n_requests, n_names), expected cost in USD or NaN.
        usable: (n_requests, n_names), which ones could be chosen but for a limit on cost: `choose` applies its own.
        position: int32 (n_requests, n_names), place in the recorded order, which breaks ties; where a request did not
            weigh a name, the largest int32.
        waiting: (n_requests, n_names), what waiting for it takes off its utility; 0 where nothing does.
        usual_p_correct: (n_requests, n_names), mean p_correct on typical prompts, which settles near ties, or NaN.
        usual_cost_usd: (n_requests, n_names), what a typical request costs, or NaN.
    """

    names: tuple[str, ...]
    p_correct: Floats
    cost_usd: Floats
    usable: Flags
    position: NDArray[np.int32]
    waiting: Floats
    usual_p_correct: Floats
    usual_cost_usd: Floats

    def __len__(self) -> int:
        return len(self.p_correct)

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> "CandidateBatch":
        """Reads stored requests, one mapping per request.

        Args:
            rows: With `candidates`, where None counts as an empty list, and `cost_weight`; where either lacks what a
                candidate's utility was made of, waiting took nothing off it.
        """
        listed = [(row["candidates"] or (), row.get("cost_weight")) for row in rows]
        flat = [one for members, _ in listed for one in members]
        return cls._from_flat(
            [len(members) for members, _ in listed],
            [weight for _, weight in listed],
            _Flat(
                [one["name"] for one in flat],
                floats([one["p_correct"] for one in flat]),
                floats([one["cost_usd"] for one in flat]),
                [one["excluded"] for one in flat],
                floats([one.get("utility") for one in flat]),
                floats([one.get("usual_p_correct") for one in flat]),
                floats([one.get("usual_cost_usd") for one in flat]),
            ),
        )

    @classmethod
    def from_records(cls, requests: Iterable[tuple[Sequence[CandidateRecord], float]]) -> "CandidateBatch":
        """Lays out the candidates of requests, and the cost weight that their utilities were made with."""
        listed = list(requests)
        flat = [one for members, _ in listed for one in members]
        return cls._from_flat(
            [len(members) for members, _ in listed],
            [weight for _, weight in listed],
            _Flat(
                [one.name for one in flat],
                floats([one.p_correct for one in flat]),
                floats([one.cost_usd for one in flat]),
                [one.excluded for one in flat],
                floats([one.utility for one in flat]),
                floats([one.usual_p_correct for one in flat]),
                floats([one.usual_cost_usd for one in flat]),
            ),
        )

    @classmethod
    def _from_flat(cls, sizes: list[int], weights: list[float | None], flat: "_Flat") -> "CandidateBatch":
        weight = np.repeat(floats(weights), sizes)
        return cls.from_columns(
            len(sizes),
            CandidateColumns(
                request=np.repeat(np.arange(len(sizes)), sizes),
                name=flat.name,
                p_correct=flat.p_correct,
                cost_usd=flat.cost_usd,
                excluded=flat.excluded,
                waiting=waiting_of(flat.p_correct, flat.cost_usd, weight, flat.utility),
                usual_p_correct=flat.usual_p_correct,
                usual_cost_usd=flat.usual_cost_usd,
            ),
        )

    @classmethod
    def from_columns(cls, n_requests: int, rows: CandidateColumns) -> "CandidateBatch":
        """Lays out candidates, possibly none, of so many requests.

        Returns:
            The batch. A candidate without probability or cost is not usable, whatever its record says.
        """
        names = tuple(sorted(set(rows.name)))
        column_of = {one: index for index, one in enumerate(names)}
        cells = rows.request, np.array([column_of[one] for one in rows.name], dtype=np.intp)
        free = np.array([reason is None or reason in _WEIGHED_ANEW for reason in rows.excluded], dtype=bool)
        shape = n_requests, len(names)
        batch = cls(
            names=names,
            p_correct=np.full(shape, np.nan),
            cost_usd=np.full(shape, np.nan),
            usable=np.zeros(shape, dtype=bool),
            position=np.full(shape, _LAST, dtype=np.int32),
            waiting=np.zeros(shape),
            usual_p_correct=np.full(shape, np.nan),
            usual_cost_usd=np.full(shape, np.nan),
        )
        batch.p_correct[cells] = rows.p_correct
        batch.cost_usd[cells] = rows.cost_usd
        batch.usable[cells] = free & np.isfinite(rows.p_correct) & np.isfinite(rows.cost_usd)
        batch.waiting[cells] = rows.waiting
        batch.usual_p_correct[cells] = rows.usual_p_correct
        batch.usual_cost_usd[cells] = rows.usual_cost_usd
        batch.position[cells] = np.arange(len(rows.request)) - np.searchsorted(rows.request, rows.request)
        return batch

    def at(self, values: Floats, chosen: Indices) -> Floats:
        """A figure of the chosen ones.

        Args:
            values: (n_requests, n_names).
            chosen: (n_requests,), -1 for none.

        Returns:
            (n_requests,); NaN where none was chosen.
        """
        if not self.names:
            return np.full(len(self), np.nan)
        picked: Floats = np.where(chosen >= 0, values[np.arange(len(self)), chosen], np.nan)
        return picked


@dataclass(frozen=True, slots=True)
class _Flat:
    """The fields of candidates, one under another."""

    name: Sequence[str]
    p_correct: Floats
    cost_usd: Floats
    excluded: Sequence[str | None]
    utility: Floats
    usual_p_correct: Floats
    usual_cost_usd: Floats


def waiting_of(p_correct: Floats, cost_usd: Floats, cost_weight: Floats, utility: Floats) -> Floats:
    """How far a recorded utility is below p_correct - cost_weight * cost_usd; 0 within rounding, or where unknown."""
    waiting = p_correct - cost_weight * cost_usd - utility
    return np.where(np.abs(waiting) > _ROUNDING, waiting, 0.0)


@dataclass(frozen=True, slots=True)
class Objectives:
    """One objective per request, as columns; NaN where `policy.Objective` has None. Each is (n_requests, 1).

    Waits are the batch's own, so there is no latency weight here.
    """

    cost_weight: Floats
    min_p_correct: Floats
    max_accuracy_drop: Floats
    max_cost_usd: Floats
    near_tie_margin: Floats

    @classmethod
    def of(cls, objectives: Iterable[Objective]) -> "Objectives":
        """Lays out objectives, one per request."""
        listed = list(objectives)

        def column(name: str) -> Floats:
            return floats([getattr(one, name) for one in listed])[:, None]

        return cls(*(column(one.name) for one in fields(cls)))


def choose(batch: CandidateBatch, objective: Objective | Objectives) -> Indices:
    """Who is chosen in each request: the first usable one of `policy.rank`.

    Args:
        batch: The candidates.
        objective: What the best candidate is: one for all requests, or one each.

    Returns:
        intp (n_requests,), indices of `batch.names`; -1 where no candidate can be chosen.
    """
    if not batch.names:
        return np.full(len(batch), -1, dtype=np.intp)
    aim = Objectives.of([objective]) if isinstance(objective, Objective) else objective
    left = usable_under(batch, aim)
    anyone = left.any(axis=1)
    floor = _floor(batch, aim, left)
    reaches = batch.p_correct >= floor
    floored = np.isfinite(floor)
    p, cost = batch.p_correct, batch.cost_usd
    left = _smallest(np.where(floored, ~reaches, aim.cost_weight * cost + batch.waiting - p), left)
    left = _smallest(np.where(floored & ~reaches, -p, cost), left)
    left = _smallest(-p, left, where=floored)
    chosen = np.where(left, batch.position, _LAST).argmin(axis=1)
    if (aim.near_tie_margin > 0).any():
        chosen = _settled(batch, aim, chosen, floored[:, 0])
    return np.where(anyone, chosen, -1).astype(np.intp)


def _settled(batch: CandidateBatch, aim: Objectives, chosen: Indices, floored: Flags) -> Indices:
    """`tie_breaking.break_ties`, vectorised; the best ones stay where a near tie's usual figures are not recorded."""
    utility = batch.p_correct - aim.cost_weight * batch.cost_usd - batch.waiting
    usual = batch.usual_p_correct - aim.cost_weight * batch.usual_cost_usd - batch.waiting
    near = usable_under(batch, aim) & (utility >= batch.at(utility, chosen)[:, None] - aim.near_tie_margin)
    settles = (aim.near_tie_margin[:, 0] > 0) & ~floored & (np.isfinite(usual) | ~near).all(axis=1)
    left = near
    for key in (-usual, -utility, batch.cost_usd):
        left = _smallest(key, left)
    best = np.where(left, batch.position, _LAST).argmin(axis=1)
    return np.where(settles, best, chosen).astype(np.intp)


def mix_of(chosen: Indices, n_names: int, weight: Floats | None = None) -> Floats:
    """How many requests each candidate gets.

    Args:
        chosen: (n_requests,), indices of the candidates; -1, for none, is not counted.
        n_names: How many candidates there are.
        weight: (n_requests,), what each request counts, such as its cost; None counts every request once.

    Returns:
        float64 (n_names,).
    """
    known = chosen >= 0
    return np.bincount(chosen[known], None if weight is None else weight[known], n_names).astype(np.float64)


@dataclass(frozen=True, slots=True)
class SingleLLM:
    """Sending every request to one LLM.

    Attributes:
        name: The model group.
        p_correct: Mean over the requests it could have taken.
        cost_usd: Mean expected cost of the same, in USD.
        could_take: How many those are.
    """

    name: str
    p_correct: float
    cost_usd: float
    could_take: int


def singles(batch: CandidateBatch) -> list[SingleLLM]:
    """Every candidate as the only one, in the order of names; those that could take no request are left out."""
    return [
        SingleLLM(
            name=name,
            p_correct=float(batch.p_correct[able, column].mean()),
            cost_usd=float(batch.cost_usd[able, column].mean()),
            could_take=int(able.sum()),
        )
        for column, name in enumerate(batch.names)
        if (able := batch.usable[:, column]).any()
    ]


def usable_under(batch: CandidateBatch, objective: Objective | Objectives) -> Flags:
    """Who can be chosen once the objective's limit on cost applies, (n_requests, n_names)."""
    aim = Objectives.of([objective]) if isinstance(objective, Objective) else objective
    return batch.usable & ~(batch.cost_usd > aim.max_cost_usd)  # a comparison with NaN, no limit, is false


def _floor(batch: CandidateBatch, aim: Objectives, usable: Flags) -> Floats:
    """(n_requests, 1) or (1, 1), NaN where the objective sets no floor."""
    best = np.max(batch.p_correct, axis=1, keepdims=True, initial=0.0, where=usable)
    return np.where(np.isnan(aim.max_accuracy_drop), aim.min_p_correct, best - aim.max_accuracy_drop)


def _smallest(key: NDArray[Any], left: Flags, where: Flags | None = None) -> Flags:
    """Keeps those of `left` with the smallest key of their row; rows outside `where` keep all."""
    smallest = np.min(key, axis=1, keepdims=True, initial=np.inf, where=left)
    kept = left & (key == smallest)
    return kept if where is None else np.where(where, kept, left)


def floats(values: Sequence[float | None]) -> Floats:
    """Numbers as float64 (n,); NaN where one is unknown."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
