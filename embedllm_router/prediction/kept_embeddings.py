"""Embeddings in a file, so that a sentence transformer embeds no prompt twice; digests of the texts, never the texts.

A file holds rows of one size one after the other: SHA-256 of the text, tokens read, embedding. Rows are only ever
added, a block in one write, so what an interrupted run leaves is whole but for its last row, which is left out.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.errors import ArtifactError

__all__ = ["Embedded", "KeptEmbeddings"]

Embedded = tuple[NDArray[np.float32], int]
"""Embedding (d_embedding,), and how many tokens were read."""

_DIGEST: Final = 32
_BLOCK: Final = 128


class KeptEmbeddings:
    """What one encoder made of texts, in a folder.

    Args:
        folder: Made when the first text is embedded; several encoders can share it.
        encoder: Identifier of the encoder and of everything that decides its embeddings; part of the file's name.
        d_embedding: Columns of an embedding.

    Raises:
        ArtifactError: The folder or its file cannot be read.
    """

    def __init__(self, folder: Path, encoder: str, d_embedding: int) -> None:
        self._file = folder / f"{encoder}.rows"
        self._row = np.dtype([("digest", f"V{_DIGEST}"), ("n_tokens", "<i4"), ("embedding", "<f4", (d_embedding,))])
        self._known: dict[bytes, Embedded] = {}
        try:
            content = self._file.read_bytes() if self._file.exists() else b""
        except OSError as error:
            raise self._unusable("read", error) from error
        whole = np.frombuffer(content[: len(content) // self._row.itemsize * self._row.itemsize], self._row)
        usable = np.isfinite(whole["embedding"]).all(axis=1) & whole["embedding"].any(axis=1)
        self._remember(whole[usable])  # the others are of a damaged disk: embedded anew and added
        self._torn = len(content) - whole.nbytes

    def __len__(self) -> int:
        return len(self._known)

    def complete(self, texts: Sequence[str], embed: Callable[[list[str]], list[Embedded]]) -> list[Embedded]:
        """Embeds texts, each that is new once, and keeps them.

        Args:
            texts: Any number of them.
            embed: Embeds new texts, in their order; is called with at most 128 at once, each of which is then kept.

        Returns:
            One for each text.

        Raises:
            ArtifactError: The new ones cannot be written.
        """
        digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        new = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._known}
        by_length = sorted(new, key=lambda digest: len(new[digest]))  # texts of like length are embedded faster
        for start in range(0, len(by_length), _BLOCK):
            block = by_length[start : start + _BLOCK]
            self._keep(block, embed([new[digest] for digest in block]))
        return [self._known[digest] for digest in digests]

    def _keep(self, digests: list[bytes], embedded: list[Embedded]) -> None:
        rows = np.zeros(len(digests), self._row)
        for row, digest, (embedding, n_tokens) in zip(rows, digests, embedded, strict=True):
            row["digest"], row["n_tokens"], row["embedding"] = np.void(digest), n_tokens, embedding
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as stream:
                if self._torn:
                    stream.truncate(stream.tell() - self._torn)
                stream.write(rows.tobytes())
        except OSError as error:
            raise self._unusable("written", error) from error
        self._torn = 0
        self._remember(rows)

    def _remember(self, rows: NDArray[np.void]) -> None:
        for row in rows:
            self._known[row["digest"].tobytes()] = (row["embedding"], int(row["n_tokens"]))

    def _unusable(self, what: str, error: OSError) -> ArtifactError:
        return ArtifactError(
            f"embeddings cannot be {what} at {self._file} ({error.strerror or error}). Expected a folder that is yours "
            "and has room."
        )
