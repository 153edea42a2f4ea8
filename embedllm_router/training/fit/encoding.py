"""The encoder a training run learns with: what the training prompts add to it, and their embeddings.

A token table gets columns of the latent semantic index: TF-IDF and a truncated singular value decomposition of prompts
by tokens (Deerwester et al., 1990). A token's row is its inverse document frequency times its singular vector, so the
sum over a text's tokens is the text's projection; words that the transformer calls alike but that mark different kinds
of questions differ there. Tables of n-gram vectors are made likewise from hashed n-grams; `prediction` defines what an
n-gram is and which row it has. Only prompts of the training part are read, and no labels.

The decoder also learns from copies of prompts with small changes that leave their meaning. Phrases, frames, wordings
and kinds of typo are others than those that benchmarks/stability.py measures with (a test compares the lists):
otherwise the measurement would only ask for what was learned by heart.
"""

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from embedllm_router.artifact.manifest import EncoderSpec, NgramSpec
from embedllm_router.prediction.loading import WholeEncoder, encode_all
from embedllm_router.prediction.static_encoder import (
    NgramTable,
    StaticEncoder,
    ngram_rows,
    read_sequence,
    readable,
)
from embedllm_router.prediction.text_features import STYLE_FEATURES, read_surface
from embedllm_router.training.fit.decoder import Progress
from embedllm_router.training.fit.distill import TokenTable, quantise

__all__ = [
    "DEFAULT_NGRAMS",
    "PHRASES",
    "WORDINGS",
    "ReadyEncoder",
    "add_prompt_columns",
    "encode_copies",
    "encode_prompts",
    "fit_ngrams",
    "perturbed_copy",
    "prepare_encoder",
]

_MIN_PROMPTS: Final = 2  # a token of one prompt says nothing about others
_POWER_ITERATIONS: Final = 3


def add_prompt_columns(
    table: TokenTable,
    prompt_tokens: Sequence[Sequence[int] | NDArray[np.integer]],
    n_columns: int,
    *,
    own_block: bool = False,
) -> TokenTable:
    """Appends latent semantic columns to a token table.

    Args:
        table: Distilled token vectors.
        prompt_tokens: Token ids of each training prompt.
        n_columns: Columns to add; no more than there are prompts or tokens.
        own_block: Whether they are pooled by themselves rather than together with the others.

    Returns:
        A table of d_embedding + n_columns columns. The new ones are scaled so that both parts weigh the same in a
        prompt's average, and share its row scales.
    """
    vocab_size = len(table.token_scales)
    counts = count_rows(prompt_tokens, vocab_size)
    new = latent_columns(counts, min(n_columns, vocab_size - 1, len(prompt_tokens)), n_iter=_POWER_ITERATIONS)
    old = table.vectors()
    sizes = [float(np.linalg.norm(counts @ part, axis=1).mean()) for part in (old, new)]
    joint = np.hstack([old, new * (sizes[0] / max(sizes[1], 1e-12))]).astype(np.float32)
    vectors, scales = quantise(joint)
    source = f"{table.source}; {new.shape[1]} latent semantic columns of the training prompts"
    blocks = (*(table.blocks or (old.shape[1],)), new.shape[1]) if own_block else ()
    return replace(table, source=source, token_embeddings=vectors, token_scales=scales, blocks=blocks)


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


DEFAULT_NGRAMS: Final = (
    NgramSpec(name="pairs", reads="tokens", n=2, n_rows=2**15, n_columns=128),
    NgramSpec(name="shapes", reads="shapes", n=5, n_rows=2**14, n_columns=128),
    NgramSpec(name="kinds", reads="kinds", n=5, n_rows=2**14, n_columns=128),
)
"""The families of the best recipe of docs/experiments.md."""
_NGRAM_POWER_ITERATIONS: Final = 2


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
    vectors, scales = quantise(latent_columns(counts, n_columns, n_iter=_NGRAM_POWER_ITERATIONS))
    return NgramTable(spec.model_copy(update={"n_columns": n_columns}), vectors, scales)


_OPENINGS: Final = (
    "Hello. ",
    "Hey there, ",
    "Quick one: ",
    "I need some help here. ",
    "Task: ",
    "Q: ",
    "Consider the problem below.\n\n",
    "You are an expert.\n",
    "Can you work this out? ",
    "Respond to this prompt: ",
    "I was asked this today and am not sure: ",
)
_CLOSINGS: Final = (
    " Cheers!",
    "\n\nMuch appreciated.",
    "\n\nGive the result.",
    " Let me know.",
    "\n\nReply:",
    " Show your work.",
    " Think it through.",
    "\n\nBe brief.",
    "\n\nKind regards",
)
PHRASES: Final = (*_OPENINGS, *_CLOSINGS)
"""What is put before or after a prompt."""

WORDINGS: Final = (
    ("What are", "Name"),
    ("Which", "What"),
    ("Calculate", "Compute"),
    ("Choose", "Pick"),
    ("Suppose", "Assume"),
    ("How much", "What amount of"),
    ("are not", "aren't"),
    ("do not", "don't"),
    ("will not", "won't"),
    ("such as", "like"),
    ("therefore", "so"),
    ("However", "But"),
)
"""Words, and others that mean the same there."""

_WORDING_PATTERNS: Final = tuple((re.compile(rf"\b{words}\b"), others) for words, others in WORDINGS)
_LONG_WORD: Final = re.compile(r"[A-Za-z]{4,}")
_CAPITALISED: Final = re.compile(r"\b[A-Z][a-z]+")
_BREAK: Final = re.compile(r"[ \n]")
_LAST_MARK: Final = re.compile(r"[.?!:]+\s*$")
_TYPO_SHARES: Final = (0.01, 0.03)
_BREAK_SHARES: Final = (0.02, 0.1)
_N_CHANGES: Final = (1, 1, 2)
_KEYS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def perturbed_copy(text: str, rng: random.Random) -> str:
    """The prompt after one or two changes of case, letters, white space, punctuation, phrases around it or wording.

    Args:
        text: Any text.
        rng: Decides the changes; the same state makes the same copy.

    Returns:
        A text that asks the same; sometimes the same text.
    """
    for change in rng.sample(_CHANGES, rng.choice(_N_CHANGES)):
        text = change(text, rng)
    return text


def _lower(text: str, _: random.Random) -> str:
    return text.lower()


def _lower_some(text: str, rng: random.Random) -> str:
    """Capitalised words lose their capital, each with the same chance."""
    share = rng.random()
    return _CAPITALISED.sub(lambda word: word[0].lower() if rng.random() < share else word[0], text)


def _typos(text: str, rng: random.Random) -> str:
    """Letters left out, doubled, or the key beside them struck."""
    words = list(_LONG_WORD.finditer(text))
    share, letters = rng.choice(_TYPO_SHARES), list(text)
    for word in rng.sample(words, min(len(words), max(1, round(share * len(words))))):
        at = rng.randrange(word.start(), word.end())
        letters[at] = rng.choice(("", letters[at] * 2, _key_beside(letters[at])))
    return "".join(letters)


def _key_beside(letter: str) -> str:
    """The letter to the right on the keyboard, or to the left at the end of a row; case is kept."""
    row = next(keys for keys in _KEYS if letter.lower() in keys)
    at = row.index(letter.lower())
    other = row[at + 1] if at + 1 < len(row) else row[at - 1]
    return other.upper() if letter.isupper() else other


def _spaces(text: str, rng: random.Random) -> str:
    """Spaces and line breaks doubled here and there, and something at the end or the beginning."""
    share = rng.choice(_BREAK_SHARES)
    wider = _BREAK.sub(lambda found: found[0] * 2 if rng.random() < share else found[0], text)
    return rng.choice(("", "", "", "\n", "  ")) + wider + rng.choice(("", "  ", "\n", " \n"))


def _last_mark(text: str, rng: random.Random) -> str:
    """The last mark left out, doubled or another; without one, one more or none."""
    mark = rng.choice(("", "!", "..", ".", "??"))
    return _LAST_MARK.sub(mark, text) if _LAST_MARK.search(text) else text + mark


def _wording(text: str, _: random.Random) -> str:
    for pattern, others in _WORDING_PATTERNS:
        text = pattern.sub(others, text)
    return text


def _opening(text: str, rng: random.Random) -> str:
    return rng.choice(_OPENINGS) + text


def _closing(text: str, rng: random.Random) -> str:
    return text + rng.choice(_CLOSINGS)


_CHANGES: Final[tuple[Callable[[str, random.Random], str], ...]] = (
    _lower,
    _lower_some,
    _typos,
    _spaces,
    _last_mark,
    _wording,
    _opening,
    _opening,
    _closing,
    _closing,
)


_BLOCK: Final = 1024


@dataclass(frozen=True, slots=True)
class BroadColumns:
    """The columns of a prompt embedding that mean the same whatever was trained on: pooled vectors and text statistics.

    Columns of the latent semantic index are not among them: they were fitted to the training prompts.

    Attributes:
        pools: Half-open ranges, each the pool of one transformer's vectors.
        style: Half-open range of the text statistics.
    """

    pools: tuple[tuple[int, int], ...]
    style: tuple[int, int]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """All of them, ascending, neighbours as one."""
        merged: list[tuple[int, int]] = []
        for start, end in (*self.pools, self.style):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        return tuple(span for span in merged if span[0] < span[1])

    def numbers(self) -> NDArray[np.int64]:
        """Their places in a prompt embedding, int64 (n_columns,)."""
        return np.concatenate([np.arange(start, end) for start, end in self.ranges])

    def weights(self, scale: NDArray[np.float32]) -> NDArray[np.float32]:
        """What turns standardised columns into groups that weigh alike.

        A pool keeps its shape: its columns of small spread stay small. Text statistics have no common unit, so they
        weigh alike.

        Args:
            scale: Spread of every column of a prompt embedding, float32 (d_prompt,).

        Returns:
            float32 (n_columns,), in the order of `numbers`.
        """
        weights = np.zeros(len(scale), dtype=np.float32)
        for start, end in self.pools:
            weights[start:end] = scale[start:end] / np.linalg.norm(scale[start:end])
        start, end = self.style
        weights[start:end] = 1 / np.sqrt(max(end - start, 1))
        return weights[self.numbers()]


@dataclass(frozen=True, slots=True)
class ReadyEncoder:
    """An encoder, and what an artifact shall hold of it; a transformer leaves its name and tokenizer."""

    encoder: StaticEncoder | WholeEncoder
    broad: BroadColumns
    tensors: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    tokenizer_json: str = ""


def prepare_encoder(
    encoder: TokenTable | WholeEncoder,
    prompts: Sequence[str],
    *,
    n_columns: int,
    ngrams: Sequence[NgramSpec],
    own_block: bool = False,
) -> ReadyEncoder:
    """Adds to a token table what the training prompts say of words and n-grams; a transformer is ready as it is.

    Args:
        encoder: Distilled token vectors, or a sentence transformer.
        prompts: Of the training part.
        n_columns: Latent semantic columns to add to the token table.
        ngrams: Tables of n-grams to fit.
        own_block: See `add_prompt_columns`.

    Returns:
        The encoder, and its tensors.
    """
    if not isinstance(encoder, TokenTable):
        columns = _broad_columns((encoder.spec.d_embedding,), encoder.spec.d_prompt)
        return ReadyEncoder(encoder, columns, tokenizer_json=encoder.tokenizer_json)
    reader = _static(encoder, ())
    texts = [readable(prompt) for prompt in prompts]
    ids = [np.asarray(reader.token_ids(text), dtype=np.int64) for text in texts]
    table = add_prompt_columns(encoder, ids, n_columns, own_block=own_block) if n_columns else encoder
    tables = _fit_tables(ngrams, ids, texts)
    tensors = table.tensors()
    for one in tables:
        tensors |= one.tensors()
    ready = _static(table, tables)
    d_distilled = encoder.token_embeddings.shape[1] if own_block else table.token_embeddings.shape[1]
    broad = _broad_columns(encoder.blocks or (d_distilled,), ready.spec.d_prompt)
    return ReadyEncoder(ready, broad, tensors, table.tokenizer_json)


def _broad_columns(widths: Sequence[int], d_prompt: int) -> BroadColumns:
    ends = np.cumsum(widths).tolist()
    pools = tuple(zip([0, *ends[:-1]], ends, strict=True))
    return BroadColumns(pools, (d_prompt - len(STYLE_FEATURES), d_prompt))


def encode_prompts(
    encoder: StaticEncoder | WholeEncoder,
    prompts: Sequence[str],
    *,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Embeds prompts as serving does; transformers in batches, equal up to rounding.

    Args:
        encoder: Ready for them.
        prompts: At least one.
        progress: Told about each block: a transformer takes an hour for 30,000 prompts on a CPU.

    Returns:
        float32 (n_prompts, d_prompt).
    """
    blocks = []
    for start in range(0, len(prompts), _BLOCK):
        if progress:
            progress("prompts", start, len(prompts), math.nan)
        blocks.append(_encode_block(encoder, prompts[start : start + _BLOCK]))
    if progress:
        progress("prompts", len(prompts), len(prompts), math.nan)
    return np.concatenate(blocks)


def _encode_block(encoder: StaticEncoder | WholeEncoder, prompts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([encoded.prompt_embedding for encoded in encode_all(encoder, prompts)])


def encode_copies(
    encoder: StaticEncoder | WholeEncoder,
    prompts: Sequence[str],
    n_copies: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> NDArray[np.float16] | None:
    """Embeds perturbed copies of prompts; see `perturbed_copy`.

    Args:
        encoder: Made ready on the prompts as they are.
        prompts: Of the training part.
        n_copies: Of each prompt.
        seed: Decides the changes.
        progress: Told about each block.

    Returns:
        float16 (n_copies, n_prompts, d_prompt), half of what float32 would need; None without copies or prompts.
    """
    rng, blocks = random.Random(f"{seed} copies"), []  # noqa: S311 - seeded, for training
    texts = list(prompts) * n_copies
    for start in range(0, len(texts), _BLOCK):
        block = [perturbed_copy(text, rng) for text in texts[start : start + _BLOCK]]
        blocks.append(_encode_block(encoder, block).astype(np.float16))
        if progress:
            progress("perturbed copies", start + len(block), len(texts), math.nan)
    return np.concatenate(blocks).reshape(n_copies, len(prompts), -1) if blocks else None


def _fit_tables(
    specs: Sequence[NgramSpec], ids: Sequence[NDArray[np.int64]], texts: Sequence[str]
) -> tuple[NgramTable, ...]:
    kinds = [read_surface(text).kinds for text in texts] if specs else []
    return tuple(
        fit_ngrams(spec, [read_sequence(spec, *both) for both in zip(ids, kinds, strict=True)]) for spec in specs
    )


def _static(table: TokenTable, ngrams: Sequence[NgramTable]) -> StaticEncoder:
    vocab_size, d_embedding = table.token_embeddings.shape
    spec = EncoderSpec(
        kind="static",
        source=table.source,
        vocab_size=vocab_size,
        d_embedding=d_embedding,
        blocks=table.blocks,
        pools=("mean",),
        tail_tokens=64,
        ngrams=tuple(one.spec for one in ngrams),
        style_features=STYLE_FEATURES,
    )
    return StaticEncoder(spec, table.token_embeddings, table.token_scales, table.tokenizer_json, ngrams)
