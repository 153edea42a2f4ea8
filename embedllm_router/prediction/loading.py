"""Which encoder an artifact has: the one place that tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from embedllm_router.artifact.manifest import EncoderSpec, Manifest, TransformerSpec
from embedllm_router.artifact.weights import ENCODER, Artifact
from embedllm_router.prediction.remote_encoder import Endpoint, RemoteEncoder
from embedllm_router.prediction.static_encoder import EncodedPrompt, StaticEncoder
from embedllm_router.prediction.transformer_encoder import TransformerEncoder

__all__ = [
    "EncoderPlace",
    "PromptEncoder",
    "WholeEncoder",
    "encode_all",
    "encoder_id",
    "load_encoder",
    "load_transformer",
]

WholeEncoder = TransformerEncoder | RemoteEncoder
"""A sentence transformer, here or at an endpoint, of which an artifact holds no weights."""


@dataclass(frozen=True, slots=True)
class EncoderPlace:
    """Where the sentence transformer is that weights name and do not hold.

    Attributes:
        endpoint: What runs it; None runs it in this process.
        folder: Its files; None finds them by name.
    """

    endpoint: Endpoint | None = None
    folder: Path | None = None


_BY_NAME: Final = EncoderPlace()


class PromptEncoder(Protocol):
    """Prompt text → prompt embedding."""

    @property
    def spec(self) -> EncoderSpec | TransformerSpec:
        """What the manifest says of it."""

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text."""


def load_encoder(artifact: Artifact, keep_in: Path | None = None, *, place: EncoderPlace = _BY_NAME) -> PromptEncoder:
    """Builds the encoder an artifact holds or names.

    Args:
        artifact: Loaded weights.
        keep_in: Folder where a sentence transformer's embeddings are kept and found again; None keeps none.
        place: Where a sentence transformer is; by default it is found by name.

    Raises:
        ArtifactError: It cannot be found, or is not the one the artifact was trained with.
    """
    if isinstance(artifact.manifest.encoder, TransformerSpec):
        return load_transformer(artifact, artifact.manifest.encoder, keep_in, place=place)
    return StaticEncoder.from_artifact(artifact)


def load_transformer(
    artifact: Artifact, spec: TransformerSpec, keep_in: Path | None = None, *, place: EncoderPlace = _BY_NAME
) -> WholeEncoder:
    """Builds the sentence transformer that an artifact names.

    Args:
        artifact: Loaded weights.
        spec: What their manifest says of it.
        keep_in: Folder where embeddings are kept and found again; None keeps none.
        place: Where it is.

    Raises:
        ArtifactError: It cannot be found, or is not the one the artifact was trained with.
    """
    if place.endpoint is not None:
        return RemoteEncoder.from_artifact(artifact, place.endpoint, keep_in=keep_in)
    return TransformerEncoder.from_spec(spec, keep_in=keep_in, folder=place.folder)


def encode_all(encoder: PromptEncoder, texts: Sequence[str]) -> list[EncodedPrompt]:
    """Embeds texts in their order: a transformer in batches, equal to one by one up to rounding.

    Args:
        encoder: Of any kind.
        texts: Any number of them.
    """
    if isinstance(encoder, TransformerEncoder | RemoteEncoder):
        return encoder.encode_all(texts)
    return [encoder.encode(text) for text in texts]


def encoder_id(manifest: Manifest) -> str:
    """Twelve hex digits that tell encoders apart: embeddings of equal ones may stand for each other."""
    spec = manifest.encoder
    digest = spec.weights_sha256 if isinstance(spec, TransformerSpec) else manifest.files[ENCODER].sha256
    return digest[:12]
