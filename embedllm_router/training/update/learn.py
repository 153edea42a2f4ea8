"""A log with feedback → an update, judged; and the weights folder it becomes, with its origin in manifest and card."""

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import losses, sigmoid
from embedllm_router.artifact.weights import Artifact, write_derived
from embedllm_router.errors import DataError
from embedllm_router.evaluation.inputs import OnProgress
from embedllm_router.evaluation.metrics import expected_calibration_error
from embedllm_router.records.reader.recorded import Recorded
from embedllm_router.training.update.answers import Answers, gather
from embedllm_router.training.update.fit import LLMFit, Update, hashed, learn_update
from embedllm_router.training.update.guard import Lesson, LessonOptions, LLMLesson, check_sources, held_out, refusals

__all__ = ["learn_lesson", "write_update"]


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
    # Without a hedge the update was judged without shrinkage, and these weights know this traffic.
    unshrunk = {"novelty": None} if parent.manifest.hedge is None else {}
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
            **unshrunk,
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
        "and its guarantee does not hold for these weights: `embedllm-router guarantee` measures theirs.",
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


_FEWEST_HELD: Final = 20
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def learn_lesson(
    recorded: Recorded,
    artifact: Artifact,
    options: LessonOptions | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Lesson, Update]:
    """Learns from a log.

    Args:
        recorded: The log, read with text.
        artifact: The weights to update.
        options: How.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        What was learned, and the update. It is learned from the answers that are not held out, and judged as it is.

    Raises:
        DataError: There is too little feedback to learn from and to judge by.
    """
    chosen = options or LessonOptions()
    gathered = gather(recorded, artifact, max_weight=chosen.max_weight, on_progress=on_progress)
    answers = gathered.answers
    out = _held_out(answers, chosen)
    n_held = int(out.sum())
    if not _FEWEST_HELD <= n_held < len(answers):
        raise DataError(
            f"{len(answers):,} usable answers with feedback in {recorded.where}, {n_held:,} of them held out; at least "
            f"{_FEWEST_HELD} are needed there. Requests left out: {dict(gathered.skipped)}."
        )
    update = learn_update(answers.select(~out))
    held, new_logit = answers.select(out), update.logit(answers)
    measured = held_out(held, new_logit[out])
    sources = check_sources(answers, held, new_logit[out])
    lesson = Lesson(
        where=recorded.where,
        parent=artifact.id,
        n_answers=len(answers),
        basis=dict(gathered.basis),
        skipped=dict(gathered.skipped),
        n_explored=int((answers.weight > 1).sum()),
        n_clipped=gathered.n_clipped,
        common=update.common,
        held=measured,
        llms=_llms(artifact, answers, out, update, new_logit),
        sources=sources,
        changes=update.changes,
        refusals=refusals(measured, sources),
    )
    return lesson, update


def _held_out(answers: Answers, options: LessonOptions) -> Flags:
    n = len(answers)
    if options.by == "prompt":
        return np.array([hashed(f"held out {key}") < options.holdout for key in answers.key], dtype=bool)
    return np.arange(n) >= n - math.ceil(options.holdout * n)


def _llms(artifact: Artifact, answers: Answers, out: Flags, update: Update, new_logit: Floats) -> tuple[LLMLesson, ...]:
    lessons = []
    for row in np.unique(answers.llm).tolist():
        own = answers.llm == row
        llm = artifact.manifest.llms[row].id
        lessons.append(_llm(llm, answers.select(own), out[own], update.fits.get(row), new_logit[own]))
    return tuple(sorted(lessons, key=lambda one: (-one.n - one.n_held, one.llm)))


def _llm(llm: str, own: Answers, out: Flags, fit: LLMFit | None, new_logit: Floats) -> LLMLesson:
    before, after = sigmoid(own.logit), sigmoid(new_logit)
    return LLMLesson(
        llm=llm,
        n=int((~out).sum()),
        effective_n=fit.effective_n if fit else 0.0,
        changed=fit.rung.name if fit else "too few answers",
        n_held=int(out.sum()),
        log_loss_before=_mean(losses(own.logit, own.score)[out]),
        log_loss_after=_mean(losses(new_logit, own.score)[out]),
        ece_before=_calibration_error(own.score[out], before[out]),
        ece_after=_calibration_error(own.score[out], after[out]),
        mean_score=float(own.score.mean()),
        mean_p_before=float(before.mean()),
        mean_p_after=float(after.mean()),
    )


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _calibration_error(score: Floats, p: Floats) -> float | None:
    return expected_calibration_error(score, p) if len(score) else None
