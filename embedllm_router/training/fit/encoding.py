"""The encoder a training run learns with: what its prompts add to it, and their embeddings.

Training and serving build it alike. It sees prompts, and knows nothing of labels.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import EncoderSpec, NgramSpec
from embedllm_router.prediction.ngrams import NgramTable, read_sequence
from embedllm_router.prediction.static_encoder import MAX_CHARS, StaticEncoder, clip_middle
from embedllm_router.prediction.text_features import STYLE_FEATURES, read_surface
from embedllm_router.prediction.transformer_encoder import TransformerEncoder
from embedllm_router.training.fit.decoder_learning_inputs import Progress
from embedllm_router.training.fit.distill import TokenTable
from embedllm_router.training.fit.encoding_learning_lexicon import add_prompt_columns
from embedllm_router.training.fit.encoding_learning_ngrams import fit_ngrams
from embedllm_router.training.fit.encoding_learning_perturbations import perturbed_copy

__all__ = ["ReadyEncoder", "encode_copies", "encode_prompts", "prepare_encoder"]

_BLOCK: Final = 1024


@dataclass(frozen=True, slots=True)
class ReadyEncoder:
    """An encoder, and what an artifact shall hold of it; a transformer leaves only its name."""

    encoder: StaticEncoder | TransformerEncoder
    tensors: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    tokenizer_json: str = ""


def prepare_encoder(
    encoder: TokenTable | TransformerEncoder,
    prompts: Sequence[str],
    *,
    n_columns: int,
    ngrams: Sequence[NgramSpec],
) -> ReadyEncoder:
    """Adds to a token table what the training prompts say of words and n-grams; a transformer is ready as it is.

    Args:
        encoder: Distilled token vectors, or a sentence transformer.
        prompts: Of the training part.
        n_columns: Latent semantic columns to add to the token table; see lexicon.py.
        ngrams: Tables of n-grams to fit; see ngrams.py.

    Returns:
        The encoder, and its tensors.
    """
    if isinstance(encoder, TransformerEncoder):
        return ReadyEncoder(encoder)
    reader = _static(encoder, ())
    texts = [clip_middle(prompt, MAX_CHARS).encode("utf-8", "replace").decode("utf-8") for prompt in prompts]
    ids = [np.asarray(reader.token_ids(text), dtype=np.int64) for text in texts]
    table = add_prompt_columns(encoder, ids, n_columns) if n_columns else encoder
    tables = _fit_tables(ngrams, ids, texts)
    tensors = table.tensors()
    for one in tables:
        tensors |= one.tensors()
    return ReadyEncoder(_static(table, tables), tensors, table.tokenizer_json)


def encode_prompts(
    encoder: StaticEncoder | TransformerEncoder,
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


def _encode_block(encoder: StaticEncoder | TransformerEncoder, prompts: Sequence[str]) -> NDArray[np.float32]:
    if isinstance(encoder, TransformerEncoder):
        return np.stack([encoded.prompt_embedding for encoded in encoder.encode_all(prompts)])
    return np.stack([encoder.encode(prompt).prompt_embedding for prompt in prompts])


def encode_copies(
    encoder: StaticEncoder | TransformerEncoder,
    prompts: Sequence[str],
    n_copies: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> NDArray[np.float16] | None:
    """Embeds perturbed copies of prompts; see perturbations.py.

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
        pools=("mean",),
        tail_tokens=64,
        ngrams=tuple(one.spec for one in ngrams),
        style_features=STYLE_FEATURES,
    )
    return StaticEncoder(spec, table.token_embeddings, table.token_scales, table.tokenizer_json, ngrams)
