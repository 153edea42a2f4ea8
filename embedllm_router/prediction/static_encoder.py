"""Prompt text → prompt embedding, by looking tokens and n-grams up in tables: no transformer, no torch.

The whole text is read up to a bound. An n-gram is a run of n tokens or of n kinds of character, hashed to a row of a
table; `training/fit/encoding.py` fits the tables with this same definition of an n-gram and of its row.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedllm_router.artifact.manifest import EncoderSpec, NgramSpec
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.text_features import STYLE_FEATURES, read_surface, style_of

__all__ = [
    "MAX_CHARS",
    "AsciiWordPieces",
    "EncodedPrompt",
    "NgramPools",
    "NgramTable",
    "StaticEncoder",
    "clip_middle",
    "ngram_rows",
    "read_sequence",
    "readable",
    "unit_sum",
]

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
"""One odd factor for each place of an n-gram; the manifest allows no more places."""


MAX_CHARS = 16_384
"""Longest text that is read whole. Of a longer one the beginning and the end are, so time stays bounded."""


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
        kinds: Kind of each byte of the text, uint8 (n_bytes,); see text_features.py.

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


def unit_sum(
    weights: NDArray[np.float32], vectors: NDArray[np.int8], blocks: Sequence[int] = ()
) -> NDArray[np.float32]:
    """The weighted sum of some vectors, scaled to length 1 if it has any.

    Args:
        weights: float32 (n,).
        vectors: int8 (n, d).
        blocks: Widths of groups of columns that are scaled each by itself; they sum to d. Empty scales all as one.

    Returns:
        float32 (d,); zero where there are no vectors.
    """
    if not len(weights):  # einsum was seen to return NaN for a sum of nothing
        return np.zeros(vectors.shape[1], dtype=np.float32)
    # einsum, as a product by BLAS wakes its second thread for a text of 75 tokens; see ood_score.OneThread
    total: NDArray[np.float32] = np.einsum("i,ij->j", weights, vectors.astype(np.float32))
    start = 0
    for width in blocks or (len(total),):
        part = total[start : start + width]
        length = math.sqrt(part @ part)
        if length > 0:
            part /= np.float32(length)
        start += width
    return total


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
        """Its tensors, as `weights.encoder_shapes` lists them."""
        return {f"{self.spec.name}_embeddings": self.embeddings, f"{self.spec.name}_scales": self.scales}


_TIMES = np.concatenate([[0.0], 1.0 + np.log(np.arange(1, 4 * MAX_CHARS + 2))]).astype(np.float32)
"""Weight of an n-gram by how often a text has it; no text that is read has more than four bytes a character."""


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
            kinds: Kind of each byte of the text, uint8 (n_bytes,); see text_features.py.

        Returns:
            One float32 (n_columns,) per table, of length 1; zero where no n-gram says anything.
        """
        if not self.tables:
            return []
        rows = [self._numbers(i, token_ids, kinds) for i in range(len(self.tables))]
        distinct, counts = _counted(np.concatenate(rows))
        weights = _TIMES[counts] * self._scales[distinct]
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


_EXPECTED: Final[Mapping[str, Mapping[str, object]]] = {
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "model": {"type": "WordPiece", "continuing_subword_prefix": "##"},
}
_PLAIN = re.compile(r"[\t\n\r -~]*")
_WORD = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")


class AsciiWordPieces:
    """BERT's tokenizer for ASCII text, in a fifth of the time of the `tokenizers` library, which keeps track of places.

    Most prompts are ASCII, and tokenizing took a third of a decision. For other text, for other tokenizers, and where a
    text holds a special token, the library is asked; a test holds both to the same tokens. A word is cut as WordPiece
    has it (Schuster and Nakajima, 2012): the longest piece that is known, then the rest likewise.

    Args:
        vocabulary: Id of each piece; those that continue a word start with "##".
        unknown: Id of a word that has no pieces.
        longest_word: Characters of the longest word that is cut in pieces.
        special: Texts that stand for one token wherever they occur, in any case.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], unknown: int, longest_word: int, special: tuple[str, ...]
    ) -> None:
        known = {piece: i for piece, i in vocabulary.items() if len(piece) <= longest_word}
        self._first = {piece: i for piece, i in known.items() if not piece.startswith("##")}
        self._later = {piece[2:]: i for piece, i in known.items() if piece.startswith("##")}
        self._longest_piece = max(map(len, (*self._first, *self._later)), default=0)
        self._unknown, self._longest_word = unknown, longest_word
        self._special = tuple(text.lower() for text in special)

    @classmethod
    def of(cls, tokenizer_json: str) -> "AsciiWordPieces | None":
        """That of a `tokenizers` file; None where the file describes another kind of tokenizer."""
        read = json.loads(tokenizer_json)
        for name, expected in _EXPECTED.items():
            part = read.get(name) or {}
            if any(part.get(setting) != value for setting, value in expected.items()):
                return None
        model, special = read["model"], tuple(token["content"] for token in read.get("added_tokens") or ())
        unknown = model["vocab"].get(model["unk_token"])
        return None if unknown is None else cls(model["vocab"], unknown, model["max_input_chars_per_word"], special)

    def ids(self, text: str) -> list[int] | None:
        """The tokens of a text; None for a text that only the library reads."""
        lowered = text.lower()
        if not _PLAIN.fullmatch(text) or any(token in lowered for token in self._special):
            return None
        words = _WORD.findall(lowered)
        found = list(map(self._first.get, words))
        if None not in found:
            return found  # type: ignore[return-value]  # just asked
        ids: list[int] = []
        for word, whole in zip(words, found, strict=True):
            if whole is None:
                ids += self._pieces(word)
            else:
                ids.append(whole)
        return ids

    def _pieces(self, word: str) -> list[int]:
        if len(word) > self._longest_word:
            return [self._unknown]
        ids: list[int] = []
        start, pieces = 0, self._first
        while start < len(word):
            for end in range(min(len(word), start + self._longest_piece), start, -1):
                piece = pieces.get(word[start:end])
                if piece is not None:
                    break
            else:
                return [self._unknown]
            ids.append(piece)
            start, pieces = end, self._later
        return ids


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the decoder sees it.

    Attributes:
        prompt_embedding: float32 (d_prompt,), pools first, then style features.
        n_tokens: How many tokens of the encoder's own tokenizer were read.
    """

    prompt_embedding: NDArray[np.float32]
    n_tokens: int


class StaticEncoder:
    """Averages of token vectors, distilled from a sentence transformer, and of n-gram vectors; a few style features.

    Args:
        spec: Shape of the encoder.
        token_embeddings: int8 (vocab_size, d_embedding); row times scale is the token's vector.
        token_scales: float32 (vocab_size,).
        tokenizer_json: A Hugging Face `tokenizers` file's contents.
        ngrams: The tables of `spec.ngrams`, in order.

    Raises:
        ArtifactError: The tokenizer does not parse, does not fit the table, or the spec names style features this
            version does not compute.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        token_embeddings: NDArray[np.int8],
        token_scales: NDArray[np.float32],
        tokenizer_json: str,
        ngrams: Sequence[NgramTable] = (),
    ) -> None:
        if spec.style_features != STYLE_FEATURES:
            raise ArtifactError(
                f"the encoder was made with style features {list(spec.style_features)}, this version computes "
                f"{list(STYLE_FEATURES)}. Retrain, or install the version that wrote the artifact."
            )
        found = tuple(table.spec for table in ngrams)
        if found != spec.ngrams:
            raise ArtifactError(f"expected the n-gram tables {list(spec.ngrams)}, found {list(found)}. Pass these.")
        self.spec = spec
        self._ngrams = NgramPools(ngrams)
        self._embeddings = token_embeddings
        self._scales = token_scales
        self._tokenizer = _parse_tokenizer(tokenizer_json, spec.vocab_size)
        self._word_pieces = AsciiWordPieces.of(tokenizer_json)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "StaticEncoder":
        """Builds the encoder an artifact holds."""
        tensors, spec = artifact.encoder, artifact.manifest.encoder
        if not isinstance(spec, EncoderSpec):
            raise ArtifactError(f"the artifact's encoder is {spec.kind} {spec.source!r}, expected a static one.")
        return cls(
            spec,
            tensors["token_embeddings"].view(np.int8),
            tensors["token_scales"].view(np.float32),
            artifact.tokenizer_json,
            [
                NgramTable(
                    one, tensors[f"{one.name}_embeddings"].view(np.int8), tensors[f"{one.name}_scales"].view(np.float32)
                )
                for one in spec.ngrams
            ],
        )

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text.

        Args:
            text: Any text; lone surrogates are replaced, and all but the ends of a text over `MAX_CHARS` is left out
                of the averages (the length feature still counts it).

        Returns:
            The embedding, finite. A text without tokens has zero pools.
        """
        read = readable(text)
        ids, surface = np.asarray(self.token_ids(read), dtype=np.int64), read_surface(read)
        parts = [self._pool(ids[-self.spec.tail_tokens :] if pool == "tail" else ids) for pool in self.spec.pools]
        parts += self._ngrams.read(ids, surface.padded_kinds[1:-1])
        return EncodedPrompt(np.concatenate([*parts, style_of(surface, n_chars=len(text))]), len(ids))

    def token_ids(self, text: str) -> list[int]:
        """Rows of the token table a text looks up, in order; the text is not clipped."""
        ids = None if self._word_pieces is None else self._word_pieces.ids(text)
        return self._tokenizer.encode(text, add_special_tokens=False).ids if ids is None else ids

    def _pool(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return unit_sum(self._scales[ids], self._embeddings.take(ids, axis=0), self.spec.blocks)


def clip_middle(text: str, max_chars: int) -> str:
    """The text, or its first and last halves when it is longer than `max_chars`."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n{text[-half:]}"


def readable(text: str) -> str:
    """What encoders read of a text: both ends of one over `MAX_CHARS`, without lone surrogates."""
    return clip_middle(text, MAX_CHARS).encode("utf-8", errors="replace").decode("utf-8")


def _parse_tokenizer(tokenizer_json: str, vocab_size: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
    except Exception as error:
        raise ArtifactError(f"tokenizer.json does not parse ({error}). Restore the artifact.") from error
    found = tokenizer.get_vocab_size()
    if found != vocab_size:
        raise ArtifactError(f"tokenizer.json has {found} tokens, the token table {vocab_size}. Restore the artifact.")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
