"""Many processes and their ends: forks, exits without a word, kills."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stored import from_lines, ids, kept_requests, readable

HELPERS = Path(__file__).parents[1] / "helpers"
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_store.py"


def run(code: str, folder: Path) -> str:
    """Runs a program in a process of its own; it finds its folder, records and a quick store."""
    start = f"""
import os, sys; sys.path[:0] = [{str(HELPERS)!r}]
from pathlib import Path
from recorded import make_record
from stored import quick_store, wait_until
folder = Path({str(folder)!r})
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", start + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return done.stdout


def test_a_program_that_just_ends_has_written_everything(tmp_path: Path) -> None:
    run("store = quick_store(folder, flush_s=30)\nfor i in range(500): store.put(make_record(i))", tmp_path)
    assert len(ids(kept_requests(tmp_path))) == 500


def test_what_is_put_when_the_process_ends_is_written_too(tmp_path: Path) -> None:
    run(
        """
import atexit
store = quick_store(folder, flush_s=30)
atexit.register(lambda: store.put(make_record(1)))
store.put(make_record(0))
""",
        tmp_path,
    )
    assert ids(kept_requests(tmp_path)) == ["request-0", "request-1"]


def test_where_no_thread_can_be_started_records_are_written_on_closing(tmp_path: Path) -> None:
    said = run(
        """
import threading
def start(self): raise RuntimeError("can't start new thread")
threading.Thread.start = start
store = quick_store(folder)
for i in range(3): store.put(make_record(i))
print(store.health().queued, store.health().last_error)
store.close()
print(store.health().written, store.health().dropped, store.health().queued)
""",
        tmp_path,
    )
    assert said.splitlines() == ["3 the thread that writes records cannot start: can't start new thread", "3 0 0"]
    assert len(ids(kept_requests(tmp_path))) == 3


@pytest.mark.parametrize("before", ["", "wait_until(lambda: store.health().written == 50)"])
def test_forked_workers_write_to_files_of_their_own(tmp_path: Path, before: str) -> None:
    """Whether the parent has written already or still has records waiting: each is written once, by one process."""
    said = run(
        f"""
store = quick_store(folder)
for i in range(50): store.put(make_record(i))
{before}
pids = []
for worker in range(3):
    pid = os.fork()
    if pid == 0:
        for i in range(50): store.put(make_record(1000 * (worker + 1) + i))
        store.close()
        os.write(1, b"%d %d\\n" % (store.health().written, store.health().failed))
        os._exit(0)
    pids.append(pid)
for pid in pids: os.waitpid(pid, 0)
for i in range(50, 60): store.put(make_record(i))
store.close()
print(store.health().written, store.health().failed)
""",
        tmp_path,
    )
    assert said.splitlines() == ["50 0", "50 0", "50 0", "60 0"]
    expected = [i for worker in range(1, 4) for i in range(1000 * worker, 1000 * worker + 50)]
    assert ids(kept_requests(tmp_path)) == sorted(f"request-{i}" for i in [*range(60), *expected])
    assert len(readable(tmp_path).requests_jsonl) == 4


def test_a_forked_child_does_not_keep_the_parents_file_locked(tmp_path: Path) -> None:
    said = run(
        """
from embedllm_router.records.writer.seal import seal_orphans
import signal
store = quick_store(folder)
store.put(make_record(0))
wait_until(lambda: store.health().written == 1)
ready, say = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(say, b".")
    signal.pause()
os.read(ready, 1)
store.close()
print([sealed.rows for sealed in seal_orphans(folder)])
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
""",
        tmp_path,
    )
    assert said.strip() == "[1]"


def test_killed_at_random_moments_it_loses_the_last_flush_at_most(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "kill", "--kills", "3", "--flush-s", "0.5", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == 3
    assert figures["acknowledged"] > 1_000
    assert figures["lost_beyond_flush"] == figures["twice"] == figures["rejected_lines"] == 0
    assert from_lines(readable(tmp_path).requests_jsonl) == []
