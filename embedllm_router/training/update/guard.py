"""Whether an update from feedback may be used: held-out answers and the feedback itself decide, with figures.

An update is refused

- when held-out answers are not predicted better, or worse in more than a quarter of the resamples;
- when a source's verdicts contradict the weights: right answers were predicted less likely than wrong ones;
- when a source's verdicts have nothing to do with them: neither the old weights nor the new ones rank its verdicts
  better than chance, although there are enough that they should.

Feedback that is wrong in a way that could be true, such as one LLM marked down by everybody, cannot be noticed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, Resampling, losses, sigmoid
from embedllm_router.evaluation.metrics import auc, expected_calibration_error
from embedllm_router.training.update.answers import Answers

__all__ = [
    "LLMLesson",
    "Lesson",
    "LessonOptions",
    "SharedLesson",
    "SourceCheck",
    "check_sources",
    "expected_auc",
    "held_out",
    "ranking",
    "refusals",
]

Floats = NDArray[np.float64]
_RIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well predictions rank answers.

    Attributes:
        n_right: Answers with a score of at least one half.
        n_wrong: The others.
        auc: Probability that a right answer was predicted likelier than a wrong one, in [0, 1].
        error: Its standard error (Hanley and McNeil, 1982); NaN unless there are answers of both kinds.
    """

    n_right: int
    n_wrong: int
    auc: float
    error: float

    @property
    def n(self) -> int:
        """All answers."""
        return self.n_right + self.n_wrong

    @property
    def chance_error(self) -> float:
        """Standard error of a ranking that is pure chance."""
        return _error(_RIGHT, self.n_right, self.n_wrong)


def ranking(score: Floats, predicted: Floats) -> Ranking:
    """Ranks answers by prediction.

    Args:
        score: (n,), in [0, 1].
        predicted: (n,), larger is likelier right.
    """
    right = score >= _RIGHT
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    area = auc(right.astype(np.float64), predicted)
    return Ranking(n_right, n_wrong, area, _error(area, n_right, n_wrong))


def expected_auc(p: Floats) -> float:
    """The area that predictions would have if they were true: near one half when they are all alike.

    Args:
        p: (n,), in [0, 1].
    """
    ordered = np.sort(p)
    starts = np.flatnonzero(np.append(True, ordered[1:] > ordered[:-1]))  # a tie counts half
    right, wrong = np.add.reduceat(ordered, starts), np.add.reduceat(1.0 - ordered, starts)
    total = float(right.sum() * wrong.sum())
    return float(right @ (np.cumsum(wrong) - wrong / 2)) / total if total > 0 else _RIGHT


def _error(area: float, n_right: int, n_wrong: int) -> float:
    if not n_right or not n_wrong:
        return float("nan")
    two_right, two_wrong = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (n_right - 1) * (two_right - area**2) + (n_wrong - 1) * (two_wrong - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (n_right * n_wrong)))


_MOST_WORSE: Final = 0.25
_FEWEST: Final = 50
_SURE: Final = 2.0  # standard errors
_VERY_SURE: Final = 3.0
_POWER: Final = 4.0  # standard errors of chance that true predictions would stand out by
Finding = Literal["agrees", "contradicts", "unrelated", "too few to tell"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out answers, predicted by the old and by the updated weights; weighted as in learning.

    Attributes:
        n: Answers.
        log_loss_before: In nats.
        log_loss_after: In nats.
        change: after - before, with a paired bootstrap interval over answers.
        worse_share: Share of resamples in which the updated weights are worse.
        ece_before: Calibration error, unweighted, 15 bins of equal mass.
        ece_after: Likewise.
        auc_before: Unweighted.
        auc_after: Unweighted.
    """

    n: int
    log_loss_before: float
    log_loss_after: float
    change: Estimate
    worse_share: float
    ece_before: float
    ece_after: float
    auc_before: float
    auc_after: float


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """One source of feedback beside the weights.

    Attributes:
        source: Its name.
        n: Verdicts, held-out ones included.
        auc: How well the old weights rank its verdicts.
        auc_error: Standard error of that.
        auc_if_true: How well they would, were their probabilities true.
        finding: What that says.
    """

    source: str
    n: int
    auc: float
    auc_error: float
    auc_if_true: float
    finding: Finding


def held_out(held: Answers, new_logit: Floats, *, seed: int = 0) -> HeldOut:
    """Measures old and updated weights on held-out answers.

    Args:
        held: At least one answer.
        new_logit: (n,), by the updated weights.
        seed: Decides the resamples.
    """
    before, after = losses(held.logit, held.score), losses(new_logit, held.score)
    drawn, weight = Resampling(len(held), seed), held.weight
    samples = drawn.samples(weight * (after - before), weight)
    p_before, p_after = sigmoid(held.logit), sigmoid(new_logit)
    return HeldOut(
        n=len(held),
        log_loss_before=float(weight @ before / weight.sum()),
        log_loss_after=float(weight @ after / weight.sum()),
        change=drawn.ratio(weight * (after - before), weight),
        worse_share=float(np.mean(samples > 0)),
        ece_before=expected_calibration_error(held.score, p_before),
        ece_after=expected_calibration_error(held.score, p_after),
        auc_before=ranking(held.score, p_before).auc,
        auc_after=ranking(held.score, p_after).auc,
    )


def check_sources(answers: Answers, held: Answers, new_logit: Floats) -> tuple[SourceCheck, ...]:
    """Sets every source of feedback beside the weights.

    Args:
        answers: All answers.
        held: The held-out ones.
        new_logit: (n_held,), by the updated weights.

    Returns:
        Most verdicts first.
    """
    checks = []
    for source in {verdict.source for said in answers.verdicts for verdict in said}:
        score, logit = _of_source(answers, answers.logit, source)
        old, new = ranking(score, logit), ranking(*_of_source(held, new_logit, source))
        if_true = expected_auc(sigmoid(logit))
        checks.append(SourceCheck(source, len(score), old.auc, old.error, if_true, _finding(old, new, if_true)))
    return tuple(sorted(checks, key=lambda one: (-one.n, one.source)))


def refusals(measured: HeldOut, sources: Sequence[SourceCheck]) -> tuple[str, ...]:
    """Why the update shall not be used; empty when it may be."""
    said = []
    change = measured.change
    if change.value > 0 or measured.worse_share > _MOST_WORSE:
        said.append(
            f"held-out log-loss {measured.log_loss_before:.4f} becomes {measured.log_loss_after:.4f} "
            f"({change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]), worse in {measured.worse_share:.0%} of "
            f"the resamples; at most {_MOST_WORSE:.0%} may be"
        )
    for one in sources:
        figures = (
            f"AUC {one.auc:.2f} ± {one.auc_error:.2f} over {one.n:,} verdicts; {one.auc_if_true:.2f} if they were true"
        )
        if one.finding == "contradicts":
            said.append(
                f"feedback of source {one.source!r} contradicts the weights ({figures}): is its scale reversed?"
            )
        elif one.finding == "unrelated":
            said.append(
                f"feedback of source {one.source!r} has nothing to do with LLMs and prompts ({figures}; no better by "
                "the updated weights): is it random, or on other requests?"
            )
    return tuple(said)


def _finding(old: Ranking, new: Ranking, if_true: float) -> Finding:
    if old.n < _FEWEST or not np.isfinite(old.error):
        return "too few to tell"
    if old.auc + _SURE * old.error < 0.5:  # noqa: PLR2004 - chance
        return "contradicts"
    by_chance = old.auc - _SURE * old.error <= 0.5  # noqa: PLR2004 - chance
    would_show = if_true - 0.5 >= _POWER * old.chance_error
    learned = np.isfinite(new.error) and new.auc - _VERY_SURE * new.error > 0.5  # noqa: PLR2004 - chance
    if not by_chance or learned:
        return "agrees"
    return "unrelated" if would_show else "too few to tell"


def _of_source(answers: Answers, logit: Floats, source: str) -> tuple[Floats, Floats]:
    """Scores of one source's verdicts, and the logits of the answers they are on."""
    pairs = [
        (verdict.score, z)
        for said, z in zip(answers.verdicts, logit.tolist(), strict=True)
        for verdict in said
        if verdict.source == source
    ]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


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
class SharedLesson:
    """What was learned of all LLMs at once. Every standard deviation is that of what was found, given the verdicts.

    Attributes:
        terms: "unchanged", "offsets" when no prompt was known, or "all".
        evidence: For a change over none, in nats.
        common: Shift of every LLM's logit, also of those without feedback.
        common_sd: Its standard deviation; the next likewise.
        difficulty: What the difficulty of a prompt counts for, 1 as before.
        difficulty_sd: Likewise.
        differences: What differences between LLMs count for, 1 as before.
        differences_sd: Likewise.
        kinds: How far the logit of a prompt moves because of its kind, for all LLMs alike, root mean square.
    """

    terms: str
    evidence: float
    common: float
    common_sd: float
    difficulty: float
    difficulty_sd: float
    differences: float
    differences_sd: float
    kinds: float


@dataclass(frozen=True, slots=True)
class LLMLesson:
    """What was learned of one LLM. Figures are None where there is nothing to measure on.

    Attributes:
        llm: Its id.
        n: Answers it was learned from.
        effective_n: What they count as once weighted by propensity.
        offset: Shift of its own logit beside that of all LLMs, as a first estimate from all feedback.
        offset_sd: Its posterior standard deviation.
        changed: The most that was learned of it alone: "embedding", "calibration", "offset", "unchanged" or "too few
            answers".
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
    offset: float
    offset_sd: float
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
        shared: What was learned of all LLMs at once.
        held: Held-out answers.
        crossed: Whether, for want of answers, each was held out in turn and the update was learned from all of them.
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
    shared: SharedLesson
    held: HeldOut
    crossed: bool
    llms: tuple[LLMLesson, ...]
    sources: tuple[SourceCheck, ...]
    changes: bool
    refusals: tuple[str, ...]
