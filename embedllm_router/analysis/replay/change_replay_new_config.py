"""A proxy configuration that was never served: what it would have to choose from, and by which objective.

LiteLLM's price map is not read here: what the file itself does not say of prices, windows and capabilities is taken
from the record where the same candidate was recorded, and is unknown elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.config.settings import read_proxy_config
from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.routing.deployments import Row, read_model_groups
from embedllm_router.routing.pool import Candidate
from embedllm_router.routing.tie_breaking import typical_of
from embedllm_router.serving.arms_virtual_models import VirtualModel, build_virtual_model

__all__ = ["NewConfig", "read_new_config"]


@dataclass(frozen=True, slots=True)
class NewConfig:
    """What a configuration decides by.

    Attributes:
        virtual_models: By name.
        artifact: Id of the weights that know its LLMs by name.
        unknown: Candidates that match no LLM of those weights.
        unpriced: Candidates whose prices the file does not say.
    """

    virtual_models: Mapping[str, VirtualModel]
    artifact: str
    unknown: tuple[str, ...]
    unpriced: tuple[str, ...]


def read_new_config(path: Path, artifact: Artifact | None = None) -> NewConfig:
    """Reads a proxy configuration.

    Args:
        path: The YAML file.
        artifact: The weights that shall decide; None takes those the file names, to tell its LLMs by name.

    Returns:
        What it decides by.

    Raises:
        ConfigError: The file, or what it says of weights, is not usable.
    """
    settings = read_proxy_config(path)
    weights = artifact or _load(path, settings.artifact)
    virtual = settings.virtual_models
    rows = [row for row in _model_list(path) if row.get("model_name") not in virtual]
    groups = read_model_groups(rows, {}, Catalog(weights.manifest.llms))
    typical = typical_of(weights)
    models = {name: build_virtual_model(name, one, groups, typical) for name, one in virtual.items()}
    used = {one.name: one for model in models.values() for one in model.pool.candidates}
    return NewConfig(
        virtual_models=models,
        artifact=weights.id,
        unknown=tuple(name for name, one in used.items() if one.llm is None),
        unpriced=tuple(name for name, one in used.items() if one.llm is not None and not _priced(one)),
    )


def _priced(one: Candidate) -> bool:
    return one.input_usd_per_token is not None and one.output_usd_per_token is not None


def _load(path: Path, named: Path | None) -> Artifact:
    try:
        return load_artifact(named or default_artifact_path())
    except ArtifactError as error:
        raise ConfigError(f"the configuration {path} names weights that cannot be loaded here: {error}") from error


def _model_list(path: Path) -> Sequence[Row]:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = config.get("model_list") or []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"the configuration {path}: model_list must be a list of mappings, found {rows!r:.80}.")
    return rows
