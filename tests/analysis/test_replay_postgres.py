"""The same log in PostgreSQL: stored by the command and the store, read and decided again alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_files import write_log
from postgres_server import PostgresServer, postgres_server, why_absent
from pydantic import SecretStr
from recorded import make_feedback, make_records
from typer.testing import CliRunner

from embedllm_router.analysis.replay.change import Change, NewAim
from embedllm_router.analysis.replay.run import replay
from embedllm_router.cli.feedback import app
from embedllm_router.config.process import StoreSettings
from embedllm_router.records.reader.recorded import Recorded, Wanted, read_recorded
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.records.schema import RequestRecord
from embedllm_router.records.writer.store import open_store
from embedllm_router.routing.policy import Objective

CHANGE = Change(NewAim(Objective(cost_weight=100.0)))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    if reason := why_absent():
        pytest.skip(reason)
    with postgres_server() as running:
        yield running


def stored(url: str, records: list[RequestRecord]) -> None:
    store = open_store(StoreSettings(url=SecretStr(url), flush_s=0.05), close_s=30)
    for record in records:
        store.put(record)
    store.close()
    assert store.health().dropped == 0


def read(where: str | Path, **how: object) -> Recorded:
    source = open_source(where)
    try:
        return read_recorded(source, Wanted(with_text=True, **how))  # type: ignore[arg-type]  # as given by the test
    finally:
        source.close()


def test_files_and_postgres_are_read_and_decided_alike(postgres: PostgresServer, tmp_path: Path) -> None:
    records = make_records(200)
    feedback = make_feedback(records, share=0.5)
    stored(postgres.url(), records)
    verdicts = tmp_path / "verdicts.csv"
    lines = [f"{one.request_id},{one.score},{one.at.isoformat()}" for one in feedback]
    verdicts.write_text("\n".join(["request_id,score,at", *lines]))
    done = CliRunner().invoke(app, ["feedback", "import", str(verdicts), "--into", postgres.url(), "--source", "user"])
    assert done.exit_code == 0, done.output
    files = write_log(tmp_path / "log", records, feedback)
    for how in (
        {},
        {"filters": Filters(virtual_model="auto", excluded="llm_unknown")},
        {"sources": ["nobody"]},
        {"only_judged": True},
    ):
        one, other = read(files, **how), read(postgres.url(), **how)
        assert one.requests == other.requests
        assert one.n_meant == other.n_meant
        first, second = replay(one, CHANGE, ["λ"]), replay(other, CHANGE, ["λ"])
        assert first.observed == second.observed
        assert first.mix == second.mix
        assert first.flips == second.flips
