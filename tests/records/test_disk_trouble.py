"""A disk that is full, read-only, gone or in the way: requests go on, records wait, nothing is torn or there twice."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from recorded import make_record, make_records
from stored import from_lines, ids, kept_requests, quick_store, readable, wait_until

HELPERS = Path(__file__).parents[1] / "helpers"


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A real file system of its own, in memory."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"may not mount a small disk here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_what_does_not_fit_on_a_full_disk_is_written_when_there_is_room(tmp_path: Path) -> None:
    records = make_records(200)
    with small_disk(tmp_path / "disk", 200) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 120_000)
        store = quick_store(disk / "records")
        for record in records:
            store.put(record)
            store.prompt_hash("a request goes on")
        wait_until(lambda: store.health().failed >= 2)
        health = store.health()
        assert "No space left on device" in str(health.last_error)
        assert health.dropped == 0
        assert health.written + health.queued == 200
        assert health.queued > 0
        assert health.lag_s > 0
        ballast.unlink()
        shutil.rmtree(disk / "records")
        subprocess.run(["mount", "-o", "remount,size=4000k", str(disk)], check=True)
        wait_until(lambda: store.health().written == 200)
        assert store.health().last_error is None
        store.close()
        assert len(ids(kept_requests(disk / "records"))) == health.queued


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    """Groups of different sizes fill the disk to the last byte; every line of every file is whole, and there once."""
    with small_disk(tmp_path / "disk", 256) as disk:
        store = quick_store(disk / "records")
        number = 0
        while store.health().failed == 0:
            for _ in range(1 + number % 7):
                store.put(make_record(number))
                number += 1
            wait_until(lambda: store.health().queued == 0 or store.health().failed)
        kept = ids(from_lines(readable(disk / "records").requests_jsonl))
        assert len(kept) == len(set(kept)) == store.health().written > 0
        subprocess.run(["mount", "-o", "remount,size=4000k", str(disk)], check=True)
        wait_until(lambda: store.health().queued == 0)
        store.close()
        assert ids(kept_requests(disk / "records")) == sorted(f"request-{i}" for i in range(number))


def test_a_disk_that_turns_read_only_and_back_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4_000) as disk:
        store = quick_store(disk / "records", rotate_mb=0.001)
        store.put(make_record(0))
        wait_until(lambda: store.health().written == 1)
        wait_until(lambda: readable(disk / "records").requests_parquet)
        read_only = ["mount", "-o", "remount,ro", str(disk)]  # refused while the process that seals is still at work
        wait_until(lambda: subprocess.run(read_only, capture_output=True, check=False).returncode == 0)
        store.put(make_record(1))
        wait_until(lambda: store.health().failed)
        assert "Read-only file system" in str(store.health().last_error)
        assert len(store.prompt_hash("a request goes on")) == 24
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        wait_until(lambda: store.health().written == 2)
        store.close()
        assert ids(kept_requests(disk / "records")) == ["request-0", "request-1"]


def test_a_limit_on_the_size_of_files_starts_another(tmp_path: Path) -> None:
    """What `ulimit -f` forbids ends a file, not the records."""
    code = f"""
import json, resource, sys; sys.path[:0] = [{str(HELPERS)!r}]
from pathlib import Path
from recorded import make_record
from stored import quick_store, wait_until
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
store = quick_store(Path({str(tmp_path)!r}))
for number in range(40):
    store.put(make_record(number))
    wait_until(lambda: store.health().written == number + 1)
store.close()
health = store.health()
print(json.dumps([health.written, health.dropped, health.queued]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [40, 0, 0]
    segments = readable(tmp_path)
    assert len(segments.requests_jsonl + segments.requests_parquet) > 3
    assert ids(kept_requests(tmp_path)) == sorted(f"request-{i}" for i in range(40))


def test_a_deleted_folder_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    store = quick_store(folder)
    store.put(make_record(0))
    wait_until(lambda: store.health().written == 1)
    shutil.rmtree(folder)
    store.put(make_record(1))
    wait_until(lambda: store.health().written == 2)
    assert store.health().failed == 0
    store.close()
    assert ids(kept_requests(folder)) == ["request-1"]


def test_closing_on_a_dead_disk_takes_bounded_time_and_counts_what_is_lost(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = quick_store(tmp_path / "file" / "records")
    for record in make_records(10):
        store.put(record)
    wait_until(lambda: store.health().failed)
    store.close()
    health = store.health()
    assert (health.written, health.dropped, health.queued, health.lag_s) == (0, 10, 0, 0.0)
    assert "Not a directory" in str(health.last_error)
