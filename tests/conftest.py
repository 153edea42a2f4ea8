"""Fixtures: a planted artifact, and the real proxy in front of simulated LLMs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import settings
from planted import planted_artifact
from proxied import planted_config

from embedllm_router import Router
from embedllm_router.demo.run import RunningProxy, running_proxy

settings.register_profile("any machine", deadline=None)  # a loaded machine is slow now and then, which is no failure
settings.load_profile("any machine")


os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before litellm is imported, which else asks a server


@pytest.fixture(scope="session", autouse=True)
def records_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps records that a test does not place elsewhere out of the user's own folder."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(tmp_path_factory.mktemp("records")))
        environment.setenv("EMBEDLLM_ROUTER_STATE__PATH", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "artifact"
    planted_artifact(folder)
    return folder


@pytest.fixture(scope="session")
def router(artifact_dir: Path) -> Router:
    return Router.load(artifact_dir)


@pytest.fixture(scope="session")
def config_file(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(planted_config(artifact_dir)))
    return file


@pytest.fixture(scope="session")
def proxy(config_file: Path) -> Iterator[RunningProxy]:
    with running_proxy(config_file) as running:
        yield running
