"""One made-up day of records, in files and in PostgreSQL, written by the real store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Watched, chromium, watched
from day import Day, stored
from pages import application, served
from playwright.sync_api import Browser
from postgres_server import PostgresServer, postgres_server, why_absent
from traffic import make_day, now

from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.records.reader.source import Limits, RecordSource, open_source


@pytest.fixture(scope="session")
def day() -> Day:
    end = now()
    return Day(end, *make_day(1_200, end))


@pytest.fixture(scope="session")
def day_folder(day: Day, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("day") / "records"
    stored(folder, day)
    return folder


@pytest.fixture(scope="session")
def day_database(day: Day) -> Iterator[str]:
    if why := why_absent():
        pytest.skip(why)
    with postgres_server() as server:
        stored(_address(server), day)
        yield _address(server)


def _address(server: PostgresServer) -> str:
    return server.url()


@pytest.fixture(scope="session", params=["files", "postgres"])
def source(request: pytest.FixtureRequest) -> Iterator[RecordSource]:
    where = request.getfixturevalue("day_folder" if request.param == "files" else "day_database")
    opened = open_source(where, limits=Limits(threads=1))
    yield opened
    opened.close()


@pytest.fixture
def nothing(tmp_path: Path) -> Iterator[RecordSource]:
    """A folder without records."""
    opened = open_source(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def artifact(artifact_dir: Path) -> Artifact:
    return load_artifact(artifact_dir)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def shipped() -> Artifact:
    return load_artifact(default_artifact_path())


@pytest.fixture(scope="module")
def address(day_folder: Path, shipped: Artifact) -> Iterator[str]:
    with served(application(day_folder, shipped)) as running:
        yield running


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Watched]:
    with watched(browser, address) as page:
        yield page
