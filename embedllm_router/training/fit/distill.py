"""Sentence transformers → static token table, with model2vec (github.com/MinishLab/model2vec).

Every token of the vocabulary passes through the transformer once; PCA and SIF weights (Arora et al., ICLR 2017) make
the mean of the vectors a usable sentence embedding. Several transformers stand side by side in one table: it has the
first one's tokens, and each token's vectors of the others are looked up by its text. torch and model2vec load inside
the functions.
"""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from tokenizers import Tokenizer

from embedllm_router._files import draft_beside, put_in_place, why_no_place
from embedllm_router.artifact.manifest import TransformerSpec
from embedllm_router.artifact.weights import Artifact
from embedllm_router.config.settings import encoder_place
from embedllm_router.errors import ConfigError
from embedllm_router.prediction.loading import WholeEncoder, load_transformer
from embedllm_router.prediction.transformer_encoder import resolve_source, without_load_report

__all__ = [
    "TokenTable",
    "check_table_place",
    "distill",
    "distilled_part",
    "load_table",
    "quantise",
    "save_table",
    "side_by_side",
]

DEFAULT_SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
_MARK = "encoder.json"
_MIN_SHARED = 0.5


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Token vectors and the tokenizer they belong to.

    Attributes:
        source: What it was distilled from, and how.
        token_embeddings: int8 (vocab_size, d_embedding).
        token_scales: float32 (vocab_size,), positive; row times scale is the token's vector.
        tokenizer_json: Hugging Face `tokenizers` file, without truncation or padding.
        blocks: Widths of the groups of columns that are of one transformer each; empty where all are of one.
    """

    source: str
    token_embeddings: NDArray[np.int8]
    token_scales: NDArray[np.float32]
    tokenizer_json: str
    blocks: tuple[int, ...] = ()

    def vectors(self) -> NDArray[np.float32]:
        """Each token's vector, float32 (vocab_size, d_embedding)."""
        vectors: NDArray[np.float32] = self.token_embeddings * self.token_scales[:, None]
        return vectors

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The tensors of encoder.safetensors, as `artifact.encoder_shapes` lists them."""
        return {"token_embeddings": self.token_embeddings, "token_scales": self.token_scales}


def distill(source: str = DEFAULT_SOURCE, *, d_embedding: int = 128, sif: float = 1e-4) -> TokenTable:
    """Distils a sentence transformer into a token table.

    Args:
        source: Name or path of a transformer with a fast tokenizer.
        d_embedding: Columns to keep after PCA.
        sif: Smooth inverse frequency coefficient; token frequency is estimated from its rank.

    Returns:
        The table, deterministic for one version of the libraries.

    Raises:
        ConfigError: The source cannot be loaded, or the `learn` extra is not installed.
    """
    try:
        from model2vec.distill import distill_from_model  # noqa: PLC0415 - loads torch
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - loads torch
    except ImportError as error:
        raise ConfigError(f"distilling needs {error.name}: pip install 'embedllm-router[learn]'.") from error
    location = resolve_source(source)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            with without_load_report():
                transformer = AutoModel.from_pretrained(location)
            tokenizer = AutoTokenizer.from_pretrained(location, use_fast=True)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot load {source!r}: {str(error).splitlines()[0]} Give a name or folder.") from error
        static = distill_from_model(
            transformer,
            tokenizer,  # type: ignore[arg-type]  # use_fast promises the type model2vec wants
            pca_dims=d_embedding,
            sif_coefficient=sif,
            device="cpu",
            quantize_to="float32",
        )
    vectors, scales = quantise(np.asarray(static.embedding, dtype=np.float32))
    how = f"{source}; model2vec, one forward pass per token, PCA {d_embedding}, SIF {sif:g}, int8"
    return TokenTable(how, vectors, scales, _bare_tokenizer(static.tokenizer.to_str()))


def side_by_side(tables: Sequence[TokenTable]) -> TokenTable:
    """Several tables as one, with the tokens of the first.

    Args:
        tables: At least one. A token that another table does not have gets a zero vector there.

    Returns:
        A table with a block of columns for each, scaled so that the mean length of a token's vector is the same in all:
        row scales are shared, so a block of small numbers would be rounded coarsely.

    Raises:
        ConfigError: Another table has hardly a token of the first.
    """
    first, *others = tables
    if not others:
        return first
    parts = [first.vectors(), *(_looked_up(one, first) for one in others)]
    sizes = [float(np.linalg.norm(part, axis=1).mean()) for part in parts]
    scaled = [part * np.float32(sizes[0] / size) for part, size in zip(parts, sizes, strict=True)]
    vectors, scales = quantise(np.hstack(scaled))
    widths = tuple(part.shape[1] for part in parts)
    return TokenTable(" | ".join(table.source for table in tables), vectors, scales, first.tokenizer_json, widths)


def distilled_part(artifact: Artifact, keep_in: Path | None = None) -> TokenTable | WholeEncoder:
    """The prompt encoder of an artifact without what it learned from prompts.

    Args:
        artifact: Loaded weights.
        keep_in: Folder where a sentence transformer's embeddings are kept and found again; None keeps none.

    Returns:
        The columns of the token table that were distilled from transformers; or the sentence transformer.

    Raises:
        ConfigError: The token table does not say which columns these are, as those of early weights do not.
    """
    spec = artifact.manifest.encoder
    if isinstance(spec, TransformerSpec):
        return load_transformer(artifact, spec, keep_in, place=encoder_place())
    distilled = spec.blocks[:-1]
    if not distilled:
        raise ConfigError(
            "the weights do not say which columns of their token table were learned from prompts. Take newer weights."
        )
    embeddings, row_scales = (artifact.encoder[name] for name in ("token_embeddings", "token_scales"))
    kept = embeddings[:, : sum(distilled)].astype(np.float32) * row_scales.astype(np.float32)[:, None]
    vectors, scales = quantise(kept)
    return TokenTable(spec.source, vectors, scales, artifact.tokenizer_json, distilled if len(distilled) > 1 else ())


def _looked_up(table: TokenTable, tokens_of: TokenTable) -> NDArray[np.float32]:
    """A table's vectors for the tokens of another, by their texts."""
    wanted = Tokenizer.from_str(tokens_of.tokenizer_json).get_vocab()
    row_of = Tokenizer.from_str(table.tokenizer_json).get_vocab()
    shared = {place: row_of[token] for token, place in wanted.items() if token in row_of}
    if len(shared) < _MIN_SHARED * len(wanted):
        raise ConfigError(
            f"{table.source} has {len(shared)} of the {len(wanted)} tokens of {tokens_of.source}, expected at least "
            f"{_MIN_SHARED:.0%}. Give transformers of one kind of vocabulary, such as BERT's."
        )
    found = np.zeros((len(tokens_of.token_scales), table.token_embeddings.shape[1]), dtype=np.float32)
    found[list(shared)] = table.vectors()[list(shared.values())]
    return found


def quantise(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds each row to 255 steps of its own size.

    Args:
        vectors: float32 (n, d), finite.

    Returns:
        int8 (n, d) and float32 (n,), positive; `int8 * scale` is within half a scale of the input.
    """
    scales = np.maximum(np.abs(vectors).max(axis=1), 1e-12) / 127
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def save_table(folder: Path, table: TokenTable) -> None:
    """Writes a token table: encoder.safetensors, tokenizer.json and encoder.json.

    Args:
        folder: Made if missing; another folder's files are never deleted.
        table: What to write.

    Raises:
        ConfigError: The folder holds something else, or cannot be written.
    """
    check_table_place(folder)
    try:
        with draft_beside(folder) as draft:
            (draft / "encoder.safetensors").write_bytes(save_safetensors(table.tensors()))
            (draft / "tokenizer.json").write_text(table.tokenizer_json, encoding="utf-8")
            described = {"source": table.source, "blocks": table.blocks}
            (draft / _MARK).write_text(json.dumps(described) + "\n", encoding="utf-8")
            put_in_place(draft, folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}). Check the rights and the space there."
        ) from error


def check_table_place(folder: Path) -> None:
    """Whether a token table may be written here; asked before it is distilled as well.

    Raises:
        ConfigError: Something else is there, or nothing can be written there.
    """
    reason = why_no_place(folder, _MARK, "a token table")
    if reason is not None:
        raise ConfigError(reason)


def load_table(folder: Path) -> TokenTable:
    """Reads what `save_table` wrote.

    Args:
        folder: Where it is.

    Returns:
        The table.

    Raises:
        ConfigError: A file is missing or damaged.
    """
    try:
        tensors = load_safetensors((folder / "encoder.safetensors").read_bytes())
        described = json.loads((folder / _MARK).read_text(encoding="utf-8"))
        source, blocks = described["source"], tuple(int(width) for width in described.get("blocks", ()))
        tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
        return TokenTable(source, tensors["token_embeddings"], tensors["token_scales"], tokenizer_json, blocks)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder}: not a token table ({error}). Expected a folder made by `embedllm-router distill`."
        ) from error


def _bare_tokenizer(tokenizer_json: str) -> str:
    tokenizer = json.loads(tokenizer_json)
    tokenizer["truncation"] = tokenizer["padding"] = tokenizer["post_processor"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
