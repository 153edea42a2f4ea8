"""Records in a real PostgreSQL: all of them, each once, through restarts, and no secret in a message."""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_server import PASSWORD, PostgresServer
from psycopg.rows import dict_row
from pydantic import SecretStr
from recorded import make_feedback, make_record, make_records
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from stored import ids, plain, wait_until

from embedllm_router.config.process import StoreSettings
from embedllm_router.errors import ConfigError
from embedllm_router.records.schema import bounded_id
from embedllm_router.records.writer.postgres import METADATA, VERSION_TABLE, PostgresSink, database_url, upgrade
from embedllm_router.records.writer.queue import to_line
from embedllm_router.records.writer.store import RecordStore, open_store


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database of this test's own."""
    with psycopg.connect(postgres.url(), autocommit=True) as sql:
        sql.execute("CREATE DATABASE records")
    yield postgres.url("records")
    with psycopg.connect(postgres.url(), autocommit=True) as sql:
        sql.execute("DROP DATABASE records WITH (FORCE)")


def quick(url: str, **changes: Any) -> RecordStore:
    return open_store(StoreSettings(url=SecretStr(url), flush_s=0.05, **changes))


def rows(url: str, table: str = "requests") -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as sql:
        return sql.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - names of our own


def test_what_is_put_is_what_is_in_the_database(url: str) -> None:
    records = make_records(300)
    records[7] = replace(records[7], needs=("supports_vision", "tools"), prompt="a 'quoted' \\ prompt\n")
    feedback = make_feedback(records)
    store = quick(url, prompt=True)
    for record in records:
        store.put(record)
    for given in feedback:
        store.put(given)
    wait_until(lambda: not store.health().queued)
    store.close()
    assert rows(url) == plain(records)
    assert rows(url, "feedback") == plain(feedback)
    assert store.health().kind == "postgres"
    assert (store.health().written, store.health().dropped) == (300 + len(feedback), 0)


def test_a_server_that_dies_and_comes_back_gets_every_record_once(postgres: PostgresServer, url: str) -> None:
    records = make_records(900)
    store = quick(url)
    for record in records[:300]:
        store.put(record)
    wait_until(lambda: store.health().written)
    postgres.stop("immediate")
    try:
        for record in records[300:600]:
            store.put(record)
        wait_until(lambda: store.health().failed >= 2)
        assert "connection" in str(store.health().last_error)
        assert PASSWORD not in str(store.health())
        assert store.health().queued >= 300
    finally:
        postgres.start()
    for record in records[600:]:
        store.put(record)
    wait_until(lambda: store.health().written == 900)
    assert store.health().last_error is None
    store.close()
    assert ids(rows(url)) == sorted(record.request_id for record in records)


def test_a_retry_after_a_commit_that_seemed_to_fail_writes_nothing_twice(url: str) -> None:
    records = make_records(20)
    for _ in range(2):
        store = quick(url)
        for record in records:
            store.put(record)
        store.close()
        assert store.health().written == 20
    assert ids(rows(url)) == sorted(record.request_id for record in records)


def test_many_proxies_that_start_at_once_make_the_tables_once(url: str) -> None:
    stores = [quick(url) for _ in range(6)]
    for number, store in enumerate(stores):
        store.put(make_record(number))
    for store in stores:
        wait_until(lambda store=store: store.health().written == 1)  # type: ignore[misc]
        assert store.health().failed == 0
        store.close()
    assert len(rows(url)) == 6
    assert rows(url, "embedllm_router_version") == [{"version_num": "0006"}]


def keep_one(url: str, number: int = 0) -> None:
    store = quick(url)
    store.put(make_record(number))
    store.close()
    assert (store.health().written, store.health().failed) == (1, 0)


def test_the_migrations_lead_to_the_tables_of_the_records(url: str) -> None:
    """A field that is added to a record needs a migration, and this says so."""
    engine = create_engine(database_url(url))
    with engine.begin() as connection:
        upgrade(connection)
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        differences = compare_metadata(context, METADATA)
    engine.dispose()
    assert differences == []


def test_tables_of_a_later_version_are_written_to_as_they_are(url: str) -> None:
    keep_one(url, 0)
    with psycopg.connect(url) as sql:
        sql.execute("UPDATE embedllm_router_version SET version_num = '9999'")
        sql.execute("ALTER TABLE requests ADD COLUMN of_tomorrow TEXT")
    keep_one(url, 1)
    assert len(rows(url)) == 2
    assert rows(url, "embedllm_router_version") == [{"version_num": "9999"}]


def test_a_record_that_the_database_does_not_take_is_dropped_alone(url: str) -> None:
    records = make_records(50)
    bad = {3: replace(records[3], route_ms="slow"), 30: replace(records[30], input_tokens=2**64 - 1)}  # type: ignore[arg-type]
    store = quick(url)
    for number, record in enumerate(records):
        store.put(bad.get(number, record))
    store.close()
    assert (store.health().written, store.health().dropped) == (48, 2)
    assert ids(rows(url)) == sorted(r.request_id for n, r in enumerate(records) if n not in bad)


def test_no_id_a_client_makes_up_holds_up_other_records(url: str) -> None:
    """An index of PostgreSQL takes texts of some 2,700 bytes; a header may have twenty times as many."""
    ids = [secrets.token_hex(4_000), chr(0x1F600) + secrets.token_hex(4_000), "ok", "résumé"]
    with closing(quick(url)) as store:
        for number, one in enumerate(ids):
            store.put(make_record(number, request_id=one, response_id=one))
            store.put(replace(make_feedback(make_records(20), share=1)[0], request_id=one))
        wait_until(lambda: store.health().written == 2 * len(ids))
    kept = [row["request_id"] for row in rows(url)]
    assert sorted(kept) == sorted(map(bounded_id, ids))
    assert {row["request_id"] for row in rows(url, "feedback")} == set(kept), "feedback still finds its request"


def test_what_is_beyond_a_limit_of_the_database_is_dropped_alone(url: str) -> None:
    sink = PostgresSink(StoreSettings(url=SecretStr(url)))
    lines = [to_line(make_record(number), StoreSettings()) for number in range(9)]
    lines[4] = lines[4].replace(b'"request_id":"', b'"request_id":"' + secrets.token_hex(4_000).encode())
    assert sink.write("requests", lines) == 8
    sink.close()


def test_retention_deletes_old_records_in_portions(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedllm_router.records.writer.postgres._DELETED_AT_ONCE", 7)
    monkeypatch.setattr("embedllm_router.records.writer.postgres._DELETIONS", 3)
    monkeypatch.setattr("embedllm_router.records.writer.postgres._BETWEEN_PORTIONS_S", 0.01)
    now = datetime.now(UTC)
    store = quick(url)
    for number in range(100):
        store.put(make_record(number, at=now - timedelta(days=8 if number < 60 else 1, seconds=number)))
    store.put(make_feedback(make_records(20), share=1)[0])
    store.close()
    store = quick(url, retention_days=7)
    store.put(make_record(100, at=now))
    wait_until(lambda: len(rows(url)) == 41)
    wait_until(lambda: rows(url, "feedback") == [])
    store.close()
    assert ids(rows(url)) == sorted(f"request-{number}" for number in range(60, 101))


def test_a_query_by_time_uses_the_index(url: str) -> None:
    keep_one(url)
    with psycopg.connect(url) as sql:
        sql.execute("SET enable_seqscan = off")
        plan = str(sql.execute("""EXPLAIN SELECT count(*) FROM requests WHERE "at" > '2026-01-01'""").fetchall())
    assert "requests_at" in plan


def test_closing_while_the_database_is_dead_takes_bounded_time(postgres: PostgresServer) -> None:
    store = quick(postgres.url("records").replace(str(postgres.port), "9"))
    store.put(make_record())
    wait_until(lambda: store.health().failed)
    store.close()
    assert (store.health().dropped, store.health().queued) == (1, 0)


def test_a_wrong_password_is_told_and_the_right_one_is_not(postgres: PostgresServer) -> None:
    wrong = postgres.url().replace("p%40ss", "s3cret%40")
    store = quick(wrong)
    store.put(make_record())
    wait_until(lambda: store.health().last_error)
    said = str(store.health())
    store.close()
    assert "password authentication failed" in said
    assert "s3cret" not in said
    assert "s3cret" not in repr(StoreSettings(url=SecretStr(wrong)))


def test_a_password_in_a_message_of_the_driver_is_struck_out() -> None:
    for url in ("postgresql://user:s3cret%40@host/db", "postgresql://user@host/db?password=s3cret%40"):
        sink = PostgresSink(StoreSettings(url=SecretStr(url)))
        said = str(sink._failure(OperationalError("SELECT 1", None, OSError("no host s3cret@ at s3cret@"))))
        assert said == "postgresql://host/db: no host *** at ***"


def test_a_statement_that_fails_does_not_put_the_prompt_into_a_message(url: str) -> None:
    keep_one(url)
    with psycopg.connect(url) as sql:
        sql.execute("ALTER TABLE requests RENAME TO hidden")
    store = quick(url, prompt=True)
    store.put(make_record(1, prompt="a secret plan"))
    wait_until(lambda: store.health().failed)
    assert 'relation "requests" does not exist' in str(store.health().last_error)
    assert "secret" not in str(store.health())
    with psycopg.connect(url) as sql:
        sql.execute("ALTER TABLE hidden RENAME TO requests")
    wait_until(lambda: store.health().written)
    store.close()
    assert len(rows(url)) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user:s3cret@host/db", "must start with postgresql://, found mysql://"),
        ("postgresql+asyncpg://user:s3cret@host/db", r"found postgresql\+asyncpg://"),
        ("s3cret", "is no URL"),
        ("postgresql://user:s3cret@host:port/db", "is no URL"),
    ],
)
def test_a_wrong_url_is_refused_and_not_repeated(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        open_store(StoreSettings(url=SecretStr(url)))
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_scheme_is_read(scheme: str) -> None:
    store = open_store(StoreSettings(url=SecretStr(f"{scheme}://user:s3cret@db.example:5433/records?sslmode=require")))
    assert store.health().location == "postgresql://db.example:5433/records"


def test_without_the_extra_the_message_says_what_to_install() -> None:
    code = """
import sys; sys.modules["psycopg"] = None
from embedllm_router.config.process import StoreSettings
from embedllm_router.records.writer.store import open_store
from embedllm_router.errors import ConfigError
try: open_store(StoreSettings(url="postgresql://host/db"))
except ConfigError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'embedllm-router[postgres]'" in done.stdout
    assert "psycopg" in done.stdout


def test_tables_are_made_by_a_command_and_filled_by_a_user_who_may_make_none(
    postgres: PostgresServer, url: str, run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a migration job does before proxies start, whose user need not have its rights."""
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__URL", url)
    made = json.loads(run_command("logs", "migrate", "--json"))
    assert made == {
        "location": f"postgresql://127.0.0.1:{postgres.port}/records",
        "before": None,
        "after": made["after"],
    }
    assert run_command("logs", "migrate", "--from", url).endswith(f"are of version {made['after']}, as before\n")
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute("CREATE ROLE writer LOGIN PASSWORD 'its own'")
        sql.execute("GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO writer")
        assert sql.execute("SELECT has_schema_privilege('writer', 'public', 'CREATE')").fetchone() == (False,)
    try:
        store = quick(f"postgresql://writer:its%20own@127.0.0.1:{postgres.port}/records")
        store.put(make_record())
        store.close()
        assert ids(rows(url)) == ["request-0"]
    finally:
        with psycopg.connect(url, autocommit=True) as sql:
            sql.execute("DROP OWNED BY writer")
            sql.execute("DROP ROLE writer")


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ("records", 2, "expected one postgresql:// URL"),
        (
            "postgresql://u:secret@127.0.0.1:1/records",
            1,
            "the tables in postgresql://127.0.0.1:1/records were not changed",
        ),
    ],
)
def test_what_cannot_be_migrated_is_one_sentence(
    run_command: Callable[..., str], where: str, code: int, said: str
) -> None:
    told = run_command("logs", "migrate", "--from", where, code=code)
    assert said in " ".join(told.split())
    assert "secret" not in told
