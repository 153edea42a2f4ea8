"""The decisions one by one: a page of a list that can be searched, and everything about one of them.

It knows nothing of HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from embedllm_router.dashboard.asked import Asked
from embedllm_router.logs.source import RecordSource
from embedllm_router.records import REQUEST_COLUMNS

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
_SEARCHED: Final = (
    "request_id",
    "response_id",
    "chosen",
    "served",
    "llm",
    "category",
    "error",
    "failed_open",
    "prompt_hash",
    "prompt",
)
_LEFT_OUT: Final = ("embedding",)
_MOST_OPINIONS: Final = 100

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for among the records asked about; None sets no condition.

    Attributes:
        text: Occurs in an id, a model group, a category, an error, the prompt's hash or, where kept, its text.
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
        where = f"{where} AND ({' OR '.join(f'lower({c}) LIKE $text ESCAPE $escape' for c in _SEARCHED)})"
        given |= {"text": _pattern(sought.text), "escape": "!"}
    where += {"fallback": " AND fallback", "failed_open": " AND failed_open IS NOT NULL"}.get(sought.only or "", "")
    total = source.rows(f"SELECT count(*) AS n FROM requests WHERE {where}", given)[0]["n"]  # noqa: S608 - our own SQL
    columns = ", ".join(f'"{name}"' for name in _LISTED)
    part = f'WHERE {where} ORDER BY "at" DESC, request_id LIMIT {limit:d} OFFSET {offset:d}'
    rows = source.rows(f"SELECT {columns} FROM requests {part}", given)  # noqa: S608 - our own SQL
    scores = _mean_scores(source, rows)
    return DecisionPage(total, offset, [{**row, "feedback": _score(scores, row)} for row in rows])


def decision_row(source: RecordSource, request_id: str, at: datetime | None) -> Row | None:
    """One recorded request, by LiteLLM's call id or the id inside the response.

    Args:
        source: The records.
        request_id: Either id.
        at: When it was decided, to a second, UTC without zone, which makes finding it quick; None looks everywhere.

    Returns:
        Every column but the embedding; None when there is no such record.
    """
    columns = ", ".join(f'"{name}"' for name in REQUEST_COLUMNS if name not in _LEFT_OUT)
    where, given = "(request_id = $request_id OR response_id = $request_id)", {"request_id": request_id}
    near = {} if at is None else {"from": at - timedelta(seconds=2), "to": at + timedelta(seconds=2)}
    if near:
        where += ' AND "at" BETWEEN $from AND $to'
    found = source.rows(
        f'SELECT {columns} FROM requests WHERE {where} ORDER BY "at" DESC LIMIT 1',  # noqa: S608 - our own SQL
        {**given, **near},
    )
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


def _pattern(text: str) -> str:
    escaped = text.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"
