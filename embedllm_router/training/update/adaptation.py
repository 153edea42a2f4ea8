"""Answers with feedback → what changes for all LLMs at once: enough can be told from a few dozen verdicts.

Traffic of a new kind is harder or easier than predicted, some of its topics more than others, and an LLM is better or
worse at it than elsewhere. With z the logit that is served, z̄ what it is for the mean LLM (so the prompt's difficulty),
and κ(x) features of the prompt that say the same of every LLM,

    new z = z + common + offset[llm] + difficulty · (z̄ - mean z̄) + differences · (z - z̄) + v · κ(x)

with a normal prior around 0 on each coefficient: the maximum a posteriori estimate of a few verdicts is near the
weights as they are, and of many near what these say. The standard deviations of the priors are what suited twelve data
sets, each adapted to by weights that had never seen it (docs/experiments.md). Whether
anything changes is decided by the evidence, the probability of the verdicts with the coefficients integrated out
(Laplace approximation; MacKay, Neural Computation 4, 1992): verdicts that are as predicted change nothing.

κ is read by tensors that weights have anyway, so the result is ordinary weights:

- without a hedge κ is f(x), and v is added to the embedding of every LLM. Scales and offsets change rows;
- with one κ is what the difficulty of a prompt is read from, and v is added to `difficulty_weight`. The common shift
  is added to the hedge's `offset`. Scales change rows, and what LLMs share as `LinearDecoder.moved` says.

An LLM that nobody spoke of gets all but an offset. The gate stays: where it opens further, scales and common shift
do as much (moving its bias as well did not lower the loss of left-out sets).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from embedllm_router._stats import Examples, fit_logistic, losses, sigmoid
from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.linear_decoder import Everyone, LinearDecoder
from embedllm_router.training.update.answers import Answers

__all__ = [
    "ALL",
    "OFFSETS",
    "UNCHANGED",
    "Adaptation",
    "Coefficient",
    "Directions",
    "Freedom",
    "adapt",
    "effective",
    "shift_of_all",
]

Floats = NDArray[np.float64]
_MOST_DIRECTIONS: Final = 64
_FEWEST_LLMS: Final = 3
_GROUPS: Final = 5
_NEGLIGIBLE: Final = 1e-6
_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Freedom:
    """Standard deviations of the priors; 0 fixes a term at no change.

    Attributes:
        name: For reports.
        common: Of the shift of every LLM, in logits.
        llm: Of an LLM's own shift.
        difficulty: Of the scale of difficulty, less 1.
        differences: Of the scale of differences between LLMs, less 1.
        kind: Of the shift of an average prompt by each block of κ.
    """

    name: str
    common: float = 0.0
    llm: float = 0.0
    difficulty: float = 0.0
    differences: float = 0.0
    kind: float = 0.0


UNCHANGED: Final = Freedom("unchanged")
OFFSETS: Final = Freedom("offsets", common=0.7, llm=0.5)
ALL: Final = Freedom("all", common=0.7, llm=0.5, difficulty=0.4, differences=0.6, kind=0.5)


@dataclass(frozen=True, slots=True)
class Directions:
    """The main directions of what is known of prompts, those of each block scaled to length 1 on average.

    Attributes:
        mean: (n_features,).
        basis: (n_features, n_directions), orthogonal columns.
    """

    mean: Floats
    basis: Floats

    @classmethod
    def of(
        cls, prompts: NDArray[np.float32], widths: Sequence[int] = (), *, most: int = _MOST_DIRECTIONS
    ) -> "Directions":
        """Principal components of each block, most varied first.

        Args:
            prompts: Features of prompts, (n, n_features), at least one row, finite.
            widths: Of the blocks; empty for one of all features.
            most: How many of a block are kept at most.
        """
        mean = prompts.mean(axis=0, dtype=np.float64)
        spread = (prompts - mean).astype(np.float64)
        basis, start = [], 0
        for width in widths or (len(mean),):
            part = np.zeros((len(mean), most))
            found = _principal(spread[:, start : start + width], most)
            part[start : start + width, : found.shape[1]] = found
            basis.append(part[:, : found.shape[1]])
            start += width
        return cls(mean, np.concatenate(basis, axis=1))

    def __len__(self) -> int:
        return int(self.basis.shape[1])

    def of_prompts(self, prompts: NDArray[np.float32]) -> Floats:
        """Places of prompts along the directions, (n, n_directions); 0 where a prompt is not known."""
        places: Floats = np.nan_to_num((prompts - self.mean) @ self.basis)
        return places


def _principal(spread: Floats, most: int) -> Floats:
    n, width = spread.shape
    if n < width:
        _, singular, right = np.linalg.svd(spread, full_matrices=False)
        variance, axes = singular[:most] ** 2 / n, right[:most].T
    else:
        fewest = max(width - most, 0)
        variance, axes = eigh(spread.T @ spread / n, subset_by_index=[fewest, width - 1])
        variance, axes = variance[::-1], axes[:, ::-1]
    total = float((spread**2).sum()) / n
    found: Floats = axes[:, variance > total * _NEGLIGIBLE] / np.sqrt(max(total, _TINY))
    return found


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One term of an adaptation.

    Attributes:
        value: In logits, or a scale less 1.
        sd: Its posterior standard deviation.
    """

    value: float = 0.0
    sd: float = 0.0


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What changes for all LLMs.

    Attributes:
        freedom: Which terms were free.
        gain: Evidence for them over no change, in nats.
        common: Shift of every LLM, also of those without feedback.
        difficulty: Scale of the difficulty of prompts, less 1.
        differences: Scale of the differences between LLMs, less 1.
        offsets: Shift of its own, by row of the LLM.
        pivot: Difficulty at which its scale turns.
        kinds: Directions of `along`; None when none are free.
        along: (n_directions,), v.
        moved: How far v moves the logit of a prompt of the log, root mean square.
    """

    freedom: Freedom = UNCHANGED
    gain: float = 0.0
    common: Coefficient = Coefficient()
    difficulty: Coefficient = Coefficient()
    differences: Coefficient = Coefficient()
    offsets: Mapping[int, Coefficient] = field(default_factory=dict)
    pivot: float = 0.0
    kinds: Directions | None = None
    along: Floats | None = None
    moved: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether anything is different."""
        return self.freedom.common > 0

    def adapted(self, answers: Answers) -> Answers:
        """Answers as the adapted weights predict them."""
        if not self.changes:
            return answers
        offset = np.zeros(len(answers))
        for row, one in self.offsets.items():
            offset[answers.llm == row] = one.value
        scaled = self._scaled(answers.logit, answers.typical)
        everyone = self.common.value - self.difficulty.value * np.where(answers.has_columns, self.pivot, 0.0)
        logit = scaled + offset + everyone + self._of_kinds(answers.shared)
        own = self._scaled(answers.own, answers.own_typical) + offset
        return replace(answers, logit=logit, own=own if answers.hedged else logit)

    def applied(self, artifact: Artifact) -> Artifact:
        """Adapted weights, in memory."""
        if not self.changes:
            return artifact
        decoder = LinearDecoder(artifact)
        rows = decoder.evened_rows()
        typical = rows.mean(axis=0)
        rows = (1.0 + self.difficulty.value) * typical + (1.0 + self.differences.value) * (rows - typical)
        for row, one in self.offsets.items():
            rows[row] += one.value * decoder.constant
        shift, turn = self.common.value - self.difficulty.value * self.pivot, np.zeros(decoder.n_shared)
        if self.kinds is not None and self.along is not None:
            turn = self.kinds.basis @ self.along
            shift -= float(self.kinds.mean @ turn)
        return decoder.moved(artifact, rows, Everyone(shift, 1.0 + self.difficulty.value, turn))

    def _scaled(self, logit: Floats, typical: Floats) -> Floats:
        change = self.difficulty.value * typical + self.differences.value * (logit - typical)
        scaled: Floats = logit + np.nan_to_num(change)
        return scaled

    def _of_kinds(self, shared: NDArray[np.float32]) -> Floats:
        if self.kinds is None or self.along is None:
            return np.zeros(len(shared))
        return self.kinds.of_prompts(shared) @ self.along


@dataclass(frozen=True, slots=True)
class _Terms:
    """The regression's columns, and what they are made of."""

    answers: Answers
    llms: NDArray[np.intp]
    kinds: Directions | None
    pivot: float

    def examples(self, weight: Floats) -> Examples:
        a = self.answers
        shared = np.stack([np.ones(len(a)), a.typical - self.pivot, a.logit - a.typical], axis=1)
        of_llm = a.llm[:, None] == self.llms[None, :]
        parts = [np.nan_to_num(shared), of_llm.astype(np.float64)]
        if self.kinds is not None:
            parts.append(self.kinds.of_prompts(a.shared))
        return Examples(np.concatenate(parts, axis=1), a.logit, a.score, weight)

    def spreads(self, freedom: Freedom) -> Floats:
        n_kinds = 0 if self.kinds is None else len(self.kinds)
        shared = [freedom.common, freedom.difficulty, freedom.differences]
        return np.array([*shared, *[freedom.llm] * len(self.llms), *[freedom.kind] * n_kinds])


def adapt(answers: Answers, freedoms: Sequence[Freedom] = (ALL, OFFSETS)) -> Adaptation:
    """Adapts to answers.

    Args:
        answers: At least one.
        freedoms: How far what may change; the first is taken for which there is more evidence than for no change, and
            whose shared terms carry over from some LLMs to others.

    Returns:
        What changes, possibly nothing.
    """
    known = answers.has_columns
    kinds = Directions.of(answers.shared[known], answers.shared_widths) if known.any() else None
    pivot = float(answers.typical[known].mean()) if known.any() else 0.0
    terms = _Terms(answers, np.unique(answers.llm), kinds, pivot)
    examples = terms.examples(effective(answers.weight))
    for freedom in freedoms:
        found = _fit(examples, terms.spreads(freedom))
        if found.gain > 0 and (freedom.kind == 0 or _carries_over(terms, examples, freedom)):
            return _read(terms, examples, freedom, found)
    return Adaptation()


def _carries_over(terms: _Terms, examples: Examples, freedom: Freedom) -> bool:
    """Whether what is learned from some LLMs predicts the answers of others better than nothing does."""
    group = np.searchsorted(terms.llms, terms.answers.llm) % _GROUPS
    gain = 0.0
    for one in np.unique(group):
        others, mine = examples.select(group != one), examples.select(group == one)
        if not len(others.base):
            return False
        moved = mine.base + mine.x @ _fit(others, terms.spreads(freedom)).theta
        gain += float(mine.weight @ (losses(mine.base, mine.score) - losses(moved, mine.score)))
    return gain > 0


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Coefficients, their posterior standard deviations, and the evidence for them over no change, in nats."""

    theta: Floats
    sd: Floats
    gain: float


def _fit(examples: Examples, spreads: Floats) -> _Fitted:
    free = spreads > 0
    precision = 1.0 / spreads[free] ** 2
    theta, sd = np.zeros(len(spreads)), np.zeros(len(spreads))
    some = Examples(examples.x[:, free], examples.base, examples.score, examples.weight)
    theta[free], curvature = fit_logistic(some, precision)
    sd[free] = np.sqrt(np.diag(np.linalg.inv(curvature)))
    gained = losses(some.base, some.score) - losses(some.base + some.x @ theta[free], some.score)
    held_back = 0.5 * float(precision @ theta[free] ** 2)
    room = 0.5 * float(np.linalg.slogdet(curvature)[1] - np.log(precision).sum())
    return _Fitted(theta, sd, float(some.weight @ gained) - held_back - room)


def _read(terms: _Terms, examples: Examples, freedom: Freedom, found: _Fitted) -> Adaptation:
    n, theta, sd = len(terms.llms), found.theta, found.sd
    common, difficulty, differences = (Coefficient(float(v), float(s)) for v, s in zip(theta[:3], sd[:3], strict=True))
    shared = _shift_of_all(terms, examples, freedom, theta)
    offsets = theta[3 : 3 + n] + common.value - shared
    along = theta[3 + n :]
    moved = examples.x[:, 3 + n :] @ along
    return Adaptation(
        freedom,
        found.gain,
        Coefficient(shared, common.sd),
        difficulty,
        differences,
        {int(row): Coefficient(float(v), float(s)) for row, v, s in zip(terms.llms, offsets, sd[3:], strict=False)},
        terms.pivot,
        terms.kinds if freedom.kind > 0 else None,
        along,
        float(np.sqrt((moved**2).mean())),
    )


def _shift_of_all(terms: _Terms, examples: Examples, freedom: Freedom, theta: Floats) -> float:
    """The part of the common shift that LLMs without feedback get as well."""
    n = len(terms.llms)
    p = sigmoid(examples.base + examples.x @ theta)
    which = np.searchsorted(terms.llms, terms.answers.llm)
    told = np.bincount(which, examples.weight * p * (1.0 - p), n)
    lacking = np.bincount(which, examples.weight * (examples.score - p), n)
    shifts = theta[0] + theta[3 : 3 + n] + lacking / np.maximum(told, _TINY)
    return shift_of_all(shifts, 1.0 / np.maximum(told, _TINY), freedom)


def shift_of_all(shifts: Floats, variances: Floats, freedom: Freedom) -> float:
    """The shift that LLMs share: the smallest of those that are found without one of them.

    So an LLM that moved alone shifts no other, and one of many hardly matters.

    Args:
        shifts: One per LLM, in logits.
        variances: Of each shift, positive.
        freedom: How far LLMs may move together, and each by itself.

    Returns:
        The common shift; 0 of fewer than three LLMs, which cannot tell.
    """
    if len(shifts) < _FEWEST_LLMS:
        return 0.0
    weight = 1.0 / (freedom.llm**2 + variances)
    without = (weight @ shifts - weight * shifts) / (weight.sum() - weight + 1.0 / freedom.common**2)
    if without.min() <= 0.0 <= without.max():
        return 0.0
    return float(without[np.argmin(np.abs(without))])


def effective(weight: Floats) -> Floats:
    """Weights that sum to the effective number of answers, so that the prior keeps its say."""
    evened: Floats = weight * (weight.sum() / (weight**2).sum())
    return evened
