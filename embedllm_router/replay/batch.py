"""Many recorded decisions as arrays, and who an objective would choose in each: `policy.rank`, vectorised.

It knows nothing of where records come from, nor of prompts; it weighs the numbers that were recorded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedllm_router.candidates import Exclusion
from embedllm_router.policy import Objective
from embedllm_router.records import CandidateRecord

__all__ = ["CandidateBatch", "CandidateColumns", "Objectives", "choose", "usable_under"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

_LAST = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class CandidateColumns:
    """Candidates one under another, as an unnested query gives them.

    Attributes:
        request: (n_rows,), index of the request each belongs to, rising.
        name: (n_rows,), the candidate; at most once per request.
        p_correct: (n_rows,), NaN where unknown.
        cost_usd: (n_rows,), NaN where unknown.
        excluded: (n_rows,), why it could not be chosen; None when it could.
    """

    request: NDArray[np.integer]
    name: Sequence[str]
    p_correct: Floats
    cost_usd: Floats
    excluded: Sequence[str | None]


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
    """

    names: tuple[str, ...]
    p_correct: Floats
    cost_usd: Floats
    usable: Flags
    position: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.p_correct)

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> "CandidateBatch":
        """Reads the `candidates` of stored requests, one mapping per request; None counts as an empty list."""
        lists: list[Sequence[Mapping[str, Any]]] = [row["candidates"] or () for row in rows]
        flat = [one for members in lists for one in members]
        columns = CandidateColumns(
            request=np.repeat(np.arange(len(lists)), [len(members) for members in lists]),
            name=[one["name"] for one in flat],
            p_correct=_floats([one["p_correct"] for one in flat]),
            cost_usd=_floats([one["cost_usd"] for one in flat]),
            excluded=[one["excluded"] for one in flat],
        )
        return cls.from_columns(len(lists), columns)

    @classmethod
    def from_records(cls, requests: Iterable[Sequence[CandidateRecord]]) -> "CandidateBatch":
        """Lays out the candidates of requests, one sequence per request."""
        lists = list(requests)
        flat = [one for members in lists for one in members]
        columns = CandidateColumns(
            request=np.repeat(np.arange(len(lists)), [len(members) for members in lists]),
            name=[one.name for one in flat],
            p_correct=_floats([one.p_correct for one in flat]),
            cost_usd=_floats([one.cost_usd for one in flat]),
            excluded=[one.excluded for one in flat],
        )
        return cls.from_columns(len(lists), columns)

    @classmethod
    def from_columns(cls, n_requests: int, rows: CandidateColumns) -> "CandidateBatch":
        """Lays out candidates, possibly none, of so many requests.

        Returns:
            The batch. A candidate without probability or cost is not usable, whatever its record says.
        """
        names = tuple(sorted(set(rows.name)))
        column_of = {one: index for index, one in enumerate(names)}
        cells = rows.request, np.array([column_of[one] for one in rows.name], dtype=np.intp)
        free = np.array([reason is None or reason == Exclusion.TOO_EXPENSIVE for reason in rows.excluded], dtype=bool)
        shape = n_requests, len(names)
        batch = cls(names, np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, bool), _nowhere(shape))
        batch.p_correct[cells] = rows.p_correct
        batch.cost_usd[cells] = rows.cost_usd
        batch.usable[cells] = free & np.isfinite(rows.p_correct) & np.isfinite(rows.cost_usd)
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
class Objectives:
    """One objective per request, as columns; NaN where `policy.Objective` has None. Each is (n_requests, 1)."""

    cost_weight: Floats
    min_p_correct: Floats
    within: Floats
    max_cost_usd: Floats

    @classmethod
    def of(cls, objectives: Iterable[Objective]) -> "Objectives":
        """Lays out objectives, one per request."""
        listed = list(objectives)

        def column(name: str) -> Floats:
            return _floats([getattr(one, name) for one in listed])[:, None]

        return cls(column("cost_weight"), column("min_p_correct"), column("within"), column("max_cost_usd"))


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
    left = _smallest(np.where(floored, ~reaches, aim.cost_weight * cost - p), left)
    left = _smallest(np.where(floored & ~reaches, -p, cost), left)
    left = _smallest(-p, left, where=floored)
    chosen = np.where(left, batch.position, _LAST).argmin(axis=1)
    return np.where(anyone, chosen, -1).astype(np.intp)


def usable_under(batch: CandidateBatch, objective: Objective | Objectives) -> Flags:
    """Who can be chosen once the objective's limit on cost applies, (n_requests, n_names)."""
    aim = Objectives.of([objective]) if isinstance(objective, Objective) else objective
    return batch.usable & ~(batch.cost_usd > aim.max_cost_usd)  # a comparison with NaN, no limit, is false


def _floor(batch: CandidateBatch, aim: Objectives, usable: Flags) -> Floats:
    """(n_requests, 1) or (1, 1), NaN where the objective sets no floor."""
    best = np.max(batch.p_correct, axis=1, keepdims=True, initial=0.0, where=usable)
    return np.where(np.isnan(aim.within), aim.min_p_correct, best - aim.within)


def _smallest(key: NDArray[Any], left: Flags, where: Flags | None = None) -> Flags:
    """Keeps those of `left` with the smallest key of their row; rows outside `where` keep all."""
    smallest = np.min(key, axis=1, keepdims=True, initial=np.inf, where=left)
    kept = left & (key == smallest)
    return kept if where is None else np.where(where, kept, left)


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _nowhere(shape: tuple[int, int]) -> NDArray[np.int32]:
    return np.full(shape, _LAST, dtype=np.int32)
