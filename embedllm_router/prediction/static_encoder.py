"""Prompt text → prompt embedding.

The static encoder looks its tokens and n-grams up in tables and averages them: no transformer, no torch, and the whole
text is read up to a bound. It knows nothing of LLMs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedllm_router.artifact.manifest import EncoderSpec
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.ngrams import NgramPools, NgramTable, unit_sum
from embedllm_router.prediction.text_features import STYLE_FEATURES, read_surface, style_of

__all__ = ["MAX_CHARS", "EncodedPrompt", "StaticEncoder", "clip_middle"]

MAX_CHARS = 16_384
"""Longest text that is read whole. Of a longer one the beginning and the end are, so time stays bounded."""


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
        read = clip_middle(text, MAX_CHARS).encode("utf-8", errors="replace").decode("utf-8")
        ids, surface = np.asarray(self.token_ids(read), dtype=np.int64), read_surface(read)
        parts = [self._pool(ids[-self.spec.tail_tokens :] if pool == "tail" else ids) for pool in self.spec.pools]
        parts += self._ngrams.read(ids, surface.kinds)
        return EncodedPrompt(np.concatenate([*parts, style_of(surface, n_chars=len(text))]), len(ids))

    def token_ids(self, text: str) -> list[int]:
        """Rows of the token table a text looks up, in order; the text is not clipped."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _pool(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return unit_sum(self._scales[ids], self._embeddings.take(ids, axis=0))


def clip_middle(text: str, max_chars: int) -> str:
    """The text, or its first and last halves when it is longer than `max_chars`."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n{text[-half:]}"


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
