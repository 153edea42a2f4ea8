"""Stores records with the real store, in a folder or a database of this test's own."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy
from postgres_server import PostgresServer
from pydantic import SecretStr

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.store import open_store

Record = RequestRecord | FeedbackRecord
Sources = Callable[[list[Record]], RecordSource]
_DATABASES = count()


def write(where: Path | str, records: Sequence[Record]) -> None:
    settings = StoreSettings(path=where) if isinstance(where, Path) else StoreSettings(url=SecretStr(where))
    store = open_store(settings)
    for record in records:
        store.put(record)
    store.close()
    assert (store.health().written, store.health().last_error) == (len(records), None)


def new_database(server: PostgresServer) -> str:
    name = f"logs{next(_DATABASES)}"
    engine = sqlalchemy.create_engine(server.url().replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return server.url(name)


def flat(value: object) -> dict[str, Any]:
    """Path → number, so that numbers can be compared approximately."""
    found: dict[str, Any] = {}

    def walk(path: str, part: Any) -> None:
        if isinstance(part, dict):
            for name, inner in part.items():
                walk(f"{path}.{name}", inner)
        elif isinstance(part, list):
            for number, inner in enumerate(part):
                walk(f"{path}.{number}", inner)
        else:
            found[f"{path} {'' if isinstance(part, float | int) else part}"] = (
                part if isinstance(part, float | int) else 0
            )

    walk("", orjson.loads(orjson.dumps(value)))
    return found
