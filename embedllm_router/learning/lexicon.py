"""Adds to a token table what the training prompts themselves say about words: columns of their latent semantic index.

TF-IDF and a truncated singular value decomposition of prompts by tokens (Deerwester et al., 1990); a token's row is its
inverse document frequency times its singular vector, so the sum over a text's tokens is the text's projection. Words
that the transformer calls alike but that mark different kinds of questions are told apart. It sees prompts of the
training part only, and knows nothing of labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.utils.extmath import randomized_svd  # type: ignore[import-untyped]

from embedllm_router.learning.distill import TokenTable, quantise

__all__ = ["add_prompt_columns"]

_MIN_PROMPTS: Final = 2  # a token of one prompt says nothing about others
_POWER_ITERATIONS: Final = 3


def add_prompt_columns(table: TokenTable, prompt_tokens: Sequence[Sequence[int]], n_columns: int) -> TokenTable:
    """Appends latent semantic columns to a token table.

    Args:
        table: Distilled token vectors.
        prompt_tokens: Token ids of each training prompt.
        n_columns: Columns to add; no more than there are prompts or tokens.

    Returns:
        A table of d_embedding + n_columns columns. The new ones are scaled so that both parts weigh the same in a
        prompt's average, and share its row scales.
    """
    vocab_size = len(table.token_scales)
    counts = _count(prompt_tokens, vocab_size)
    new = _latent_columns(counts, min(n_columns, vocab_size - 1, len(prompt_tokens)))
    old = table.token_embeddings * table.token_scales[:, None]
    sizes = [float(np.linalg.norm(counts @ part, axis=1).mean()) for part in (old, new)]
    joint = np.hstack([old, new * (sizes[0] / max(sizes[1], 1e-12))]).astype(np.float32)
    vectors, scales = quantise(joint)
    source = f"{table.source}; {new.shape[1]} latent semantic columns of the training prompts"
    return replace(table, source=source, token_embeddings=vectors, token_scales=scales)


def _count(prompt_tokens: Sequence[Sequence[int]], vocab_size: int) -> sparse.csr_matrix:
    sizes = [len(tokens) for tokens in prompt_tokens]
    rows = np.repeat(np.arange(len(prompt_tokens)), sizes)
    columns = np.concatenate([np.asarray(tokens, dtype=np.int64) for tokens in prompt_tokens])
    shape = (len(prompt_tokens), vocab_size)
    return sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)


def _latent_columns(counts: sparse.csr_matrix, n_columns: int) -> NDArray[np.float32]:
    """Inverse document frequency times right singular vectors, float32 (vocab_size, n_columns)."""
    n_prompts = counts.shape[0]
    frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
    idf = np.where(frequency >= _MIN_PROMPTS, np.log((1 + n_prompts) / (1 + frequency)) + 1, 0.0)
    damped = counts.copy()
    damped.data = 1 + np.log(damped.data)
    weighted = damped @ sparse.diags(idf)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    unit = sparse.diags(1 / np.maximum(lengths, 1e-12)) @ weighted
    _, _, right = randomized_svd(unit, n_columns, n_iter=_POWER_ITERATIONS, random_state=0)
    columns: NDArray[np.float32] = (idf[:, None] * right.T).astype(np.float32)
    return columns
