"""Where in time the newest records of a kind lie, so that reading a page of them need not sort all there are.

Records are counted in stretches of ten minutes first, which reads few columns; files that hold none of the stretches
wanted are then not opened at all. It knows nothing of what the records are wanted for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from embedllm_router.records.reader.source import RecordSource

__all__ = ["Place", "place_of_newest"]

_STRETCH_S: Final = 600
_FEW: Final = 20
_TIMES: Final = f'CASE WHEN count(*) <= {_FEW} THEN array_agg("at") END'
_COUNTED: Final = """
WITH counted AS (
  SELECT CAST(floor(extract(epoch FROM "at") / {length}) AS BIGINT) AS stretch, count(*) AS n, {times} AS times
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
    """

    total: int
    where: str
    given: dict[str, object]
    before: int


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
    first, last = holding[0]["stretch"], holding[-1]["stretch"]
    edges: dict[str, object] = {"newest_from": _start(first), "newest_to": _start(last + 1)}
    between = '"at" >= $newest_from AND "at" < $newest_to'
    if not all(row["times"] for row in holding):
        return Place(total, between, edges, before)
    times: dict[str, object] = {f"time_{number}": at for number, at in enumerate(_times(holding))}
    listed = ", ".join(f"${name}" for name in times)
    return Place(total, f'{between} AND "at" IN ({listed})', edges | times, before)


def _times(holding: list[dict[str, Any]]) -> list[datetime]:
    return sorted({at for row in holding for at in row["times"]})


def _start(stretch: int) -> datetime:
    return datetime.fromtimestamp(stretch * _STRETCH_S, UTC).replace(tzinfo=None)
