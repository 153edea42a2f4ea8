"""Records in files: what is written is what was put, it rotates, and a request never notices."""

import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest
from recorded import make_feedback, make_record, make_records
from stored import FLUSH_S, from_lines, from_parquet, ids, keep, kept_requests, plain, quick_store, readable, wait_until

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.files import FileSink
from embedllm_router.records.writer.queue import LONGEST_LINE
from embedllm_router.records.writer.store import open_store


def test_what_is_put_is_what_is_in_the_files(tmp_path: Path) -> None:
    records = make_records(300)
    feedback = make_feedback(records)
    keep(tmp_path, [*records, *feedback])
    segments = readable(tmp_path)
    assert from_lines(segments.requests_jsonl) == plain(records)
    assert from_lines(segments.feedback_jsonl) == plain(feedback)


def test_nothing_is_made_before_the_first_record(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "records"
    store = quick_store(folder)
    assert store.health().location == str(folder)
    store.close()
    assert not folder.parent.exists()


def test_a_store_that_is_off_keeps_nothing(tmp_path: Path) -> None:
    store = open_store(StoreSettings(enabled=False, path=tmp_path / "records"))
    store.put(make_record())
    store.close()
    assert store.health().kind == "off"
    assert len(store.prompt_hash("hello")) == 24
    assert not (tmp_path / "records").exists()


def test_a_record_is_on_disk_within_the_flush_time(tmp_path: Path) -> None:
    store = quick_store(tmp_path, flush_s=1.0)
    for number in range(3):
        store.put(make_record(number))
        started = time.monotonic()
        wait_until(lambda wanted=number + 1: len(kept_requests(tmp_path)) == wanted)  # type: ignore[misc]
        assert time.monotonic() - started < 1.0
    store.close()


def test_only_their_user_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    store = quick_store(folder)
    store.prompt_hash("hello")
    store.put(make_record())
    store.close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(modes) == 2
    assert set(modes.values()) == {0o600}


def test_full_and_old_files_are_closed_and_sealed_by_another_process(tmp_path: Path) -> None:
    store = quick_store(tmp_path, rotate_mb=0.001)
    for number in range(3):
        store.put(make_record(number))
        wait_until(lambda wanted=number + 1: store.health().written == wanted)  # type: ignore[misc]
    wait_until(lambda: len(readable(tmp_path).requests_parquet) == 3)
    wait_until(lambda: not readable(tmp_path).requests_jsonl)
    store.close()
    assert sorted(from_parquet(readable(tmp_path).requests_parquet), key=lambda row: row["at"]) == plain(
        make_record(number) for number in range(3)
    )


def test_an_old_file_is_sealed_without_another_record(tmp_path: Path) -> None:
    store = quick_store(tmp_path, rotate_s=0.3)
    store.put(make_record())
    wait_until(lambda: len(readable(tmp_path).requests_parquet) == 1)
    store.close()
    assert ids(kept_requests(tmp_path)) == ["request-0"]


def test_there_is_one_open_file_of_each_kind(tmp_path: Path) -> None:
    records = make_records(50)
    store = quick_store(tmp_path)
    both: list[RequestRecord | FeedbackRecord] = [*records, *make_feedback(records)]
    for record in both:
        store.put(record)
        time.sleep(FLUSH_S / 20)
    store.close()
    assert len(readable(tmp_path).requests_jsonl) == len(readable(tmp_path).feedback_jsonl) == 1


def test_two_stores_of_one_folder_write_to_files_of_their_own(tmp_path: Path) -> None:
    stores = [quick_store(tmp_path) for _ in range(2)]
    for number in range(100):
        stores[number % 2].put(make_record(number))
    for store in stores:
        store.close()
    assert len(readable(tmp_path).requests_jsonl) == 2
    assert ids(kept_requests(tmp_path)) == sorted(f"request-{number}" for number in range(100))


def test_records_from_many_threads_all_arrive(tmp_path: Path) -> None:
    store = quick_store(tmp_path)

    def put(first: int) -> None:
        for number in range(first, first + 500):
            store.put(make_record(number))

    threads = [threading.Thread(target=put, args=(500 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert store.health().written == 2_000
    assert len(set(ids(kept_requests(tmp_path)))) == 2_000


def test_a_full_queue_refuses_the_newest_and_counts_them(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    store = quick_store(blocked / "records", queue_mb=0.1)
    records = make_records(100)
    for record in records:
        store.put(record)
    health = store.health()
    assert 0 < health.queued < 100
    assert health.queued + health.dropped == 100
    kept = health.queued
    wait_until(lambda: store.health().failed > 0)
    blocked.unlink()
    wait_until(lambda: store.health().written == kept)
    store.close()
    assert ids(kept_requests(blocked / "records")) == sorted(r.request_id for r in records[:kept])


def test_what_is_written_makes_room_for_more(tmp_path: Path) -> None:
    """Far more records than the queue holds, a few at a time: none is refused."""
    store = quick_store(tmp_path, queue_mb=0.1, flush_s=0.01)
    for number in range(300):
        store.put(make_record(number))
        wait_until(lambda: store.health().queued < 20)
    store.close()
    assert (store.health().written, store.health().dropped) == (300, 0)


@pytest.mark.parametrize("asked", [True, False])
def test_texts_and_embeddings_are_kept_only_if_asked(tmp_path: Path, asked: bool) -> None:  # noqa: FBT001 - a parameter
    record = make_record(prompt="a secret plan", embedding="AAAA")
    keep(tmp_path, [record], prompt=asked, embedding=asked)
    (row,) = kept_requests(tmp_path)
    assert (row["prompt"], row["embedding"]) == (("a secret plan", "AAAA") if asked else (None, None))
    assert asked or b"secret" not in readable(tmp_path).requests_jsonl[0].read_bytes()


def test_text_that_is_no_text_does_not_cost_the_record(tmp_path: Path) -> None:
    """Halves of surrogate pairs and NUL may come in a request's JSON, and go into no store."""
    records = [make_record(0, prompt="half \ud83d of"), make_record(1, prompt="nul \0, literal \\u0000")]
    keep(tmp_path, records, prompt=True)
    assert [row["prompt"] for row in kept_requests(tmp_path)] == ["half ? of", "nul \ufffd, literal \\u0000"]


def test_a_prompt_too_long_to_read_back_is_left_out(tmp_path: Path) -> None:
    keep(tmp_path, [make_record(prompt="x" * LONGEST_LINE), make_record(1, prompt="x" * 1_000)], prompt=True)
    assert [row["prompt"] for row in kept_requests(tmp_path)] == [None, "x" * 1_000]


def test_times_are_kept_in_utc(tmp_path: Path) -> None:
    summer = timezone(timedelta(hours=2))
    record = make_record(at=datetime(2026, 6, 1, 1, 30, tzinfo=summer))
    keep(tmp_path, [record])
    assert b'"2026-05-31T23:30:00+00:00"' in readable(tmp_path).requests_jsonl[0].read_bytes()


def test_a_record_that_is_no_json_is_dropped_alone(tmp_path: Path) -> None:
    store = quick_store(tmp_path)
    for record in (make_record(0), make_record(1, category=object()), make_record(2)):
        store.put(record)
    store.close()
    assert ids(kept_requests(tmp_path)) == ["request-0", "request-2"]
    assert (store.health().written, store.health().dropped) == (2, 1)


def test_after_closing_records_are_dropped_and_counted(tmp_path: Path) -> None:
    store = quick_store(tmp_path)
    store.put(make_record(0))
    store.close()
    store.put(make_record(1))
    store.close()
    assert (store.health().written, store.health().dropped, store.health().queued) == (1, 1, 0)


def test_a_torn_last_line_is_skipped_by_the_query_of_the_manual(tmp_path: Path) -> None:
    keep(tmp_path, make_records(10))
    (path,) = readable(tmp_path).requests_jsonl
    path.write_bytes(path.read_bytes()[:-100])
    with duckdb.connect() as sql:
        found = sql.execute(
            "SELECT count(*) FROM read_json(?, format = 'newline_delimited', ignore_errors = true)"
            " WHERE request_id IS NOT NULL",
            [str(path)],
        ).fetchone()
    assert found == (9,)


def test_the_writing_process_never_loads_duckdb(tmp_path: Path) -> None:
    code = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
from pathlib import Path
from recorded import make_record
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.config.process import StoreSettings
from embedllm_router.records.writer.store import open_store
from embedllm_router.records.writer.files import FileSink
folder = Path({str(tmp_path)!r})
store = open_store(StoreSettings(path=folder, flush_s=0.05, rotate_mb=0.001))
store.put(make_record())
deadline = time.monotonic() + 20
while not list(folder.glob("*.parquet")) and time.monotonic() < deadline: time.sleep(0.05)
print(len(list(folder.glob("*.parquet"))), {{"duckdb", "sqlalchemy"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "1 set()"
    assert not done.stderr


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = quick_store(Path("~/records"))
    store.prompt_hash("hello")
    store.put(make_record())
    store.close()
    assert len(list((tmp_path / "records").iterdir())) == 2


def test_an_error_of_ours_costs_one_group_and_the_next_record_starts_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append(told.exc_type))
    monkeypatch.setattr(FileSink, "write", lambda *_: 1 / 0)
    store = quick_store(tmp_path)
    store.put(make_record(0))
    wait_until(lambda: seen)
    monkeypatch.undo()
    assert (store.health().dropped, store.health().failed, store.health().queued) == (1, 1, 0)
    assert "ended by an error" in str(store.health().last_error)
    store.put(make_record(1))
    wait_until(lambda: store.health().written == 1)
    store.close()
    assert store.health().last_error is None
    assert ids(kept_requests(tmp_path)) == ["request-1"]


def test_changing_a_record_shows(tmp_path: Path) -> None:
    """The comparison that the tests above rely on does compare."""
    records = make_records(5)
    keep(tmp_path, records)
    changed = [*records[:4], replace(records[4], candidates=records[4].candidates[:1])]
    assert kept_requests(tmp_path) != plain(changed)
