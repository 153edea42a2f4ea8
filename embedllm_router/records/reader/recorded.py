"""What other weights predict for a recorded request, from its recorded text or embedding.

A recorded embedding stands for the text only where the encoder is the same. What was recorded of neither is not
guessed. It knows nothing of candidates.
"""

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.prompt_encoder import encoder_id, load_encoder
from embedllm_router.prediction.scorer import Scorer, Scores
from embedllm_router.records.reader.recorded_replay_recorded import RecordedRequest

__all__ = ["Basis", "Embedder", "Rescorer"]


class Basis(StrEnum):
    """What a prompt embedding was made of."""

    TEXT = "recorded text"
    EMBEDDING = "recorded embedding"
    NO_TEXT = "prompt without text"
    NOTHING = "neither text nor an embedding by this encoder recorded"
    DAMAGED = "recorded embedding damaged"


@dataclass(frozen=True, slots=True)
class _Embedded:
    basis: Basis
    vector: NDArray[np.float32] | None = None


class Embedder:
    """Recorded requests → prompt embeddings of an artifact's encoder.

    Args:
        artifact: Loaded weights.

    Raises:
        ArtifactError: The encoder cannot be loaded.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._encoder = load_encoder(artifact)
        self._d_prompt = artifact.manifest.encoder.d_prompt
        self.encoder_id = encoder_id(artifact.manifest)

    def embed(self, request: RecordedRequest) -> tuple[Basis, NDArray[np.float32] | None]:
        """Embeds a request.

        Returns:
            What it was made of, and float32 (d_prompt,); None for a prompt without text, and where there is nothing
            to make it of.
        """
        found = self._embedded(request)
        return found.basis, found.vector

    def _embedded(self, request: RecordedRequest) -> _Embedded:
        if request.prompt_chars == 0 or (request.prompt is not None and not request.prompt.strip()):
            return _Embedded(Basis.NO_TEXT)
        if request.prompt is not None:
            return _Embedded(Basis.TEXT, self._encoder.encode(request.prompt).prompt_embedding)
        if request.embedding is None or request.encoder != self.encoder_id:
            return _Embedded(Basis.NOTHING)
        vector = _unpacked(request.embedding, self._d_prompt)
        return _Embedded(Basis.DAMAGED) if vector is None else _Embedded(Basis.EMBEDDING, vector)


class Rescorer:
    """Predictions of an artifact for recorded requests.

    Args:
        artifact: Loaded weights.

    Raises:
        ArtifactError: The encoder cannot be loaded.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.rows = {llm.id: row for row, llm in enumerate(artifact.manifest.llms)}
        self._embedder = Embedder(artifact)
        self._scorer = Scorer.from_artifact(artifact)

    def score(self, request: RecordedRequest) -> tuple[Basis, Scores | None]:
        """Scores a request for every LLM.

        Returns:
            What the prediction is made of, and the prediction; None where there is nothing to make it of.
        """
        basis, vector = self._embedder.embed(request)
        if basis in {Basis.NOTHING, Basis.DAMAGED}:
            return basis, None
        return basis, self._scorer.score(vector)


def _unpacked(text: str, d_prompt: int) -> NDArray[np.float32] | None:
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(packed) != 2 * d_prompt:
        return None
    vector = np.frombuffer(packed, dtype="<f2").astype(np.float32)
    return vector if bool(np.isfinite(vector).all()) else None
