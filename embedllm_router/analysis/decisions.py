"""The decisions one by one: a page of a list that can be searched, and everything about one of them.

It knows nothing of HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from embedllm_router.analysis.decisions_dashboard_newest import place_of_newest
from embedllm_router.analysis.span import Asked
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.schema import REQUEST_COLUMNS

__all__ = ["DEEPEST", "DecisionPage", "Sought", "decision_page", "decision_row", "feedback_on"]

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
class Sought:
    """What is looked for among the records asked about; None sets no condition.

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


def decision_page(source: RecordSource, asked: Asked, sought: Sought, offset: int, limit: int) -> DecisionPage:
    """Finds decisions, newest first.

    Args:
        source: The records.
        asked: Which of them.
        sought: What is looked for among those.
        offset: How many to skip; with `limit` at most `DEEPEST`.
        limit: How many to give.

    Returns:
        The page.

    Raises:
        DataError: The records cannot be read.
    """
    filters = asked.filters()
    filters = replace(filters, llm=sought.llm, reason=sought.reason, status=sought.status, arm=sought.arm)
    where, given = filters.where()
    if sought.text:
        found = [f"strpos(lower({column}), $lower) > 0" for column in _SEARCHED]
        found += [f"strpos({column}, $text) > 0" for column in _SEARCHED_AS_IT_IS]
        where = f"{where} AND ({' OR '.join(found)})"
        given |= {"text": sought.text, "lower": sought.text.lower()}
    where += {"fallback": " AND fallback", "failed_open": " AND failed_open IS NOT NULL"}.get(sought.only or "", "")
    place = place_of_newest(source, where, given, range(offset, offset + limit), scattered=sought.text is not None)
    columns = ", ".join(f'"{name}"' for name in _LISTED)
    part = f'ORDER BY "at" DESC, request_id LIMIT {limit:d} OFFSET {offset - place.before:d}'
    sql = f"SELECT {columns} FROM requests WHERE {place.where} AND {where} {part}"  # noqa: S608 - our own SQL
    rows = source.rows(sql, {**given, **place.given}) if place.given else []
    scores = _mean_scores(source, rows)
    return DecisionPage(place.total, offset, [{**row, "feedback": _score(scores, row)} for row in rows])


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


def feedback_on(source: RecordSource, row: Row) -> list[Row]:
    """What was said of one request's answer, latest first."""
    return source.rows(
        'SELECT "at", score, source, key_alias FROM feedback WHERE request_id = $one OR request_id = $other '  # noqa: S608 - our own SQL
        f'ORDER BY "at" DESC LIMIT {_MOST_OPINIONS}',
        {"one": row["request_id"], "other": row["response_id"] or row["request_id"]},
    )


def _mean_scores(source: RecordSource, rows: Sequence[Row]) -> dict[str, float]:
    ids = {row[name] for row in rows for name in ("request_id", "response_id")} - {None}
    if not ids:
        return {}
    given = {f"id{number}": one for number, one in enumerate(sorted(ids))}
    asked = ", ".join(f"${name}" for name in given)
    found = source.rows(
        f"SELECT request_id, avg(score) AS score FROM feedback WHERE request_id IN ({asked}) GROUP BY request_id",  # noqa: S608 - names of parameters
        given,
    )
    return {row["request_id"]: row["score"] for row in found}


def _score(scores: dict[str, float], row: Row) -> float | None:
    given = scores.get(row["request_id"])
    return scores.get(row["response_id"]) if given is None else given
