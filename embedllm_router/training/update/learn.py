"""A log with feedback → an update, judged; and the weights folder it becomes, with its origin in manifest and card."""

import math
from dataclasses import dataclass
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
from embedllm_router.training.update.adaptation import Adaptation, Coefficient
from embedllm_router.training.update.answers import Answers, gather
from embedllm_router.training.update.fit import LLMFit, Update, hashed, learn_update
from embedllm_router.training.update.guard import (
    Lesson,
    LessonOptions,
    LLMLesson,
    SharedLesson,
    check_sources,
    held_out,
    refusals,
)

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
    held, updated = lesson.held, update.applied(parent)
    # Without a hedge the update was judged without shrinkage, and these weights know this traffic.
    unshrunk = {"novelty": None} if parent.manifest.hedge is None else {}
    return write_derived(
        parent,
        out,
        decoder=updated.decoder,
        training=_training(lesson),
        changes={
            "metrics": {
                "feedback.log_loss": held.log_loss_after,
                "feedback.log_loss_before": held.log_loss_before,
                "feedback.ece": held.ece_after,
                "feedback.auc": held.auc_after,
                "feedback.n_held_out": float(held.n),
            },
            "hedge": updated.manifest.hedge,
            **unshrunk,
        },
        card=f"{card.rstrip()}\n\n{_section(lesson)}",
    )


def _training(lesson: Lesson) -> dict[str, str | int | float | bool | None]:
    return {
        "feedback_answers": lesson.n_answers,
        "feedback_held_out": lesson.held.n,
        "feedback_llms_changed": sum(one.changed in {"embedding", "calibration", "offset"} for one in lesson.llms),
        "feedback_common_shift": lesson.common,
        "feedback_difficulty": lesson.shared.difficulty,
        "feedback_differences": lesson.shared.differences,
        "feedback_forced": bool(lesson.refusals),
    }


def _section(lesson: Lesson) -> str:
    held, shared = lesson.held, lesson.shared
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
        f"Of all LLMs: logits shift by {shared.common:+.3f}, the difficulty of prompts counts {shared.difficulty:.2f}",
        f"times and differences between LLMs {shared.differences:.2f} times, and the kind of a prompt moves its logits",
        f"by {shared.kinds:.2f} (root mean square).",
        "",
        "| LLM | answers | offset | changed | mean p before | after | mean score |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.llm} | {one.n if lesson.crossed else one.n + one.n_held} | {one.offset:+.2f} ± {one.offset_sd:.2f} | "
        f"{one.changed} | {one.mean_p_before:.3f} | {one.mean_p_after:.3f} | "
        f"{one.mean_score:.3f} |"
        for one in lesson.llms
    ]
    if lesson.refusals:
        lines += ["", "The guard refused this update, and it was written all the same:", ""]
        lines += [f"- {reason}" for reason in lesson.refusals]
    return "\n".join(lines) + "\n"


_FEWEST_HELD: Final = 20
_FOLDS: Final = 5
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
        Where that would leave fewer than twenty to judge by, each is held out in turn, and the update is learned from
        all.

    Raises:
        DataError: There is too little feedback to learn from and to judge by.
    """
    chosen = options or LessonOptions()
    gathered = gather(recorded, artifact, max_weight=chosen.max_weight, on_progress=on_progress)
    answers = gathered.answers
    trial = _tried(answers, chosen)
    if trial is None:
        raise DataError(
            f"{len(answers):,} usable answers with feedback in {recorded.where}; at least {_FEWEST_HELD} on several "
            f"prompts are needed, so that some can be held out. Requests left out: {dict(gathered.skipped)}."
        )
    held, new_logit = answers.select(trial.held), trial.new_logit
    measured = held_out(held, new_logit[trial.held])
    sources = check_sources(answers, held, new_logit[trial.held])
    lesson = Lesson(
        where=recorded.where,
        parent=artifact.id,
        n_answers=len(answers),
        basis=dict(gathered.basis),
        skipped=dict(gathered.skipped),
        n_explored=int((answers.weight > 1).sum()),
        n_clipped=gathered.n_clipped,
        common=trial.update.adaptation.common.value,
        shared=_shared(trial.update.adaptation),
        held=measured,
        crossed=bool((trial.held & trial.learned).any()),
        llms=_llms(artifact, answers, trial),
        sources=sources,
        changes=trial.update.changes,
        refusals=refusals(measured, sources),
    )
    return lesson, trial.update


@dataclass(frozen=True, slots=True)
class _Trial:
    """An update, and what judges it.

    Attributes:
        update: The update.
        learned: (n,), which answers it was learned from.
        held: (n,), which ones judge it.
        new_logit: (n,), predictions of the update; of an answer that is in both, of one learned without it.
    """

    update: Update
    learned: Flags
    held: Flags
    new_logit: Floats


def _tried(answers: Answers, options: LessonOptions) -> _Trial | None:
    """Holds some answers out, or where these would be too few, each in turn; None where both is impossible."""
    out = _held_out(answers, options)
    if _FEWEST_HELD <= int(out.sum()) < len(answers):
        update = learn_update(answers.select(~out))
        return _Trial(update, ~out, out, update.logit(answers))
    folds = np.array([int(_FOLDS * hashed(f"fold {key}")) for key in answers.key])
    if len(answers) < _FEWEST_HELD or len(np.unique(folds)) < _FOLDS:
        return None
    new_logit = np.empty(len(answers))
    for fold in range(_FOLDS):
        mine = folds == fold
        new_logit[mine] = learn_update(answers.select(~mine)).logit(answers.select(mine))
    everything = np.ones(len(answers), dtype=bool)
    return _Trial(learn_update(answers), everything, everything, new_logit)


def _held_out(answers: Answers, options: LessonOptions) -> Flags:
    n = len(answers)
    if options.by == "prompt":
        return np.array([hashed(f"held out {key}") < options.holdout for key in answers.key], dtype=bool)
    return np.arange(n) >= n - math.ceil(options.holdout * n)


def _shared(found: Adaptation) -> SharedLesson:
    return SharedLesson(
        terms=found.freedom.name,
        evidence=found.gain,
        common=found.common.value,
        common_sd=found.common.sd,
        difficulty=1.0 + found.difficulty.value,
        difficulty_sd=found.difficulty.sd,
        differences=1.0 + found.differences.value,
        differences_sd=found.differences.sd,
        kinds=found.moved,
    )


def _llms(artifact: Artifact, answers: Answers, trial: _Trial) -> tuple[LLMLesson, ...]:
    lessons = []
    for row in np.unique(answers.llm).tolist():
        own = answers.llm == row
        lessons.append(_llm(artifact.manifest.llms[row].id, row, answers.select(own), _of(trial, own)))
    return tuple(sorted(lessons, key=lambda one: (-one.n - one.n_held, one.llm)))


def _of(trial: _Trial, rows: Flags) -> _Trial:
    return _Trial(trial.update, trial.learned[rows], trial.held[rows], trial.new_logit[rows])


def _llm(llm: str, row: int, own: Answers, trial: _Trial) -> LLMLesson:
    fit, held = trial.update.fits.get(row), trial.held
    offset = trial.update.adaptation.offsets.get(row, Coefficient())
    before, after = sigmoid(own.logit), sigmoid(trial.new_logit)
    return LLMLesson(
        llm=llm,
        n=int(trial.learned.sum()),
        effective_n=fit.effective_n if fit else 0.0,
        offset=offset.value,
        offset_sd=offset.sd,
        changed=_changed(fit, offset),
        n_held=int(held.sum()),
        log_loss_before=_mean(losses(own.logit, own.score)[held]),
        log_loss_after=_mean(losses(trial.new_logit, own.score)[held]),
        ece_before=_calibration_error(own.score[held], before[held]),
        ece_after=_calibration_error(own.score[held], after[held]),
        mean_score=float(own.score.mean()),
        mean_p_before=float(before.mean()),
        mean_p_after=float(after.mean()),
    )


def _changed(fit: LLMFit | None, offset: Coefficient) -> str:
    if fit is not None and fit.change.changes:
        return fit.rung.name
    if offset.value:
        return "offset"
    return "too few answers" if fit is None else "unchanged"


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _calibration_error(score: Floats, p: Floats) -> float | None:
    return expected_calibration_error(score, p) if len(score) else None
