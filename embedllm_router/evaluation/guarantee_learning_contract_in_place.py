"""Gives a weights folder its contract, or renews it, without retraining: every tensor it has stays as it is.

The data are split as the artifact's training split them, and only the test part is measured: training saw the first
part, early stopping and calibration the second. It knows nothing of command lines.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from embedllm_router.artifact.weights import Artifact, load_artifact, read_card, save_artifact
from embedllm_router.evaluation.guarantee import with_contract
from embedllm_router.evaluation.guarantee_learning_contract_card import card_with_contract
from embedllm_router.evaluation.inputs import read_inputs
from embedllm_router.prediction.scorer import Scorer

__all__ = ["add_contract"]


def add_contract(
    folder: Path, data: Sequence[Path], told: Callable[[str, int, int], None] = lambda *_: None
) -> Artifact:
    """Adds a contract to an artifact in place.

    Args:
        folder: The weights folder; replaced whole.
        data: The data sets it learned from; those not named are looked for beside these, and only those named are
            measured.
        told: Hears of progress: what, steps done, steps planned.

    Returns:
        The artifact with its contract. Its id is another one, its tensors are the same bytes.

    Raises:
        ArtifactError: The folder cannot be read or written.
        ConfigError: The artifact's split cannot be rebuilt from the data.
        DataError: The data cannot be used.
    """
    artifact = load_artifact(folder)
    card = read_card(folder)
    inputs = read_inputs(artifact, data, train_x=False, told=told)
    told("measuring", 0, 1)
    manifest = with_contract(artifact.manifest, Scorer.from_artifact(artifact), inputs.test)
    told("measuring", 1, 1)
    return save_artifact(
        folder,
        manifest,
        encoder=artifact.encoder,
        decoder=artifact.decoder,
        tokenizer_json=artifact.tokenizer_json,
        model_card=card_with_contract(card, manifest.contract),
        landmarks=artifact.landmarks,
    )
