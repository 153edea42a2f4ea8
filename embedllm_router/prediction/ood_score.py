"""How unlike its training prompts a prompt is, and what that does to predictions. Numpy only.

Novelty is a rank: the share of ordinary held-out prompts that lie nearer to their nearest landmark, each distance in
units of what is usual at that landmark. So a prompt of any learned kind has novelty 0.5 on average, and traffic that
has much more than that is of a kind that was not learned.

What is predicted of such prompts is hedged. Logits go half the way to the LLM's mean, and all of it shrinks as much as
not knowing how hard a new kind of prompt is demands: the logistic function of a normal variable of mean m and
standard deviation s has nearly the mean that it has of m / √(1 + πs²/8) itself (MacKay, Neural Computation 4, 1992),
where s is how much the difficulty of learned categories varies. It knows nothing of candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import LearnedLLM, NoveltySpec
from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.landmarks import Landmarks, Nearest

__all__ = ["NOT_HEDGED", "Hedge", "Novelty"]

_STRANGE = 0.99
"""Of a single prompt novelty begins to count here, so that one ordinary prompt in a hundred is hedged at all."""
_NETWORK_SHARE = 0.5
_TINY = 1e-6
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hedge:
    """How far predictions of a prompt were hedged, and why.

    Attributes:
        nearest: The category the prompt lies nearest to; None without landmarks or text.
        novelty: Share of ordinary prompts that are less novel, in [0, 1]; None where that was never measured.
        strength: From 0, predictions as they are, to 1, hedged in full.
    """

    nearest: Nearest | None = None
    novelty: float | None = None
    strength: float = 0.0

    @property
    def widening(self) -> float:
        """How many times as wide the uncertainty is as that of ordinary prompts, from 1 to 2."""
        return 1.0 + self.strength


NOT_HEDGED = Hedge()


class Novelty:
    """Measures novelty and hedges predictions.

    Args:
        landmarks: Possibly none.
        spec: What was measured on held-out prompts; None where nothing was: then nothing is hedged.
        llms: The learned LLMs.
    """

    def __init__(self, landmarks: Landmarks, spec: NoveltySpec | None, llms: Sequence[LearnedLLM]) -> None:
        self._landmarks = landmarks
        self._spec = spec
        self._ranks = np.array(spec.ranks if spec else (), dtype=np.float64)
        right = np.array([llm.mean_correctness * llm.n_labels for llm in llms])
        n_labels = np.array([llm.n_labels for llm in llms])
        self._prior = _logit(((right + 1) / (n_labels + 2)).astype(np.float32))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "Novelty":
        """What an artifact knows of it."""
        return cls(Landmarks.from_artifact(artifact), artifact.manifest.novelty, artifact.manifest.llms)

    def hedge(self, x: Floats | None, of_traffic: float = 0.0) -> Hedge:
        """How far predictions of a prompt shall be hedged; BLAS is the caller's to bound.

        Args:
            x: What `inputs.standardised` makes of its embedding, float32 (d_prompt,); None for a prompt without text.
            of_traffic: What the traffic it belongs to demands, in [0, 1]; see traffic.py.
        """
        near = None if x is None else self._landmarks.nearest_to_inputs(x)
        if self._spec is None:
            return Hedge(near)
        if near is None:
            return Hedge(strength=of_traffic)
        novelty = float(self._ranks.searchsorted(near.distance / near.spread)) / len(self._ranks)
        return Hedge(near, novelty, max(of_traffic, (novelty - _STRANGE) / (1 - _STRANGE)))

    def hedged(self, p_correct: Floats, strength: float) -> Floats:
        """Predictions moved towards what is known of each LLM without looking at the prompt.

        Args:
            p_correct: float32 (n_llms,), in [0, 1].
            strength: In [0, 1]; see `hedge`.

        Returns:
            float32 (n_llms,), in [0, 1].
        """
        if not strength or self._spec is None:
            return p_correct
        logit = _logit(p_correct)
        full = self._spec.shrinkage * (self._prior + _NETWORK_SHARE * (logit - self._prior))
        moved: Floats = np.reciprocal(1.0 + np.exp(-(logit + strength * (full - logit))), dtype=np.float32)
        return moved


def _logit(p: Floats) -> Floats:
    inside = np.minimum(np.maximum(p, np.float32(_TINY)), np.float32(1 - _TINY))
    found: Floats = np.log(inside / (1 - inside))
    return found
