"""A replay → tables for people. Pure: it builds, the command line prints."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from embedllm_router._stats import Estimate
from embedllm_router.analysis.replay.off_policy import OffPolicy
from embedllm_router.analysis.replay.result import Compared, Flip, Group, MixRow, Replay, Yardstick

__all__ = ["replay_lines", "replay_tables"]

_NOBODY = "(nobody)"
_SHOWN_GROUPS = 20


def replay_lines(found: Replay) -> Iterator[str]:
    """What was decided again, in sentences."""
    span = f", {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC" if found.since and found.until else ""
    yield f"{found.n:,} requests decided again{span}. Changed: {'; '.join(found.changed)}."
    for how, n in found.n_scored.items():
        yield f"  {n:,} scored from: {how}"
    for reason, n in found.n_skipped.items():
        yield f"  {n:,} not decided again: {reason}"
    if found.n:
        explored = f", {found.n_flips_explored:,} of them explored when recorded" if found.n_flips_explored else ""
        yield f"  {found.n_flips:,} ({found.n_flips / found.n:.1%}) would get another LLM{explored}"


def replay_tables(found: Replay) -> Iterator[Table]:
    """Everything else; nothing when no request was decided again."""
    if not found.n:
        return
    yield _means(found.yardsticks)
    if found.observed is not None:
        yield _observed(found.observed)
    yield _mix(found.mix, found.n)
    if any(group.name is not None for group in found.by_category):
        yield _groups("by category", found.by_category)
    yield _groups("by virtual model", found.by_virtual_model)
    if found.flips:
        yield _flips(found.flips, found.n_flips)


def _means(yardsticks: Sequence[Yardstick]) -> Table:
    table = _table("expected, mean per request", ("by", "figure"), ("before", "after", "change [95 %]", "requests"))
    for one in yardsticks:
        table.add_row(f"{one.numbers} numbers", "p_correct", *_compared(one.p_correct, ".4f"))
        table.add_row(f"{one.numbers} numbers", "cost USD", *_compared(one.cost_usd, ".6f"))
    return table


def _observed(o: OffPolicy) -> Table:
    table = _table("accuracy by feedback", ("estimate", "over"), ("value [95 %]",))
    everything, supported = "all requests", f"{o.supported:.0%} of requests"
    table.add_row("before, doubly robust", everything, _interval(o.before, ".4f"))
    table.add_row("after, doubly robust", everything, _interval(o.dr, ".4f"))
    table.add_row("change, doubly robust", everything, _interval(o.change, "+.4f"))
    table.add_row("before, doubly robust", supported, _interval(o.before_supported, ".4f"))
    table.add_row("after, inverse propensity", supported, _interval(o.ips, ".4f"))
    table.add_row("after, the same normalised", supported, _interval(o.snips, ".4f"))
    table.caption = (
        f"{o.n_feedback:,} verdicts, {o.n_matched:,} on an LLM the new policy wants, which count as "
        f"{o.effective_n:,.0f}; largest weight {o.largest_weight:.3g}"
    )
    return table


def _mix(rows: Sequence[MixRow], n: int) -> Table:
    table = _table("mix", ("LLM",), ("before", "after"))
    for row in rows:
        table.add_row(
            row.name or _NOBODY, f"{row.before:,} ({row.before / n:.1%})", f"{row.after:,} ({row.after / n:.1%})"
        )
    return table


def _groups(title: str, groups: Sequence[Group]) -> Table:
    table = _table(title, ("",), ("requests", "flips", "p_correct [95 %]", "cost USD [95 %]"))
    for one in groups[:_SHOWN_GROUPS]:
        p, usd = _interval(one.p_correct, "+.4f"), _interval(one.cost_usd, "+.6f")
        table.add_row(one.name or "-", f"{one.n:,}", f"{one.n_flips:,}", p, usd)
    if len(groups) > _SHOWN_GROUPS:
        table.caption = f"{len(groups) - _SHOWN_GROUPS:,} more with --json"
    return table


def _flips(flips: Sequence[Flip], n_flips: int) -> Table:
    table = _table("largest flips", ("request", "category", "before", "after"), ("p_correct", "cost USD", "feedback"))
    for one in flips:
        p, usd = _figure(one.p_correct_change, "+.3f"), _figure(one.cost_usd_change, "+.6f")
        before = f"{one.before} (explored)" if one.explored else one.before
        score = _figure(one.score, ".2f")
        table.add_row(one.request_id, one.category or "-", before, one.after or _NOBODY, p, usd, score)
    if n_flips > len(flips):
        table.caption = f"{n_flips - len(flips):,} more; --flips lists them"
    return table


def _table(title: str, texts: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right")
    return table


def _compared(one: Compared, spec: str) -> tuple[str, str, str, str]:
    return format(one.before, spec), format(one.after, spec), _interval(one.change, f"+{spec}"), f"{one.n:,}"


def _interval(one: Estimate, spec: str) -> str:
    return f"{one.value:{spec}} [{one.low:{spec}}, {one.high:{spec}}]" if one.n else "-"


def _figure(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
