"""A quick store, and what it wrote read back in the plainest way."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.reader.file_source import RecordFiles, record_files
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.queue import QUEUE_MB
from embedllm_router.records.writer.store import RecordStore, open_store

FLUSH_S = 0.05

Rows = list[dict[str, Any]]


def quick_store(folder: Path, *, queue_mb: float = QUEUE_MB, **changes: Any) -> RecordStore:
    """A store of files that flushes quickly."""
    return open_store(StoreSettings(**{"path": folder, "flush_s": FLUSH_S, **changes}), queue_mb=queue_mb)


def keep(folder: Path, records: Iterable[RequestRecord | FeedbackRecord], **changes: Any) -> None:
    """Writes records to files of their own and closes them."""
    store = quick_store(folder, **changes)
    for record in records:
        store.put(record)
    store.close()


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def plain(records: Iterable[RequestRecord | FeedbackRecord]) -> Rows:
    """Records as a reader gets them: lists, dicts, and times in UTC without a zone."""
    return [_row(orjson.dumps(record)) for record in records]


def from_lines(paths: Iterable[Path]) -> Rows:
    """Every line of files of JSON lines."""
    return [_row(line) for path in paths for line in path.read_bytes().splitlines()]


def from_parquet(paths: Iterable[Path]) -> Rows:
    """Every row of Parquet files, in the files' own order."""
    rows: Rows = []
    with duckdb.connect() as sql:
        for path in paths:
            found = sql.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in found.description or ()]
            rows += [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return rows


def readable(folder: Path) -> RecordFiles:
    """The files of a folder that hold each record once."""
    return record_files([str(folder)], must_exist=False)


def kept_requests(folder: Path) -> Rows:
    """Every request in a folder."""
    files = readable(folder)
    return from_lines(files.requests_jsonl) + from_parquet(files.requests_parquet)


def ids(rows: Rows) -> list[str]:
    """Their request ids, sorted; one that is there twice is there twice."""
    return sorted(row["request_id"] for row in rows)


def killed_at_work(code: str, folder: Path, rng: random.Random) -> bool:
    """Runs a program that seals or merges and kills it a moment after it began; returns whether it was still alive."""
    child = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: child.poll() is not None or list(folder.glob(".seal-*")))
    time.sleep(rng.uniform(0.0, 0.06))
    alive = child.poll() is None
    child.kill()
    child.wait()
    return alive


def _row(line: bytes) -> dict[str, Any]:
    row: dict[str, Any] = orjson.loads(line)
    return {**row, "at": datetime.fromisoformat(row["at"]).astimezone(UTC).replace(tzinfo=None)}
