"""Results of `replay`, `plan` and `learn` for people: sentences and tables. Pure: the commands print."""

import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from embedllm_router._stats import Estimate
from embedllm_router.analysis.plan.goal import DAYS_PER_MONTH, Goal
from embedllm_router.analysis.plan.result import Observed, Outcome, Plan
from embedllm_router.analysis.replay.off_policy import OffPolicy
from embedllm_router.analysis.replay.result import Compared, Flip, Group, MixRow, Replay, Yardstick
from embedllm_router.analysis.verdict.result import Against, RoutingVerdict, Topic
from embedllm_router.cli.console import figure, figures_table
from embedllm_router.evaluation.verdict import Comparison, LlmUse, sentences
from embedllm_router.training.update.guard import Lesson, LLMLesson, SharedLesson, SourceCheck

__all__ = [
    "lesson_lines",
    "lesson_tables",
    "plan_lines",
    "plan_tables",
    "replay_lines",
    "replay_tables",
    "verdict_lines",
    "verdict_tables",
]

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
    table = figures_table(
        "expected, mean per request", ("by", "figure"), ("before", "after", "change [95 %]", "requests")
    )
    for one in yardsticks:
        table.add_row(f"{one.numbers} numbers", "p_correct", *_compared(one.p_correct, ".4f"))
        table.add_row(f"{one.numbers} numbers", "cost USD", *_compared(one.cost_usd, ".6f"))
    return table


def _observed(o: OffPolicy) -> Table:
    table = figures_table("accuracy by feedback", ("estimate", "over"), ("value [95 %]",))
    everything, supported = "all requests", f"{o.supported:.0%} of requests"
    table.add_row("before, doubly robust", everything, _interval(o.before, ".4f"))
    table.add_row("after, doubly robust", everything, _interval(o.dr, ".4f"))
    table.add_row("change, doubly robust", everything, _interval(o.change, "+.4f"))
    table.add_row("before, doubly robust", supported, _interval(o.before_supported, ".4f"))
    table.add_row("after, inverse propensity", supported, _interval(o.ips, ".4f"))
    table.add_row("after, the same normalised", supported, _interval(o.snips, ".4f"))
    if o.by_pairs is not None:
        table.add_row(f"change, {o.by_pairs.n:,} judged pairs", everything, _interval(o.by_pairs.change, "+.4f"))
    table.caption = (
        f"{o.n_feedback:,} verdicts, {o.n_matched:,} on an LLM the new policy wants, which count as "
        f"{o.effective_n:,.0f}; largest weight {o.largest_weight:.3g}"
    )
    return table


def _mix(rows: Sequence[MixRow], n: int) -> Table:
    table = figures_table("mix", ("LLM",), ("before", "after"))
    for row in rows:
        table.add_row(
            row.name or _NOBODY, f"{row.before:,} ({row.before / n:.1%})", f"{row.after:,} ({row.after / n:.1%})"
        )
    return table


def _groups(title: str, groups: Sequence[Group]) -> Table:
    table = figures_table(title, ("",), ("requests", "flips", "p_correct [95 %]", "cost USD [95 %]"))
    for one in groups[:_SHOWN_GROUPS]:
        p, usd = _interval(one.p_correct, "+.4f"), _interval(one.cost_usd, "+.6f")
        table.add_row(one.name or "-", f"{one.n:,}", f"{one.n_flips:,}", p, usd)
    if len(groups) > _SHOWN_GROUPS:
        table.caption = f"{len(groups) - _SHOWN_GROUPS:,} more with --json"
    return table


def _flips(flips: Sequence[Flip], n_flips: int) -> Table:
    table = figures_table(
        "largest flips", ("request", "category", "before", "after"), ("p_correct", "cost USD", "feedback")
    )
    for one in flips:
        p, usd = figure(one.p_correct_change, "+.3f"), figure(one.cost_usd_change, "+.6f")
        before = f"{one.before} (explored)" if one.explored else one.before
        score = figure(one.score, ".2f")
        table.add_row(one.request_id, one.category or "-", before, one.after or _NOBODY, p, usd, score)
    if n_flips > len(flips):
        table.caption = f"{n_flips - len(flips):,} more; --flips lists them"
    return table


def _compared(one: Compared, spec: str) -> tuple[str, str, str, str]:
    return format(one.before, spec), format(one.after, spec), _interval(one.change, f"+{spec}"), f"{one.n:,}"


def _interval(one: Estimate, spec: str) -> str:
    return f"{one.value:{spec}} [{one.low:{spec}}, {one.high:{spec}}]" if one.n else "-"


def plan_lines(plan: Plan) -> Iterator[str]:
    """What was planned with, whether the goal can be met, and the setting that meets it."""
    rate = plan.rate
    source = "as recorded" if rate.measured else "as given"
    yield (
        f"{plan.n:,} requests, {plan.since:%Y-%m-%d %H:%M:%S}Z to {plan.until:%Y-%m-%d %H:%M:%S}Z, in {plan.where}; "
        f"{rate.per_month:,.0f} a month {source}"
    )
    if plan.apart is not None:
        apart = plan.apart
        yield (
            f"{apart.n:,} of them keep the objective that their client, key or team chose: accuracy "
            f"{_share(apart.accuracy)}, {apart.usd_per_month.value:,.2f} USD a month. All figures include them."
        )
    for reason, n in plan.skipped.items():
        yield f"left out: {n:,}, {reason}"
    yield ""
    yield f"goal: {_goal(plan.goal)}: {_verdict(plan)}"
    yield from _single_first(plan)
    word = "set" if plan.best.feasible else "nearest is"
    yield f"{word} {_setting(plan.best)}: expected accuracy {_share(plan.best.accuracy)}, {_usd(plan)}"
    if plan.best.unreached:
        share = f"{plan.best.unreached:.1%} of the requests it decides"
        yield f"No LLM reaches the floor in {share}: the most accurate answers"
    yield from _held_out(plan.best)
    yield from _observed_sentence(plan.observed)
    yield from _billed(plan)


def plan_tables(plan: Plan) -> Iterator[Table]:
    """The setting beside the best of the other kind and what was recorded; who gets what; what else is possible."""
    yield _outcomes(plan)
    yield _plan_mix(plan)
    yield _frontier(plan)


def _single_first(plan: Plan) -> Iterator[str]:
    """One LLM that serves the goal as well as routing comes before any setting."""
    if plan.single is not None:
        one = plan.single.outcome
        rest = "" if plan.single.could_take == 1 else f", of {plan.single.could_take:.0%} of the requests"
        rest += ", also where requests have objectives of their own" if plan.single.everyone else ""
        met = "meets the goal" if one.feasible else "comes as near to it as any"
        yield (
            f"always {plan.single.name}{rest}, without routing, {met}: expected accuracy {_share(one.accuracy)}, "
            f"{one.usd_per_month.value:,.2f} USD a month. No setting is better."
        )


def _verdict(plan: Plan) -> str:
    if plan.best.feasible:
        return "it can be met."
    if plan.single is not None and plan.single.outcome.feasible:
        return "no setting meets it, one LLM does."
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


def _observed_sentence(found: Observed | None) -> Iterator[str]:
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
    table = figures_table(
        "", ["setting"], ["accuracy", "USD a month", "USD a request", "accuracy gained", "USD a month more"]
    )
    table.add_column("meets the goal")
    rows = [("", plan.best), ("", plan.other), ("as recorded", plan.recorded)]
    rows += [(f"always {alone.name}", alone.outcome) for alone in (plan.single, plan.baseline) if alone is not None]
    for name, one in rows:
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


def _plan_mix(plan: Plan) -> Table:
    before = {share.name: share for share in plan.recorded.mix}
    table = figures_table("", ["LLM"], ["requests", "of the cost", "requests as recorded"])
    for share in plan.best.mix:
        was = before.pop(share.name, None)
        table.add_row(share.name, f"{share.requests:.1%}", f"{share.usd:.1%}", f"{was.requests:.1%}" if was else "-")
    for share in before.values():
        table.add_row(share.name, "-", "-", f"{share.requests:.1%}")
    return table


def _frontier(plan: Plan) -> Table:
    table = figures_table("what is possible", ["setting"], ["accuracy", "USD a month", "requests it can take"])
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


def lesson_lines(lesson: Lesson) -> Iterator[str]:
    """What was learned from, in sentences."""
    held = lesson.held
    how_held = "each held out in turn" if lesson.crossed else f"{held.n:,} of them held out"
    yield f"{lesson.n_answers:,} answers with feedback, {how_held}; parent {lesson.parent}"
    for how, n in lesson.basis.items():
        yield f"  {n:,} from: {how}"
    for reason, n in lesson.skipped.items():
        yield f"  {n:,} requests left out: {reason}"
    if lesson.n_explored:
        clipped = f"{lesson.n_clipped:,} weights clipped"
        yield f"  {lesson.n_explored:,} explored, weighted by one over the propensity; {clipped}"
    if lesson.common:
        yield f"  every LLM's logit shifts by {lesson.common:+.3f}: the LLMs with feedback moved alike"
    yield from _shared(lesson.shared)
    change = held.change
    yield (
        f"held-out log-loss {held.log_loss_before:.4f} -> {held.log_loss_after:.4f} "
        f"({change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]), "
        f"ECE {held.ece_before:.4f} -> {held.ece_after:.4f}, AUC {held.auc_before:.4f} -> {held.auc_after:.4f}"
    )


def _shared(shared: SharedLesson) -> Iterator[str]:
    if shared.terms == "unchanged":
        yield "  of all LLMs together nothing changes: the verdicts are as predicted, or too few to tell"
        return
    yield f"  of all LLMs together something changed: evidence {shared.evidence:+.1f} nats"
    if shared.terms == "all":
        yield (
            f"  the difficulty of prompts counts {shared.difficulty:.2f} ± {shared.difficulty_sd:.2f} times, "
            f"differences between LLMs {shared.differences:.2f} ± {shared.differences_sd:.2f} times"
        )
        yield f"  the kind of a prompt moves its logits by {shared.kinds:.2f} (root mean square), for all LLMs alike"


def lesson_tables(lesson: Lesson) -> Iterator[Table]:
    """What changed per LLM, and the sources of feedback."""
    yield _llms(lesson.llms)
    yield _sources(lesson.sources)


def _llms(llms: tuple[LLMLesson, ...]) -> Table:
    table = figures_table(
        "LLMs", ("LLM", "changed"), ("answers", "count as", "offset", "log-loss", "ECE", "mean p", "mean score")
    )
    for one in llms:
        table.add_row(
            one.llm,
            one.changed,
            f"{one.n:,} + {one.n_held:,}",
            f"{one.effective_n:,.0f}",
            f"{one.offset:+.2f} ± {one.offset_sd:.2f}",
            _pair(one.log_loss_before, one.log_loss_after),
            _pair(one.ece_before, one.ece_after),
            _pair(one.mean_p_before, one.mean_p_after),
            f"{one.mean_score:.3f}",
        )
    table.caption = "answers: learned from + held out; log-loss and ECE on held-out answers, before -> after"
    return table


def _sources(sources: tuple[SourceCheck, ...]) -> Table:
    table = figures_table("sources of feedback", ("source", "finding"), ("verdicts", "AUC", "if true"))
    for one in sources:
        auc = f"{one.auc:.3f} ± {one.auc_error:.3f}" if math.isfinite(one.auc_error) else "-"
        table.add_row(one.source, one.finding, f"{one.n:,}", auc, f"{one.auc_if_true:.3f}")
    return table


def _pair(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{before:.3f} -> {after:.3f}"


def verdict_lines(found: RoutingVerdict) -> Iterator[str]:
    """The answer first, then the figures behind it."""
    yield found.best.headline
    yield f"  {found.n:,} requests of {found.basis}, {found.where}; routing set {found.setting}"
    yield from (f"  {said}" for said in _figures(found.best))
    if found.baseline is not None:
        yield f"Against {found.baseline.llm}, which you used before: {found.baseline.headline}"
        yield from (f"  {said}" for said in _figures(found.baseline))
    roles = ("never chosen", "never right", "dispensable")
    idle, wrong, spare = ([one.llm for one in found.llms if one.role == role] for role in roles)
    if idle:
        yield f"Never chosen at any cost weight from 0 to 10,000: {', '.join(idle)}"
    if wrong:
        yield f"Never right in any of these requests: {', '.join(wrong)}"
    if spare:
        yield f"Dispensable, each of them alone: {', '.join(spare)}"


def _figures(one: Against) -> tuple[str, ...]:
    said = sentences(one.judgement, one.llm)
    return said if one.known else tuple(f"by predictions where nothing was observed: {text}" for text in said)


def verdict_tables(found: RoutingVerdict) -> Iterator[Table]:
    """By topic, and what each LLM is for."""
    if found.topics:
        yield _verdict_topics(found.topics, found.best.llm)
    if found.llms:
        yield _llm_uses(found.llms)


def _verdict_topics(topics: Sequence[Topic], fixed: str) -> Table:
    head = ("requests", "routing right", "fixed right", "difference [95 %]", "cost [95 %]")
    table = figures_table(f"by topic, routing against {fixed}", ("topic",), head)
    for one in topics:
        c = one.comparison
        gained = _interval(c.accuracy_change, "+.3f")
        table.add_row(one.topic, f"{one.n:,}", f"{c.accuracy:.3f}", f"{c.fixed_accuracy:.3f}", gained, _saving(c))
    table.caption = "one in twenty of these intervals misses by chance"
    return table


def _saving(one: Comparison) -> str:
    return "-" if math.isnan(one.cost_change_share.value) else _interval(one.cost_change_share, "+.0%")


def _llm_uses(llms: Sequence[LlmUse]) -> Table:
    head = ("right", "USD a request", "chosen at most", "at cost weight", "utility lost without it [95 %]")
    table = figures_table("what each LLM is for", ("LLM", "role"), head)
    for one in llms:
        usd = "-" if math.isnan(one.cost_usd) else f"{one.cost_usd:.2g}"
        at = "-" if one.cost_weight is None else f"{one.cost_weight:.3g}"
        lost = "-" if one.cost_weight is None else _interval(one.lost_without, "+.4f")
        table.add_row(one.llm, one.role, f"{one.accuracy:.3f}", usd, f"{one.chosen_at_most:.0%}", at, lost)
    table.caption = "utility of a request, accuracy less cost weight times USD, at the cost weight of the row"
    return table
