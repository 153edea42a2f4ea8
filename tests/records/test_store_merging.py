"""Merging a day's small files: the same records, each exactly once, whenever it is interrupted."""

import json
import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest
from recorded import make_records
from stored import from_parquet, ids, keep, kept_requests, killed_at_work, plain, quick_store, readable, wait_until

from embedllm_router.records.reader.file_source import RecordFiles
from embedllm_router.records.writer import seal as merging
from embedllm_router.records.writer.seal import merge_days, seal_orphans
from embedllm_router.records.writer.segments import superseded

TODAY = date(2030, 1, 2)


def sealed_files(folder: Path, n_files: int, per_file: int = 20, day: str = "20300101") -> list[Path]:
    """Sealed files of a day, all records different and, over the files, not in the order of time."""
    records = random.Random(0).sample(make_records(n_files * per_file), n_files * per_file)
    made = []
    for i in range(n_files):
        keep(folder / "made", records[i * per_file : (i + 1) * per_file])
        seal_orphans(folder / "made")
        (path,) = readable(folder / "made").requests_parquet
        made.append(path.rename(folder / f"requests-{day}T{i:06d}000000Z-1-{i:08x}.parquet"))
    (folder / "made").rmdir()
    return made


def test_the_small_files_of_a_past_day_become_one_sorted_by_time(tmp_path: Path) -> None:
    parts = sealed_files(tmp_path, 5)
    os.utime(parts[2], (2_000_000_000, 2_000_000_000))
    (merged,) = merge_days(tmp_path, TODAY)
    assert list(tmp_path.iterdir()) == [merged]
    assert from_parquet([merged]) == plain(make_records(100))
    assert merged.name.startswith("requests-20300101T")
    assert merged.stat().st_mtime == 2_000_000_000, "retention goes by the youngest record"
    assert merged.stat().st_mode & 0o777 == 0o600
    assert merge_days(tmp_path, TODAY) == []


def test_kinds_and_days_stay_apart(tmp_path: Path) -> None:
    sealed_files(tmp_path, 4, day="20291231")
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("requests-", "feedback-")))
    sealed_files(tmp_path, 4, day="20291231")
    sealed_files(tmp_path, 4, day="20300101")
    merged = merge_days(tmp_path, TODAY)
    assert sorted(path.name[:17] for path in merged) == ["feedback-20291231", "requests-20291231", "requests-20300101"]


def test_today_large_files_and_a_few_files_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed_files(tmp_path, 4, day="20300102")
    sealed_files(tmp_path, 3, day="20300101")
    assert merge_days(tmp_path, TODAY) == []
    monkeypatch.setattr(merging, "_SMALL", 1_000)
    assert merge_days(tmp_path, date(2030, 1, 3)) == []
    assert len(list(tmp_path.iterdir())) == 7


def test_one_merged_file_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = sealed_files(tmp_path, 9)
    monkeypatch.setattr(merging, "_LARGEST", 4.5 * parts[0].stat().st_size)
    expected = ids(kept_requests(tmp_path))
    for left in (6, 3):
        assert len(merge_days(tmp_path, TODAY)) == 1
        monkeypatch.setattr(merging, "_SMALL", 1.5 * parts[-1].stat().st_size)
        assert len(list(tmp_path.iterdir())) == left
    assert ids(kept_requests(tmp_path)) == expected


@pytest.mark.parametrize("allowed", range(7))
def test_before_every_step_each_record_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """The steps: the list appears, the merged file appears, its four parts go, the list goes."""
    sealed_files(tmp_path, 4)
    expected = ids(kept_requests(tmp_path))
    left = [allowed]

    def counted(name: str) -> Callable[..., object]:
        real = getattr(Path, name)

        def step(path: Path, *args: object, **options: object) -> object:
            if left[0] == 0:
                raise InterruptedError
            left[0] -= 1
            return real(path, *args, **options)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", counted("replace"))
        patched.setattr(Path, "unlink", counted("unlink"))
        with pytest.raises(InterruptedError):
            merge_days(tmp_path, TODAY)
    assert left == [0]
    assert ids(kept_requests(tmp_path)) == expected
    merge_days(tmp_path, TODAY)
    assert ids(kept_requests(tmp_path)) == expected
    assert len(list(tmp_path.iterdir())) == 1


def test_killed_while_merging_each_record_is_read_once(tmp_path: Path) -> None:
    made = sealed_files(tmp_path, 6, per_file=100)
    contents = {path: path.read_bytes() for path in made}
    expected = ids(kept_requests(tmp_path))
    folder, rng, killed = tmp_path / "records", random.Random(0), 0
    code = (
        "from datetime import date; from pathlib import Path\n"
        "from embedllm_router.records.writer.seal import merge_days\n"
        f"merge_days(Path({str(folder)!r}), date(2030, 1, 2))"
    )
    for _ in range(4):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path, content in contents.items():
            (folder / path.name).write_bytes(content)
        killed += killed_at_work(code, folder, rng)
        assert ids(kept_requests(folder)) == expected
    assert killed > 0
    merge_days(folder, TODAY)
    assert ids(kept_requests(folder)) == expected
    assert len(list(folder.iterdir())) == 1, "nothing is left behind"


def test_a_sealed_file_that_still_hides_its_lines_is_not_merged(tmp_path: Path) -> None:
    parts = sealed_files(tmp_path, 5)
    parts[0].with_suffix(".jsonl").touch()
    merge_days(tmp_path, TODAY)
    assert parts[0].exists()
    assert len(ids(kept_requests(tmp_path))) == 100


def test_a_file_with_columns_of_a_later_version_keeps_them(tmp_path: Path) -> None:
    parts = sealed_files(tmp_path, 4)
    with duckdb.connect() as sql:
        sql.read_parquet(str(parts[3])).project("*, 7 AS of_tomorrow").write_parquet(str(tmp_path / "x"))
    (tmp_path / "x").replace(parts[3])
    (merged,) = merge_days(tmp_path, TODAY)
    rows = from_parquet([merged])
    assert sorted({row["of_tomorrow"] for row in rows}, key=str) == [7, None]
    assert len(rows) == 80


def test_only_one_process_merges(tmp_path: Path) -> None:
    parts = sealed_files(tmp_path, 4)
    with merging.merging_in(tmp_path) as ours:
        assert ours
        assert merge_days(tmp_path, TODAY) == []
    assert all(path.exists() for path in parts)


def test_what_is_superseded_is_left_out_of_any_list_of_files(tmp_path: Path) -> None:
    sealed, lines, part, other = (
        tmp_path / f"requests-{name}" for name in ("1.parquet", "1.jsonl", "2.parquet", "3.jsonl")
    )
    (tmp_path / "requests-1.merged").write_text(json.dumps([part.name, "requests-gone.parquet"]))
    merged = tmp_path / "requests-1.merged"
    assert superseded([sealed, lines, part, other, merged]) == {lines, part}
    assert superseded([lines, part, other, merged]) == set(), "without the merged file its parts are read"
    assert superseded([sealed, part, tmp_path / "requests-9.merged"]) == set()
    assert readable(tmp_path / "absent") == RecordFiles()


def test_the_store_merges_by_itself(tmp_path: Path) -> None:
    parts = sealed_files(tmp_path, 4, day=f"{datetime.now(UTC).year - 1}0101")
    keep(tmp_path, make_records(1_000)[-5:])
    store = quick_store(tmp_path)
    store.put(make_records(1_001)[-1])
    wait_until(lambda: not any(path.exists() for path in parts))
    store.close()
    assert len(ids(kept_requests(tmp_path))) == len(set(ids(kept_requests(tmp_path)))) == 86
