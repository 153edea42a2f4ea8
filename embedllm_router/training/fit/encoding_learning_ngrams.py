"""Training prompts → tables of n-gram vectors: the latent semantic index of hashed n-grams.

It sees prompts of the training part only, and knows nothing of labels. What an n-gram is and which row it has is
`embedllm_router.prediction.ngrams`' to say.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import NgramSpec
from embedllm_router.prediction.ngrams import NgramTable, ngram_rows
from embedllm_router.training.fit.distill import quantise
from embedllm_router.training.fit.encoding_learning_lexicon import count_rows, latent_columns

__all__ = ["DEFAULT_NGRAMS", "fit_ngrams"]

DEFAULT_NGRAMS: Final = (
    NgramSpec(name="pairs", reads="tokens", n=2, n_rows=2**15, n_columns=128),
    NgramSpec(name="shapes", reads="shapes", n=5, n_rows=2**14, n_columns=128),
    NgramSpec(name="kinds", reads="kinds", n=5, n_rows=2**14, n_columns=128),
)
"""The families of the best recipe of docs/experiments.md."""
_POWER_ITERATIONS: Final = 2


def fit_ngrams(spec: NgramSpec, sequences: Sequence[NDArray[np.integer]]) -> NgramTable:
    """Fits a table to the training prompts.

    Args:
        spec: What it reads, and its size.
        sequences: Of each training prompt, as `ngrams.read_sequence` gives it.

    Returns:
        The table. It has fewer columns than asked where there are fewer prompts.
    """
    counts = count_rows([ngram_rows(sequence, spec.n, spec.n_rows) for sequence in sequences], spec.n_rows)
    n_columns = min(spec.n_columns, spec.n_rows - 1, len(sequences))
    vectors, scales = quantise(latent_columns(counts, n_columns, n_iter=_POWER_ITERATIONS))
    return NgramTable(spec.model_copy(update={"n_columns": n_columns}), vectors, scales)
