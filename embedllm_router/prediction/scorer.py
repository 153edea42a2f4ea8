"""Frozen inference: prompt embedding → p_correct and expected output tokens of every LLM. Numpy only.

Its twin with gradients is decoder.py; a test holds the two together. It knows nothing of prices or candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.weights import Artifact, Tensors
from embedllm_router.prediction.decoder_inputs import OneThread, standardised
from embedllm_router.prediction.ood_score import NOT_HEDGED, Hedge, Novelty

__all__ = ["Scorer", "Scores"]

_MAX_LOG_TOKENS = float(np.log(131_072))  # no answer is expected to be longer: keeps exp() finite
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Scores:
    """What is predicted of one prompt, one entry per learned LLM.

    Attributes:
        p_correct: Probability of a correct answer, float32 (n_llms,), in [0, 1].
        output_tokens: Expected output tokens, reasoning included, float32 (n_llms,), positive.
        hedge: How far the probabilities were hedged, and why.
    """

    p_correct: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    hedge: Hedge = NOT_HEDGED


class Scorer:
    """`logit[llm] = e_llm · f(x) + b_llm`, after EmbedLLM (arXiv 2410.02223) with f a small network.

    Args:
        tensors: The decoder's tensors, as `artifact.decoder_shapes` lists them.
        novelty: What hedges predictions of prompts unlike the training prompts; None hedges nothing.
    """

    def __init__(self, tensors: Tensors, novelty: Novelty | None = None) -> None:
        self._novelty = novelty
        t = {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
        self._mean = t["input_mean"]
        self._scale = 1.0 / t["input_scale"]
        prompt, length = _layers(t, "prompt_network"), _layers(t, "length_network")
        (prompt_weight, prompt_bias), (length_weight, length_bias) = prompt[0], length[0]
        # Both networks read the same inputs, so their first layers are one product.
        self._first = np.concatenate([prompt_weight, length_weight]), np.concatenate([prompt_bias, length_bias])
        self._n_prompt = len(prompt_bias)
        self._prompt_rest, self._length_rest = prompt[1:], length[1:]
        self._llm_embeddings, self._llm_bias = t["llm_embeddings"], t["llm_bias"]
        self._length_embeddings, self._length_bias = t["length_embeddings"], t["length_bias"]
        self._alone = OneThread()

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "Scorer":
        """Builds the scorer an artifact holds."""
        return cls(artifact.decoder, Novelty.from_artifact(artifact))

    def score(self, prompt_embedding: NDArray[np.float32] | None, of_traffic: float = 0.0) -> Scores:
        """Scores one prompt for every LLM.

        Args:
            prompt_embedding: float32 (d_prompt,); None for a prompt without text, which is scored as the average
                training prompt.
            of_traffic: How far the traffic it belongs to demands that predictions are hedged, in [0, 1].

        Returns:
            Predictions for all LLMs, in the artifact's order.
        """
        x = None if prompt_embedding is None else standardised(prompt_embedding, self._mean, self._scale)
        logits, log_tokens, hedge = self._alone(lambda: self._products(x, of_traffic))
        p_correct = _sigmoid(logits)
        if self._novelty is not None:
            p_correct = self._novelty.hedged(p_correct, hedge.strength)
        return Scores(
            p_correct=p_correct,
            hedge=hedge,
            output_tokens=np.exp(np.minimum(np.maximum(log_tokens, 0.0), _MAX_LOG_TOKENS)),
        )

    def _products(
        self, x: NDArray[np.float32] | None, of_traffic: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Hedge]:
        """Logits and log tokens of every LLM, and how far to hedge: all that multiplies matrices."""
        weight, bias = self._first
        first = bias if x is None else weight @ x + bias
        logits = self._llm_embeddings @ _forward(self._prompt_rest, first[: self._n_prompt]) + self._llm_bias
        log_tokens = self._length_embeddings @ _forward(self._length_rest, first[self._n_prompt :]) + self._length_bias
        hedge = NOT_HEDGED if self._novelty is None else self._novelty.hedge(x, of_traffic)
        return logits, log_tokens, hedge


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
    """The layers after the first, each of the rectified outputs of the one before."""
    for weight, bias in layers:
        x = weight @ np.maximum(x, 0.0) + bias
    return x


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.reciprocal(1.0 + np.exp(-np.minimum(np.maximum(logits, -60.0), 60.0)), dtype=np.float32)
