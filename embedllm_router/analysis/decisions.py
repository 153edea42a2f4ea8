"""Single decisions: a page of a list that can be searched, the list as CSV, and everything about one of them.

To read a page of the newest decisions without sorting them all, records are counted in stretches of ten minutes first,
which reads few columns; files without the wanted stretches are not opened.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from embedllm_router.analysis.span import RecordQuery
from embedllm_router.records.reader.export import defused
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.reader.verdicts import RequestKey, counting, mean_score, request_key, verdicts_on
from embedllm_router.records.schema import REQUEST_COLUMNS

__all__ = [
    "DEEPEST",
    "DecisionPage",
    "DecisionSearch",
    "Place",
    "decision_csv",
    "decision_page",
    "decision_row",
    "feedback_on",
    "place_of_newest",
]

_STRETCH_S: Final = 600
_FEW: Final = 20
_TIMES: Final = f'CASE WHEN count(*) <= {_FEW} THEN array_agg("at") END'
_COUNTED: Final = """
WITH counted AS (
  SELECT CAST(floor(extract(epoch FROM "at") / {length}) AS BIGINT) AS stretch, count(*) AS n, {times} AS times,
    min("at") AS first, max("at") AS last
  FROM requests WHERE {where} GROUP BY 1
), passed AS (
  SELECT *, sum(n) OVER (ORDER BY stretch DESC) AS so_far, sum(n) OVER () AS total FROM counted
)
SELECT *, so_far > $skip AND so_far - n < $stop AS wanted FROM passed
WHERE (so_far > $skip AND so_far - n < $stop) OR so_far = total ORDER BY stretch
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where some of the newest records lie.

    Attributes:
        total: How many records there are of the kind.
        where: Condition that holds of a stretch of time with the wanted ones.
        given: Its parameters.
        before: How many newer ones lie outside the stretch.
        first: Time of the oldest record of the kind, UTC without zone; None without any.
        last: Time of the newest one in the stretch; None likewise.
    """

    total: int
    where: str
    given: dict[str, object]
    before: int
    first: datetime | None = None
    last: datetime | None = None


def place_of_newest(
    source: RecordSource, where: str, given: Mapping[str, object], wanted: range, *, scattered: bool = False
) -> Place:
    """Finds a stretch of time that holds some of the newest records of a kind.

    Args:
        source: The records.
        where: The kind, as a condition.
        given: Its parameters.
        wanted: Which of them, counted from the newest, which is 0; not empty.
        scattered: Whether they may lie far apart; then their very times are looked up, if they are few.

    Returns:
        The place; its condition holds of nothing where so many do not exist.

    Raises:
        DataError: The records cannot be read.
    """
    sql = _COUNTED.format(length=_STRETCH_S, times=_TIMES if scattered else "NULL", where=where)
    rows = source.rows(sql, {**given, "skip": wanted.start, "stop": wanted.stop})
    holding = [row for row in rows if row["wanted"]]
    total = rows[0]["total"] if rows else 0
    if not holding:
        return Place(total, "FALSE", {}, 0)
    before = min(row["so_far"] - row["n"] for row in holding)
    ends = rows[0]["first"], holding[-1]["last"]
    first, last = holding[0]["stretch"], holding[-1]["stretch"]
    edges: dict[str, object] = {"newest_from": _start(first), "newest_to": _start(last + 1)}
    between = '"at" >= $newest_from AND "at" < $newest_to'
    if not all(row["times"] for row in holding):
        return Place(total, between, edges, before, *ends)
    times: dict[str, object] = {f"time_{number}": at for number, at in enumerate(_times(holding))}
    listed = ", ".join(f"${name}" for name in times)
    return Place(total, f'{between} AND "at" IN ({listed})', edges | times, before, *ends)


def _times(holding: list[dict[str, Any]]) -> list[datetime]:
    return sorted({at for row in holding for at in row["times"]})


def _start(stretch: int) -> datetime:
    return datetime.fromtimestamp(stretch * _STRETCH_S, UTC).replace(tzinfo=None)


DEEPEST: Final = 10_000
"""How many decisions can be paged through; a search that finds more is to be narrowed."""
_LISTED: Final = (
    "at",
    "request_id",
    "response_id",
    "virtual_model",
    "key_alias",
    "reason",
    "failed_open",
    "cost_weight",
    "chosen",
    "served",
    "fallback",
    "status",
    "error",
    "p_correct",
    "expected_cost_usd",
    "billed_cost_usd",
    "latency_ms",
    "total_ms",
    "category",
    "arm",
)
_SEARCHED: Final = ("chosen", "served", "llm", "category", "error", "failed_open", "prompt")
_SEARCHED_AS_IT_IS: Final = ("request_id", "response_id", "prompt_hash")
_LEFT_OUT: Final = ("embedding",)
_MOST_OPINIONS: Final = 100
_NEAR: Final = timedelta(seconds=2)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DecisionSearch:
    """A search among decisions; None sets no condition.

    Attributes:
        text: Occurs in a model group, a category, an error or a kept prompt, whatever its case; or, letter for letter,
            in an id or a prompt's hash.
        llm: The group that was chosen or answered, or the learned LLM chosen.
        reason: Why the chosen one was chosen.
        status: How it ended.
        arm: "live" or "canary".
        only: "fallback" or "failed_open" for those alone.
    """

    text: str | None = None
    llm: str | None = None
    reason: str | None = None
    status: str | None = None
    arm: str | None = None
    only: str | None = None


@dataclass(frozen=True, slots=True)
class DecisionPage:
    """Part of a list of decisions.

    Attributes:
        total: How many were found in all.
        offset: How many lie before these.
        rows: Columns of the list → values; `feedback` is the mean score, None without any.
    """

    total: int
    offset: int
    rows: list[Row]


def decision_page(
    source: RecordSource, query: RecordQuery, search: DecisionSearch, offset: int, limit: int
) -> DecisionPage:
    """Finds decisions, newest first.

    Args:
        source: The records.
        query: Which of them.
        search: What is looked for among those.
        offset: How many to skip; with `limit` at most `DEEPEST`.
        limit: How many to give.

    Returns:
        The page.

    Raises:
        DataError: The records cannot be read.
    """
    found = _listed(source, query, search, range(offset, offset + limit))
    scores = _mean_scores(source, found.rows)
    rows = [{**row, "feedback": scores.get(request_key(row))} for row in found.rows]
    return DecisionPage(found.total, offset, rows)


def decision_csv(source: RecordSource, query: RecordQuery, search: DecisionSearch) -> bytes:
    """The list as CSV, newest first, at most `DEEPEST` decisions.

    Args:
        source: The records.
        query: Which of them.
        search: What is looked for among those.

    Returns:
        UTF-8 with a line of column names; times are UTC with a Z, and a text that a spreadsheet would take for a
        formula has an apostrophe in front.

    Raises:
        DataError: The records cannot be read.
    """
    found = _listed(source, query, search, range(DEEPEST))
    judged = counting(f'SELECT request_id, response_id, "at" {found.meant}')
    means = f'SELECT request_id, "at", avg(score) AS score FROM ({judged}) AS v GROUP BY request_id, "at"'  # noqa: S608 - our own SQL
    scores = {request_key(row): row["score"] for row in source.rows(means, found.given)} if found.rows else {}
    written = io.StringIO()
    lines = csv.writer(written)
    lines.writerow((*_LISTED, "feedback"))
    for row in found.rows:
        lines.writerow([_cell(row[name]) for name in _LISTED] + [_cell(scores.get(request_key(row)))])
    return written.getvalue().encode()


@dataclass(frozen=True, slots=True)
class _Listed:
    """Decisions of the list, newest first, how many there are in all, and the SQL that says from which they are."""

    rows: list[Row]
    total: int
    meant: str
    given: dict[str, object]


def _listed(source: RecordSource, query: RecordQuery, search: DecisionSearch, wanted: range) -> _Listed:
    where, given = _meant(query, search)
    place = place_of_newest(source, where, given, wanted, scattered=search.text is not None)
    columns = ", ".join(f'"{name}"' for name in _LISTED)
    meant, given = f"FROM requests WHERE {place.where} AND {where}", {**given, **place.given}
    part = f'ORDER BY "at" DESC, request_id LIMIT {len(wanted):d} OFFSET {wanted.start - place.before:d}'
    rows = source.rows(f"SELECT {columns} {meant} {part}", given) if place.given else []
    return _Listed(rows, place.total, meant, given)


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    return defused(value) if isinstance(value, str) else value


def _meant(query: RecordQuery, search: DecisionSearch) -> tuple[str, dict[str, object]]:
    """A query and a search as one condition with its parameters."""
    filters = query.filters()
    filters = replace(filters, llm=search.llm, reason=search.reason, status=search.status, arm=search.arm)
    where, given = filters.where()
    if search.text:
        found = [f"strpos(lower({column}), $lower) > 0" for column in _SEARCHED]
        found += [f"strpos({column}, $text) > 0" for column in _SEARCHED_AS_IT_IS]
        where = f"{where} AND ({' OR '.join(found)})"
        given |= {"text": search.text, "lower": search.text.lower()}
    return where + {"fallback": " AND fallback", "failed_open": " AND failed_open IS NOT NULL"}.get(
        search.only or "", ""
    ), given


def decision_row(source: RecordSource, request_id: str, at: datetime | None) -> Row | None:
    """One recorded request, by LiteLLM's call id or the id inside the response.

    Args:
        source: The records.
        request_id: Either id.
        at: When it was decided, to a second, UTC without zone, which makes finding it quick; None looks everywhere.

    Returns:
        Every column but the embedding; None when there is no such record.
    """
    is_it, given = "(request_id = $request_id OR response_id = $request_id)", {"request_id": request_id}
    if at is None:  # its time first, from few columns: then only the files of that time are opened
        at = source.rows(f'SELECT max("at") AS "at" FROM requests WHERE {is_it}', given)[0]["at"]  # noqa: S608 - our own SQL
    if at is None:
        return None
    columns = ", ".join(f'"{name}"' for name in REQUEST_COLUMNS if name not in _LEFT_OUT)
    near = {"from": at - _NEAR, "to": at + _NEAR}
    where = f'"at" BETWEEN $from AND $to AND {is_it} ORDER BY "at" DESC LIMIT 1'
    found = source.rows(f"SELECT {columns} FROM requests WHERE {where}", {**given, **near})  # noqa: S608 - our own SQL
    return found[0] if found else None


def feedback_on(source: RecordSource, row: Mapping[str, Any]) -> list[Row]:
    """The verdicts on one request's answer, the newest of each source, latest first."""
    verdicts = verdicts_on(source, [row]).get(request_key(row), [])[::-1][:_MOST_OPINIONS]
    return [{name: one[name] for name in ("at", "score", "source", "key_alias")} for one in verdicts]


def _mean_scores(source: RecordSource, rows: Sequence[Row]) -> dict[RequestKey, float | None]:
    verdicts = verdicts_on(source, rows)
    return {key: mean_score([one["score"] for one in given]) for key, given in verdicts.items()}
