"""f(x), what the decoder makes of a prompt before any LLM comes in, for many prompts at once; and its twin for lengths.

The numpy twin of the scorer's forward pass; a test holds the two together.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.decoder_inputs import MAX_DEVIATION

__all__ = ["PromptNetwork"]

_CHUNK: Final = 4096
Floats32 = NDArray[np.float32]


class PromptNetwork:
    """The frozen part of an artifact's decoder.

    Args:
        artifact: Loaded weights.
        of: "prompt" for the network whose products with LLM embeddings are logits of p_correct, "length" for the one
            that predicts logarithms of output tokens.
    """

    def __init__(self, artifact: Artifact, of: Literal["prompt", "length"] = "prompt") -> None:
        t = {name: tensor.astype(np.float32, copy=False) for name, tensor in artifact.decoder.items()}
        self._mean, self._scale = t["input_mean"], 1.0 / t["input_scale"]
        spec, rows = artifact.manifest.decoder, "llm" if of == "prompt" else "length"
        depth = len(spec.hidden if of == "prompt" else spec.length_hidden) + 1
        self._layers = [(t[f"{of}_network.{i}.weight"], t[f"{of}_network.{i}.bias"]) for i in range(depth)]
        self.llm_embeddings, self.llm_bias = t[f"{rows}_embeddings"], t[f"{rows}_bias"]

    def hidden(self, prompts: list[Floats32 | None]) -> Floats32:
        """f(x) of prompt embeddings.

        Args:
            prompts: float32 (d_prompt,) each; None for a prompt without text, which is the average prompt.

        Returns:
            float32 (n_prompts, d_llm), or d_length.
        """
        chunks = [self._forward(prompts[i : i + _CHUNK]) for i in range(0, len(prompts), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.llm_embeddings.shape[1]), dtype=np.float32)

    def _forward(self, prompts: list[Floats32 | None]) -> Floats32:
        raw = np.stack([self._mean if one is None else one for one in prompts])
        x = np.clip((raw - self._mean) * self._scale, -MAX_DEVIATION, MAX_DEVIATION)
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0.0)
        weight, bias = self._layers[-1]
        out: Floats32 = x @ weight.T + bias
        return out
