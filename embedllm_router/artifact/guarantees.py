"""Reads an artifact's guarantee: how often promises about p_correct were kept on held-out prompts.

A promise is kept where the 95 % lower bound of the share of right answers reaches what was promised, and broken where
the whole interval lies below it; between the two, the held-out prompts do not decide.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from embedllm_router.artifact.manifest import GuaranteeRow

__all__ = ["Verdict", "floor_that_keeps", "guarantee_tables", "nearest_row", "rows_of", "verdict"]

Promise = Literal["min_p_correct", "cost_weight", "any_llm"]


class Verdict(StrEnum):
    """Whether a promised floor held."""

    KEPT = "kept"
    OPEN = "not shown"
    BROKEN = "broken"


def verdict(row: GuaranteeRow) -> Verdict | None:
    """Whether answers were right as often as a floor promises; None for a cost weight, which promises no share."""
    if row.promise == "cost_weight":
        return None
    if row.at_least >= row.value:
        return Verdict.KEPT
    return Verdict.BROKEN if row.high < row.value else Verdict.OPEN


def rows_of(rows: Sequence[GuaranteeRow], promise: Promise, *, data: str | None = None) -> tuple[GuaranteeRow, ...]:
    """The rows of one promise on one data set, None being all of them together, by rising value."""
    return tuple(sorted((r for r in rows if r.promise == promise and r.data == data), key=lambda r: r.value))


def nearest_row(rows: Sequence[GuaranteeRow], promise: Promise, value: float) -> GuaranteeRow | None:
    """The measured row nearest to a setting, over all data sets; cost weights are compared by their logarithms."""

    def place(one: float) -> float:
        return math.log1p(one) if promise == "cost_weight" else one

    return min(rows_of(rows, promise), key=lambda row: abs(place(row.value) - place(value)), default=None)


def floor_that_keeps(rows: Sequence[GuaranteeRow], share: float) -> GuaranteeRow | None:
    """The lowest measured floor whose chosen LLMs were right at least so often, by the 95 % bound; None without one."""
    return next((row for row in rows_of(rows, "min_p_correct") if row.at_least >= share), None)


def guarantee_tables(rows: Sequence[GuaranteeRow]) -> tuple[Table, ...]:
    """The guarantee for people: floors, cost weights, and floors by data set; nothing without rows."""
    sets = dict.fromkeys(row.data for row in rows if row.data is not None)
    floors, weights, everyone = (rows_of(rows, p) for p in ("min_p_correct", "cost_weight", "any_llm"))
    by_set = [row for data in sets for row in rows_of(rows, "min_p_correct", data=data)]
    titled = (
        ("guarantee: the cheapest LLM that reaches τ, on held-out prompts", "τ", floors),
        ("guarantee: the LLM of the highest utility at λ, on held-out prompts", "λ", weights),
        ("guarantee: every LLM that reaches τ, on held-out prompts", "τ", everyone),
        ("guarantee by data set: the cheapest LLM that reaches τ", "τ", by_set),
    )
    return tuple(_table(title, symbol, rows) for title, symbol, rows in titled if rows)


def _table(title: str, symbol: str, rows: Sequence[GuaranteeRow]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    named, floored = any(row.data for row in rows), any(row.promise != "cost_weight" for row in rows)
    if named:
        table.add_column("data set", overflow="fold")
    for header in (symbol, "answers", "predicted", "right", "95 % interval", "at least"):
        table.add_column(header, justify="right")
    if floored:
        table.add_column("promise")
    for row in rows:
        figures = (f"{row.value:g}", f"{row.n_labels:,}", f"{row.predicted:.3f}", f"{row.correct:.3f}")
        interval = f"[{row.low:.3f}, {row.high:.3f}]"
        said = verdict(row)
        name = (row.data or "",) if named else ()
        table.add_row(*name, *figures, interval, f"{row.at_least:.3f}", *((said or "",) if floored else ()))
    return table
