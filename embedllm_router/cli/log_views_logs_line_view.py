"""One line per decision, for a terminal. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from embedllm_router.cli.log_views_logs_wording import milliseconds, probability, usd

__all__ = ["decision_line", "header_line"]

_COLUMNS: Final = {
    "UTC": 14,
    "request": 13,
    "asked for": 12,
    "chosen": 20,
    "p": 5,
    "forecast": -10,
    "billed": -10,
    "route ms": -8,
    "total s": -7,
    "reason": 0,
}
"""Header → width; negative for right-aligned, 0 for the rest of the line."""


def header_line() -> Text:
    """Names of the columns."""
    return Text(_laid_out(list(_COLUMNS)), style="dim", no_wrap=True)


def decision_line(row: Mapping[str, Any]) -> Text:
    """One request; red where nobody answered, yellow where another LLM did or routing failed open."""
    seconds = None if row["latency_ms"] is None else row["latency_ms"] / 1000
    cells = [
        f"{row['at']:%m-%d %H:%M:%S}",
        row["request_id"],
        row["virtual_model"],
        row["chosen"],
        probability(row["p_correct"]),
        usd(row["expected_cost_usd"]),
        usd(row["billed_cost_usd"]),
        milliseconds(row["route_ms"]),
        "-" if seconds is None else f"{seconds:.2f}",
        _remark(row),
    ]
    style = "red" if row["status"] != "success" else "yellow" if row["fallback"] or row["failed_open"] else ""
    return Text(_laid_out(cells), style=style, no_wrap=True)


def _remark(row: Mapping[str, Any]) -> str:
    said = str(row["reason"])
    if row["failed_open"] is not None:
        said += f" ({row['failed_open']})"
    if row["arm"] != "live":
        said += f", {row['arm']}"
    if row["fallback"]:
        said += f", answered by {row['served']}"
    if row["status"] != "success":
        said += f", {row['status']}" + (f": {row['error']}" if row["error"] else "")
    return said


def _laid_out(cells: list[str]) -> str:
    return " ".join(_fitted(cell, width) for cell, width in zip(cells, _COLUMNS.values(), strict=True)).rstrip()


def _fitted(cell: str, width: int) -> str:
    if not width:
        return cell
    size = abs(width)
    short = cell if len(cell) <= size else f"{cell[: size - 1]}…"
    return short.rjust(size) if width < 0 else short.ljust(size)
