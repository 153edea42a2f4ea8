"""A PostgreSQL server for the tests of this folder."""

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, postgres_server, why_absent


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if reason := why_absent():
        pytest.skip(reason)
    with postgres_server() as server:
        yield server
