"""The latest recorded decisions, decided again at every cost weight of a ladder.

All figures are predictions: the probabilities and costs are those the router recorded, so a choice among them looks
slightly better than it will be. Costs are multiplied by what bills were of forecasts, those of the LLM itself where
enough are known, else those of all. Intervals are over requests, which are resampled; how many come in a month is taken
as it is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embedllm_router._stats import Estimate, estimate, resamples
from embedllm_router.analysis.decisions import Place, place_of_newest
from embedllm_router.analysis.plan.figures import MIN_BILLED
from embedllm_router.analysis.plan.traffic import Rate, rate_between
from embedllm_router.analysis.replay.batch import CandidateBatch, Objectives, SingleLLM, choose, mix_of, singles
from embedllm_router.analysis.span import RecordQuery
from embedllm_router.config.virtual_model import AIMS, VirtualModelSettings
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.routing.policy import Objective

__all__ = ["LADDER", "Frontier", "Outcome", "SingleLLM", "frontier", "setting_as_yaml"]

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
        accuracy: `p_correct` with its 95 % interval; None likewise.
        usd_per_request: What a request will be billed, with its interval: forecasts times what bills were of them.
        usd_per_month: The same times the requests of a month; None where these are not known.
    """

    cost_weight: float | None
    p_correct: float | None
    cost_usd: float | None
    mix: tuple[int, ...]
    accuracy: Estimate | None = None
    usd_per_request: Estimate | None = None
    usd_per_month: Estimate | None = None


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
        rate: How many requests come in a month; None where the records span less than a day and nobody said.
        hours: What the records span, in hours, whether they were looked at or not.
        billed_ratio: What bills were of forecasts, of all LLMs; None where too few are known, and then forecasts stand
            as they are.
        virtual_models: Those whose own setting decided, most requests first.
    """

    requests: int
    names: tuple[str, ...]
    now: Outcome
    objectives: dict[str, int]
    cost_weight: float | None
    ladder: tuple[Outcome, ...]
    singles: tuple[SingleLLM, ...]
    rate: Rate | None
    hours: float
    billed_ratio: float | None
    virtual_models: tuple[str, ...]


Row = dict[str, Any]
Floats = NDArray[np.float64]
_COLUMNS: Final = (
    'chosen, served, cost_weight, min_p_correct, "within", max_cost_usd, candidates, virtual_model, objective_from, '
    "expected_cost_usd, billed_cost_usd"
)
_CONFIGURED: Final = frozenset({None, "config", "canary"})
_GROUPS, _DRAWS = 1000, 400
_MOST_BILLED: Final = 8  # LLMs by whose own bills their forecasts are put right


def frontier(source: RecordSource, query: RecordQuery, n: int, per_month: float | None = None) -> Frontier:
    """Decides the latest requests again.

    Args:
        source: The records.
        query: Which of them.
        n: How many of the latest, at least 1.
        per_month: How many requests come in a month; None takes what the records say, if they span a day or more.

    Returns:
        The frontier; without requests its outcomes are empty.

    Raises:
        DataError: The records cannot be read.
    """
    rows, place = _latest(source, query, n)
    batch = CandidateBatch.from_rows(rows)
    nowhere = np.full((len(rows), 1), np.nan)
    limits = replace(_aims(rows), min_p_correct=nowhere, max_accuracy_drop=nowhere)
    rate = _rate(place, per_month)
    choices = [_recorded(batch, rows), *(_decided(batch, limits, weight) for weight in LADDER)] if rows else []
    bills = _bills(rows, batch.names)
    now, *ladder = _outcomes(batch, choices, bills, rate) if rows else (Outcome(None, None, None, ()),)
    configured = Counter(row["virtual_model"] for row in rows if row["objective_from"] in _CONFIGURED)
    return Frontier(
        requests=len(rows),
        names=batch.names,
        now=now,
        objectives=dict(Counter(_in_words(row) for row in rows).most_common(8)),
        cost_weight=_usual_cost_weight(rows),
        ladder=_trimmed([replace(one, cost_weight=weight) for one, weight in zip(ladder, LADDER, strict=False)]),
        singles=tuple(sorted(singles(batch), key=lambda single: (-single.cost_usd, single.name))),
        rate=rate,
        hours=(place.last - place.first).total_seconds() / 3600 if place.first and place.last else 0.0,
        billed_ratio=bills.ratio,
        virtual_models=tuple(name for name, _ in configured.most_common()),
    )


def setting_as_yaml(name: str, settings: VirtualModelSettings, cost_weight: float) -> str:
    """A virtual model as it is configured, with another cost weight in place of whatever aim it has, to be pasted.

    Args:
        name: The virtual model.
        settings: As they are configured now.
        cost_weight: λ, at least 0.

    Returns:
        YAML from `callback_settings` down, with every setting of this virtual model that was set.
    """
    said = settings.model_dump(mode="json", exclude_unset=True)
    kept = {field: value for field, value in said.items() if field not in AIMS}
    model = {"default": kept.pop("default"), "cost_weight": cost_weight, **kept}
    nested = {"callback_settings": {"embedllm_router": {"virtual_models": {name: model}}}}
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)


def _latest(source: RecordSource, query: RecordQuery, n: int) -> tuple[list[Row], Place]:
    """The newest requests that were decided, newest first, and where they lie."""
    where, given = query.filters().where()
    decided = f"{where} AND failed_open IS NULL AND p_correct IS NOT NULL"
    place = place_of_newest(source, decided, given, range(n))
    wanted = f'SELECT {_COLUMNS} FROM requests WHERE {place.where} AND {decided} ORDER BY "at" DESC LIMIT {n:d}'  # noqa: S608 - our own SQL
    return (source.rows(wanted, {**given, **place.given}) if place.given else []), place


def _rate(place: Place, per_month: float | None) -> Rate | None:
    if place.first is None or place.last is None:
        return None
    if per_month is not None:
        return Rate(per_month, measured=False, days=(place.last - place.first).total_seconds() / 86_400)
    return rate_between(place.total, place.first, place.last)


def _aims(rows: list[Row]) -> Objectives:
    return Objectives.of(
        Objective(row["cost_weight"] or 0.0, row["min_p_correct"], row["within"], row["max_cost_usd"]) for row in rows
    )


def _decided(batch: CandidateBatch, limits: Objectives, cost_weight: float) -> NDArray[np.intp]:
    """Every request at one cost weight, under its own recorded limit on cost."""
    return choose(batch, replace(limits, cost_weight=np.full_like(limits.cost_weight, cost_weight)))


def _recorded(batch: CandidateBatch, rows: list[Row]) -> NDArray[np.intp]:
    place = {name: index for index, name in enumerate(batch.names)}
    return np.array([place.get(row["chosen"], -1) for row in rows], dtype=np.intp)


@dataclass(frozen=True, slots=True)
class _Bills:
    """Forecasts and bills of requests that the chosen LLM answered; 0 where either is unknown.

    Attributes:
        foretold: (n,), USD.
        billed: (n,), USD.
        llm: Who answered, by its place among the names; -1 where nobody did, (n,).
    """

    foretold: Floats
    billed: Floats
    llm: NDArray[np.intp]

    @property
    def ratio(self) -> float | None:
        """Bills over forecasts; None where too few are known."""
        enough = int((self.foretold > 0).sum()) >= MIN_BILLED
        return float(self.billed.sum() / self.foretold.sum()) if enough else None

    def known_by_itself(self) -> list[int]:
        """The LLMs that have enough bills of their own, those with most first."""
        counted = Counter(self.llm[self.foretold > 0].tolist())
        return [llm for llm, n in counted.most_common(_MOST_BILLED) if n >= MIN_BILLED and llm >= 0]

    def of(self, llm: int) -> Floats:
        """Bills and forecasts of one LLM's answers, 0 for the others', (n, 2)."""
        return np.where((self.llm == llm)[:, None], np.column_stack([self.billed, self.foretold]), 0.0)


def _bills(rows: list[Row], names: Sequence[str]) -> _Bills:
    def known(row: Row) -> bool:
        return row["served"] == row["chosen"] and row["billed_cost_usd"] is not None and bool(row["expected_cost_usd"])

    pairs = [(row["expected_cost_usd"], row["billed_cost_usd"]) if known(row) else (0.0, 0.0) for row in rows]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    place = {name: index for index, name in enumerate(names)}
    return _Bills(both[:, 0], both[:, 1], np.array([place.get(row["chosen"], -1) for row in rows], dtype=np.intp))


def _outcomes(
    batch: CandidateBatch, choices: Sequence[NDArray[np.intp]], bills: _Bills, rate: Rate | None
) -> list[Outcome]:
    """What is expected of each way to choose, with intervals; all of them share their resamples."""
    p, cost = (
        np.stack([batch.at(column, chosen) for chosen in choices], axis=1)
        for column in (batch.p_correct, batch.cost_usd)
    )
    known = np.isfinite(p) & np.isfinite(cost)
    spent, k = np.where(known, cost, 0), len(choices)
    sums = np.concatenate([np.where(known, p, 0), spent, known], axis=1)
    with ThreadpoolController().limit(limits=1, user_api="blas"):  # a second thread for so little waits for seconds
        drawn_groups = _drawn_groups(len(sums))
        drawn = _drawn(sums, drawn_groups)
        corrections = _corrections(spent, np.stack(choices, axis=1), bills, drawn_groups)
    n = drawn[:, 2 * k :]
    means, usd, billed = (
        np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
        for total in (drawn[:, :k], drawn[:, k : 2 * k], drawn[:, k : 2 * k] + corrections)
    )
    found = []
    for column, chosen in enumerate(choices):
        seen = int(n[0, column])
        found.append(
            Outcome(
                cost_weight=None,
                p_correct=float(means[0, column]) if seen else None,
                cost_usd=float(usd[0, column]) if seen else None,
                mix=tuple(mix_of(chosen, len(batch.names)).astype(int).tolist()),
                accuracy=_estimate(means[:, column], seen),
                usd_per_request=_estimate(billed[:, column], seen),
                usd_per_month=None if rate is None else _estimate(billed[:, column] * rate.per_month, seen),
            )
        )
    return found


def _corrections(spent: Floats, chosen: NDArray[np.intp], bills: _Bills, drawn_groups: Floats) -> Floats:
    """By how much bills of all requests together differ from forecasts, of each way to choose, (1 + draws, k)."""
    k = spent.shape[1]
    if bills.ratio is None:
        return np.zeros((1, k))
    llms = bills.known_by_itself()
    groups = [(np.where(chosen == llm, spent, 0.0), bills.of(llm)) for llm in llms]
    groups.append((np.where(np.isin(chosen, llms), 0.0, spent), np.column_stack([bills.billed, bills.foretold])))
    total: Floats = np.zeros((1, k))
    for forecasts, pair in groups:
        drawn = _drawn(np.column_stack([forecasts, pair]), drawn_groups)
        billed, foretold = drawn[:, k], drawn[:, k + 1]
        ratio = np.divide(billed, foretold, out=np.full(len(drawn), np.nan), where=foretold > 0)
        total = total + drawn[:, :k] * (ratio - 1.0)[:, None]
    return total


def _drawn_groups(n: int) -> Floats:
    """How often each group of n requests counts: once, then as often as each resample has it, (1 + draws, groups)."""
    groups = min(n, _GROUPS)
    return np.vstack([np.ones(groups), resamples(groups, seeds=(0,), draws=_DRAWS)])


def _drawn(values: Floats, drawn_groups: Floats) -> Floats:
    """Sums over all requests, then over each resample of groups of them, (1 + draws, k)."""
    groups = drawn_groups.shape[1]
    short = -len(values) % groups
    grouped = np.concatenate([values, np.zeros((short, values.shape[1]))]).reshape(-1, groups, values.shape[1]).sum(0)
    summed: Floats = drawn_groups @ grouped
    return summed


def _estimate(drawn: Floats, n: int) -> Estimate | None:
    return estimate(float(drawn[0]), drawn[1:], n) if n else None


def _trimmed(ladder: list[Outcome]) -> tuple[Outcome, ...]:
    """Leaves out what changes nothing at either end; λ = 0 and one step beyond the last change stay."""
    if not ladder:
        return ()
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
