"""What kind of prompt is this? The categories of training prompts that lie nearest to it. Numpy only.

A landmark is the mean of the training prompts of one category of one data set. Distances are taken after a linear
discriminant projection (Rao, 1948): directions in which prompts of one category differ count less than those in which
categories do. It knows nothing of LLMs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import Landmark
from embedllm_router.artifact.weights import Artifact, Tensors
from embedllm_router.prediction.decoder_inputs import OneThread, standardised

__all__ = ["Landmarks", "Nearest"]


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
        tensors: Those of `artifact.landmark_shapes`; empty without landmarks.
        decoder: The decoder's tensors, for their `input_mean` and `input_scale`.
    """

    def __init__(self, known: Sequence[Landmark], tensors: Tensors, decoder: Tensors) -> None:
        self._known = tuple(known)
        self._total = sum(landmark.n_prompts for landmark in self._known)
        if self._known:
            t = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
            self._projection, self._landmarks = t["projection"], t["landmarks"]
            self._squares = (self._landmarks**2).sum(axis=1)
        self._mean = decoder["input_mean"].astype(np.float32)
        self._scale = 1.0 / decoder["input_scale"].astype(np.float32)
        self._alone = OneThread()

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "Landmarks":
        """The landmarks an artifact holds."""
        return cls(artifact.manifest.landmarks, artifact.landmarks, artifact.decoder)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def names(self) -> frozenset[str]:
        """Data set and category of each."""
        return frozenset(landmark.name for landmark in self._known)

    def nearest(self, prompt_embedding: NDArray[np.float32] | None, n: int = 3) -> tuple[Nearest, ...]:
        """The categories nearest to one prompt.

        Args:
            prompt_embedding: float32 (d_prompt,); None for a prompt without text, which is near to nothing.
            n: How many at most.

        Returns:
            Nearest first; empty without landmarks or text.
        """
        if prompt_embedding is None or not self._known:
            return ()
        x = standardised(prompt_embedding, self._mean, self._scale)
        squares = self._alone(lambda: self._squared_distances(x))
        return tuple(self._nearest(row, squares) for row in squares.argsort(kind="stable")[:n].tolist())

    def nearest_to_inputs(self, x: NDArray[np.float32]) -> Nearest | None:
        """The category nearest to a prompt whose decoder inputs are at hand; BLAS is the caller's to bound.

        Args:
            x: What `inputs.standardised` makes of its embedding, float32 (d_prompt,).

        Returns:
            The first of `nearest`; None without landmarks.
        """
        if not self._known:
            return None
        squares = self._squared_distances(x)
        return self._nearest(int(squares.argmin()), squares)

    def _squared_distances(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        place = self._projection @ x
        found: NDArray[np.float32] = self._squares - 2.0 * (self._landmarks @ place) + place @ place
        return found

    def _nearest(self, row: int, squares: NDArray[np.float32]) -> Nearest:
        known = self._known[row]
        share = known.n_prompts / self._total
        distance = math.sqrt(max(float(squares[row]), 0.0))
        return Nearest(known.name, distance, known.n_prompts, share, known.mean_correctness, known.spread)
