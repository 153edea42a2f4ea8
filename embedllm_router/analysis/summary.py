"""A log in figures: mix, outcomes, spend beside other ways to choose, forecast against bill, calibration, times.

One pass over the requests adds up counts and sums by random group, LLM, outcome and reason; all sums derive from it.
Percentiles and candidates come from samples. Candidates are many and slow to read, so a few hundred requests in each
of forty stretches of time are read: whole stretches lie together on disk.

Spend is compared with always choosing one way by predicted figures on both sides: the other LLMs were not asked, so
their real cost and correctness are unknown. The forecast says how good predicted costs are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, Resampling
from embedllm_router.analysis.calibration import Calibration, calibration
from embedllm_router.analysis.judged import Judged, judged
from embedllm_router.analysis.topics import TopicShare, by_topic
from embedllm_router.analysis.verdict.recorded import verdict_of
from embedllm_router.records.reader.file_source import FileSource
from embedllm_router.records.reader.source import N_GROUPS, Filters, RecordSource, group, sampled

__all__ = [
    "COMPARED",
    "FORETOLD",
    "N_SAMPLED",
    "Alternative",
    "CandidateSums",
    "Count",
    "Forecast",
    "LlmForecast",
    "LlmShare",
    "Outcomes",
    "Percentiles",
    "Sample",
    "Spend",
    "Summary",
    "Totals",
    "best_single",
    "forecast",
    "llm_shares",
    "outcomes",
    "read_candidates",
    "read_sample",
    "read_totals",
    "reasons",
    "spend",
    "summarize",
]

Floats = NDArray[np.float64]

N_SAMPLED: Final = 50_000
"""Requests in a sample, about; a log that has no more is read whole."""
_STRETCHES: Final = 40

_FIGURES: Final = ("route_ms", "latency_ms")


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of single requests, chosen at random.

    Attributes:
        at: Their times, rising, UTC without a zone.
        n_total: Of how many they were chosen.
        route_ms: (n,), milliseconds spent in the hook.
        latency_ms: (n,), milliseconds to the last byte; NaN when unknown.
        error: (n,), |billed - expected| / billed cost; NaN unless the chosen LLM answered and was billed.
    """

    at: tuple[datetime, ...]
    n_total: int
    route_ms: Floats
    latency_ms: Floats
    error: Floats

    def __len__(self) -> int:
        return len(self.at)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return self.n_total <= N_SAMPLED


@dataclass(frozen=True, slots=True)
class CandidateSums:
    """Sums over sampled requests, for each candidate over those where it could be chosen.

    Attributes:
        n_requests: Requests that were read and had a candidate chosen.
        unit: (n_rows,), what is resampled: the stretch of time, or the random group of a whole log.
        n_units: How many of them there are.
        name: (n_rows,), the candidate.
        n: (n_rows,), requests where it could be chosen.
        p_correct: (n_rows,), sum of its probabilities in these requests.
        cost_usd: (n_rows,), sum of its costs.
        chosen_p_correct: (n_rows,), sum of the probabilities of those that were chosen in these requests.
        chosen_cost_usd: (n_rows,), sum of their costs.
    """

    n_requests: int
    unit: NDArray[np.intp]
    n_units: int
    name: tuple[str, ...]
    n: Floats
    p_correct: Floats
    cost_usd: Floats
    chosen_p_correct: Floats
    chosen_cost_usd: Floats


def read_sample(source: RecordSource, filters: Filters, n_total: int, seed: int) -> Sample:
    """Reads figures of about `N_SAMPLED` requests of `n_total`."""
    where, parameters = filters.where()
    chance = sampled(seed, N_SAMPLED / max(n_total, 1))
    rows = source.rows(
        f"""
        SELECT "at", route_ms, latency_ms, CASE WHEN status = 'success' AND served = chosen AND billed_cost_usd > 0
          THEN abs(billed_cost_usd - expected_cost_usd) / billed_cost_usd END AS error
        FROM requests WHERE {chance} AND {where} ORDER BY "at"
        """,  # noqa: S608 - our own columns and conditions
        parameters,
    )
    figures = {name: _column(rows, name) for name in (*_FIGURES, "error")}
    return Sample(tuple(row["at"] for row in rows), n_total, **figures)


def read_candidates(source: RecordSource, filters: Filters, sample: Sample, seed: int) -> CandidateSums:
    """Adds up the candidates of sampled requests: of all, or of `_STRETCHES` stretches of time.

    Args:
        source: The records.
        filters: Which requests are meant.
        sample: A sample of the same requests; it says where in time they are dense.
        seed: Decides groups and stretches.
    """
    where, parameters = filters.where()
    unit, n_units = group(seed), N_GROUPS
    if not sample.is_whole:
        bounds = _stretches(sample, seed)
        unit, n_units = _which(len(bounds)), len(bounds)
        inside = " OR ".join(f'("at" >= $from{i} AND "at" < $to{i})' for i in range(n_units))
        where = f"{where} AND ({inside})"
        parameters |= {f"from{i}": start for i, (start, _) in enumerate(bounds)}
        parameters |= {f"to{i}": end for i, (_, end) in enumerate(bounds)}
    could = "p_correct + expected_cost_usd + candidate_p_correct + candidate_cost_usd IS NOT NULL"
    rows = source.rows(
        f"""
        SELECT {unit} AS unit, candidate_name AS name, count(*) AS n, sum(candidate_p_correct) AS p_correct,
          sum(candidate_cost_usd) AS cost_usd, sum(p_correct) AS chosen_p_correct,
          sum(expected_cost_usd) AS chosen_cost_usd, count(CASE WHEN candidate_name = chosen THEN 1 END) AS n_chosen
        FROM weighed WHERE candidate_excluded IS NULL AND {could} AND {where} GROUP BY unit, candidate_name
        """,  # noqa: S608 - our own columns and conditions
        parameters,
    )
    return CandidateSums(
        n_requests=sum(row["n_chosen"] for row in rows),
        unit=np.array([row["unit"] for row in rows], dtype=np.intp),
        n_units=n_units,
        name=tuple(row["name"] for row in rows),
        **{name: _column(rows, name) for name in ("n", "p_correct", "cost_usd", *_CHOSEN)},
    )


_CHOSEN: Final = ("chosen_p_correct", "chosen_cost_usd")


def _stretches(sample: Sample, seed: int) -> list[tuple[datetime, datetime]]:
    """Stretches spread over the sample, each with about the same number of requests; dense times get more of them."""
    n = len(sample)
    wanted = N_SAMPLED / _STRETCHES
    width = max(1, round(wanted * n / sample.n_total))
    step = n / _STRETCHES
    offset = np.random.default_rng(seed).random()
    first = [int((i + offset) * step) for i in range(_STRETCHES)]
    bounds = [(sample.at[i], sample.at[min(i + min(width, int(step)), n - 1)]) for i in first if i < n - 1]
    return [(start, end) for start, end in bounds if start < end]


def _which(n: int) -> str:
    """SQL of the number of the stretch a request lies in; they rise and do not overlap."""
    return "CASE " + " ".join(f'WHEN "at" < $to{i} THEN {i}' for i in range(n)) + " END"


def _column(rows: list[dict[str, Any]], name: str) -> Floats:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


_WEIGHED: Final = (
    "p_correct",
    "expected_cost_usd",
    "likeliest_p_correct",
    "likeliest_cost_usd",
    "cheapest_p_correct",
    "cheapest_cost_usd",
)
"""Numbers of which a request has all or is left out of comparisons."""

COMPARED: Final = f"({' + '.join(_WEIGHED)}) IS NOT NULL"
"""SQL of a request that is compared with other ways to choose."""
FORETOLD: Final = f"{COMPARED} AND billed_cost_usd IS NOT NULL AND status = 'success' AND served = chosen"
"""SQL of a request whose forecast is compared with its bill: the chosen LLM answered, and was billed."""

_SUMS: Final = {
    "n": "count(*)",
    "n_billed": "count(billed_cost_usd)",
    "billed_usd": "sum(billed_cost_usd)",
    **{name: f"sum({name})" for name in (*_WEIGHED, "baseline_p_correct", "baseline_cost_usd")},
    "billed_expected_usd": "sum(CASE WHEN billed_cost_usd IS NOT NULL THEN expected_cost_usd END)",
}
_BY: Final = ("chosen", "served", "status", "reason", "floor_met", "baseline", "compared")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over requests that are alike in everything named in `by`, one row for each such lot.

    Attributes:
        group: (n_rows,), random group of the requests.
        by: Column → its value in each row: "chosen", "served" (None when nobody answered), "status", "reason",
            "floor_met", "baseline", and "compared": whether they have every probability and cost.
        sums: Name → sums, float64 (n_rows,): requests `n` and those billed `n_billed`, the rest USD and probabilities.
            `billed_expected_usd` is the predicted cost of the billed ones.
        first: Time of the first request, UTC without a zone; None without any.
        last: Time of the last.
    """

    group: NDArray[np.intp]
    by: Mapping[str, tuple[str | bool | None, ...]]
    sums: Mapping[str, Floats]
    first: datetime | None
    last: datetime | None

    def __len__(self) -> int:
        return len(self.group)

    @property
    def n(self) -> int:
        """How many requests there are."""
        return int(self.total("n"))

    @property
    def compared(self) -> NDArray[np.bool_]:
        """Rows of requests with every probability and cost, (n_rows,)."""
        return self.where(compared=True)

    @property
    def foretold(self) -> NDArray[np.bool_]:
        """Rows of requests that the chosen LLM answered, (n_rows,)."""
        same = [one == other for one, other in zip(self.by["chosen"], self.by["served"], strict=True)]
        return np.array(same, dtype=bool) & self.where(compared=True, status="success")

    def where(self, **values: str | bool | None) -> NDArray[np.bool_]:
        """Rows whose columns have these values, (n_rows,)."""
        found = np.ones(len(self), dtype=bool)
        for column, value in values.items():
            found &= np.array([one == value for one in self.by[column]], dtype=bool)
        return found

    def total(self, name: str, rows: NDArray[np.bool_] | None = None) -> float:
        """A sum over some rows; over all by default."""
        return float(self.sums[name].sum(where=True if rows is None else rows))

    def per_group(self, name: str, rows: NDArray[np.bool_]) -> Floats:
        """A sum over some rows in each random group, (N_GROUPS,)."""
        return np.bincount(self.group[rows], weights=self.sums[name][rows], minlength=N_GROUPS).astype(np.float64)

    def per_value(self, column: str, name: str, rows: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """A sum over some rows for each value of a column but None."""
        found: dict[str, float] = {}
        kept = np.ones(len(self), dtype=bool) if rows is None else rows
        for value, amount, is_kept in zip(self.by[column], self.sums[name].tolist(), kept.tolist(), strict=True):
            if is_kept and value is not None:
                found[str(value)] = found.get(str(value), 0.0) + amount
        return found


def read_totals(source: RecordSource, filters: Filters, seed: int) -> Totals:
    """Adds up the requests that meet some filters.

    Args:
        source: The records.
        filters: Which requests are meant.
        seed: Decides the random groups.
    """
    where, parameters = filters.where()
    rows = source.rows(_sql(where, seed), parameters)
    return Totals(
        group=np.array([row["bin"] for row in rows], dtype=np.intp),
        by={column: tuple(row[column] for row in rows) for column in _BY},
        sums={name: _sum_column(rows, name) for name in _SUMS},
        first=min((row["first"] for row in rows), default=None),
        last=max((row["last"] for row in rows), default=None),
    )


def _sql(where: str, seed: int) -> str:
    sums = ", ".join(f"{sql} AS {name}" for name, sql in _SUMS.items())
    by = ", ".join(_BY[:-1])
    return f"""
    SELECT {group(seed)} AS bin, {by}, {COMPARED} AS compared, {sums},
      min("at") AS first, max("at") AS last
    FROM requests WHERE {where} GROUP BY bin, {by}, compared
    """  # noqa: S608 - our own columns and conditions


def _sum_column(rows: list[dict[str, Any]], name: str) -> Floats:
    return np.array([row[name] or 0.0 for row in rows], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Count:
    """How many of how many.

    Attributes:
        n: How many.
        of: Of how many it could have been.
    """

    n: int
    of: int

    @property
    def share(self) -> float | None:
        """In [0, 1]; None of nothing."""
        return self.n / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class LlmShare:
    """One LLM's part.

    Attributes:
        llm: Its model group.
        chosen: Requests it was chosen for, of all.
        served: Requests it answered, of all.
        billed_usd: Billed cost of those it answered.
        p_correct: Mean predicted probability of those it was chosen for; None when none was predicted.
    """

    llm: str
    chosen: Count
    served: Count
    billed_usd: float
    p_correct: float | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How requests ended.

    Attributes:
        success: Answered, of all.
        failure: Ended in an error.
        unknown: Nobody reported an outcome.
        fallback: Another LLM answered than the chosen one, of those answered.
        failed_open: Routing failed and the default answered, of all.
        floor_missed: No candidate reached the floor that the objective set, of those with a floor.
    """

    success: Count
    failure: Count
    unknown: Count
    fallback: Count
    failed_open: Count
    floor_missed: Count


def outcomes(totals: Totals) -> Outcomes:
    """Adds up how requests ended."""
    n = totals.n
    success, failure = (int(totals.total("n", totals.where(status=status))) for status in ("success", "failure"))
    missed, met = (int(totals.total("n", totals.where(floor_met=is_met))) for is_met in (False, True))
    pairs = zip(totals.by["chosen"], totals.by["served"], strict=True)
    fell = np.array([served not in {None, chosen} for chosen, served in pairs], dtype=bool)
    return Outcomes(
        success=Count(success, n),
        failure=Count(failure, n),
        unknown=Count(n - success - failure, n),
        fallback=Count(int(totals.total("n", fell)), n - int(totals.total("n", totals.where(served=None)))),
        failed_open=Count(int(totals.total("n", totals.where(reason="failed_open"))), n),
        floor_missed=Count(missed, missed + met),
    )


def llm_shares(totals: Totals) -> tuple[LlmShare, ...]:
    """Every LLM that was chosen or answered; the one chosen most often first."""
    chosen, served = totals.per_value("chosen", "n"), totals.per_value("served", "n")
    billed = totals.per_value("served", "billed_usd")
    predicted, p = (totals.per_value("chosen", name, totals.compared) for name in ("n", "p_correct"))
    return tuple(
        LlmShare(
            llm=name,
            chosen=Count(int(chosen.get(name, 0)), totals.n),
            served=Count(int(served.get(name, 0)), totals.n),
            billed_usd=billed.get(name, 0.0),
            p_correct=p[name] / predicted[name] if predicted.get(name) else None,
        )
        for name in sorted({*chosen, *served}, key=lambda name: (-chosen.get(name, 0), name))
    )


def reasons(totals: Totals) -> dict[str, Count]:
    """How often each reason decided, the most frequent first."""
    found = totals.per_value("reason", "n")
    ordered = sorted(found, key=lambda reason: (-found[reason], reason))
    return {reason: Count(int(found[reason]), totals.n) for reason in ordered}


_ENOUGH: Final = 0.5
"""Share of the requests that an LLM must have been able to take to count as one that could take all."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another way to choose, beside the routing that was, over the same requests.

    Attributes:
        name: "baseline", "likeliest", "cheapest" or "best_single".
        llm: The model group it always chooses; None when that differs by request.
        n: Requests compared.
        n_meant: Requests the figures stand for; more than `n` when they were sampled.
        cost_usd: Predicted cost of a request its way, in USD.
        p_correct: Predicted probability of a correct answer its way.
        routed_cost_usd: Predicted cost of a request as it was routed.
        routed_p_correct: Predicted probability as it was routed.
        saved_usd: USD that routing saved over all requests meant; negative when it cost more.
        saved_share: The same as a share of its cost, at most 1.
        p_correct_gained: What routing gained per request; negative when it gave something up.
    """

    name: str
    llm: str | None
    n: int
    n_meant: int
    cost_usd: float
    p_correct: float
    routed_cost_usd: float
    routed_p_correct: float
    saved_usd: Estimate
    saved_share: Estimate
    p_correct_gained: Estimate


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent.

    Attributes:
        billed_usd: Billed cost of all requests.
        n_billed: Requests with a billed cost.
        expected_usd: Predicted cost of the compared requests, as they were routed.
        n_compared: Requests with every prediction; those that failed open have none.
        p_correct: Their mean predicted probability of a correct answer; NaN without any.
        alternatives: Other ways to choose; empty when no request can be compared.
    """

    billed_usd: float
    n_billed: int
    expected_usd: float
    n_compared: int
    p_correct: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums per unit of resampling, each (n_units,)."""

    n: Floats
    cost: Floats
    p: Floats
    routed_cost: Floats
    routed_p: Floats


def spend(totals: Totals, candidates: CandidateSums, seed: int) -> Spend:
    """Compares routing with the baselines, and always the most accurate, the cheapest, and the single best LLM."""
    n_compared = int(totals.total("n", totals.compared))
    alternatives: Sequence[Alternative | None] = ()
    if n_compared:
        alternatives = (
            *_baselines(totals, seed),
            _alternative("likeliest", _from_totals(totals, "likeliest"), n_compared, seed),
            _alternative("cheapest", _from_totals(totals, "cheapest"), n_compared, seed),
            best_single(candidates, n_compared, seed),
        )
    return Spend(
        billed_usd=totals.total("billed_usd"),
        n_billed=int(totals.total("n_billed")),
        expected_usd=totals.total("expected_cost_usd", totals.compared),
        n_compared=n_compared,
        p_correct=totals.total("p_correct", totals.compared) / n_compared if n_compared else np.nan,
        alternatives=tuple(one for one in alternatives if one is not None),
    )


def best_single(candidates: CandidateSums, n_meant: int, seed: int) -> Alternative | None:
    """Routing beside the one LLM with the highest mean p_correct over the requests where it could be chosen.

    Only LLMs count that could have taken half of the requests or more; of equals the cheaper is the best.

    Args:
        candidates: Sums over sampled requests.
        n_meant: Requests the sample stands for.
        seed: Of the interval.

    Returns:
        None when there is no such LLM.
    """
    best: tuple[float, float, str] | None = None
    for name in sorted(set(candidates.name)):
        sums = _of(candidates, name)
        n = sums.n.sum()
        if n >= _ENOUGH * candidates.n_requests:
            rank = (-sums.p.sum() / n, sums.cost.sum() / n, name)
            best = rank if best is None else min(best, rank)
    if best is None:
        return None
    return _alternative("best_single", _of(candidates, best[2]), n_meant, seed, llm=best[2])


def _baselines(totals: Totals, seed: int) -> list[Alternative]:
    """Routing beside each baseline that the virtual models name, over the requests it could have taken."""
    counted = totals.per_value("baseline", "n", totals.compared)
    return [
        _alternative("baseline", _from_totals(totals, "baseline", baseline=name), int(n), seed, llm=name)
        for name, n in sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    ]


def _from_totals(totals: Totals, way: str, **values: str) -> _Sums:
    names = ("n", f"{way}_cost_usd", f"{way}_p_correct", "expected_cost_usd", "p_correct")
    return _Sums(*(totals.per_group(name, totals.where(compared=True, **values)) for name in names))


def _of(candidates: CandidateSums, name: str) -> _Sums:
    mine = np.array([one == name for one in candidates.name])
    units = candidates.unit[mine]

    def per_unit(column: Floats) -> Floats:
        return np.bincount(units, weights=column[mine], minlength=candidates.n_units).astype(np.float64)

    return _Sums(
        n=per_unit(candidates.n),
        cost=per_unit(candidates.cost_usd),
        p=per_unit(candidates.p_correct),
        routed_cost=per_unit(candidates.chosen_cost_usd),
        routed_p=per_unit(candidates.chosen_p_correct),
    )


def _alternative(name: str, sums: _Sums, n_meant: int, seed: int, llm: str | None = None) -> Alternative:
    n = float(sums.n.sum())
    draws = Resampling(len(sums.n), seed)
    saved = draws.ratio(sums.cost - sums.routed_cost, sums.n)
    return Alternative(
        name=name,
        llm=llm,
        n=int(n),
        n_meant=n_meant,
        cost_usd=float(sums.cost.sum() / n),
        p_correct=float(sums.p.sum() / n),
        routed_cost_usd=float(sums.routed_cost.sum() / n),
        routed_p_correct=float(sums.routed_p.sum() / n),
        saved_usd=Estimate(saved.value * n_meant, saved.low * n_meant, saved.high * n_meant, int(n)),
        saved_share=_counting(draws.ratio(sums.cost - sums.routed_cost, sums.cost), int(n)),
        p_correct_gained=_counting(draws.ratio(sums.routed_p - sums.p, sums.n), int(n)),
    )


def _counting(found: Estimate, n: int) -> Estimate:
    """The same estimate, which says how many requests it rests on rather than how many groups."""
    return Estimate(found.value, found.low, found.high, n)


@dataclass(frozen=True, slots=True)
class LlmForecast:
    """One LLM's forecasts.

    Attributes:
        llm: Its model group.
        n: Requests it answered and was billed for.
        expected_usd: Their predicted cost.
        billed_usd: Their billed cost.
        ratio: Billed over predicted; None when nothing was predicted to cost anything.
    """

    llm: str
    n: int
    expected_usd: float
    billed_usd: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """How good forecasts of cost were.

    Attributes:
        n: Requests with a predicted and a billed cost of the same LLM.
        expected_usd: Their predicted cost.
        billed_usd: Their billed cost.
        ratio: Billed over predicted; above 1 the forecasts were too low.
        median_error: Median of |billed - predicted| / billed; NaN without any.
        n_median: Requests behind that median.
        by_llm: Dearest first.
    """

    n: int
    expected_usd: float
    billed_usd: float
    ratio: Estimate
    median_error: float
    n_median: int
    by_llm: tuple[LlmForecast, ...]


def forecast(totals: Totals, sample: Sample, seed: int) -> Forecast:
    """Compares predicted with billed costs."""
    rows = totals.foretold
    billed, expected = totals.per_group("billed_usd", rows), totals.per_group("billed_expected_usd", rows)
    errors = sample.error[np.isfinite(sample.error)]
    n = int(totals.total("n_billed", rows))
    ratio = Resampling(len(billed), seed).ratio(billed, expected)
    return Forecast(
        n=n,
        expected_usd=float(expected.sum()),
        billed_usd=float(billed.sum()),
        ratio=Estimate(ratio.value, ratio.low, ratio.high, n),
        median_error=float(np.median(errors)) if errors.size else np.nan,
        n_median=int(errors.size),
        by_llm=_by_llm(totals),
    )


def _by_llm(totals: Totals) -> tuple[LlmForecast, ...]:
    names = ("n_billed", "billed_expected_usd", "billed_usd")
    n, expected, billed = (totals.per_value("chosen", name, totals.foretold) for name in names)
    found = [
        LlmForecast(
            llm, int(n[llm]), expected[llm], billed[llm], billed[llm] / expected[llm] if expected[llm] else None
        )
        for llm in n
        if n[llm]
    ]
    return tuple(sorted(found, key=lambda one: (-one.billed_usd, one.llm)))


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long something took, in milliseconds; NaN without any.

    Attributes:
        n: Requests behind it.
        p50: Median.
        p95: 95th percentile.
        p99: 99th percentile.
    """

    n: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A log in figures.

    Attributes:
        where: Where the log lies, without credentials.
        filters: Conditions the requests meet, by name.
        n: Requests.
        first: Time of the first, UTC without a zone; None without any.
        last: Time of the last.
        llms: Every LLM's part; the one chosen most often first.
        outcomes: How requests ended.
        topics: What they were about, and what that cost; most requests first.
        reasons: Reason → how often it decided.
        spend: What routing cost, beside other ways to choose.
        forecast: Predicted beside billed cost.
        calibration: Predicted p_correct beside feedback; None without feedback.
        route_ms: Time that routing added.
        latency_ms: From the call to its last byte, routing included.
        verdict: Whether routing pays, in one sentence, by feedback on the newest requests.
        judged: What judged evaluation cost and taught; None where nothing was judged.
        rejected_lines: Lines of record files that were no records, whatever the filters; each may have been one.
    """

    where: str
    filters: Mapping[str, object]
    n: int
    first: datetime | None
    last: datetime | None
    llms: tuple[LlmShare, ...]
    outcomes: Outcomes
    topics: tuple[TopicShare, ...]
    reasons: Mapping[str, Count]
    spend: Spend
    forecast: Forecast
    calibration: Calibration | None
    route_ms: Percentiles
    latency_ms: Percentiles
    verdict: str
    judged: Judged | None
    rejected_lines: int


def summarize(source: RecordSource, filters: Filters | None = None, *, seed: int = 0) -> Summary:
    """Sums up the requests that meet some filters.

    Args:
        source: The records.
        filters: Which requests are meant; None means all.
        seed: Decides samples and intervals; the same records and seed give the same summary on every back
            end, but for rounding and for which verdicts are drawn of very many.

    Returns:
        The summary; orjson writes it as it is.

    Raises:
        DataError: The records cannot be read.
    """
    filters = filters or Filters()
    totals = read_totals(source, filters, seed)
    sample = read_sample(source, filters, totals.n, seed)
    candidates = read_candidates(source, filters, sample, seed)
    return Summary(
        where=source.where,
        filters=filters.given(),
        n=totals.n,
        first=totals.first,
        last=totals.last,
        llms=llm_shares(totals),
        outcomes=outcomes(totals),
        topics=by_topic(source, filters),
        reasons=reasons(totals),
        spend=spend(totals, candidates, seed),
        forecast=forecast(totals, sample, seed),
        calibration=calibration(source, filters, seed),
        route_ms=_percentiles(sample.route_ms),
        latency_ms=_percentiles(sample.latency_ms),
        verdict=verdict_of(source, filters).sentence,
        judged=judged(source, filters),
        rejected_lines=source.rejected_lines() if isinstance(source, FileSource) else 0,
    )


def _percentiles(values: NDArray[np.float64]) -> Percentiles:
    known = values[np.isfinite(values)]
    if not known.size:
        return Percentiles(0, np.nan, np.nan, np.nan)
    return Percentiles(int(known.size), *(float(q) for q in np.quantile(known, [0.5, 0.95, 0.99])))
