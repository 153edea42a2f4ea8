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

from embedllm_router.training.fit.distill import TokenTable, quantise

__all__ = ["add_prompt_columns", "count_rows", "latent_columns"]

_MIN_PROMPTS: Final = 2  # a token of one prompt says nothing about others
_POWER_ITERATIONS: Final = 3


def add_prompt_columns(
    table: TokenTable, prompt_tokens: Sequence[Sequence[int] | NDArray[np.integer]], n_columns: int
) -> TokenTable:
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
    counts = count_rows(prompt_tokens, vocab_size)
    new = latent_columns(counts, min(n_columns, vocab_size - 1, len(prompt_tokens)), n_iter=_POWER_ITERATIONS)
    old = table.token_embeddings * table.token_scales[:, None]
    sizes = [float(np.linalg.norm(counts @ part, axis=1).mean()) for part in (old, new)]
    joint = np.hstack([old, new * (sizes[0] / max(sizes[1], 1e-12))]).astype(np.float32)
    vectors, scales = quantise(joint)
    source = f"{table.source}; {new.shape[1]} latent semantic columns of the training prompts"
    return replace(table, source=source, token_embeddings=vectors, token_scales=scales)


def count_rows(prompt_rows: Sequence[Sequence[int] | NDArray[np.integer]], n_rows: int) -> sparse.csr_matrix:
    """How often each prompt names each row of a table, float32 (n_prompts, n_rows)."""
    sizes = [len(rows) for rows in prompt_rows]
    prompts = np.repeat(np.arange(len(prompt_rows)), sizes)
    named = np.concatenate([np.asarray(rows, dtype=np.int64) for rows in prompt_rows])
    shape = (len(prompt_rows), n_rows)
    return sparse.csr_matrix((np.ones(len(named), dtype=np.float32), (prompts, named)), shape=shape)


def latent_columns(counts: sparse.csr_matrix, n_columns: int, *, n_iter: int) -> NDArray[np.float32]:
    """Inverse document frequency times right singular vectors of the prompts, each scaled to length 1.

    Args:
        counts: float32 (n_prompts, n_rows); a cell counts as 1 + ln(count), a row of a single prompt as 0.
        n_columns: No more than there are prompts or rows.
        n_iter: Power iterations of the randomised decomposition (Halko, Martinsson and Tropp, 2011).

    Returns:
        float32 (n_rows, n_columns).
    """
    n_prompts = counts.shape[0]
    frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
    idf = np.where(frequency >= _MIN_PROMPTS, np.log((1 + n_prompts) / (1 + frequency)) + 1, 0.0)
    damped = counts.copy()
    damped.data = 1 + np.log(damped.data)
    weighted = damped @ sparse.diags(idf)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    unit = sparse.diags(1 / np.maximum(lengths, 1e-12)) @ weighted
    _, _, right = randomized_svd(unit, n_columns, n_iter=n_iter, random_state=0)
    columns: NDArray[np.float32] = (idf[:, None] * right.T).astype(np.float32)
    return columns
