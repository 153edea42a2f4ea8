"""Frozen inference: prompt embedding → p_correct and expected output tokens of every LLM. Numpy only.

Its twin with gradients is decoder.py; a test holds the two together. It knows nothing of prices or candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embedllm_router.artifact import Artifact, Tensors

__all__ = ["MAX_DEVIATION", "Scorer", "Scores"]

MAX_DEVIATION = 8.0
"""Standardised inputs are clipped to this: a strange prompt extrapolates no further than training saw."""

_MAX_LOG_TOKENS = float(np.log(131_072))  # no answer is expected to be longer: keeps exp() finite
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Scores:
    """What is predicted of one prompt, one entry per learned LLM.

    Attributes:
        p_correct: Probability of a correct answer, float32 (n_llms,), in [0, 1].
        output_tokens: Expected output tokens, reasoning included, float32 (n_llms,), positive.
    """

    p_correct: NDArray[np.float32]
    output_tokens: NDArray[np.float32]


class Scorer:
    """`logit[llm] = e_llm · f(x) + b_llm`, after EmbedLLM (arXiv 2410.02223) with f a small network.

    Args:
        tensors: The decoder's tensors, as `artifact.decoder_shapes` lists them.
    """

    def __init__(self, tensors: Tensors) -> None:
        t = {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
        self._mean = t["input_mean"]
        self._scale = 1.0 / t["input_scale"]
        self._prompt_network = _layers(t, "prompt_network")
        self._length_network = _layers(t, "length_network")
        self._llm_embeddings, self._llm_bias = t["llm_embeddings"], t["llm_bias"]
        self._length_embeddings, self._length_bias = t["length_embeddings"], t["length_bias"]
        # One prompt is a few small products: waking a second BLAS thread for them has cost 15 ms, this costs 0.004.
        self._blas = ThreadpoolController().select(user_api="blas")

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "Scorer":
        """Builds the scorer an artifact holds."""
        return cls(artifact.decoder)

    def score(self, prompt_embedding: NDArray[np.float32] | None) -> Scores:
        """Scores one prompt for every LLM.

        Args:
            prompt_embedding: float32 (d_prompt,); None for a prompt without text, which is scored as the average
                training prompt.

        Returns:
            Predictions for all LLMs, in the artifact's order.
        """
        if prompt_embedding is None:
            x = np.zeros_like(self._mean)
        else:
            x = np.clip((prompt_embedding - self._mean) * self._scale, -MAX_DEVIATION, MAX_DEVIATION)
        with self._blas.limit(limits=1):
            logits = self._llm_embeddings @ _forward(self._prompt_network, x) + self._llm_bias
            log_tokens = self._length_embeddings @ _forward(self._length_network, x) + self._length_bias
        return Scores(
            p_correct=_sigmoid(logits),
            output_tokens=np.exp(np.clip(log_tokens, 0.0, _MAX_LOG_TOKENS)),
        )


def _layers(tensors: Tensors, network: str) -> list[Layer]:
    depth = sum(name.startswith(f"{network}.") for name in tensors) // 2
    return [
        (
            tensors[f"{network}.{i}.weight"].astype(np.float32, copy=False),
            tensors[f"{network}.{i}.bias"].astype(np.float32, copy=False),
        )
        for i in range(depth)
    ]


def _forward(layers: list[Layer], x: NDArray[np.float32]) -> NDArray[np.float32]:
    for weight, bias in layers[:-1]:
        x = np.maximum(weight @ x + bias, 0.0)
    weight, bias = layers[-1]
    return weight @ x + bias


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.reciprocal(1.0 + np.exp(-np.clip(logits, -60.0, 60.0)), dtype=np.float32)
