"""Erasing one person's records: theirs are gone, all others are there once, whoever writes, reads or dies meanwhile."""

import hashlib
import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import psycopg
import pytest
from postgres_server import PostgresServer
from pydantic import SecretStr
from recorded import make_feedback, make_record, make_records
from stored import ids, keep, kept_requests, killed_at_work, quick_store, readable, wait_until
from typer.testing import CliRunner

from embedllm_router.cli.logs import app
from embedllm_router.config.process import StoreSettings
from embedllm_router.errors import ConfigError, EmbedLLMRouterError
from embedllm_router.records.owners import key_hash_of, user_hash_of
from embedllm_router.records.reader.file_source import FileSource
from embedllm_router.records.reader.source import Limits
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer import erase
from embedllm_router.records.writer.erase import Erased, by_key, by_prompt, by_user, erase_files, hasher_of
from embedllm_router.records.writer.postgres import erase_rows
from embedllm_router.records.writer.seal import merging_in, seal_orphans
from embedllm_router.records.writer.segments import SegmentFile
from embedllm_router.records.writer.store import open_store

RECORDS = make_records(300, seed=3)
FEEDBACK = make_feedback(RECORDS, share=0.5)
BY_RESPONSE = [replace(one, request_id=f"chatcmpl-{one.request_id.split('-')[1]}", source="judge") for one in FEEDBACK]
GIVEN_BY_A = [FeedbackRecord(at=FEEDBACK[0].at, request_id="elsewhere", score=1.0, source="user", key_alias="team-a")]
EVERYTHING: list[RequestRecord | FeedbackRecord] = [*RECORDS, *FEEDBACK, *BY_RESPONSE, *GIVEN_BY_A]
OF_A = {one.request_id for one in RECORDS if one.key_alias == "team-a"}
OTHERS = sorted(one.request_id for one in RECORDS if one.key_alias != "team-a")


def in_pieces(folder: Path) -> None:
    """The records, half of them sealed, and the others in lines."""
    everything = random.Random(0).sample(EVERYTHING, len(EVERYTHING))
    keep(folder, everything[: len(everything) // 2])
    seal_orphans(folder)
    keep(folder, everything[len(everything) // 2 :])


def feedback_left(folder: Path) -> list[str]:
    source = FileSource([str(folder)], Limits())
    try:
        return [row["request_id"] for row in source.rows("SELECT request_id FROM feedback")]
    finally:
        source.close()


def is_of_a(request_id: str) -> bool:
    return request_id.replace("chatcmpl", "request") in OF_A or request_id == "elsewhere"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_keys_records_go_with_the_feedback_on_them_and_by_it(tmp_path: Path) -> None:
    in_pieces(tmp_path)
    before = contents(tmp_path)
    n_feedback = sum(is_of_a(one.request_id) for one in EVERYTHING if isinstance(one, FeedbackRecord))
    expected = Erased(len(OF_A), n_feedback)
    assert erase_files(tmp_path, by_key("team-a"), dry_run=True) == expected
    assert contents(tmp_path) == before, "a dry run changes nothing"
    assert erase_files(tmp_path, by_key("team-a")) == expected
    assert ids(kept_requests(tmp_path)) == OTHERS
    left = feedback_left(tmp_path)
    assert len(left) == 2 * len(FEEDBACK) + 1 - n_feedback
    assert not any(map(is_of_a, left))
    assert not any(b"team-a" in content for content in contents(tmp_path).values())
    assert erase_files(tmp_path, by_key("team-a")) == Erased()


def test_a_key_is_known_by_its_alias_its_id_itself_and_its_hash(tmp_path: Path) -> None:
    key_id = hashlib.sha256(b"sk-1234").hexdigest()
    key_hash = key_hash_of(key_id)
    assert key_hash is not None
    keep(tmp_path, [make_record(1, key_hash=key_hash, key_alias=None), make_record(2, key_hash="other")])
    for name in ("sk-1234", key_id, key_hash):
        assert erase_files(tmp_path, by_key(name), dry_run=True).requests == 1


def test_a_user_is_known_by_a_hash_that_nobody_without_the_key_can_make(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no hash\.key"):
        hasher_of(None, tmp_path)
    with pytest.raises(ConfigError, match=r"store\.hash_key, which is not set"):
        hasher_of(None, None)
    hash_of = quick_store(tmp_path).prompt_hash
    theirs = user_hash_of("ada@example.com", hash_of)
    keep(tmp_path, [make_record(1, user_hash=theirs), make_record(2, user_hash=hash_of("else")), make_record(3)])
    assert erase_files(tmp_path, by_user("ada@example.com", hasher_of(None, tmp_path))).requests == 1
    assert ids(kept_requests(tmp_path)) == ["request-2", "request-3"]
    elsewhere = hasher_of("secret", tmp_path)
    assert user_hash_of("ada@example.com", elsewhere) != theirs


def test_a_prompt_is_erased_by_its_hash_and_a_hash_that_nobody_has_erases_nothing(tmp_path: Path) -> None:
    in_pieces(tmp_path)
    wanted = RECORDS[0].prompt_hash
    assert wanted is not None
    n = sum(one.prompt_hash == wanted for one in RECORDS)
    assert erase_files(tmp_path, by_prompt("'; DROP TABLE requests --")) == Erased()
    assert erase_files(tmp_path, by_prompt(wanted)).requests == n
    assert len(kept_requests(tmp_path)) == len(RECORDS) - n


def test_while_a_process_writes_and_another_reads_nothing_else_is_lost_or_doubled(tmp_path: Path) -> None:
    in_pieces(tmp_path)
    store, source, done = quick_store(tmp_path), FileSource([str(tmp_path)], Limits()), threading.Event()
    seen: list[int] = []
    written: list[str] = []

    def write() -> None:
        for number in range(1_000, 60_000):
            if done.is_set():
                return
            store.put(make_record(number, key_alias="team-b"))
            written.append(f"request-{number}")
            done.wait(0.005)

    def read() -> None:
        others = "SELECT count(*) AS n FROM requests WHERE key_alias IS DISTINCT FROM 'team-a' AND response_id IS NULL"
        while not done.is_set():
            seen.append(source.rows(others)[0]["n"])

    threads = [threading.Thread(target=one) for one in (write, read)]
    n_without_response = sum(one.response_id is None and one.key_alias != "team-a" for one in RECORDS)
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(written) > 20 and seen)
        assert erase_files(tmp_path, by_key("team-a")).in_use == ()
    finally:
        done.set()
        for thread in threads:
            thread.join(20)
        store.close()
        source.close()
    assert ids(kept_requests(tmp_path)) == sorted([*OTHERS, *written])
    assert set(seen) == {n_without_response}, "a reader saw each of the others once, all the time"


def test_a_file_that_its_writer_keeps_is_named_and_left(tmp_path: Path) -> None:
    """As a process of an earlier version does, which does not hear that somebody waits."""
    file = SegmentFile(tmp_path, "requests")
    file.append(orjson.dumps(make_record(1)) + b"\n")
    found = erase_files(tmp_path, by_key("team-a"), wait_s=0.3)
    assert found == Erased(in_use=(file.path.name,))
    assert len(kept_requests(tmp_path)) == 1
    file.close()
    assert erase_files(tmp_path, by_key("team-a")) == Erased(1)


def test_who_merges_meanwhile_is_waited_for(tmp_path: Path) -> None:
    keep(tmp_path, [make_record(1)])
    with merging_in(tmp_path), pytest.raises(EmbedLLMRouterError, match="another process"):
        erase_files(tmp_path, by_key("team-a"), wait_s=0.3)
    assert erase_files(tmp_path, by_key("team-a")).requests == 1


def test_killed_at_any_moment_the_others_are_there_once_and_a_second_run_finishes(tmp_path: Path) -> None:
    in_pieces(tmp_path / "made")
    seal_orphans(tmp_path / "made")
    rng, killed = random.Random(1), 0
    for number in range(2):
        folder = shutil.copytree(tmp_path / "made", tmp_path / str(number))
        code = (
            "from embedllm_router.records.writer.erase import by_key, erase_files; from pathlib import Path; "
            f"erase_files(Path({str(folder)!r}), by_key('team-a'))"
        )
        killed += killed_at_work(code, folder, rng)
        left = ids(kept_requests(folder))
        assert [one for one in left if one not in OF_A] == OTHERS
        assert len(left) == len(set(left))
        erase_files(folder, by_key("team-a"))
        assert ids(kept_requests(folder)) == OTHERS
    assert killed, "none was interrupted: the test has tested nothing"


def test_damaged_lines_and_leftovers_of_the_dead_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aside = tmp_path / "requests-1.rejected"
    aside.write_bytes(b'{"key_alias":"team-a",,}\n{"key_alias":"team-ab",,}\n')
    keep(tmp_path, [make_record(1, key_alias=None)])
    left_behind = tmp_path / ".seal-requests-0"
    left_behind.mkdir()
    monkeypatch.setattr(erase, "_LEFT_BEHIND_S", -1.0)
    assert erase_files(tmp_path, by_key("team-a"), dry_run=True).damaged == 1
    assert erase_files(tmp_path, by_key("team-a")).damaged == 1
    assert aside.read_bytes() == b'{"key_alias":"team-ab",,}\n'
    assert not left_behind.exists()


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database of this test's own."""
    with psycopg.connect(postgres.url(), autocommit=True) as sql:
        sql.execute("CREATE DATABASE erasing")
    yield postgres.url("erasing")
    with psycopg.connect(postgres.url(), autocommit=True) as sql:
        sql.execute("DROP DATABASE erasing WITH (FORCE)")


def test_a_database_erases_the_same(url: str, tmp_path: Path) -> None:
    keep(tmp_path, EVERYTHING)
    store = open_store(StoreSettings(url=SecretStr(url), flush_s=0.05))
    for record in EVERYTHING:
        store.put(record)
    wait_until(lambda: not store.health().queued)
    store.close()
    expected = erase_files(tmp_path, by_key("team-a"))
    assert erase_rows(url, by_key("team-a"), dry_run=True) == expected
    assert erase_rows(url, by_key("team-a")) == expected
    with psycopg.connect(url) as sql:
        assert sorted(one for (one,) in sql.execute("SELECT request_id FROM requests")) == OTHERS
        assert sorted(one for (one,) in sql.execute("SELECT request_id FROM feedback")) == sorted(
            feedback_left(tmp_path)
        )


def test_a_database_that_does_not_answer_is_one_sentence_without_its_password() -> None:
    with pytest.raises(EmbedLLMRouterError, match="nothing was erased") as caught:
        erase_rows("postgresql://me:s3cret@127.0.0.1:1/none", by_key("a"))
    assert "s3cret" not in str(caught.value)


def test_the_command_says_what_it_erased(tmp_path: Path) -> None:
    keep(tmp_path, [make_record(1), make_record(2, key_alias="team-b")])

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["logs", "erase", "--from", str(tmp_path), *arguments])
        return result.exit_code, result.output

    assert run() == (2, "error: expected one of --key, --user and --prompt-hash.\n")
    assert run("--key", "a", "--prompt-hash", "b")[0] == 2
    assert run("--key", "team-a", "--dry-run")[1].startswith("would erase 1 requests, 0 pieces of feedback")
    code, out = run("--key", "team-a", "--json")
    assert (code, orjson.loads(out)) == (
        0,
        {"requests": 1, "feedback": 0, "damaged": 0, "dry_run": False, "in_use": []},
    )
    assert ids(kept_requests(tmp_path)) == ["request-2"]
    assert readable(tmp_path).requests_parquet
    assert CliRunner().invoke(app, ["logs", "erase", "--from", str(tmp_path / "no"), "--key", "a"]).exit_code == 2
