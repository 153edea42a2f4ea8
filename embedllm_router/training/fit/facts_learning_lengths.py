"""What an answer's length is, for training the second head: the tokens billed, or an estimate of them.

Where a data set recorded token counts, they are taken as they are. Many record visible characters only; a thinking LLM
also bills tokens nobody sees, and of those only the mean per request is known (weights/reasoning_tokens.json). It knows
nothing of networks.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix

__all__ = ["UNRECORDED_TOKENS", "fill_unknown", "log_output_tokens", "smearing"]

UNRECORDED_TOKENS: Final = 300.0
"""Taken for every answer where no data set records a length: an assumption, but free output would be a wrong one."""

_SPREAD: Final = 4.0  # a prompt moves the reasoning estimate by at most this factor either way
_PRIOR_LABELS: Final = 50.0  # an LLM's smearing factor counts fully when it has many more labels than this


def log_output_tokens(matrix: CorrectnessMatrix, reasoning_tokens: Mapping[str, float]) -> NDArray[np.float32]:
    """Natural logarithm of all output tokens, hidden reasoning included.

    A counted length holds the hidden part already. Otherwise it is the LLM's mean times the prompt's relative length:
    how long LLMs that show all their work answer this prompt, compared with prompts in general. That ratio is an
    assumption, not a measurement.

    Args:
        matrix: Its `output_tokens` are the whole where counted, else the visible part.
        reasoning_tokens: Mean hidden tokens per request of each LLM that has any.

    Returns:
        float32 (n_prompts, n_llms), NaN where the length is unknown.
    """
    hidden = np.array([reasoning_tokens.get(llm, 0.0) for llm in matrix.llm_ids])
    shows_all = hidden == 0
    visible = matrix.output_tokens.astype(np.float64)
    factor = _relative_length(visible[:, shows_all])
    tokens = np.maximum(visible + np.where(matrix.counted, 0.0, factor[:, None] * hidden), 1.0)
    logs: NDArray[np.float32] = np.log(tokens).astype(np.float32)
    return logs


def fill_unknown(
    values: NDArray[np.float32], known: NDArray[np.bool_], thinking: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Gives LLMs without recorded lengths the average of those that have them, thinking LLMs that of thinking ones.

    Args:
        values: One row per LLM, float32 (n_llms, d) or (n_llms,).
        known: bool (n_llms,), lengths were recorded; at least one is true.
        thinking: bool (n_llms,), the LLM reasons before it answers.

    Returns:
        The values with the rows of unknown LLMs replaced.
    """
    filled = values.copy()
    for kind in (False, True):
        alike = known & (thinking == kind)
        source = alike if alike.any() else known
        filled[~known & (thinking == kind)] = values[source].mean(axis=0)
    return filled


def smearing(predicted: NDArray[np.float32], actual: NDArray[np.float32]) -> NDArray[np.float32]:
    """What to add to a predicted logarithm so that its exponential is right on average (Duan, 1983).

    Args:
        predicted: float32 (n_prompts, n_llms).
        actual: float32 (n_prompts, n_llms), NaN where unknown.

    Returns:
        float32 (n_llms,), shrunk towards the common value where an LLM has few lengths; 0 without any.
    """
    ratio = np.exp(np.clip(actual.astype(np.float64) - predicted, -6.0, 6.0))
    known = np.isfinite(ratio)
    if not known.any():
        return np.zeros(ratio.shape[1], dtype=np.float32)
    common = float(ratio[known].mean())
    total = np.where(known, ratio, 0.0).sum(axis=0) + _PRIOR_LABELS * common
    shift: NDArray[np.float32] = np.log(total / (known.sum(axis=0) + _PRIOR_LABELS)).astype(np.float32)
    return shift


def _relative_length(visible: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each prompt, how long its visible answers are relative to all prompts; 1 where none is known."""
    known = np.isfinite(visible)
    if not known.any():
        return np.ones(len(visible))
    logs = np.log(np.maximum(np.where(known, visible, 1.0), 1.0))
    per_llm = logs.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, logs - per_llm, 0.0)
    mean = centred.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    factor: NDArray[np.float64] = np.exp(np.clip(mean, -np.log(_SPREAD), np.log(_SPREAD)))
    return factor
