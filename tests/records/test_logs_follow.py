"""Following tells of every new request once, whatever becomes of the files meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from postgres_server import PostgresServer
from reading import new_database, write
from recorded import make_record

from embedllm_router.records.reader.find import Follower, follow
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.records.writer.seal import merge_days, seal_file


def ids(follower: Follower) -> list[str]:
    return [row["request_id"] for row in follower.new()]


def append(file: Path, *numbers: int, **changes: Any) -> None:
    with file.open("ab") as opened:
        opened.writelines(orjson.dumps(make_record(n, **changes), option=orjson.OPT_APPEND_NEWLINE) for n in numbers)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "requests-20260101T000000000000Z-1-a.jsonl"
    append(file, 0, 1)
    return file


@pytest.fixture
def follower(file: Path) -> Iterator[Follower]:
    source = open_source(file.parent)
    following = follow(source, Filters())
    yield following
    following.close()
    source.close()


def test_only_what_is_new_is_told_and_only_once(file: Path, follower: Follower) -> None:
    assert ids(follower) == []
    append(file, 2, 3)
    assert ids(follower) == ["request-2", "request-3"]
    assert ids(follower) == []


def test_half_a_line_waits_for_its_other_half(file: Path, follower: Follower) -> None:
    line = orjson.dumps(make_record(2), option=orjson.OPT_APPEND_NEWLINE)
    with file.open("ab", buffering=0) as opened:
        opened.write(line[:500])
        assert ids(follower) == []
        opened.write(line[500:])
    assert ids(follower) == ["request-2"]


def test_what_was_written_before_a_file_was_sealed_is_told(file: Path, follower: Follower) -> None:
    append(file, 2)
    assert seal_file(file) is not None
    assert not file.exists()
    assert ids(follower) == ["request-2"]
    assert ids(follower) == []


def test_new_files_are_followed_sealed_or_not(file: Path, follower: Follower) -> None:
    append(file.with_name("requests-20260101T010000000000Z-1-b.jsonl"), 2)
    quick = file.with_name("requests-20260101T020000000000Z-1-c.jsonl")
    append(quick, 3)
    assert seal_file(quick) is not None, "it came and was sealed between two looks"
    assert ids(follower) == ["request-2", "request-3"]
    assert ids(follower) == []


def test_merging_old_files_tells_nothing_again(file: Path) -> None:
    for number in range(2, 8):
        append(file.with_name(f"requests-20260101T0{number}0000000000Z-1-a.jsonl"), number)
    for lines in sorted(file.parent.glob("*.jsonl")):
        assert seal_file(lines) is not None
    source = open_source(file.parent)
    following = follow(source, Filters())
    assert merge_days(file.parent), "there was nothing to merge"
    assert ids(following) == []
    assert source.rows("SELECT count(*) AS n FROM requests") == [{"n": 8}]
    source.close()


def test_conditions_apply(file: Path) -> None:
    source = open_source(file.parent)
    following = follow(source, Filters(llm="novice"))
    append(file, 2)
    append(file, 3, chosen="novice")
    assert ids(following) == ["request-3"]
    following.close()
    source.close()


def test_a_damaged_line_is_passed_over(file: Path, follower: Follower) -> None:
    with file.open("ab") as opened:
        opened.write(b'{"at": 5}\nnot json\n[]\n')
    append(file, 2)
    assert ids(follower) == ["request-2"]


def test_a_folder_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    source = open_source(tmp_path / "later", must_exist=False)
    following = follow(source, Filters())
    assert ids(following) == []
    write(tmp_path / "later", [make_record(1)])
    assert ids(following) == ["request-1"]
    following.close()
    source.close()


def test_a_database_is_followed(postgres: PostgresServer) -> None:
    url = new_database(postgres)
    write(url, [make_record(0), make_record(100)])
    source = open_source(url)
    following = follow(source, Filters())
    assert ids(following) == []
    write(url, [make_record(101), make_record(50)])
    assert ids(following) == ["request-50", "request-101"], "a slow one that was decided earlier, too"
    assert ids(following) == []
    source.close()
