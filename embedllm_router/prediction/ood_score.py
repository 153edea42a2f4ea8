"""Decoder inputs of a prompt, the training categories nearest to them, and how far they are from all of these.

A landmark is the mean of the training prompts of one category of one data set. Distances are taken after a linear
discriminant projection (Rao, 1948): directions in which prompts of one category differ count less than those in which
categories do.

The out-of-distribution (OOD) score is a rank: the share of ordinary held-out prompts that lie nearer to their nearest
landmark, each distance in units of what is usual at that landmark. A prompt of any learned kind therefore has an OOD
score of 0.5 on average; a caller whose prompts score much higher sends prompts of a kind that was not learned.

Predictions for such prompts are shrunk. A logit is the LLM's average, plus the prompt's difficulty (the mean deviation
from the averages over all LLMs), plus a difference between LLMs. On kinds of prompt that were never trained on,
difficulty still orders prompts and differences hardly do (docs/results.md), so most of the first is kept and little of
the second. Then all of it shrinks towards 0 by as much as not knowing the difficulty of a new kind of prompt demands:
the logistic function of a normal variable of mean m and standard deviation s has nearly the mean that it has of m / √(1
+ πs²/8) itself (MacKay, Neural Computation 4, 1992), where s is how much the difficulty of learned categories varies.

Weights with a hedge have two predictions, one that holds on prompts like those of training and one that was fitted on
data sets left out of training, and a gate that tells by how much the second replaces the first. It is a logistic
regression on the prompt's novelty, the logarithm of its distance to the nearest of many points among the training
prompts, more than there are landmarks.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embedllm_router.artifact.manifest import HedgeSpec, Landmark, LearnedLLM, OodSpec
from embedllm_router.artifact.weights import Artifact, Tensors

__all__ = [
    "MAX_DEVIATION",
    "NEAREST",
    "NO_SHRINKAGE",
    "Gate",
    "Landmarks",
    "Nearest",
    "OneThread",
    "OodScorer",
    "Shrinkage",
    "standardised",
]

MAX_DEVIATION = 8.0
"""Standardised inputs are clipped to this unless the decoder's spec says otherwise: a strange prompt extrapolates no
further than training saw."""

_RARE = 0.99
"""OOD score from which a single prompt is shrunk: one ordinary prompt in a hundred is."""
_DIFFICULTY_SHARE = 0.75
"""Share of a prompt's difficulty, as the network predicts it, that is kept far from what it was trained on."""
_DIFFERENCE_SHARE = 0.25
"""Likewise of the differences between LLMs."""
NEAREST = 1e-3
"""Distances to a point count as at least this: nearer than it, a prompt is on the point."""
_TINY = 1e-6
_MAX_EXPONENT = 60.0
Floats = NDArray[np.float32]
T = TypeVar("T")


class OneThread:
    """Runs a product with one BLAS thread: `one_thread(lambda: a @ b)`.

    Waking a second OpenBLAS thread for a product of one prompt was seen to cost 15 ms in a process that does other work
    in between. threadpoolctl's own `limit` does the same as this, and more: 7 µs in a loop and 50 in a busy proxy.
    """

    def __init__(self) -> None:
        self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers

    def __call__(self, product: Callable[[], T]) -> T:
        """The product; afterwards BLAS has as many threads as before."""
        before = [library.get_num_threads() for library in self._libraries]
        for library in self._libraries:
            library.set_num_threads(1)
        try:
            return product()
        finally:
            for library, n_threads in zip(self._libraries, before, strict=True):
                library.set_num_threads(n_threads)


def standardised(
    prompt_embedding: Floats, mean: Floats, per_scale: Floats, max_deviation: float = MAX_DEVIATION
) -> Floats:
    """A prompt embedding in units of how training prompts vary.

    Args:
        prompt_embedding: float32 (d_prompt,).
        mean: Of the training prompts, float32 (d_prompt,).
        per_scale: One over their spread, float32 (d_prompt,).
        max_deviation: Largest absolute value of the result, positive.

    Returns:
        float32 (d_prompt,).
    """
    x = prompt_embedding - mean
    x *= per_scale
    np.maximum(x, -max_deviation, out=x)  # np.clip does the same in three times the time
    np.minimum(x, max_deviation, out=x)
    return x


class _Projection:
    """A linear map of decoder inputs, which reads only the columns that it does not multiply by 0.

    Args:
        matrix: float16 (d, d_prompt).
    """

    def __init__(self, matrix: NDArray[np.generic]) -> None:
        read = np.flatnonzero(matrix.any(axis=0))
        self._columns: slice | NDArray[np.intp] = read
        if len(read) and read[-1] - read[0] + 1 == len(read):
            self._columns = slice(int(read[0]), int(read[-1]) + 1)
        self._matrix = np.ascontiguousarray(matrix[:, self._columns], dtype=np.float32)

    def __call__(self, x: Floats) -> Floats:
        """The place of decoder inputs x, float32 (d_prompt,): float32 (d,)."""
        place: Floats = self._matrix @ x[self._columns]
        return place


@dataclass(frozen=True, slots=True)
class Nearest:
    """A category of training prompts that a prompt lies near to.

    Attributes:
        name: Data set and category, for example "mmlu_pro/law".
        distance: From the prompt to the category's mean, at least 0. One is the usual distance (root mean square) of
            training prompts to the mean of their own category.
        n_prompts: Training prompts of the category.
        share: Of all training prompts with a landmark, those of this category, in (0, 1].
        mean_correctness: Share of right answers to them, over all LLMs that were graded on them, in [0, 1].
        spread: Root mean square distance of the training prompts that are nearest to this category, positive.
    """

    name: str
    distance: float
    n_prompts: int
    share: float
    mean_correctness: float
    spread: float = 1.0


class Landmarks:
    """Landmarks, possibly none, in the standardised inputs of a decoder.

    Args:
        known: One record per landmark.
        tensors: Those of `weights.landmark_shapes`; empty without landmarks.
        decoder: The decoder's tensors, for their `input_mean` and `input_scale`.
        max_deviation: What the decoder clips standardised inputs to.
    """

    def __init__(
        self,
        known: Sequence[Landmark],
        tensors: Tensors,
        decoder: Tensors,
        max_deviation: float = MAX_DEVIATION,
    ) -> None:
        self._known = tuple(known)
        self._total = sum(landmark.n_prompts for landmark in self._known)
        self._max_deviation = max_deviation
        if self._known:
            self._project, self._landmarks = _Projection(tensors["projection"]), tensors["landmarks"].astype(np.float32)
            self._squares = (self._landmarks**2).sum(axis=1)
        self._mean = decoder["input_mean"].astype(np.float32)
        self._scale = 1.0 / decoder["input_scale"].astype(np.float32)
        self._one_thread = OneThread()

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "Landmarks":
        """The landmarks an artifact holds."""
        manifest = artifact.manifest
        return cls(manifest.landmarks, artifact.landmarks, artifact.decoder, manifest.decoder.max_deviation)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def names(self) -> frozenset[str]:
        """Data set and category of each."""
        return frozenset(landmark.name for landmark in self._known)

    def nearest(self, prompt_embedding: Floats | None, n: int = 3) -> tuple[Nearest, ...]:
        """The categories nearest to one prompt.

        Args:
            prompt_embedding: float32 (d_prompt,); None for a prompt without text, which is near to nothing.
            n: How many at most.

        Returns:
            Nearest first; empty without landmarks or text.
        """
        if prompt_embedding is None or not self._known:
            return ()
        x = standardised(prompt_embedding, self._mean, self._scale, self._max_deviation)
        squares = self._one_thread(lambda: self._squared_distances(self.place(x)))
        return tuple(self._nearest(row, squares) for row in squares.argsort(kind="stable")[:n].tolist())

    def place(self, x: Floats) -> Floats:
        """Where a prompt lies among the landmarks, of which there must be some; BLAS is the caller's to bound.

        Args:
            x: What `standardised` makes of its embedding, float32 (d_prompt,).

        Returns:
            float32 (d_landmark,).
        """
        return self._project(x)

    def nearest_to_place(self, place: Floats) -> Nearest:
        """The first of `nearest`; BLAS is the caller's to bound.

        Args:
            place: See `place`.
        """
        squares = self._squared_distances(place)
        return self._nearest(int(squares.argmin()), squares)

    def _squared_distances(self, place: Floats) -> Floats:
        found: Floats = self._squares - 2.0 * (self._landmarks @ place) + place @ place
        return found

    def _nearest(self, row: int, squares: Floats) -> Nearest:
        known = self._known[row]
        share = known.n_prompts / self._total
        distance = math.sqrt(max(float(squares[row]), 0.0))
        return Nearest(known.name, distance, known.n_prompts, share, known.mean_correctness, known.spread)


class Gate:
    """By how much what holds on unknown kinds of prompt replaces what holds on prompts like those of training.

    Args:
        hedge: Its constants.
        tensors: Those of `weights.landmark_shapes`, for `points`.
    """

    def __init__(self, hedge: HedgeSpec, tensors: Tensors) -> None:
        self._points = tensors["points"].astype(np.float32)
        self._half_squares = (self._points**2).sum(axis=1) / 2
        self._weight = hedge.gate_weight / hedge.gate_scale
        self._bias = hedge.gate_bias - self._weight * hedge.gate_mean

    def opening(self, place: Floats) -> float:
        """How far it is open for a prompt, h in [0, 1]; BLAS is the caller's to bound.

        Args:
            place: Where the prompt lies among the landmarks, float32 (d_landmark,).
        """
        least = float((self._half_squares - self._points @ place).min())
        square = 2.0 * least + float(place @ place)
        novelty = math.log(max(math.sqrt(max(square, 0.0)), NEAREST))
        return _logistic(self._bias + self._weight * novelty)


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(value, -_MAX_EXPONENT), _MAX_EXPONENT)))


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """How far predictions of a prompt were shrunk, and why.

    Attributes:
        nearest: The category the prompt lies nearest to; None without landmarks or text.
        ood_score: Share of ordinary prompts that lie nearer to what was learned, in [0, 1]; None where that was never
            measured.
        strength: From 0, predictions as they are on prompts like those of training, to 1, as they are on prompts of an
            unknown kind. Weights with a hedge have some strength for ordinary prompts too.
        unfamiliarity: How far the prompt, or its caller's prompts, are beyond ordinary ones, from 0, not at all, to 1.
    """

    nearest: Nearest | None = None
    ood_score: float | None = None
    strength: float = 0.0
    unfamiliarity: float = 0.0

    @property
    def widening(self) -> float:
        """How many times as wide the uncertainty is as that of ordinary prompts, from 1 to 2."""
        return 1.0 + self.unfamiliarity


NO_SHRINKAGE = Shrinkage()


class OodScorer:
    """Scores how far a prompt is from what was learned, and shrinks its predictions.

    Args:
        landmarks: Possibly none.
        spec: What was measured on held-out prompts; None where nothing was: then nothing is shrunk without a gate.
        llms: The learned LLMs.
        gate: Of weights with a hedge, whose scorer passes between two predictions instead of shrinking one.
    """

    def __init__(
        self, landmarks: Landmarks, spec: OodSpec | None, llms: Sequence[LearnedLLM], gate: Gate | None = None
    ) -> None:
        self._landmarks = landmarks
        self._spec = spec
        self._gate = gate
        self._ranks = spec.ranks if spec else ()
        right = np.array([llm.mean_correctness * llm.n_labels for llm in llms])
        n_labels = np.array([llm.n_labels for llm in llms])
        self._average = _logit(((right + 1) / (n_labels + 2)).astype(np.float32))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "OodScorer":
        """What an artifact knows of it."""
        manifest = artifact.manifest
        gate = None if manifest.hedge is None else Gate(manifest.hedge, artifact.landmarks)
        return cls(Landmarks.from_artifact(artifact), manifest.novelty, manifest.llms, gate)

    def shrinkage(self, x: Floats | None, of_caller: float = 0.0) -> Shrinkage:
        """How far predictions of a prompt shall be shrunk; BLAS is the caller's to bound.

        Args:
            x: What `standardised` makes of its embedding, float32 (d_prompt,); None for a prompt without text.
            of_caller: What the drift of its caller demands, in [0, 1].
        """
        place = None if x is None or not len(self._landmarks) else self._landmarks.place(x)
        near = None if place is None else self._landmarks.nearest_to_place(place)
        score, unfamiliarity = self._unfamiliarity(near, of_caller)
        if self._gate is None:
            return Shrinkage(near, score, unfamiliarity, unfamiliarity)
        opening = 1.0 if place is None else self._gate.opening(place)
        return Shrinkage(near, score, opening + (1.0 - opening) * of_caller, unfamiliarity)

    def _unfamiliarity(self, near: Nearest | None, of_caller: float) -> tuple[float | None, float]:
        """The OOD score, and how far prompt or caller are beyond ordinary prompts."""
        if self._spec is None:
            return None, 0.0
        if near is None:
            return None, of_caller
        score = bisect_left(self._ranks, near.distance / near.spread) / len(self._ranks)
        return score, max(of_caller, (score - _RARE) / (1 - _RARE))

    def shrunk(self, p_correct: Floats, strength: float) -> Floats:
        """Predictions moved towards what is known of each LLM without looking at the prompt.

        Args:
            p_correct: float32 (n_llms,), in [0, 1].
            strength: In [0, 1]; see `shrinkage`.

        Returns:
            float32 (n_llms,), in [0, 1].
        """
        if not strength or self._spec is None:
            return p_correct
        logit = _logit(p_correct)
        deviation = logit - self._average
        difficulty = deviation.mean(dtype=np.float32)
        kept = _DIFFICULTY_SHARE * difficulty + _DIFFERENCE_SHARE * (deviation - difficulty)
        full = self._spec.shrinkage * (self._average + kept)
        moved: Floats = np.reciprocal(1.0 + np.exp(-(logit + strength * (full - logit))), dtype=np.float32)
        return moved


def _logit(p: Floats) -> Floats:
    inside = np.minimum(np.maximum(p, np.float32(_TINY)), np.float32(1 - _TINY))
    found: Floats = np.log(inside / (1 - inside))
    return found
