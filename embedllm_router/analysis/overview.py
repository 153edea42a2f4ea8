"""The overview of a span of time: requests, LLMs, cost, latency and errors; and the values to filter by.

Two scans of the records suffice: one adds up, the other sorts for percentiles.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal

from embedllm_router.analysis.span import RecordQuery, Window, window_of
from embedllm_router.analysis.summary import COMPARED, FORETOLD
from embedllm_router.records.reader.source import RecordSource

__all__ = ["Change", "LLMLine", "Overview", "Spread", "Sums", "choices", "overview"]

_COLUMNS: Final = ("virtual_model", "key_alias", "chosen", "served", "reason", "status", "arm")
_MOST: Final = 100


def choices(source: RecordSource, query: RecordQuery) -> dict[str, list[str]]:
    """Lists the values of the columns one filters by.

    Args:
        source: The records.
        query: Which of them.

    Returns:
        Column → its values, most frequent first, at most 100.

    Raises:
        DataError: The records cannot be read.
    """
    where, given = query.filters().where()
    listed = ", ".join(_COLUMNS)
    sql = f"""
    WITH fine AS (SELECT {listed}, count(*) AS n FROM requests WHERE {where} GROUP BY {listed})
    SELECT GROUPING({listed}) AS grouped, {listed}, sum(n) AS n FROM fine
    GROUP BY GROUPING SETS ({", ".join(f"({column})" for column in _COLUMNS)})
    """  # noqa: S608 - our own SQL
    found: dict[str, list[tuple[int, str]]] = {column: [] for column in _COLUMNS}
    everything = 2 ** len(_COLUMNS) - 1
    for row in source.rows(sql, given):
        place = len(_COLUMNS) - (everything - row["grouped"]).bit_length()
        column = _COLUMNS[place]
        if row[column] is not None:
            found[column].append((-row["n"], row[column]))
    return {column: [value for _, value in sorted(pairs)[:_MOST]] for column, pairs in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What adds up over requests. Money is USD.

    Attributes:
        requests: All of them.
        succeeded: Answered.
        failed: Ended in an error.
        fallbacks: Answered by another group than the chosen one.
        failed_open: Sent to the default because routing failed.
        billed: Those with a known bill.
        billed_usd: What they cost.
        compared: Those with every prediction of the chosen, the most accurate and the cheapest; the next six are of
            these.
        expected_usd: Expected cost of the chosen ones.
        likeliest_usd: Expected cost, had each gone to the most accurate.
        cheapest_usd: Expected cost, had each gone to the cheapest.
        p_correct: Sum of the chosen ones' probabilities.
        likeliest_p_correct: Sum of the most accurate ones'.
        cheapest_p_correct: Sum of the cheapest ones'.
        baseline: Of the compared, those that the virtual model's baseline could have taken; the next four are of these.
        baseline_usd: Expected cost, had each gone to the baseline.
        baseline_p_correct: Sum of its probabilities.
        baseline_expected_usd: Expected cost of the chosen ones.
        baseline_expected_p_correct: Sum of their probabilities.
        forecast: Answered by the chosen group, with an expected and a billed cost; the next two are over them.
        forecast_usd: What they were expected to cost.
        forecast_billed_usd: What they did cost.
        retried: Requests of which at least one call failed, whatever came of them.
        failed_attempts: Calls that failed, retries and fallbacks among them.
    """

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    fallbacks: int = 0
    failed_open: int = 0
    billed: int = 0
    billed_usd: float = 0.0
    compared: int = 0
    expected_usd: float = 0.0
    likeliest_usd: float = 0.0
    cheapest_usd: float = 0.0
    p_correct: float = 0.0
    likeliest_p_correct: float = 0.0
    cheapest_p_correct: float = 0.0
    baseline: int = 0
    baseline_usd: float = 0.0
    baseline_p_correct: float = 0.0
    baseline_expected_usd: float = 0.0
    baseline_expected_p_correct: float = 0.0
    forecast: int = 0
    forecast_usd: float = 0.0
    forecast_billed_usd: float = 0.0
    retried: int = 0
    failed_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 95th percentile in milliseconds; None where nothing was measured.

    Attributes:
        latency_p50: From the call to its last byte.
        latency_p95: Likewise.
        route_p50: What routing added to it.
        route_p95: Likewise.
        total_p50: From the request's arrival to the last byte, as the client waited.
        total_p95: Likewise.
    """

    latency_p50: float | None = None
    latency_p95: float | None = None
    route_p50: float | None = None
    route_p95: float | None = None
    total_p50: float | None = None
    total_p95: float | None = None


@dataclass(frozen=True, slots=True)
class LLMLine:
    """One model group.

    Attributes:
        name: The group.
        chosen: Sums over the requests it was chosen for.
        answered: How many requests it answered, fallbacks to it included.
        answered_usd: What those cost, in USD.
        spread: How fast those were.
        by_step: How often it was chosen in each step of the window.
    """

    name: str
    chosen: Sums
    answered: int
    answered_usd: float
    spread: Spread
    by_step: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """When another configuration or other weights began to decide, by the first record that says so.

    Attributes:
        at: Time of that record, UTC.
        what: "weights" for weights not seen before in the window, else "configuration".
        artifact: Id of the weights.
        generation: How often that process had loaded configuration and weights.
    """

    at: datetime
    what: Literal["weights", "configuration"]
    artifact: str
    generation: int


@dataclass(frozen=True, slots=True)
class Overview:
    """All the overview shows.

    Attributes:
        since: Start of the window, UTC.
        until: Its end.
        step_s: Length of a step in seconds.
        starts: Start of every step, seconds since 1970.
        total: Sums over everything.
        every: Percentiles are over one in so many requests, by the microsecond of their time; 1 is all of them.
        spread: Percentiles over everything.
        by_step: Sums of every step.
        spread_by_step: Percentiles of every step.
        llms: The model groups, most often chosen first.
        reasons: Requests by the reason of their choice, most first.
        problems: Requests by the class of their error, whether routing's or the LLM's; most first, at most 20.
        changes: When configuration or weights changed, oldest first; the latest 20.
    """

    since: datetime
    until: datetime
    step_s: int
    starts: tuple[int, ...]
    total: Sums
    every: int
    spread: Spread
    by_step: tuple[Sums, ...]
    spread_by_step: tuple[Spread, ...]
    llms: tuple[LLMLine, ...]
    reasons: dict[str, int]
    problems: dict[str, int]
    changes: tuple[Change, ...]


_MOST_LLMS: Final = 200
_THINNINGS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SORTED: Final = 100_000
"""Requests that are sorted for percentiles; more would tell little and take long."""
_MOST_PROBLEMS: Final = 20
_MOST_CHANGES: Final = 20
_SUMS: Final = {
    "requests": "count(*)",
    "succeeded": "count(*) FILTER (WHERE status = 'success')",
    "failed": "count(*) FILTER (WHERE status = 'failure')",
    "fallbacks": "count(*) FILTER (WHERE fallback)",
    "failed_open": "count(failed_open)",
    "billed": "count(billed_cost_usd)",
    "billed_usd": "sum(billed_cost_usd)",
    "compared": "count(comparable)",
    "expected_usd": "sum(expected_cost_usd * comparable)",
    "likeliest_usd": "sum(likeliest_cost_usd * comparable)",
    "cheapest_usd": "sum(cheapest_cost_usd * comparable)",
    "p_correct": "sum(p_correct * comparable)",
    "likeliest_p_correct": "sum(likeliest_p_correct * comparable)",
    "cheapest_p_correct": "sum(cheapest_p_correct * comparable)",
    "baseline": "count(baseline_cost_usd * comparable)",
    "baseline_usd": "sum(baseline_cost_usd * comparable)",
    "baseline_p_correct": "sum(CASE WHEN baseline_cost_usd IS NOT NULL THEN baseline_p_correct * comparable END)",
    "baseline_expected_usd": "sum(CASE WHEN baseline_cost_usd IS NOT NULL THEN expected_cost_usd * comparable END)",
    "baseline_expected_p_correct": "sum(CASE WHEN baseline_cost_usd IS NOT NULL THEN p_correct * comparable END)",
    "forecast": "count(foreseen)",
    "forecast_usd": "sum(expected_cost_usd * foreseen)",
    "forecast_billed_usd": "sum(billed_cost_usd * foreseen)",
    "retried": "count(CASE WHEN array_length(failed_attempts, 1) > 0 THEN 1 END)",
    "failed_attempts": "sum(array_length(failed_attempts, 1))",
}
_STEP: Final = 'CAST(floor(extract(epoch FROM "at") / CAST($step_s AS DOUBLE PRECISION)) AS BIGINT)'
_BY: Final = "step, chosen, served, reason, problem, artifact, generation"
_BY_STEP, _BY_SERVED, _BY_REASON, _BY_PROBLEM, _BY_SNAPSHOT = 0b0011111, 0b1101111, 0b1110111, 0b1111011, 0b1111100
"""Which of `_BY` a row is *not* grouped by, as GROUPING counts."""
_ADDED_UP: Final = f"""
WITH marked AS (
  SELECT *, {_STEP} AS step, COALESCE(failed_open, error) AS problem,
    CASE WHEN {COMPARED} THEN 1 END AS comparable, CASE WHEN {FORETOLD} THEN 1 END AS foreseen
  FROM requests WHERE {{where}}
), fine AS (
  SELECT {_BY}, {", ".join(f"{sql} AS {name}" for name, sql in _SUMS.items())},
    min(CASE WHEN arm = 'live' THEN "at" END) AS first
  FROM marked GROUP BY {_BY}
)
SELECT GROUPING({_BY}) AS grouped, {_BY},
  {", ".join(f"sum({name}) AS {name}" for name in _SUMS)}, min(first) AS first
FROM fine GROUP BY GROUPING SETS ((step, chosen), (served), (reason), (problem), (artifact, generation))
"""  # noqa: S608 - our own SQL
_SPREADS: Final = f"""
SELECT GROUPING(step, served) AS grouped, step, served,
  percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY latency_ms) AS latency,
  percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY route_ms) AS route,
  percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY total_ms) AS total
FROM (
  SELECT {_STEP} AS step, served, latency_ms, route_ms, total_ms FROM requests
  WHERE {{where}} AND CAST(extract(microseconds FROM "at") AS BIGINT) % $every = 0
) AS r
GROUP BY GROUPING SETS ((), (step), (served))
"""  # noqa: S608 - our own SQL
_NOT_BY_STEP, _NOT_BY_SERVED, _BY_NOTHING = 0b10, 0b01, 0b11


def overview(source: RecordSource, query: RecordQuery) -> Overview:
    """Sums up the records of a query.

    Args:
        source: The records.
        query: Which of them.

    Returns:
        The overview; zeros where there are no records.

    Raises:
        DataError: The records cannot be read.
    """
    window = window_of(source, query)
    where, given = window.filters.where()
    given = {**given, "step_s": window.step_s}
    added = _grouped(source.rows(_ADDED_UP.format(where=where), given))
    total = _total(added[_BY_STEP])
    every = _thinning(total.requests)
    spreads = _grouped(source.rows(_SPREADS.format(where=where), {**given, "every": every}))
    steps = _in_steps(window, added[_BY_STEP])
    measured = {row["step"]: _spread(row) for row in spreads[_NOT_BY_SERVED]}
    return Overview(
        since=window.since,
        until=window.until,
        step_s=window.step_s,
        starts=window.starts,
        total=total,
        every=every,
        spread=next(map(_spread, spreads[_BY_NOTHING]), Spread()),
        by_step=tuple(_total(rows) for rows in steps),
        spread_by_step=tuple(measured.get(start // window.step_s, Spread()) for start in window.starts),
        llms=_llms(added, spreads, steps),
        reasons=_counts(added[_BY_REASON], "reason"),
        problems=dict(list(_counts(added[_BY_PROBLEM], "problem").items())[:_MOST_PROBLEMS]),
        changes=_changes(added[_BY_SNAPSHOT]),
    )


Row = Mapping[str, Any]


def _thinning(requests: int) -> int:
    """How many requests stand behind one that is sorted: a divisor of 1,000, since clocks may tick in milliseconds."""
    return next((every for every in _THINNINGS if requests / every <= _SORTED), _THINNINGS[-1])


def _grouped(rows: Iterable[Row]) -> defaultdict[int, list[Row]]:
    parts: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        parts[row["grouped"]].append(row)
    return parts


def _in_steps(window: Window, rows: Iterable[Row]) -> list[list[Row]]:
    by_step: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_step[row["step"]].append(row)
    return [by_step[start // window.step_s] for start in window.starts]


def _total(rows: Iterable[Row]) -> Sums:
    listed = list(rows)
    return Sums(**{f.name: sum(row[f.name] or 0 for row in listed) for f in fields(Sums)})


def _spread(row: Row) -> Spread:
    measured = (row[name] or (None, None) for name in ("latency", "route", "total"))
    return Spread(*(one for pair in measured for one in pair))


def _changes(rows: Iterable[Row]) -> tuple[Change, ...]:
    """What decided first is no change, and neither is a process that starts and counts its generations anew."""
    named = (row for row in rows if None not in {row["first"], row["artifact"], row["generation"]})
    seen: set[str] = set()
    found: list[Change] = []
    for row in sorted(named, key=lambda row: (row["first"], row["generation"])):
        is_new = row["artifact"] not in seen
        seen.add(row["artifact"])
        found.append(Change(row["first"], "weights" if is_new else "configuration", row["artifact"], row["generation"]))
    return tuple(found[1:][-_MOST_CHANGES:])


def _llms(
    added: Mapping[int, list[Row]], spreads: Mapping[int, list[Row]], steps: list[list[Row]]
) -> tuple[LLMLine, ...]:
    answered = {row["served"]: row for row in added.get(_BY_SERVED, ()) if row["served"] is not None}
    measured = {row["served"]: _spread(row) for row in spreads.get(_NOT_BY_STEP, ())}
    chosen: defaultdict[str, list[Row]] = defaultdict(list)
    for row in added.get(_BY_STEP, ()):
        chosen[row["chosen"]].append(row)
    in_step = [{row["chosen"]: row["requests"] for row in rows} for rows in steps]
    lines = [
        LLMLine(
            name=name,
            chosen=_total(chosen.get(name, ())),
            answered=answered.get(name, {}).get("requests", 0),
            answered_usd=answered.get(name, {}).get("billed_usd") or 0.0,
            spread=measured.get(name, Spread()),
            by_step=tuple(counts.get(name, 0) for counts in in_step),
        )
        for name in {*chosen, *answered}
    ]
    return tuple(sorted(lines, key=lambda line: (-line.chosen.requests, -line.answered, line.name))[:_MOST_LLMS])


def _counts(rows: Iterable[Row], column: str) -> dict[str, int]:
    known = [(row[column], row["requests"]) for row in rows if row[column] is not None]
    return dict(sorted(known, key=lambda pair: (-pair[1], pair[0])))
