"""A lesson → tables for people. Pure: it builds, the command line prints."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from embedllm_router.training.update.guard import SourceCheck
from embedllm_router.training.update.guard_relearn_lesson import Lesson, LLMLesson

__all__ = ["lesson_lines", "lesson_tables"]


def lesson_lines(lesson: Lesson) -> Iterator[str]:
    """What was learned from, in sentences."""
    held = lesson.held
    yield f"{lesson.n_answers:,} answers with feedback, {held.n:,} of them held out; parent {lesson.parent}"
    for how, n in lesson.basis.items():
        yield f"  {n:,} from: {how}"
    for reason, n in lesson.skipped.items():
        yield f"  {n:,} requests left out: {reason}"
    if lesson.n_explored:
        clipped = f"{lesson.n_clipped:,} weights clipped"
        yield f"  {lesson.n_explored:,} explored, weighted by one over the propensity; {clipped}"
    if lesson.common:
        yield f"  every LLM's logit shifts by {lesson.common:+.3f}: the LLMs with feedback moved alike"
    change = held.change
    yield (
        f"held-out log-loss {held.log_loss_before:.4f} -> {held.log_loss_after:.4f} "
        f"({change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]), "
        f"ECE {held.ece_before:.4f} -> {held.ece_after:.4f}, AUC {held.auc_before:.4f} -> {held.auc_after:.4f}"
    )


def lesson_tables(lesson: Lesson) -> Iterator[Table]:
    """What changed per LLM, and the sources of feedback."""
    yield _llms(lesson.llms)
    yield _sources(lesson.sources)


def _llms(llms: tuple[LLMLesson, ...]) -> Table:
    table = _table("LLMs", ("LLM", "changed"), ("answers", "count as", "log-loss", "ECE", "mean p", "mean score"))
    for one in llms:
        table.add_row(
            one.llm,
            one.changed,
            f"{one.n:,} + {one.n_held:,}",
            f"{one.effective_n:,.0f}",
            _pair(one.log_loss_before, one.log_loss_after),
            _pair(one.ece_before, one.ece_after),
            _pair(one.mean_p_before, one.mean_p_after),
            f"{one.mean_score:.3f}",
        )
    table.caption = "answers: learned from + held out; log-loss and ECE on held-out answers, before -> after"
    return table


def _sources(sources: tuple[SourceCheck, ...]) -> Table:
    table = _table("sources of feedback", ("source", "finding"), ("verdicts", "AUC", "if true"))
    for one in sources:
        table.add_row(
            one.source, one.finding, f"{one.n:,}", f"{one.auc:.3f} ± {one.auc_error:.3f}", f"{one.auc_if_true:.3f}"
        )
    return table


def _table(title: str, texts: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right")
    return table


def _pair(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{before:.3f} -> {after:.3f}"
