"""A plan for people: sentences and tables. Pure: it builds, the command line prints."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from embedllm_router.analysis.plan.goal import DAYS_PER_MONTH, Goal
from embedllm_router.analysis.plan.result import Observed, Outcome, Plan
from embedllm_router.stats_evaluation_bootstrap import Estimate

__all__ = ["plan_lines", "plan_tables"]


def plan_lines(plan: Plan) -> Iterator[str]:
    """What was planned with, whether the goal can be met, and the setting that meets it."""
    rate = plan.rate
    source = "as recorded" if rate.measured else "as told"
    yield (
        f"{plan.n:,} requests, {plan.since:%Y-%m-%d %H:%M:%S}Z to {plan.until:%Y-%m-%d %H:%M:%S}Z, in {plan.where}; "
        f"{rate.per_month:,.0f} a month {source}"
    )
    if plan.n_fixed:
        yield f"{plan.n_fixed:,} of them keep the objective that their client, key or team chose."
    for reason, n in plan.skipped.items():
        yield f"left out: {n:,}, {reason}"
    yield ""
    yield f"goal: {_goal(plan.goal)}: {_verdict(plan)}"
    yield f"set {_setting(plan.best)}: expected accuracy {_share(plan.best.accuracy)}, {_usd(plan)}"
    if plan.best.unreached:
        yield f"No LLM reaches the floor in {plan.best.unreached:.1%} of the requests it decides: the likeliest answers"
    yield from _held_out(plan.best)
    yield from _observed(plan.observed)
    yield from _billed(plan)


def plan_tables(plan: Plan) -> Iterator[Table]:
    """The setting beside the best of the other kind and what was recorded; who gets what; what else is possible."""
    yield _outcomes(plan)
    yield _mix(plan)
    yield _frontier(plan)


def _verdict(plan: Plan) -> str:
    if plan.best.feasible:
        return "it can be met."
    nearest = "the most accurate" if plan.goal.accuracy is not None else "the cheapest"
    return f"no setting meets it with these candidates; {nearest} comes as near as any."


def _held_out(best: Outcome) -> Iterator[str]:
    found = best.held_out
    if found is not None:
        yield (
            f"On held-out prompts, at {found.value:g}, {found.correct:.1%} [{found.low:.1%}, {found.high:.1%}] of "
            f"{found.n:,} answers were right where {found.predicted:.1%} were predicted. As they fared, expect "
            f"{_share(found.accuracy)}."
        )


def _observed(found: Observed | None) -> Iterator[str]:
    if found is not None:
        gap = found.difference
        yield (
            f"Feedback on {found.n:,} recorded answers: {found.observed:.1%} right where {found.predicted:.1%} were "
            f"predicted, a difference of {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]."
        )


def _billed(plan: Plan) -> Iterator[str]:
    found = plan.billed
    if found is not None:
        done = "costs here are multiplied by it" if plan.billed_counts else "too few to correct costs by"
        yield f"Billed over expected cost: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]; {done}."


def _outcomes(plan: Plan) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("setting")
    for header in ("accuracy", "USD a month", "USD a request", "accuracy gained", "USD a month more"):
        table.add_column(header, justify="right")
    table.add_column("meets the goal")
    for name, one in (("", plan.best), ("", plan.other), ("as recorded", plan.recorded)):
        table.add_row(
            name or _setting(one),
            _interval(one.accuracy, ".3f"),
            _interval(one.usd_per_month, ",.2f"),
            _interval(one.usd_per_request, ".2g"),
            "" if one is plan.recorded else _interval(one.accuracy_change, "+.3f"),
            "" if one is plan.recorded else _interval(one.usd_per_month_change, "+,.2f"),
            "yes" if one.feasible else "no",
        )
    return table


def _mix(plan: Plan) -> Table:
    before = {share.name: share for share in plan.recorded.mix}
    table = Table(box=SIMPLE_HEAD)
    table.add_column("LLM", overflow="fold")
    for header in ("requests", "of the cost", "requests as recorded"):
        table.add_column(header, justify="right")
    for share in plan.best.mix:
        was = before.pop(share.name, None)
        table.add_row(share.name, f"{share.requests:.1%}", f"{share.usd:.1%}", f"{was.requests:.1%}" if was else "-")
    for share in before.values():
        table.add_row(share.name, "-", "-", f"{share.requests:.1%}")
    return table


def _frontier(plan: Plan) -> Table:
    table = Table(title="what is possible", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("setting", overflow="fold")
    for header in ("accuracy", "USD a month", "requests it can take"):
        table.add_column(header, justify="right")
    for row in plan.frontier:
        name = f"always {row.name}" if row.name is not None else f"cost_weight {row.cost_weight:.4g}"
        table.add_row(name, f"{row.accuracy:.3f}", f"{row.usd_per_month:,.2f}", f"{row.share:.0%}")
    return table


def _goal(goal: Goal) -> str:
    if goal.accuracy is not None:
        return f"a mean probability of {goal.accuracy:g} of a correct answer at the least cost"
    return f"the most accurate answers for {goal.usd:g} USD a {goal.per}"


def _setting(one: Outcome) -> str:
    return f"{one.setting}: {one.value:g}"


def _share(one: Estimate) -> str:
    return f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}]"


def _usd(plan: Plan) -> str:
    """The cost, in the period that the goal names."""
    one, per = plan.best.usd_per_month, plan.goal.per or "month"
    days = DAYS_PER_MONTH if per == "day" else 1.0
    return f"{one.value / days:,.2f} [{one.low / days:,.2f}, {one.high / days:,.2f}] USD a {per}"


def _interval(one: Estimate, spec: str) -> str:
    return f"{one.value:{spec}} [{one.low:{spec}}, {one.high:{spec}}]"
