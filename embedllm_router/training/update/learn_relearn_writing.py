"""An update → a weights folder beside the old one, with what it was learned from in its manifest and card."""

from pathlib import Path

from embedllm_router.artifact.derived import write_derived
from embedllm_router.artifact.weights import Artifact
from embedllm_router.training.update.fit import Update
from embedllm_router.training.update.guard_relearn_lesson import Lesson

__all__ = ["write_update"]


def write_update(parent: Artifact, card: str, update: Update, lesson: Lesson, out: Path) -> Artifact:
    """Writes updated weights.

    Args:
        parent: The weights that were updated.
        card: Their model card.
        update: What changes.
        lesson: What is said of it.
        out: Where the folder shall be; an older artifact there is replaced.

    Returns:
        The artifact as loaded from disk.

    Raises:
        ArtifactError: `out` holds something else.
    """
    held = lesson.held
    return write_derived(
        parent,
        out,
        decoder=update.applied(parent),
        training=_training(lesson),
        changes={
            "metrics": {
                "feedback.log_loss": held.log_loss_after,
                "feedback.log_loss_before": held.log_loss_before,
                "feedback.ece": held.ece_after,
                "feedback.auc": held.auc_after,
                "feedback.n_held_out": float(held.n),
            },
            "novelty": None,  # they know this traffic, and were judged on it without hedging
        },
        card=f"{card.rstrip()}\n\n{_section(lesson)}",
    )


def _training(lesson: Lesson) -> dict[str, str | int | float | bool | None]:
    return {
        "feedback_answers": lesson.n_answers,
        "feedback_held_out": lesson.held.n,
        "feedback_llms_changed": sum(one.changed in {"embedding", "calibration"} for one in lesson.llms),
        "feedback_common_shift": lesson.common,
        "feedback_forced": bool(lesson.refusals),
    }


def _section(lesson: Lesson) -> str:
    held = lesson.held
    lines = [
        "## Updated from feedback",
        "",
        f"LLM embeddings, biases and calibration were updated from {lesson.n_answers:,} answers with feedback. The",
        f"parent is {lesson.parent}; everything above describes it, and its test figures were not measured again,",
        "and its contract does not hold for these weights: `embedllm-router contract` measures theirs.",
        "",
        f"On the {held.n:,} held-out answers log-loss went from {held.log_loss_before:.4f} to",
        f"{held.log_loss_after:.4f} ({held.change.value:+.4f} [{held.change.low:+.4f}, {held.change.high:+.4f}]).",
        "",
        "| LLM | answers | changed | mean p before | after | mean score |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.llm} | {one.n + one.n_held} | {one.changed} | {one.mean_p_before:.3f} | {one.mean_p_after:.3f} | "
        f"{one.mean_score:.3f} |"
        for one in lesson.llms
    ]
    if lesson.refusals:
        lines += ["", "The guard refused this update, and it was written all the same:", ""]
        lines += [f"- {reason}" for reason in lesson.refusals]
    return "\n".join(lines) + "\n"
