"""Prompts → embeddings, as serving makes them, with progress."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.prompt_encoder import load_encoder

__all__ = ["Tell", "embed"]

_TOLD_EVERY: Final = 200
Tell = Callable[[str, int, int], None]


def embed(artifact: Artifact, prompts: Sequence[str], tell: Tell | None = None) -> list[NDArray[np.float32] | None]:
    """Embeds prompts one by one.

    Args:
        artifact: Whose encoder.
        prompts: The texts.
        tell: Told about progress: what, how many, of how many.

    Returns:
        float32 (d_prompt,) each; None for a prompt without text, which is scored as the average prompt.
    """
    encoder = load_encoder(artifact)
    found: list[NDArray[np.float32] | None] = []
    for i, prompt in enumerate(prompts):
        if tell is not None and i % _TOLD_EVERY == 0:
            tell("reading prompts", i, len(prompts))
        found.append(encoder.encode(prompt).prompt_embedding if prompt.strip() else None)
    return found
