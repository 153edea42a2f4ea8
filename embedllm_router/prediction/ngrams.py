"""N-grams of a text → columns of its embedding: runs of n tokens or kinds of character, hashed to rows of a table.

Training and serving read this one definition of an n-gram and of its row. It knows nothing of how a table was fitted;
learning/ngrams.py does that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import NgramSpec

__all__ = ["NgramPools", "NgramTable", "ngram_rows", "read_sequence", "unit_sum"]

_FACTORS = np.array(
    [
        0x9E3779B97F4A7C15,
        0xC2B2AE3D27D4EB4F,
        0xD6E8FEB86659FD93,
        0xA0761D6478BD642F,
        0xE7037ED1A0B428DB,
        0x8EBC6AF09C88C6E3,
        0x589965CC75374CC3,
        0x1D8E4E27C47D124F,
    ],
    dtype=np.uint64,
)
"""One odd factor for each place of an n-gram; manifest.py allows no more places."""


def ngram_rows(sequence: NDArray[np.integer], n: int, n_rows: int) -> NDArray[np.uint16]:
    """The table row of every n-gram, in order of the text.

    Multilinear hashing modulo 2^64 of which the highest bits are kept (Dietzfelbinger, STACS 1996).

    Args:
        sequence: Non-negative numbers below 2^32, (length,).
        n: Neighbours that make one n-gram.
        n_rows: Rows of the table, a power of two, at most 2^16.

    Returns:
        Rows in [0, n_rows), uint16 (length - n + 1,); empty for a shorter sequence.
    """
    if len(sequence) < n:
        return np.zeros(0, dtype=np.uint16)
    hashed = np.correlate(sequence.astype(np.uint64) + np.uint64(1), _FACTORS[:n], mode="valid")
    rows: NDArray[np.uint16] = (hashed >> np.uint64(65 - n_rows.bit_length())).astype(np.uint16)
    return rows


def read_sequence(spec: NgramSpec, token_ids: NDArray[np.int64], kinds: NDArray[np.uint8]) -> NDArray[np.integer]:
    """The sequence of which a table's n-grams are taken.

    Args:
        spec: The table.
        token_ids: Of the text, int64 (n_tokens,).
        kinds: Kind of each byte of the text, uint8 (n_bytes,); see style.py.

    Returns:
        Either of both, or the kinds with equal neighbours merged.
    """
    if spec.reads == "tokens":
        return token_ids
    if spec.reads == "kinds" or not len(kinds):
        return kinds
    last_of_run = np.append(np.flatnonzero(kinds[1:] != kinds[:-1]), len(kinds) - 1)
    merged: NDArray[np.uint8] = kinds[last_of_run]
    return merged


def unit_sum(weights: NDArray[np.float32], vectors: NDArray[np.int8]) -> NDArray[np.float32]:
    """The weighted sum of some vectors, scaled to length 1 if it has any.

    Args:
        weights: float32 (n,).
        vectors: int8 (n, d).

    Returns:
        float32 (d,).
    """
    # einsum, as a product by BLAS wakes its second thread for a text of 75 tokens; see scorer.py
    total: NDArray[np.float32] = np.einsum("i,ij->j", weights, vectors.astype(np.float32))
    length = np.float32(np.sqrt(total @ total))
    return total / length if length > 0 else total


@dataclass(frozen=True, slots=True)
class NgramTable:
    """Vectors of hashed n-grams.

    Attributes:
        spec: Its shape and what it reads.
        embeddings: int8 (n_rows, n_columns); row times scale is the n-gram's vector.
        scales: float32 (n_rows,), positive.
    """

    spec: NgramSpec
    embeddings: NDArray[np.int8]
    scales: NDArray[np.float32]

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Its tensors, as `artifact.encoder_shapes` lists them."""
        return {f"{self.spec.name}_embeddings": self.embeddings, f"{self.spec.name}_scales": self.scales}


class NgramPools:
    """The pools of several tables, taken together.

    A text has few n-grams, and what takes time are the calls. So n-grams of all tables are sorted and counted as one
    list, in which each table has its own range of numbers.

    Args:
        tables: In the order of their pools; possibly none.
    """

    def __init__(self, tables: Sequence[NgramTable]) -> None:
        self.tables = tuple(tables)
        self._starts = np.cumsum([0, *(table.spec.n_rows for table in self.tables)], dtype=np.uint32)
        self._scales = np.concatenate([np.zeros(0, dtype=np.float32), *(table.scales for table in self.tables)])

    def read(self, token_ids: NDArray[np.int64], kinds: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """For each table the sum of the vectors of a text's n-grams, one met c times weighing 1 + ln(c).

        Args:
            token_ids: Of the text, int64 (n_tokens,).
            kinds: Kind of each byte of the text, uint8 (n_bytes,); see style.py.

        Returns:
            One float32 (n_columns,) per table, of length 1; zero where no n-gram says anything.
        """
        if not self.tables:
            return []
        rows = [self._numbers(i, token_ids, kinds) for i in range(len(self.tables))]
        distinct, counts = _counted(np.concatenate(rows))
        weights = (1 + np.log(counts, dtype=np.float32)) * self._scales[distinct]
        edges = np.searchsorted(distinct, self._starts).tolist()
        return [
            unit_sum(weights[first:last], table.embeddings.take(distinct[first:last] - start, axis=0))
            for table, start, (first, last) in zip(self.tables, self._starts[:-1], pairwise(edges), strict=True)
        ]

    def _numbers(self, i: int, token_ids: NDArray[np.int64], kinds: NDArray[np.uint8]) -> NDArray[np.uint32]:
        spec = self.tables[i].spec
        rows = ngram_rows(read_sequence(spec, token_ids, kinds), spec.n, spec.n_rows)
        numbers: NDArray[np.uint32] = np.add(rows, self._starts[i], dtype=np.uint32)
        return numbers


def _counted(rows: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """Distinct rows in order and how often each occurs; a third of the time of numpy's unique on 100 tokens."""
    if not len(rows):
        return rows, np.zeros(0, dtype=np.intp)
    rows.sort()
    edge = np.empty(len(rows) + 1, dtype=np.bool_)
    edge[0] = edge[-1] = True
    np.not_equal(rows[1:], rows[:-1], out=edge[1:-1])
    edges = np.flatnonzero(edge)
    return rows[edges[:-1]], edges[1:] - edges[:-1]
