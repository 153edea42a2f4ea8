"""Which encoder an artifact has: the one place that tells them apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from embedllm_router.artifact.manifest import EncoderSpec, Manifest, TransformerSpec
from embedllm_router.artifact.weights import ENCODER, Artifact
from embedllm_router.prediction.remote_encoder import Endpoint, RemoteEncoder
from embedllm_router.prediction.static_encoder import EncodedPrompt, StaticEncoder
from embedllm_router.prediction.transformer_encoder import TransformerEncoder

__all__ = ["PromptEncoder", "WholeEncoder", "encode_all", "encoder_id", "load_encoder"]

WholeEncoder = TransformerEncoder | RemoteEncoder
"""A sentence transformer, here or at an endpoint, of which an artifact holds no weights."""


class PromptEncoder(Protocol):
    """Prompt text → prompt embedding."""

    @property
    def spec(self) -> EncoderSpec | TransformerSpec:
        """What the manifest says of it."""

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text."""


def load_encoder(artifact: Artifact, keep_in: Path | None = None, *, endpoint: Endpoint | None = None) -> PromptEncoder:
    """Builds the encoder an artifact holds or names.

    Args:
        artifact: Loaded weights.
        keep_in: Folder where a sentence transformer's embeddings are kept and found again; None keeps none.
        endpoint: What runs the sentence transformer; None runs it here.

    Raises:
        ArtifactError: It cannot be found, or is not the one the artifact was trained with.
    """
    spec = artifact.manifest.encoder
    if isinstance(spec, TransformerSpec) and endpoint is not None:
        return RemoteEncoder.from_artifact(artifact, endpoint, keep_in=keep_in)
    if isinstance(spec, TransformerSpec):
        return TransformerEncoder.from_spec(spec, keep_in=keep_in)
    return StaticEncoder.from_artifact(artifact)


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
