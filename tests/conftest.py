"""Fixtures: a planted artifact, the real proxy in front of simulated LLMs, records in files and in PostgreSQL."""

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from forked import forked_starts
from hypothesis import settings
from otlp import Receiver, receiver
from planted import planted_artifact
from postgres_server import PostgresServer, postgres_server, why_absent
from proxied import planted_config
from reading import Record, Sources, new_database, write
from shelf import Shelf
from suite_hooks import pytest_collection_modifyitems, pytest_sessionfinish, pytest_xdist_make_scheduler
from typer.testing import CliRunner

from embedllm_router import Router
from embedllm_router.cli.demo import RunningProxy, running_proxy
from embedllm_router.cli.main import app
from embedllm_router.records.reader.source import RecordSource, open_source

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_sessionfinish",
    "pytest_xdist_make_scheduler",
]  # found here by pytest

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


@pytest.fixture(scope="session", autouse=True)
def quick_starts() -> Iterator[None]:
    """Forks the proxies that tests start from a process that has imported LiteLLM."""
    with forked_starts():
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
def spans() -> Iterator[Receiver]:
    """Where the shared proxy's spans go."""
    with receiver() as running:
        yield running


@pytest.fixture(scope="session")
def proxy_server() -> ModuleType:
    """LiteLLM's proxy in this process; the deprecations it warns of on import are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("litellm.proxy.proxy_server")


@pytest.fixture(scope="session")
def proxy(artifact_dir: Path, spans: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """One proxy, measured and traced, for all tests that leave it as it is: LiteLLM takes long to start."""
    config: dict[str, Any] = planted_config(artifact_dir)
    config["litellm_settings"] = {"callbacks": ["prometheus", "embedllm_router.proxy_handler", "otel"]}
    config["router_settings"]["model_group_alias"]["auto-watched"] = "sprinter"
    virtual_models = config["callback_settings"]["embedllm_router"]["virtual_models"]
    virtual_models["auto-watched"] = {"default": "sprinter", "cost_weight": 1}
    file = tmp_path_factory.mktemp("proxy") / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = {
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_EXPORTER_OTLP_ENDPOINT": spans.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with running_proxy(file, environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if why := why_absent():
        pytest.skip(why)
    with postgres_server() as running:
        yield running


@pytest.fixture(params=["files", "postgres"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sources]:
    """Stores records in one of the two ways and opens them."""
    opened: list[RecordSource] = []
    numbers = count()

    def store_and_open(records: list[Record]) -> RecordSource:
        where: Path | str = tmp_path / f"records{next(numbers)}"
        if request.param == "postgres":
            where = new_database(request.getfixturevalue("postgres"))
        write(where, records)
        opened.append(open_source(where, must_exist=False))
        return opened[-1]

    yield store_and_open
    for source in opened:
        source.close()


@pytest.fixture
def run_command() -> Callable[..., str]:
    """Runs a command in this process; what it wrote to stdout, or to stderr where it shall fail."""

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.stderr if code else result.stdout

    return run


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """A web server on loopback that hands out files."""
    with Shelf() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
