"""The verdicts that count: of several by one source on one request, the newest.

Feedback names a request by LiteLLM's call id or by the id inside the response body. Every reader of feedback (the
dashboard, `logs summary`, `logs show`, replay, `learn`, calibration and plan) takes its verdicts from here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from embedllm_router.records.reader.source import RecordSource

__all__ = ["RequestKey", "Verdict", "counting", "mean_score", "new_verdicts", "request_key", "verdicts_on"]

RequestKey = tuple[str, datetime]
"""Call id and time of a request: a client may choose a call id twice."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one source said of an answer.

    Attributes:
        source: Who says so.
        score: In [0, 1]; 1 is a correct answer.
    """

    source: str
    score: float


def mean_score(scores: Sequence[float]) -> float | None:
    """Mean of the sources' scores of one answer, in [0, 1]; None without any."""
    return sum(scores) / len(scores) if scores else None


def request_key(row: Mapping[str, Any]) -> RequestKey:
    """The key of a stored request."""
    return row["request_id"], row["at"]


def counting(requests: str, feedback: str = "TRUE") -> str:
    """SQL of the verdicts that count on some requests.

    Feedback whose id is no request's call id is matched by response id, in a second pass: most often there is none.

    Args:
        requests: A SELECT of the requests with the columns request_id, response_id, "at", and others at will.
        feedback: A condition on the rows of `feedback` that are read.

    Returns:
        A SELECT with the columns of `requests` and of their verdicts: given_for (the id that the feedback names),
        given_at, source, score, given_by (alias of the API key).
    """
    return f"""
    WITH given AS MATERIALIZED (
      SELECT request_id AS given_for, "at" AS given_at, source, score, key_alias AS given_by
      FROM feedback WHERE score BETWEEN 0 AND 1 AND {feedback}
    ), by_request AS MATERIALIZED (
      SELECT r.*, given.* FROM given JOIN ({requests}) AS r ON given_for = r.request_id
    ), by_response AS (
      SELECT r.*, g.*
      FROM (SELECT * FROM given WHERE given_for NOT IN (SELECT given_for FROM by_request)) AS g
      JOIN ({requests}) AS r ON given_for = r.response_id
    ), placed AS (
      SELECT *, row_number() OVER (
        PARTITION BY request_id, "at", source ORDER BY given_at DESC, score DESC, given_by
      ) AS place
      FROM (SELECT * FROM by_request UNION ALL SELECT * FROM by_response) AS either
    )
    SELECT * FROM placed WHERE place = 1
    """  # noqa: S608 - our own columns and conditions


def new_verdicts(
    source: RecordSource, since: datetime | None, sources: Collection[str] | None = None
) -> tuple[int, datetime | None]:
    """How many verdicts have come since a time, and when the newest did, UTC; None where none has.

    Args:
        source: The records.
        since: Those at this time and before are not counted; None counts all.
        sources: Sources of feedback that count; None counts all.

    Raises:
        DataError: The records cannot be read.
    """
    named = {f"source{number}": one for number, one in enumerate(sources or ())}
    conditions = ["score BETWEEN 0 AND 1"]
    conditions += ['"at" > $since'] if since is not None else []
    conditions += [f"source IN ({', '.join(f'${name}' for name in named)})"] if named else []
    sql = f'SELECT count(*) AS n, max("at") AS newest FROM feedback WHERE {" AND ".join(conditions)}'  # noqa: S608 - names of parameters
    after = since.astimezone(UTC).replace(tzinfo=None) if since is not None else None
    row = source.rows(sql, {**named, "since": after})[0]
    return row["n"], row["newest"].replace(tzinfo=UTC) if row["newest"] is not None else None


def verdicts_on(source: RecordSource, rows: Sequence[Mapping[str, Any]]) -> dict[RequestKey, list[dict[str, Any]]]:
    """The verdicts that count on a few requests that were read.

    Args:
        source: The records.
        rows: Requests, at most some hundred, with the columns request_id, response_id and "at".

    Returns:
        Request → its verdicts, oldest first, as rows with the columns of `feedback`; none for requests without.

    Raises:
        DataError: The records cannot be read.
    """
    if not rows:
        return {}
    ids = sorted({row[name] for row in rows for name in ("request_id", "response_id")} - {None})
    named = {f"id{number}": one for number, one in enumerate(ids)}
    listed = ", ".join(f"${name}" for name in named)
    times = [row["at"] for row in rows]
    requests = (
        'SELECT request_id, response_id, "at" FROM requests '  # noqa: S608 - names of parameters
        f'WHERE "at" BETWEEN $first AND $last AND request_id IN ({listed})'
    )
    found = source.rows(
        f"SELECT * FROM ({counting(requests, f'request_id IN ({listed})')}) AS v ORDER BY given_at, source",  # noqa: S608 - our own SQL
        {**named, "first": min(times), "last": max(times)},
    )
    verdicts: dict[RequestKey, list[dict[str, Any]]] = {}
    for row in found:
        verdicts.setdefault(request_key(row), []).append(_feedback_row(row))
    return verdicts


def _feedback_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": row["given_at"],
        "request_id": row["given_for"],
        "score": row["score"],
        "source": row["source"],
        "key_alias": row["given_by"],
    }
