"""Prompt embedding → the inputs of the decoder's layers. Numpy only.

Small products on one thread, whatever the process allows BLAS elsewhere.

Waking a second OpenBLAS thread for a product of one prompt was seen to cost 15 ms in a process that does other work
in between. threadpoolctl's own `limit` does the same as this, and more: 7 µs in a loop and 50 in a busy proxy.

f(x), what the decoder makes of a prompt before any LLM comes in, for many prompts at once; and its twin for lengths.

The numpy twin of the scorer's forward pass; a test holds the two together.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embedllm_router.artifact.weights import Artifact

__all__ = ["MAX_DEVIATION", "OneThread", "PromptNetwork", "standardised", "usual_embeddings"]

T = TypeVar("T")


class OneThread:
    """Runs a product with one BLAS thread: `one_thread(lambda: a @ b)`."""

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


MAX_DEVIATION = 8.0
"""Standardised inputs are clipped to this: a strange prompt extrapolates no further than training saw."""


def standardised(
    prompt_embedding: NDArray[np.float32], mean: NDArray[np.float32], per_scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A prompt embedding in units of how training prompts vary.

    Args:
        prompt_embedding: float32 (d_prompt,).
        mean: Of the training prompts, float32 (d_prompt,).
        per_scale: One over their spread, float32 (d_prompt,).

    Returns:
        float32 (d_prompt,), within ± `MAX_DEVIATION`.
    """
    x = (prompt_embedding - mean) * per_scale
    np.maximum(x, -MAX_DEVIATION, out=x)  # np.clip does the same in three times the time
    np.minimum(x, MAX_DEVIATION, out=x)
    return x


def usual_embeddings(decoder: Mapping[str, NDArray[np.generic]], n: int) -> NDArray[np.float32]:
    """Embeddings such as training prompts have: weights hold no prompts, but the mean and spread of their embeddings.

    They are drawn from a normal distribution with both, always the same ones.

    Args:
        decoder: With `input_mean` and `input_scale`, (d_prompt,) each.
        n: How many.

    Returns:
        float32 (n, d_prompt).
    """
    mean, spread = (decoder[name].astype(np.float32) for name in ("input_mean", "input_scale"))
    return mean + spread * np.random.default_rng(0).standard_normal((n, len(mean)), dtype=np.float32)


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
