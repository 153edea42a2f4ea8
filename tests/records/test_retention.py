"""Retention: files whose last record is past its time go, and only those."""

import os
import time
from datetime import timedelta
from pathlib import Path

from recorded import make_record, make_records
from stored import ids, keep, kept_requests, quick_store, readable, wait_until

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.writer.files import FileSink, delete_old
from embedllm_router.records.writer.seal import seal_orphans

WEEK = timedelta(days=7)


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def test_old_files_of_every_ending_are_deleted_and_others_stay(tmp_path: Path) -> None:
    names = [f"{kind}-{i}{end}" for kind in ("requests", "feedback") for i, end in enumerate((".jsonl", ".parquet"))]
    for name in (*names, "requests-2.rejected", "notes.parquet", "hash.key"):
        (tmp_path / name).touch()
        age(tmp_path / name, 8)
    (tmp_path / "requests-young.parquet").touch()
    deleted = delete_old(tmp_path, WEEK)
    assert sorted(path.name for path in deleted) == sorted([*names, "requests-2.rejected"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hash.key", "notes.parquet", "requests-young.parquet"]


def test_sealing_does_not_make_a_file_young_again(tmp_path: Path) -> None:
    keep(tmp_path, make_records(3))
    age(readable(tmp_path).requests_jsonl[0], 8)
    seal_orphans(tmp_path)
    assert len(delete_old(tmp_path, WEEK)) == 1
    assert kept_requests(tmp_path) == []


def test_the_file_that_is_being_written_stays(tmp_path: Path) -> None:
    store = quick_store(tmp_path)
    store.put(make_record())
    wait_until(lambda: store.health().written)
    age(readable(tmp_path).requests_jsonl[0], 8)
    assert delete_old(tmp_path, WEEK) == []
    store.close()


def test_a_sealed_twin_is_deleted_last(tmp_path: Path) -> None:
    """Else an end in between would bring back what the sealed file had hidden."""
    for ending in (".parquet", ".jsonl"):
        (tmp_path / f"requests-1{ending}").touch()
        age(tmp_path / f"requests-1{ending}", 8)
    assert [path.suffix for path in delete_old(tmp_path, WEEK)] == [".jsonl", ".parquet"]


def test_the_store_deletes_by_itself(tmp_path: Path) -> None:
    keep(tmp_path, make_records(3))
    seal_orphans(tmp_path)
    age(readable(tmp_path).requests_parquet[0], 8)
    store = quick_store(tmp_path, retention_days=7)
    store.put(make_record(100))
    wait_until(lambda: not readable(tmp_path).requests_parquet)
    store.close()
    assert ids(kept_requests(tmp_path)) == ["request-100"]


def test_by_default_records_are_kept_for_90_days_and_nothing_goes_in_the_first_hour(tmp_path: Path) -> None:
    """So that whoever set nothing has read what the log says of it."""
    keep(tmp_path, make_records(3), retention_days=None)
    seal_orphans(tmp_path)
    age(readable(tmp_path).requests_parquet[0], 91)
    settings = StoreSettings(path=tmp_path)
    assert settings.retention_days == 90
    sink = FileSink(tmp_path, settings)
    sink.tend()
    assert len(kept_requests(tmp_path)) == 3
    sink._retain_at -= settings.first_deletion_s
    sink.tend()
    assert kept_requests(tmp_path) == []
