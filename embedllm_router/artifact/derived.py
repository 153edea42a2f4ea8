"""Weights made of other weights, without training: their folder stands beside the parent's and names it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from embedllm_router.artifact.weights import Artifact, Tensors, save_artifact
from embedllm_router.errors import ConfigError

__all__ = ["check_beside", "write_derived"]


def check_beside(parent: Path, out: Path) -> None:
    """Makes sure that the parent stays what it is.

    Raises:
        ConfigError: Both are the same folder.
    """
    if parent.resolve() == out.resolve():
        raise ConfigError(f"--out {out} is the artifact itself: name another folder, so that one can go back.")


def write_derived(  # noqa: PLR0913 - what is the parent's, and what is not
    parent: Artifact,
    out: Path,
    *,
    decoder: Tensors,
    training: Mapping[str, str | int | float | bool | None],
    changes: Mapping[str, object],
    card: str,
) -> Artifact:
    """Writes weights that differ from their parent's in the decoder.

    Args:
        parent: The weights they were made of.
        out: Where the folder shall be; an older artifact there is replaced.
        decoder: Their decoder.
        training: What its manifest says of how they were made, beside the parent's.
        changes: Other fields of its manifest that are not the parent's. Its contract is not handed down: what was
            measured of the parent's promises is no promise of these.
        card: Their model card.

    Returns:
        The artifact as loaded from disk.

    Raises:
        ArtifactError: `out` holds something else.
    """
    manifest = parent.manifest.model_copy(
        update={
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "training": {**parent.manifest.training, "parent_artifact": parent.id, **training},
            "contract": (),
            **changes,
        }
    )
    return save_artifact(
        out,
        manifest,
        encoder=parent.encoder,
        decoder=decoder,
        tokenizer_json=parent.tokenizer_json,
        model_card=card,
        landmarks=parent.landmarks or None,
    )
