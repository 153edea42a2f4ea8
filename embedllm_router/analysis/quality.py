"""Whether quality is held: by feedback on the answers, against the baseline where that was observed, else as predicted.

Predictions hold where their mean lies in the 95 % interval of the mean verdict.
"""

from dataclasses import dataclass
from enum import StrEnum

from embedllm_router._stats import Estimate, wilson
from embedllm_router.analysis.calibration import JudgedCalibration
from embedllm_router.analysis.verdict.recorded import RecordsVerdict
from embedllm_router.analysis.verdict.result import Against
from embedllm_router.evaluation.verdict import MARGIN, MIN_REQUESTS

__all__ = ["Hold", "Holds", "Quality", "holds", "quality_of"]


class Holds(StrEnum):
    """How predictions fare beside verdicts."""

    UNKNOWN = "unknown"
    HOLD = "hold"
    TOO_HIGH = "too high"
    TOO_LOW = "too low"


class Hold(StrEnum):
    """Whether quality is held."""

    YES = "yes"
    NO = "no"
    AS_PREDICTED = "as predicted"
    NOT_SHOWN = "not shown"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Quality:
    """The answer, and what it rests on.

    Attributes:
        held: The answer.
        sentence: The same in words, with the figures.
        lacking: What is lacking for a firmer answer; None where nothing is.
        n: Judged answers.
        score: Mean verdict with its 95 % Wilson interval; None without any.
        p_correct: Mean prediction for the same answers; None likewise.
        predictions: How predictions fare beside them.
        change: Accuracy of routing less that of the baseline; None where there is none or it was not observed.
    """

    held: Hold
    sentence: str
    lacking: str | None
    n: int
    score: Estimate | None
    p_correct: float | None
    predictions: Holds
    change: Estimate | None


def holds(p_correct: float, score: Estimate) -> Holds:
    """Whether a mean prediction lies in the interval of the mean verdict.

    Args:
        p_correct: Mean prediction, in [0, 1].
        score: Mean verdict on the same answers.

    Returns:
        `UNKNOWN` below 30 answers.
    """
    if score.n < MIN_REQUESTS:
        return Holds.UNKNOWN
    if p_correct > score.high:
        return Holds.TOO_HIGH
    return Holds.TOO_LOW if p_correct < score.low else Holds.HOLD


def quality_of(judged: JudgedCalibration, found: RecordsVerdict) -> Quality:
    """Answers whether quality is held.

    Args:
        judged: All feedback beside predictions.
        found: The verdict on the newest requests.

    Returns:
        The answer.
    """
    if judged.score is None or judged.p_correct is None or judged.answers < MIN_REQUESTS:
        n = judged.answers
        score = None if judged.score is None else wilson(judged.score, n)
        said = "no answer has" if not n else f"{n} answer{' has' if n == 1 else 's have'}"
        sentence = f"Not known: {said} feedback."
        lacking = f"At least {MIN_REQUESTS} judged answers are needed: send feedback, or set judging."
        return Quality(Hold.UNKNOWN, sentence, lacking, n, score, judged.p_correct, Holds.UNKNOWN, None)
    score = wilson(judged.score, judged.answers)
    predictions = holds(judged.p_correct, score)
    against = found.verdict.baseline if found.verdict else None
    known = against is not None and against.known
    change = against.judgement.for_accuracy.accuracy_change if against is not None and known else None
    held = _by_baseline(change) if change is not None else _as_predicted(predictions)
    observed = f"{score.value:.1%} of {score.n:,} judged answers were right [{score.low:.1%}, {score.high:.1%}]"
    return Quality(
        held=held,
        sentence=f"{_WORDS[held]}: {observed}{_beside(against, change, judged.p_correct)}.",
        lacking=_lacking(against),
        n=judged.answers,
        score=score,
        p_correct=judged.p_correct,
        predictions=predictions,
        change=change,
    )


_WORDS = {
    Hold.YES: "Yes",
    Hold.NO: "No",
    Hold.AS_PREDICTED: "As predicted",
    Hold.NOT_SHOWN: "Not shown yet",
}


def _by_baseline(change: Estimate) -> Hold:
    """At most the margin that the verdict allows may be lost, for sure."""
    if change.low >= -MARGIN:
        return Hold.YES
    return Hold.NO if change.high < -MARGIN else Hold.NOT_SHOWN


def _as_predicted(predictions: Holds) -> Hold:
    return Hold.NO if predictions is Holds.TOO_HIGH else Hold.AS_PREDICTED


def _beside(against: Against | None, change: Estimate | None, p_correct: float) -> str:
    if against is None or change is None:
        return f"; predicted were {p_correct:.1%}"
    points = f"{change.value * 100:+.1f} points [{change.low * 100:+.1f}, {change.high * 100:+.1f}]"
    return f"; against {against.llm} that is {points}"


def _lacking(against: Against | None) -> str | None:
    if against is None:
        return "No baseline is named, so this says only whether predictions hold: set baseline in the virtual model."
    if not against.known:
        return f"Whether {against.llm} would have been right more often is not known: {against.unknown_because}"
    return None
