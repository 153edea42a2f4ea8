"""One pass over the requests: counts and sums by random group, LLM, outcome and reason. All else is added up from it.

It draws no conclusions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.reader.source_logs_draws import N_GROUPS, group
from embedllm_router.records.reader.source_logs_filters import Filters

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
    "n_billed": "count(billed_cost_usd)",
    "billed_usd": "sum(billed_cost_usd)",
    **{name: f"sum({name})" for name in _WEIGHED},
    "billed_expected_usd": "sum(CASE WHEN billed_cost_usd IS NOT NULL THEN expected_cost_usd END)",
}
_BY: Final = ("chosen", "served", "status", "reason", "floor_met", "compared")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over requests that are alike in everything named in `by`, one row for each such lot.

    Attributes:
        group: (n_rows,), random group of the requests.
        by: Column → its value in each row: "chosen", "served" (None when nobody answered), "status", "reason",
            "floor_met", and "compared": whether they have every probability and cost.
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
        sums={name: _column(rows, name) for name in _SUMS},
        first=min((row["first"] for row in rows), default=None),
        last=max((row["last"] for row in rows), default=None),
    )


def _sql(where: str, seed: int) -> str:
    sums = ", ".join(f"{sql} AS {name}" for name, sql in _SUMS.items())
    by = ", ".join(_BY[:-1])
    return f"""
    SELECT {group(seed)} AS bin, {by}, {" + ".join(_WEIGHED)} IS NOT NULL AS compared, {sums},
      min("at") AS first, max("at") AS last
    FROM requests WHERE {where} GROUP BY bin, {by}, compared
    """  # noqa: S608 - our own columns and conditions


def _column(rows: list[dict[str, Any]], name: str) -> Floats:
    return np.array([row[name] or 0.0 for row in rows], dtype=np.float64)
