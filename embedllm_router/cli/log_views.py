"""A summary as blocks for a terminal. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from embedllm_router.analysis.calibration import Calibration
from embedllm_router.analysis.summary import Summary
from embedllm_router.analysis.summary_logs_mix import Count
from embedllm_router.analysis.summary_logs_spend import Alternative
from embedllm_router.cli.log_views_logs_wording import milliseconds, percent, probability, usd, when
from embedllm_router.stats_evaluation_bootstrap import Estimate

__all__ = ["summary_blocks"]

_HONEST: Final = (
    "Predicted cost and p_correct on both sides: what was not asked for has neither a bill nor a verdict. Brackets "
    "hold 95 % intervals over requests; errors that all forecasts share are not in them."
)


def summary_blocks(summary: Summary) -> list[RenderableType]:
    """What to print, in order."""
    blocks: list[RenderableType] = [_head(summary)]
    if not summary.n:
        return blocks
    blocks += [_mix(summary), _outcomes(summary)]
    if summary.spend.alternatives:
        blocks.append(_spend(summary))
    blocks.append(_forecast(summary))
    if summary.calibration is not None:
        blocks += [_calibration(summary.calibration), _calibration_line(summary.calibration)]
    else:
        blocks.append(Text("calibration: no feedback on these requests"))
    blocks.append(_times(summary))
    return blocks


def _head(summary: Summary) -> Text:
    text = Text(f"{summary.n:,} requests", style="bold")
    if summary.first is not None and summary.last is not None:
        text.append(f", {when(summary.first)} to {when(summary.last)}")
    text.append(f", in {summary.where}")
    given = ", ".join(f"{name} {_said(value)}" for name, value in summary.filters.items())
    return text.append(f"; only {given}" if given else "")


def _said(value: object) -> str:
    return when(value) if isinstance(value, datetime) else str(value)


def _table(title: str, left: Iterable[str], right: Iterable[str], caption: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="cyan", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.caption, table.caption_justify = caption, "left"
    for header in left:
        table.add_column(header, overflow="fold")
    for header in right:
        table.add_column(header, justify="right")
    return table


def _mix(summary: Summary) -> Table:
    table = _table("mix", ["LLM"], ["chosen", "share", "answered", "billed", "mean p_correct", "billed / forecast"])
    ratios = {one.llm: one.ratio for one in summary.forecast.by_llm}
    for one in summary.llms:
        shares = (f"{one.chosen.n:,}", percent(one.chosen.share), f"{one.served.n:,}")
        table.add_row(
            one.llm, *shares, usd(one.billed_usd), probability(one.p_correct), probability(ratios.get(one.llm))
        )
    return table


def _outcomes(summary: Summary) -> Text:
    out = summary.outcomes
    parts = {
        "answered": out.success,
        "failed": out.failure,
        "without an outcome": out.unknown,
        "fell back to another LLM": out.fallback,
        "failed open": out.failed_open,
        "under the floor": out.floor_missed,
    }
    ended = [f"{name} {_count(count)}" for name, count in parts.items() if count.n or name == "answered"]
    if summary.rejected_lines:
        ended.append(f"and {summary.rejected_lines:,} damaged lines, which may have been records")
    why = [f"{reason} {_count(count)}" for reason, count in summary.reasons.items()]
    return Text(f"outcomes: {', '.join(ended)}\nreasons: {', '.join(why)}")


def _count(count: Count) -> str:
    return f"{count.n:,} ({percent(count.share)})"


def _spend(summary: Summary) -> Table:
    spend = summary.spend
    title = f"spend: {usd(spend.billed_usd)} billed for {spend.n_billed:,} requests"
    headers = ["p_correct", "USD a request", "routing saved", "as a share", "p_correct gained by routing"]
    table = _table(title, ["way to choose"], headers, _HONEST)
    each = spend.expected_usd / spend.n_compared
    table.add_row("as routed", probability(spend.p_correct), usd(each), "", "", "", style="bold")
    for way in spend.alternatives:
        table.add_row(
            _name(way),
            probability(way.p_correct),
            usd(way.cost_usd),
            _interval(way.saved_usd, usd),
            _interval(way.saved_share, percent),
            _interval(way.p_correct_gained, _signed),
        )
    return table


def _name(way: Alternative) -> str:
    if way.name != "best_single":
        return f"always the {way.name}"
    sampled = f", from {way.n:,} sampled requests" if way.n < way.n_meant else ""
    return f"always {way.llm}, the best single LLM{sampled}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _interval(found: Estimate, write: Callable[[float], str]) -> str:
    return f"{write(found.value)} [{write(found.low)}, {write(found.high)}]"


def _forecast(summary: Summary) -> Text:
    found = summary.forecast
    if not found.n:
        return Text("forecast: no request has both a predicted and a billed cost")
    return Text(
        f"forecast: {usd(found.billed_usd)} was billed where {usd(found.expected_usd)} was predicted, "
        f"{_interval(found.ratio, probability)} times as much, over {found.n:,} requests; half of them were off by "
        f"more than {percent(found.median_error)} of the bill (median of {found.n_median:,})"
    )


def _calibration(found: Calibration) -> Table:
    table = _table("calibration", ["predicted"], ["requests", "mean p_correct", "mean feedback"])
    for one in found.bins:
        score = _interval(one.score, probability)
        table.add_row(f"{one.low:.1f} to {one.high:.1f}", f"{one.n:,}", probability(one.p_correct), score)
    return table


def _calibration_line(found: Calibration) -> Text:
    sources = ", ".join(f"{source} {n:,}" for source, n in found.n_by_source.items())
    sampled = "" if found.is_whole else ", a random part of all feedback"
    return Text(
        f"{found.n:,} requests with feedback ({sources}{sampled}): predicted {probability(found.p_correct)}, found "
        f"{_interval(found.score, probability)}; Brier {_interval(found.brier, probability)}, ECE "
        f"{_interval(found.ece, probability)}. Who gives feedback is not a random part of the users."
    )


def _times(summary: Summary) -> Table:
    table = _table("time in ms", [""], ["p50", "p95", "p99", "requests"])
    for name, one in {"added by routing": summary.route_ms, "to the last byte": summary.latency_ms}.items():
        table.add_row(name, *(milliseconds(value) for value in (one.p50, one.p95, one.p99)), f"{one.n:,}")
    return table
