"""Answers with feedback → what changes about each LLM. It writes nothing and judges nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.weights import Artifact, Tensors
from embedllm_router.stats_relearn_logistic import Examples, fit
from embedllm_router.training.update.answers import Answers
from embedllm_router.training.update.fit_relearn_common import common_shift
from embedllm_router.training.update.fit_relearn_design import Directions, LLMChange, columns
from embedllm_router.training.update.fit_relearn_ladder import LADDER, Rung, choose_rung, fit_rung

__all__ = ["LLMFit", "Update", "learn_update"]

_FEWEST: Final = 20
"""Answers of an LLM below which nothing is learned of it alone."""
_LOOSE: Final = 0.01  # precision that only keeps the shift of an LLM that was always right finite
Floats = NDArray[np.float64]


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
        common: Shift of every LLM's logit, also of those without feedback.
        directions: The main directions of f(x); None when no answer had any.
        fits: By row of the LLM, those with enough answers.
    """

    common: float
    directions: Directions | None
    fits: Mapping[int, LLMFit]

    @property
    def changes(self) -> bool:
        """Whether anything is different."""
        return bool(self.common) or any(one.change.changes for one in self.fits.values())

    def logit(self, answers: Answers) -> Floats:
        """What the updated weights predict for answers; of one without f(x), what its LLM's calibration says."""
        new = answers.logit + self.common
        for row, one in self.fits.items():
            own = answers.llm == row
            phi = self._phi(answers.hidden[own])
            new[own] = one.change.logit(answers.logit[own], phi)
        return new

    def applied(self, artifact: Artifact) -> Tensors:
        """The decoder's tensors, updated."""
        embeddings = artifact.decoder["llm_embeddings"].astype(np.float64)
        bias = artifact.decoder["llm_bias"].astype(np.float64) + self.common
        for row, one in self.fits.items():
            own_bias = float(artifact.decoder["llm_bias"][row])
            embeddings[row], bias[row] = one.change.folded(embeddings[row], own_bias, self.directions)
        new = {"llm_embeddings": embeddings.astype(np.float32), "llm_bias": bias.astype(np.float32)}
        return {**artifact.decoder, **new}

    def _phi(self, hidden: NDArray[np.float32]) -> Floats | None:
        return None if self.directions is None else np.nan_to_num(self.directions.of_prompts(hidden))


def learn_update(answers: Answers) -> Update:
    """Learns from answers.

    Args:
        answers: At least one.

    Returns:
        What changes.
    """
    known = answers.has_hidden
    directions = Directions.of(answers.hidden[known]) if known.any() else None
    rows, counts = np.unique(answers.llm, return_counts=True)
    enough = rows[counts >= _FEWEST].tolist()
    shifts = [_shift(answers.select(answers.llm == row)) for row in enough]
    common = common_shift([shift for shift, _ in shifts], [variance for _, variance in shifts])
    fits = {row: _fit_llm(answers.select(answers.llm == row), directions, common) for row in enough}
    return Update(common, directions, fits)


def _shift(own: Answers) -> tuple[float, float]:
    """How far one LLM's logits are off, and the variance of that."""
    examples = Examples(np.ones((len(own), 1)), own.logit, own.score, _evened(own.weight))
    theta, curvature = fit(examples, np.array([_LOOSE]))
    return float(theta[0]), float(1.0 / curvature[0, 0])


def _fit_llm(own: Answers, directions: Directions | None, common: float) -> LLMFit:
    """Learns one LLM: from the answers with f(x) where most have it, else its calibration from all."""
    known = own.has_hidden
    embedding = directions is not None and len(directions) > 0 and int(known.sum()) >= max(_FEWEST, len(own) / 2)
    if embedding:
        own = own.select(known)
    phi = directions.of_prompts(own.hidden) if embedding and directions is not None else None
    mean_logit = float(own.logit.mean())
    examples = Examples(columns(own.logit, mean_logit, phi), own.logit + common, own.score, _evened(own.weight))
    ladder = LADDER if embedding else [rung for rung in LADDER if rung.along is None]
    rung = choose_rung(examples, own.key, ladder)
    theta = fit_rung(examples, rung)
    change = LLMChange.from_fit(theta, common, mean_logit, embedding=rung.along is not None)
    return LLMFit(change, rung, len(own), float(examples.weight.sum()))


def _evened(weight: Floats) -> Floats:
    """Weights that sum to the effective number of answers, so that the prior keeps its say."""
    evened: Floats = weight * (weight.sum() / (weight**2).sum())
    return evened
