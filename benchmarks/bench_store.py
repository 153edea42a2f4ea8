"""What recording costs a request, what a kill costs the records, and how fast many records are summarised.

    python benchmarks/bench_store.py put [--seconds 5]
    python benchmarks/bench_store.py kill [--kills 100] [--flush-s 1.0]
    python benchmarks/bench_store.py summary [--rows 10000000] [--folder DIR]

`put` records at a steady pace in a process that does nothing else. `kill` lets a process write as fast as it can, ends
it with kill -9 at a random moment, and compares what it acknowledged with what can be read. `summary` makes Parquet
files such as the store seals, once per folder, and times `embedllm_router.analysis.summary` over all of them. Each ends
with one JSON line.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import orjson
from made_records import made_record
from million_records import write_records
from rich.progress import track
from store_writer import ACKNOWLEDGED

from embedllm_router.analysis.summary import summarize
from embedllm_router.config.process import StoreSettings
from embedllm_router.records.reader.file_source import record_files
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.records.writer.seal import seal_orphans
from embedllm_router.records.writer.segments import OPEN, abandoned, named
from embedllm_router.records.writer.store import open_store

PACE = 200
"""Records per second of `put`: more than twice what the proxy handles on two cores."""
WRITER = Path(__file__).with_name("store_writer.py")
ROWS_PER_FILE = 25_000
"""What 64 MB of JSON lines hold, the size at which the store seals a file."""


def put(seconds: float) -> dict[str, float]:
    """Microseconds of handing a record over, and of the thread that writes, per record."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(StoreSettings(path=Path(folder)))
        taken = []
        process, own = time.process_time(), time.thread_time()
        started = time.perf_counter()
        for number in range(int(seconds * PACE)):
            record = made_record(number)
            before = time.perf_counter()
            store.put(record)
            taken.append(1e6 * (time.perf_counter() - before))
            time.sleep(max(0.0, started + number / PACE - time.perf_counter()))
        store.close()
        others = (time.process_time() - process) - (time.thread_time() - own)
        taken.sort()
        return {
            "put_us_p50": round(statistics.median(taken), 2),
            "put_us_p99": round(taken[int(0.99 * len(taken))], 2),
            "writer_cpu_us": round(1e6 * others / store.health().written, 1),
            "put_us_at_full_speed": round(full_speed(Path(folder) / "fast"), 2),
        }


def full_speed(folder: Path) -> float:
    """Microseconds of one of many records that are handed over at once."""
    store = open_store(StoreSettings(path=folder), queue_mb=1_000)
    records = [made_record(number) for number in range(20_000)]
    before = time.perf_counter()
    for record in records:
        store.put(record)
    taken = time.perf_counter() - before
    store.close()
    return 1e6 * taken / len(records)


@dataclass(frozen=True, slots=True)
class Killed:
    """What one kill did.

    Attributes:
        acknowledged: Records handed over before the kill.
        stored: Records that can be read.
        lost: Records acknowledged and not stored.
        lost_beyond_flush: Those of them that were acknowledged longer than the flush time before the kill.
        oldest_lost_s: How long before the kill the oldest of the lost records was acknowledged.
        twice: Records that are there more than once.
        torn: Files that ended within a line.
        rejected_lines: Lines that were no records when the files were sealed.
    """

    acknowledged: int
    stored: int
    lost: int
    lost_beyond_flush: int
    oldest_lost_s: float
    twice: int
    torn: int
    rejected_lines: int


def kill(folder: Path, flush_s: float, rng: random.Random) -> Killed:
    """Starts a writer, kills it, and reads what is left in three ways that must agree."""
    command = [sys.executable, str(WRITER), str(folder), str(flush_s)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    said = bytearray(child.stdout.read(ACKNOWLEDGED.size))
    reader = threading.Thread(target=lambda: said.extend(child.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    time.sleep(rng.uniform(0.0, 3 * flush_s))
    killed_at = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    reader.join()
    time.sleep(rng.uniform(0.0, 0.2))
    kill_group(child.pid, folder)
    child.stdout.close()
    whole = len(said) - len(said) % ACKNOWLEDGED.size
    acknowledged = dict(ACKNOWLEDGED.iter_unpack(bytes(said[:whole])))
    lines, torn = read_by_hand(folder)
    assert read_by_duckdb(folder) == lines, "DuckDB reads other records than are in the lines"
    rejected = seal_everything(folder)
    stored = read_by_duckdb(folder)
    assert stored == lines, "sealing changed what is stored"
    lost = [number for number in acknowledged if number not in stored]
    ages = [killed_at - acknowledged[number] for number in lost]
    late = sum(age > flush_s for age in ages)
    twice = sum(n - 1 for n in stored.values())
    return Killed(len(acknowledged), len(stored), len(lost), late, max(ages, default=0.0), twice, torn, rejected)


def read_by_hand(folder: Path) -> tuple[Counter[int], int]:
    """Numbers of the stored records, sealed files by DuckDB and lines one by one; and how many files end torn."""
    segments = record_files([str(folder)])
    numbers = numbers_in(
        f"read_parquet({[str(path) for path in segments.requests_parquet]})", segments.requests_parquet
    )
    torn = 0
    for path in segments.requests_jsonl:
        *whole, rest = path.read_bytes().split(b"\n")
        torn += bool(rest)
        numbers.update(int(orjson.loads(line)["request_id"]) for line in whole)
    return numbers, torn


def read_by_duckdb(folder: Path) -> Counter[int]:
    """The same, by DuckDB alone."""
    segments = record_files([str(folder)])
    sealed = numbers_in(f"read_parquet({[str(path) for path in segments.requests_parquet]})", segments.requests_parquet)
    lines = numbers_in(
        f"read_json({[str(path) for path in segments.requests_jsonl]}, format = 'newline_delimited', "
        "columns = {request_id: 'VARCHAR'}, ignore_errors = true)",
        segments.requests_jsonl,
    )
    return sealed + lines


def numbers_in(source: str, files: Sequence[Path]) -> Counter[int]:
    """How often each number is in some files."""
    if not files:
        return Counter()
    query = f"SELECT request_id::BIGINT, count(*) FROM {source} WHERE request_id IS NOT NULL GROUP BY ALL"  # noqa: S608
    with duckdb.connect() as sql:
        return Counter(dict(sql.execute(query).fetchall()))


def kill_group(group: int, folder: Path) -> None:
    """Ends what the killed process had started itself, a process that seals a file, if there is one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not all(map(abandoned, named(folder, OPEN))) and time.monotonic() < deadline:
        time.sleep(0.01)


def seal_everything(folder: Path) -> int:
    """Seals what the killed process left; returns how many lines were no records."""
    seal_orphans(folder)
    assert not record_files([str(folder)]).requests_jsonl, "a file of a dead process could not be sealed"
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("*.rejected"))


def kills(n: int, folder: Path, flush_s: float) -> dict[str, float]:
    """So many kills, each in a folder of its own."""
    rng = random.Random(0)  # noqa: S311 - moments to kill at
    done = [kill(folder / f"kill-{i}", flush_s, rng) for i in track(range(n), "killing")]
    counts = [field.name for field in fields(Killed) if field.type is int]
    sums = {name: sum(getattr(one, name) for one in done) for name in counts}
    oldest = max(one.oldest_lost_s for one in done)
    print(f"{n} kills at the greatest speed there is: the oldest record lost was {oldest:.2f} s old")
    return {"kills": n, "flush_s": flush_s, **sums, "oldest_lost_s": round(oldest, 3)}


def summary(n_rows: int, folder: Path) -> dict[str, float]:
    """Seconds that a summary of so many records takes."""
    if not record_files([str(folder)], must_exist=False).requests_parquet:
        files = -(-n_rows // ROWS_PER_FILE)
        write_records(folder, n_rows, datetime(2026, 1, 1), timedelta(days=30), files)  # noqa: DTZ001 - UTC, as records are
    sealed = record_files([str(folder)]).requests_parquet
    size = sum(path.stat().st_size for path in sealed)
    seconds = []
    for _ in range(3):
        source = open_source(folder)
        started = time.perf_counter()
        summarize(source, Filters())
        seconds.append(time.perf_counter() - started)
        source.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    figures = {"first": seconds[0], "median": statistics.median(seconds), "gb": size / 1e9}
    return {
        "rows": n_rows,
        "files": len(sealed),
        **{k: round(v, 2) for k, v in figures.items()},
        "peak_mb": round(peak),
    }


def main() -> None:
    """Measures what is asked for, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["put", "kill", "summary"])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flush-s", type=float, default=1.0)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if options.what == "put":
            figures = put(options.seconds)
        elif options.what == "kill":
            figures = kills(options.kills, folder, options.flush_s)
        else:
            figures = summary(options.rows, folder)
    print(json.dumps({"at": datetime.now(UTC).date().isoformat(), "what": options.what, **figures}))


if __name__ == "__main__":
    main()
