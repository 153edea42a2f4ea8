"""Answers with feedback → what changes: of all LLMs first (`adaptation`), then of each LLM alone.

What may change about one LLM, on top of what changes of all, is as the columns of a regression

    new logit = logit + slope · (own - mean own) + offset + v · φ

`own` is the part of the logit that comes from the LLM's row: all of it without a hedge, all but what LLMs share with
one. φ are the main directions of the prompts in the log, of f(x) or of what a hedge makes of it (`LinearDecoder`),
scaled so that a prompt's φ has length 1 on average: the prior on v then says how far the logit of an average prompt may
move. How far an LLM may move is a ladder of priors that starts with no
change at all, climbed by cross-validation. Of the rungs within one standard error of the best, the lowest is taken
(Breiman et al., 1984): data that show nothing change nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Examples, fit_logistic, losses
from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.training.update.adaptation import Adaptation, Directions, adapt, effective
from embedllm_router.training.update.answers import Answers

__all__ = [
    "LADDER",
    "LLMChange",
    "LLMFit",
    "Rung",
    "Update",
    "choose_rung",
    "columns",
    "fit_rung",
    "hashed",
    "learn_update",
]

_MOST_DIRECTIONS: Final = 32
_MIN_SLOPE: Final = -0.9  # a slope that undoes or reverses what was learned is no calibration
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LLMChange:
    """A fit for one LLM.

    Attributes:
        mean_own: Where the slope turns.
        slope: At least -0.9; 0 is no change.
        offset: Shift of its own.
        along: (n_directions,), v; None when only the calibration changes.
    """

    mean_own: float = 0.0
    slope: float = 0.0
    offset: float = 0.0
    along: Floats | None = None

    @classmethod
    def from_fit(cls, fit: Floats, mean_own: float, *, embedding: bool) -> "LLMChange":
        """Reads the coefficients of `columns`."""
        return cls(mean_own, max(float(fit[0]), _MIN_SLOPE), float(fit[1]), fit[2:] if embedding else None)

    @property
    def changes(self) -> bool:
        """Whether anything is different."""
        return bool(self.slope or self.offset or self.along is not None)

    def logit(self, logit: Floats, own: Floats, phi: Floats | None) -> Floats:
        """New logits of old ones, (n,), with the LLM's own part of each, (n,); `phi` is (n, n_directions)."""
        moved: Floats = logit + self.slope * np.nan_to_num(own - self.mean_own) + self.offset
        return moved if self.along is None or phi is None else moved + phi @ self.along

    def folded(self, row: Floats, constant: Floats, directions: Directions | None) -> Floats:
        """The LLM's new row, (n_free,), whose product with a prompt's columns is the new logit's own part.

        Args:
            row: The old one, (n_free,).
            constant: The row that adds 1 to every logit, (n_free,).
            directions: Those of `along`.
        """
        shift = self.offset - self.slope * self.mean_own
        if self.along is None or directions is None:
            return (1.0 + self.slope) * row + shift * constant
        turn = directions.basis @ self.along
        return (1.0 + self.slope) * row + turn + (shift - float(directions.mean @ turn)) * constant


def columns(own: Floats, mean_own: float, phi: Floats | None) -> Floats:
    """The regression's columns, (n, 2 + n_directions): slope, offset, directions; 0 where the own part is unknown."""
    line = np.stack([np.nan_to_num(own - mean_own), np.ones(len(own))], axis=1)
    return line if phi is None else np.concatenate([line, phi], axis=1)


_FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Rung:
    """How far an LLM may move.

    Attributes:
        line: Precision of the prior on slope and offset; None fixes both at no change.
        along: Precision of the prior on the directions of f(x); None fixes them.
    """

    line: float | None = None
    along: float | None = None

    @property
    def name(self) -> str:
        """For reports."""
        if self.line is None:
            return "unchanged"
        return "calibration" if self.along is None else "embedding"


LADDER: Final = (
    Rung(),
    Rung(line=40.0),
    Rung(line=10.0),
    Rung(line=40.0, along=100.0),
    Rung(line=10.0, along=25.0),
    Rung(line=10.0, along=6.0),
    Rung(line=2.5, along=1.5),
)
"""From no change to much of it. A precision κ lets a logit move by about 1/√κ before the data have to pay for it; 40 is
what the calibration of training uses."""


def fit_rung(examples: Examples, rung: Rung) -> Floats:
    """Fits one rung; columns it does not have are 0.

    Args:
        examples: Columns are slope, offset, then the directions of f(x), if any.
        rung: How far they may move.

    Returns:
        (d,).
    """
    theta = np.zeros(examples.x.shape[1])
    if rung.line is None:
        return theta
    width = 2 if rung.along is None else len(theta)
    precision = np.array([rung.line, rung.line, *([rung.along] * (width - 2))], dtype=np.float64)
    theta[:width], _ = fit_logistic(examples.narrowed(width), precision)
    return theta


def choose_rung(examples: Examples, keys: Sequence[str], ladder: Sequence[Rung] = LADDER) -> Rung:
    """The lowest rung whose cross-validated loss is within one standard error of the best rung's.

    Args:
        examples: As for `fit_rung`, at least one.
        keys: (n,); answers of equal keys are never on both sides.
        ladder: Rungs, least change first.

    Returns:
        The rung.
    """
    folds = np.array([int(hashed(key) * _FOLDS) for key in keys])
    loss = np.stack([_cross_validated(examples, folds, rung) for rung in ladder])
    share = examples.weight / examples.weight.sum()
    best = int(np.argmin(loss @ share))
    for rung, own in zip(ladder[:best], loss[:best], strict=True):
        excess = own - loss[best]
        middle = float(excess @ share)
        if middle <= float(np.sqrt(share**2 @ (excess - middle) ** 2)):
            return rung
    return ladder[best]


def _cross_validated(examples: Examples, folds: NDArray[np.intp], rung: Rung) -> Floats:
    """Loss of each answer by a fit to the other folds, (n,)."""
    loss = losses(examples.base, examples.score)
    if rung.line is None:
        return loss
    for part in np.unique(folds):
        out = folds == part
        if not out.all():
            theta = fit_rung(examples.select(~out), rung)
            loss[out] = losses(examples.base[out] + examples.x[out] @ theta, examples.score[out])
    return loss


def hashed(key: str) -> float:
    """A number in [0, 1) that a key always has."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


_FEWEST: Final = 20
"""Answers of an LLM below which nothing is learned of it alone."""


@dataclass(frozen=True, slots=True)
class LLMFit:
    """What was learned of one LLM.

    Attributes:
        change: What changes.
        rung: How far it was allowed to move.
        n: Answers it was learned from.
        effective_n: What they count as once weighted by propensity, (Σw)² / Σw².
    """

    change: LLMChange
    rung: Rung
    n: int
    effective_n: float


@dataclass(frozen=True, slots=True)
class Update:
    """What was learned.

    Attributes:
        adaptation: What changes of all LLMs.
        directions: The main directions of the prompts; None when no answer had a known prompt.
        fits: By row of the LLM, those with enough answers; what changes of them beside.
    """

    adaptation: Adaptation
    directions: Directions | None
    fits: Mapping[int, LLMFit]

    @property
    def changes(self) -> bool:
        """Whether anything is different."""
        return self.adaptation.changes or any(one.change.changes for one in self.fits.values())

    def logit(self, answers: Answers) -> Floats:
        """What the updated weights predict for answers; without a known prompt, what the LLM's calibration says."""
        adapted = self.adaptation.adapted(answers)
        new = adapted.logit.copy()
        for row, one in self.fits.items():
            mine = answers.llm == row
            prompts = answers.columns[mine]
            phi = None if self.directions is None else np.nan_to_num(self.directions.of_prompts(prompts))
            new[mine] = one.change.logit(adapted.logit[mine], adapted.own[mine], phi)
        return new

    def applied(self, artifact: Artifact) -> Artifact:
        """Updated weights, in memory: of the manifest only the hedge is new."""
        if not self.changes:
            return artifact
        adapted = self.adaptation.applied(artifact)
        decoder = LinearDecoder(adapted)
        n, constant = decoder.n_free, decoder.constant[: decoder.n_free]
        rows = decoder.evened_rows()
        for row, one in self.fits.items():
            rows[row, :n] = one.change.folded(rows[row, :n], constant, self.directions)
        return replace(adapted, decoder={**adapted.decoder, **decoder.tensors(rows)})


def learn_update(answers: Answers) -> Update:
    """Learns from answers.

    Args:
        answers: At least one.

    Returns:
        What changes.
    """
    known = answers.has_columns
    directions = Directions.of(answers.columns[known], most=_MOST_DIRECTIONS) if known.any() else None
    rows, counts = np.unique(answers.llm, return_counts=True)
    adaptation = adapt(answers)
    adapted = adaptation.adapted(answers)
    enough = rows[counts >= _FEWEST].tolist()
    fits = {row: _fit_llm(adapted.select(adapted.llm == row), directions) for row in enough}
    return Update(adaptation, directions, fits)


def _fit_llm(mine: Answers, directions: Directions | None) -> LLMFit:
    """Learns one LLM: from the answers with known prompts where most have them, else its calibration from all."""
    known = mine.has_columns
    embedding = directions is not None and len(directions) > 0 and int(known.sum()) >= max(_FEWEST, len(mine) / 2)
    if embedding:
        mine = mine.select(known)
    phi = directions.of_prompts(mine.columns) if embedding and directions is not None else None
    told = mine.own[np.isfinite(mine.own)]
    mean_own = float(told.mean()) if len(told) else 0.0
    x = columns(mine.own, mean_own, phi)
    examples = Examples(x, mine.logit, mine.score, effective(mine.weight))
    ladder = LADDER if embedding else [rung for rung in LADDER if rung.along is None]
    rung = choose_rung(examples, mine.key, ladder)
    theta = fit_rung(examples, rung)
    change = LLMChange.from_fit(theta, mean_own, embedding=rung.along is not None)
    return LLMFit(change, rung, len(mine), float(examples.weight.sum()))
