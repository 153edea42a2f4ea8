"""f(x), what the decoder makes of a prompt before any LLM comes in, for many prompts at once.

The numpy twin of the scorer's forward pass; a test holds the two together.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact import Artifact
from embedllm_router.inputs import MAX_DEVIATION

__all__ = ["PromptNetwork"]

_CHUNK: Final = 4096
Floats32 = NDArray[np.float32]


class PromptNetwork:
    """The frozen part of an artifact's decoder.

    Args:
        artifact: Loaded weights.
    """

    def __init__(self, artifact: Artifact) -> None:
        t = {name: tensor.astype(np.float32, copy=False) for name, tensor in artifact.decoder.items()}
        self._mean, self._scale = t["input_mean"], 1.0 / t["input_scale"]
        depth = len(artifact.manifest.decoder.hidden) + 1
        self._layers = [(t[f"prompt_network.{i}.weight"], t[f"prompt_network.{i}.bias"]) for i in range(depth)]
        self.llm_embeddings, self.llm_bias = t["llm_embeddings"], t["llm_bias"]

    def hidden(self, prompts: list[Floats32 | None]) -> Floats32:
        """f(x) of prompt embeddings.

        Args:
            prompts: float32 (d_prompt,) each; None for a prompt without text, which is the average prompt.

        Returns:
            float32 (n_prompts, d_llm).
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
