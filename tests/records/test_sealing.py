"""Sealing: the same records in Parquet, each exactly once, whatever is in the file and whenever it is interrupted."""

import contextlib
import os
import random
import signal
from pathlib import Path

import duckdb
import orjson
import pytest
from recorded import make_feedback, make_record, make_records
from stored import (
    from_lines,
    from_parquet,
    ids,
    keep,
    kept_requests,
    killed_at_work,
    plain,
    quick_store,
    readable,
    wait_until,
)

from embedllm_router.records.writer import seal as parquet
from embedllm_router.records.writer.seal import seal_file, seal_orphans

LINE = orjson.dumps(make_record(1)) + b"\n"


def write_file(folder: Path, content: bytes, name: str = "requests-20260101T000000Z-1-aa.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_sealed_file_holds_the_same_records_sorted_by_time(tmp_path: Path) -> None:
    records = make_records(300)
    feedback = make_feedback(records)
    shuffled = random.Random(0).sample(records, len(records))
    keep(tmp_path, [*shuffled, *feedback], prompt=True)
    sealed = seal_orphans(tmp_path)
    segments = readable(tmp_path)
    assert not segments.requests_jsonl + segments.feedback_jsonl
    assert from_parquet(segments.requests_parquet) == plain(records)
    assert from_parquet(segments.feedback_parquet) == plain(feedback)
    assert {(s.path, s.rows, s.rejected) for s in sealed} == {
        (segments.requests_parquet[0], 300, 0),
        (segments.feedback_parquet[0], len(feedback), 0),
    }


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    store = quick_store(tmp_path)
    store.put(make_record())
    wait_until(lambda: store.health().written)
    assert seal_orphans(tmp_path) == []
    store.put(make_record(1))
    store.close()
    assert ids(from_lines(readable(tmp_path).requests_jsonl)) == ["request-0", "request-1"]
    assert len(seal_orphans(tmp_path)) == 1
    assert seal_orphans(tmp_path) == []


def test_an_end_between_the_two_steps_leaves_no_record_twice(tmp_path: Path) -> None:
    keep(tmp_path, make_records(5))
    (path,) = readable(tmp_path).requests_jsonl
    content = path.read_bytes()
    seal_file(path)
    path.write_bytes(content)  # as if the process had died before it removed this file
    assert readable(tmp_path).requests_jsonl == ()
    assert len(kept_requests(tmp_path)) == 5
    assert seal_file(path) is None
    assert not path.exists()
    assert len(kept_requests(tmp_path)) == 5


def test_killed_while_sealing_every_record_is_there_once(tmp_path: Path) -> None:
    keep(tmp_path, make_records(2_000))
    expected = ids(kept_requests(tmp_path))
    (path,) = readable(tmp_path).requests_jsonl
    content, rng, killed = path.read_bytes(), random.Random(0), 0
    for _ in range(4):
        path.with_suffix(".parquet").unlink(missing_ok=True)
        path.write_bytes(content)
        code = f"from embedllm_router.records.writer.seal import _main; _main([{str(path)!r}])"
        killed += killed_at_work(code, tmp_path, rng)
        assert ids(kept_requests(tmp_path)) == expected
    assert killed > 0
    seal_orphans(tmp_path)
    assert ids(from_parquet(readable(tmp_path).requests_parquet)) == expected
    assert [p.name for p in tmp_path.iterdir()] == [path.with_suffix(".parquet").name], "nothing is left behind"


@pytest.mark.parametrize(
    "broken",
    [
        LINE[:100] + b"\n",
        b"\0" * 4096 + b"\n",
        b"null\n",
        b"{}\n",
        b"[1, 2]\n",
        b"\xff\xfe\n",
        LINE.replace(b'"route_ms":0.5', b'"route_ms":{"a":1}'),
        LINE.replace(b'"candidates":[', b'"candidates":[7,'),
    ],
)
def test_broken_lines_are_set_aside_and_the_others_kept(tmp_path: Path, broken: bytes) -> None:
    path = write_file(tmp_path, LINE + broken + LINE + broken + LINE)
    sealed = seal_file(path)
    assert sealed is not None
    assert (sealed.rows, sealed.rejected) == (3, 2)
    assert from_parquet([sealed.path]) == plain([make_record(1)] * 3)
    assert path.with_suffix(".rejected").read_bytes() == broken * 2
    assert not path.exists()


def test_a_torn_last_line_is_no_record_and_no_fault(tmp_path: Path) -> None:
    sealed = seal_file(write_file(tmp_path, LINE + LINE[:-20]))
    assert sealed is not None
    assert (sealed.rows, sealed.rejected) == (1, 0)
    assert list(tmp_path.glob("*.rejected")) == []


def test_a_last_line_that_lacks_only_its_end_is_a_record(tmp_path: Path) -> None:
    sealed = seal_file(write_file(tmp_path, LINE + LINE[:-1]))
    assert sealed is not None
    assert sealed.rows == 2


@pytest.mark.parametrize("content", [b"", LINE[:50], b"\n"])
def test_a_file_without_records_disappears(tmp_path: Path, content: bytes) -> None:
    sealed = seal_file(write_file(tmp_path, content))
    assert sealed is not None
    assert (sealed.rows, sealed.rejected) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_broken_lines_alone_is_set_aside(tmp_path: Path) -> None:
    path = write_file(tmp_path, b"garbage\n" * 3)
    sealed = seal_file(path)
    assert sealed is not None
    assert (sealed.rows, sealed.rejected) == (0, 3)
    assert [p.name for p in tmp_path.iterdir()] == [path.with_suffix(".rejected").name]


def test_fields_that_an_older_file_lacks_are_null_and_newer_ones_are_ignored(tmp_path: Path) -> None:
    old = orjson.loads(LINE)
    del old["arm"]
    sealed = seal_file(write_file(tmp_path, orjson.dumps({**old, "of_tomorrow": 1}) + b"\n"))
    assert sealed is not None
    (row,) = from_parquet([sealed.path])
    assert row["arm"] is None
    assert row["request_id"] == "request-1"
    assert "of_tomorrow" not in row


def test_any_name_of_a_folder_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] *strange* 100% folder?"
    keep(folder, make_records(3))
    seal_orphans(folder)
    (path,) = readable(folder).requests_parquet
    plainly_named = path.rename(tmp_path / "requests.parquet")
    assert from_parquet([plainly_named]) == plain(make_records(3))


def test_the_time_of_the_last_record_is_kept_on_the_file(tmp_path: Path) -> None:
    path = write_file(tmp_path, LINE)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    sealed = seal_file(path)
    assert sealed is not None
    assert sealed.path.stat().st_mtime == 1_000_000_000
    assert sealed.path.stat().st_mode & 0o777 == 0o600


def test_what_dead_processes_left_is_sealed_by_the_next(tmp_path: Path) -> None:
    keep(tmp_path, make_records(5))
    store = quick_store(tmp_path)
    store.put(make_record(100))
    wait_until(lambda: len(readable(tmp_path).requests_parquet) == 1)
    store.close()
    assert len(ids(kept_requests(tmp_path))) == 6


def test_a_file_that_cannot_be_sealed_stays_and_health_says_so(tmp_path: Path) -> None:
    path = write_file(tmp_path, LINE + b"garbage\n")
    path.with_suffix(".rejected").mkdir()  # where the second line would have to go
    store = quick_store(tmp_path)
    store.put(make_record(100))
    wait_until(lambda: store.health().last_error)
    assert f"{path.name} cannot be sealed" in str(store.health().last_error)
    assert store.health().failed == 0
    store.close()
    assert path.read_bytes() == LINE + b"garbage\n"


def test_one_file_that_cannot_be_sealed_does_not_keep_the_others(tmp_path: Path) -> None:
    bad = write_file(tmp_path, LINE + b"garbage\n", "requests-1.jsonl")
    bad.with_suffix(".rejected").mkdir()
    good = write_file(tmp_path, LINE, "requests-2.jsonl")
    with pytest.raises(OSError, match=r"requests-1\.rejected"):
        seal_orphans(tmp_path)
    assert good.with_suffix(".parquet").exists()
    assert bad.exists()


def test_a_file_that_memory_cannot_sort_is_sealed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_MEMORY", "150MB")
    records = (make_record(i * 7919 % 14_000, prompt=str(i) * 1_000) for i in range(14_000))
    sealed = seal_file(write_file(tmp_path, b"".join(orjson.dumps(record) + b"\n" for record in records)))
    assert sealed is not None
    assert sealed.rows == 14_000
    with duckdb.connect() as sql:
        found = sql.execute("SELECT request_id FROM read_parquet(?)", [str(sealed.path)]).fetchall()
    numbers = [int(request_id.removeprefix("request-")) for (request_id,) in found]
    assert sorted(numbers) == list(range(14_000))
    assert numbers != sorted(numbers), "it was too large to sort, or this test tests nothing"


def test_set_aside_lines_are_told_in_health(tmp_path: Path) -> None:
    write_file(tmp_path, LINE + b"garbage\n" + LINE)
    store = quick_store(tmp_path)
    store.put(make_record(100))
    wait_until(lambda: store.health().last_error)
    assert "had 1 lines that are no records: see requests-" in str(store.health().last_error)
    store.close()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")
def test_sealing_has_low_priority_and_ends_with_the_store(tmp_path: Path) -> None:
    """A child that hangs neither delays closing nor outlives it."""
    keep(tmp_path, make_records(2_000))
    before = set(children())
    store = quick_store(tmp_path)
    store.put(make_record(100_000))
    wait_until(lambda: niced_children(before))
    (child,) = niced_children(before)
    os.kill(child, signal.SIGSTOP)
    store.close()
    assert not Path(f"/proc/{child}").exists()
    assert len(ids(kept_requests(tmp_path))) == 2_001


def niced_children(before: set[int]) -> list[int]:
    """Those that seal, new since; other tests may have left a server running, and the tests may be nice themselves."""
    low = min(os.getpriority(os.PRIO_PROCESS, 0) + 15, 19)
    return [pid for pid in children() if pid not in before and os.getpriority(os.PRIO_PROCESS, pid) == low]


def children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found
