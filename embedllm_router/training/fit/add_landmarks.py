"""Gives a weights folder its landmarks and novelty, or renews them, without retraining: other tensors stay as they are.

The data are split as the artifact's training split them, and only the training part makes landmarks. It knows nothing
of command lines.
"""

from collections.abc import Sequence
from pathlib import Path

from embedllm_router.artifact.weights import Artifact, load_artifact, read_card, save_artifact
from embedllm_router.errors import DataError
from embedllm_router.evaluation.inputs import OnProgress, read_inputs
from embedllm_router.prediction.ood_score import Landmarks
from embedllm_router.training.fit.description import with_landmarks
from embedllm_router.training.fit.landmarks import find_landmarks, measure_landmarks, measure_novelty

__all__ = ["add_landmarks"]


def add_landmarks(folder: Path, data: Sequence[Path], on_progress: OnProgress = lambda *_: None) -> Artifact:
    """Adds landmarks to an artifact in place.

    Args:
        folder: The weights folder; replaced whole.
        data: The data sets it learned from; those not named are looked for beside these.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The artifact with landmarks. Its id is another one, its encoder and decoder are the same bytes.

    Raises:
        ArtifactError: The folder cannot be read or written.
        ConfigError: The artifact's split cannot be rebuilt from the data.
        DataError: No category has enough training prompts.
    """
    artifact = load_artifact(folder)
    card = read_card(folder)
    inputs = read_inputs(artifact, data, on_progress=on_progress)
    assert inputs.train is not None  # split "test" always has one
    found = find_landmarks(inputs.train.matrix, inputs.train.x, artifact.decoder)
    if not found.known:
        raise DataError("no category has enough training prompts for a landmark. Nothing was changed.")
    metrics = measure_landmarks(found, artifact.decoder, inputs.test.x, inputs.test.matrix.category_names())
    manifest = found.described_in(artifact.manifest)
    landmarks = Landmarks(found.known, found.tensors, artifact.decoder)
    novelty = measure_novelty(landmarks, inputs.train.matrix, inputs.test.x)
    manifest = manifest.model_copy(update={"metrics": {**manifest.metrics, **metrics}, "novelty": novelty})
    return save_artifact(
        folder,
        manifest,
        encoder=artifact.encoder,
        decoder=artifact.decoder,
        tokenizer_json=artifact.tokenizer_json,
        model_card=with_landmarks(card, manifest),
        landmarks=found.tensors,
    )
