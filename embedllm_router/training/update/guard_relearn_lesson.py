"""What was learned from feedback, and whether it may be used. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from embedllm_router.training.update.guard import HeldOut, SourceCheck

__all__ = ["LLMLesson", "Lesson", "LessonOptions"]


@dataclass(frozen=True, slots=True)
class LessonOptions:
    """How to learn.

    Attributes:
        holdout: Share of the answers that are held out, in (0, 1).
        by: "time" holds the newest out, "prompt" whichever a hash of the prompt says.
        max_weight: Largest weight of an answer whose LLM was chosen by chance, at least 1.
    """

    holdout: float = 0.25
    by: Literal["time", "prompt"] = "time"
    max_weight: float = 10.0


@dataclass(frozen=True, slots=True)
class LLMLesson:
    """What was learned of one LLM. Figures are None where there is nothing to measure on.

    Attributes:
        llm: Its id.
        n: Answers it was learned from.
        effective_n: What they count as once weighted by propensity.
        changed: "embedding", "calibration", "unchanged" or "too few answers"; the common shift comes on top.
        n_held: Held-out answers; the next four are of these.
        log_loss_before: In nats.
        log_loss_after: In nats.
        ece_before: Calibration error.
        ece_after: Calibration error.
        mean_score: Mean verdict on all its answers. The next two are of the same answers.
        mean_p_before: Mean predicted probability.
        mean_p_after: The same by the updated weights.
    """

    llm: str
    n: int
    effective_n: float
    changed: str
    n_held: int
    log_loss_before: float | None
    log_loss_after: float | None
    ece_before: float | None
    ece_after: float | None
    mean_score: float
    mean_p_before: float
    mean_p_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What was learned, and whether it may be used.

    Attributes:
        where: The log.
        parent: Id of the weights that were updated.
        n_answers: Answers with feedback.
        basis: How many were embedded from what.
        skipped: Requests that were not used, by reason.
        n_explored: Answers whose LLM was chosen with a propensity below 1.
        n_clipped: Of those, the ones whose weight was clipped.
        common: Shift of every LLM's logit.
        held: Held-out answers.
        llms: Every LLM with feedback, most answers first.
        sources: Every source of feedback.
        changes: Whether anything is different.
        refusals: Why it may not be used; empty when it may.
    """

    where: str
    parent: str
    n_answers: int
    basis: Mapping[str, int]
    skipped: Mapping[str, int]
    n_explored: int
    n_clipped: int
    common: float
    held: HeldOut
    llms: tuple[LLMLesson, ...]
    sources: tuple[SourceCheck, ...]
    changes: bool
    refusals: tuple[str, ...]
