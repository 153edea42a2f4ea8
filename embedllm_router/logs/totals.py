"""One pass over the requests: counts and sums by random group, LLM, outcome and reason. All else is added up from it.

It draws no conclusions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.logs.draws import N_GROUPS, group
from embedllm_router.logs.filters import Filters
from embedllm_router.logs.source import RecordSource

__all__ = ["Totals", "read_totals"]

Floats = NDArray[np.float64]

_WEIGHED: Final = (
    "p_correct",
    "expected_cost_usd",
    "likeliest_p_correct",
    "likeliest_cost_usd",
    "cheapest_p_correct",
    "cheapest_cost_usd",
)
"""Numbers of which a request has all or is left out of comparisons."""

_SUMS: Final = {
    "n": "count(*)",
    "n_fallback": "count(*) FILTER (WHERE fallback)",
    "n_failed_open": "count(failed_open)",
    "n_floor": "count(floor_met)",
    "n_floor_missed": "count(*) FILTER (WHERE NOT floor_met)",
    "n_billed": "count(billed_cost_usd)",
    "billed_usd": "sum(billed_cost_usd)",
    "n_predicted": "count(p_correct)",
    "predicted_p_correct": "sum(p_correct)",
    "n_compared": "count(*) FILTER (WHERE compared)",
    **{name: f"sum({name}) FILTER (WHERE compared)" for name in _WEIGHED},
    "n_forecast": "count(*) FILTER (WHERE foretold)",
    "forecast_usd": "sum(expected_cost_usd) FILTER (WHERE foretold)",
    "forecast_billed_usd": "sum(billed_cost_usd) FILTER (WHERE foretold)",
}
_BY: Final = ("chosen", "served", "status", "reason")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over requests that have the same group, LLMs, outcome and reason.

    Attributes:
        group: (n_rows,), random group of the requests.
        by: Column → its values, (n_rows,): "chosen", "served" (None when nobody answered), "status", "reason".
        sums: Name → sums, float64 (n_rows,): counts begin with `n`, the rest are USD and probabilities. `compared`
            requests have every probability and cost; `forecast` ones were answered and billed by the chosen LLM.
        first: Time of the first request, UTC without a zone; None without any.
        last: Time of the last.
    """

    group: NDArray[np.intp]
    by: Mapping[str, tuple[str | None, ...]]
    sums: Mapping[str, Floats]
    first: datetime | None
    last: datetime | None

    @property
    def n(self) -> int:
        """How many requests there are."""
        return self.total("n")

    def total(self, name: str) -> int:
        """A count over all requests."""
        return int(self.sums[name].sum())

    def per_group(self, name: str) -> Floats:
        """A sum in each random group, (N_GROUPS,)."""
        return np.bincount(self.group, weights=self.sums[name], minlength=N_GROUPS).astype(np.float64)

    def per_value(self, column: str, name: str) -> dict[str | None, float]:
        """A sum for each value of a column of `by`."""
        found: dict[str | None, float] = {}
        for value, amount in zip(self.by[column], self.sums[name].tolist(), strict=True):
            found[value] = found.get(value, 0.0) + amount
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
        sums={name: _column(rows, name) for name in _SUMS},
        first=min((row["first"] for row in rows), default=None),
        last=max((row["last"] for row in rows), default=None),
    )


def _sql(where: str, seed: int) -> str:
    known = " AND ".join(f"{name} IS NOT NULL" for name in _WEIGHED)
    foretold = "status = 'success' AND served = chosen AND billed_cost_usd + expected_cost_usd IS NOT NULL"
    sums = ", ".join(f"{sql} AS {name}" for name, sql in _SUMS.items())
    by = ", ".join(_BY)
    return f"""
    SELECT {group(seed)} AS bin, {by}, {sums}, min("at") AS first, max("at") AS last
    FROM (SELECT *, {known} AS compared, {foretold} AS foretold FROM requests WHERE {where}) AS meant
    GROUP BY bin, {by}
    """  # noqa: S608 - our own columns and conditions


def _column(rows: list[dict[str, Any]], name: str) -> Floats:
    return np.array([row[name] or 0.0 for row in rows], dtype=np.float64)
