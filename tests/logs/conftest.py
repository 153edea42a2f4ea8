"""The same records in files and in PostgreSQL, written by the real store."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from postgres_server import PostgresServer, postgres_server, why_absent
from reading import Record, Sources, new_database, write

from embedllm_router.logs.source import RecordSource, open_source


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
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
            where = new_database(request.getfixturevalue("server"))
        write(where, records)
        opened.append(open_source(where, must_exist=False))
        return opened[-1]

    yield store_and_open
    for source in opened:
        source.close()
