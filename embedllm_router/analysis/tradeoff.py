"""The latest recorded decisions, decided again at every cost weight of a ladder.

All figures are predictions: the probabilities and costs are those the router recorded, so a choice among them looks
slightly better than it will be.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.decisions import place_of_newest
from embedllm_router.analysis.replay.batch import CandidateBatch, Objectives, SingleLLM, choose, mix_of, singles
from embedllm_router.analysis.span import RecordQuery
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.routing.policy import Objective

__all__ = ["LADDER", "Frontier", "Outcome", "SingleLLM", "frontier"]

LADDER: Final = (
    0.0,
    *(float(f"{digits}e{power}") for power in range(-2, 6) for digits in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)),
    1e6,
)
"""Cost weights λ that are tried, in accuracy per USD; rising."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is expected of some way to choose.

    Attributes:
        cost_weight: λ; None for what was recorded.
        p_correct: Mean probability of a correct answer; None where nothing was chosen.
        cost_usd: Mean expected cost of a request in USD; None likewise.
        mix: Requests per name of `Frontier.names`.
    """

    cost_weight: float | None
    p_correct: float | None
    cost_usd: float | None
    mix: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The latest decisions under every trade-off of the ladder.

    Attributes:
        requests: Decisions that were looked at; those that failed open hold no candidates and are left out.
        names: Model groups; every mix is in their order.
        now: What was recorded: the chosen ones, whatever objective chose them.
        objectives: Recorded objectives in words, with the number of requests; most first.
        cost_weight: The λ recorded most often where λ alone decided; None when floors decided everywhere.
        ladder: Outcomes at rising cost weights, without those at either end that change nothing. The first, at 0, sends
            each request to the most accurate candidate.
        singles: One LLM for everything, dearest first.
    """

    requests: int
    names: tuple[str, ...]
    now: Outcome
    objectives: dict[str, int]
    cost_weight: float | None
    ladder: tuple[Outcome, ...]
    singles: tuple[SingleLLM, ...]


Row = dict[str, Any]
_COLUMNS: Final = 'chosen, cost_weight, min_p_correct, "within", max_cost_usd, candidates'


def frontier(source: RecordSource, query: RecordQuery, n: int) -> Frontier:
    """Decides the latest requests again.

    Args:
        source: The records.
        query: Which of them.
        n: How many of the latest, at least 1.

    Returns:
        The frontier; without requests its outcomes are empty.

    Raises:
        DataError: The records cannot be read.
    """
    rows = _latest(source, query, n)
    batch = CandidateBatch.from_rows(rows)
    nowhere = np.full((len(rows), 1), np.nan)
    limits = replace(_aims(rows), min_p_correct=nowhere, max_accuracy_drop=nowhere)
    return Frontier(
        requests=len(rows),
        names=batch.names,
        now=_recorded(batch, rows),
        objectives=dict(Counter(_in_words(row) for row in rows).most_common(8)),
        cost_weight=_usual_cost_weight(rows),
        ladder=_trimmed([_decided(batch, limits, weight) for weight in LADDER]) if rows else (),
        singles=tuple(sorted(singles(batch), key=lambda single: (-single.cost_usd, single.name))),
    )


def _latest(source: RecordSource, query: RecordQuery, n: int) -> list[Row]:
    """The newest requests that were decided, newest first."""
    where, given = query.filters().where()
    decided = f"{where} AND failed_open IS NULL AND p_correct IS NOT NULL"
    place = place_of_newest(source, decided, given, range(n))
    wanted = f'SELECT {_COLUMNS} FROM requests WHERE {place.where} AND {decided} ORDER BY "at" DESC LIMIT {n:d}'  # noqa: S608 - our own SQL
    return source.rows(wanted, {**given, **place.given}) if place.given else []


def _aims(rows: list[Row]) -> Objectives:
    return Objectives.of(
        Objective(row["cost_weight"] or 0.0, row["min_p_correct"], row["within"], row["max_cost_usd"]) for row in rows
    )


def _decided(batch: CandidateBatch, limits: Objectives, cost_weight: float) -> Outcome:
    """Every request at one cost weight, under its own recorded limit on cost."""
    same = np.full_like(limits.cost_weight, cost_weight)
    return _outcome(batch, choose(batch, replace(limits, cost_weight=same)), cost_weight)


def _recorded(batch: CandidateBatch, rows: list[Row]) -> Outcome:
    place = {name: index for index, name in enumerate(batch.names)}
    return _outcome(batch, np.array([place.get(row["chosen"], -1) for row in rows], dtype=np.intp), None)


def _outcome(batch: CandidateBatch, chosen: NDArray[np.intp], cost_weight: float | None) -> Outcome:
    return Outcome(
        cost_weight=cost_weight,
        p_correct=_mean(batch.at(batch.p_correct, chosen)),
        cost_usd=_mean(batch.at(batch.cost_usd, chosen)),
        mix=tuple(mix_of(chosen, len(batch.names)).astype(int).tolist()),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _trimmed(ladder: list[Outcome]) -> tuple[Outcome, ...]:
    """Leaves out what changes nothing at either end; λ = 0 and one step beyond the last change stay."""
    mixes = [outcome.mix for outcome in ladder]
    first = next((i for i, mix in enumerate(mixes) if mix != mixes[0]), 1) - 1
    last = next((i for i in range(len(mixes) - 1, -1, -1) if mixes[i] != mixes[-1]), 0) + 1
    return (ladder[0], *ladder[max(first, 1) : last + 1])


def _usual_cost_weight(rows: list[Row]) -> float | None:
    plain = [row["cost_weight"] for row in rows if row["min_p_correct"] is None and row["within"] is None]
    known = Counter(weight for weight in plain if weight is not None)
    return known.most_common(1)[0][0] if known else None


def _in_words(row: Row) -> str:
    if row["within"] is not None:
        aim = f"within {row['within']:g}"
    elif row["min_p_correct"] is not None:
        aim = f"min_p_correct {row['min_p_correct']:g}"
    else:
        aim = f"cost_weight {row['cost_weight'] or 0:g}"
    return aim if row["max_cost_usd"] is None else f"{aim}, max_cost_usd {row['max_cost_usd']:g}"
