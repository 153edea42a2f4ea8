"""Records are read from wherever they lie, each once, and a damaged file is named."""

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import orjson
import pytest
from recorded import START, make_feedback, make_record, make_records

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.reader.file_source import view
from embedllm_router.records.reader.source import Limits, RecordSource, open_source
from embedllm_router.records.schema import REQUEST_COLUMNS, RequestRecord


def write_lines(file: Path, records: Sequence[object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return file


def seal(lines: Path, sealed: Path | None = None) -> Path:
    sealed = sealed or lines.with_suffix(".parquet")
    with duckdb.connect() as database:
        database.execute(
            f"COPY ({view([], [lines], REQUEST_COLUMNS)}) TO $file (FORMAT parquet)", {"file": str(sealed)}
        )
    return sealed


def ids(source: RecordSource) -> list[str]:
    return [row["request_id"] for row in source.rows("SELECT request_id FROM requests ORDER BY request_id")]


@pytest.fixture
def records() -> list[RequestRecord]:
    return make_records(40)


@pytest.fixture
def folder(tmp_path: Path, records: list[RequestRecord]) -> Path:
    """Half sealed, half being written, with a torn last line, and feedback."""
    folder = tmp_path / "rec[1]*?'s"
    first = write_lines(folder / "requests-1.jsonl", records[:20])
    seal(first)
    first.unlink()
    second = write_lines(folder / "requests-2.jsonl", records[20:])
    with second.open("ab") as file:
        file.write(orjson.dumps(records[0])[:400])
    write_lines(folder / "feedback-1.jsonl", make_feedback(records, share=1.0))
    return folder


@pytest.fixture
def source(folder: Path) -> Iterator[RecordSource]:
    opened = open_source(folder)
    yield opened
    opened.close()


def test_every_record_is_read_once_whatever_the_folder_is_called(
    source: RecordSource, records: list[RequestRecord]
) -> None:
    assert ids(source) == sorted(r.request_id for r in records)


def test_a_row_is_the_record(source: RecordSource, records: list[RequestRecord]) -> None:
    for record in (records[0], records[39]):
        (row,) = source.rows("SELECT * FROM requests WHERE request_id = $id", {"id": record.request_id})
        expected = orjson.loads(orjson.dumps(record))
        expected["at"] = record.at.replace(tzinfo=None)
        assert row == expected
        assert list(row) == list(REQUEST_COLUMNS)


def test_a_stem_that_is_sealed_is_not_read_from_its_lines_as_well(
    folder: Path, source: RecordSource, records: list[RequestRecord]
) -> None:
    write_lines(folder / "requests-1.jsonl", records[:20])
    assert len(ids(source)) == 40


def test_what_is_written_and_sealed_later_is_seen(
    folder: Path, source: RecordSource, records: list[RequestRecord]
) -> None:
    write_lines(folder / "requests-3.jsonl", [make_record(100)])
    assert len(ids(source)) == len(records) + 1
    seal(folder / "requests-3.jsonl")
    (folder / "requests-3.jsonl").unlink()
    assert len(ids(source)) == len(records) + 1


def test_columns_that_an_older_file_lacks_are_null(folder: Path, source: RecordSource) -> None:
    with duckdb.connect() as database:
        old = "SELECT TIMESTAMP '2025-01-01' AS \"at\", 'old' AS request_id, 'auto' AS virtual_model"
        database.execute(f"COPY ({old}) TO $file (FORMAT parquet)", {"file": str(folder / "requests-0.parquet")})
    (row,) = source.rows("SELECT * FROM requests WHERE request_id = 'old'")
    assert row["at"] == datetime(2025, 1, 1)  # noqa: DTZ001 - stored without a zone
    assert row["candidates"] is None
    assert row["cost_weight"] is None


def test_candidates_can_be_asked_for_exclusions(source: RecordSource, records: list[RequestRecord]) -> None:
    sql = "SELECT count(*) AS n FROM requests WHERE excluded_for(candidates, $reason)"
    planted = sum(bool(r.candidates) for r in records)
    assert source.rows(sql, {"reason": "llm_unknown"}) == [{"n": planted}]
    assert source.rows(sql, {"reason": "too_expensive"}) == [{"n": 0}]


def test_feedback_joins_its_request(source: RecordSource, records: list[RequestRecord]) -> None:
    joined = source.rows("SELECT count(*) AS n FROM requests JOIN feedback USING (request_id)")
    assert joined == [{"n": sum(r.served_p_correct is not None for r in records)}]


def test_parameters_a_query_does_not_use_are_ignored(source: RecordSource) -> None:
    assert source.rows("SELECT $a AS a", {"a": 1, "since": START}) == [{"a": 1}]


def test_an_empty_folder_holds_no_records(tmp_path: Path) -> None:
    source = open_source(tmp_path)
    assert source.rows("SELECT count(*) AS n, sum(billed_cost_usd) AS usd FROM requests") == [{"n": 0, "usd": None}]
    source.close()


def test_several_places_and_globs(folder: Path, tmp_path: Path, records: list[RequestRecord]) -> None:
    other = tmp_path / "b" / "requests-9.jsonl"
    write_lines(other, [make_record(100)])
    for places in ([folder, other], [folder, tmp_path / "b"], [folder, tmp_path / "b" / "*.jsonl"]):
        source = open_source(places)
        assert len(ids(source)) == len(records) + 1
        source.close()


def test_threads_ask_at_the_same_time(source: RecordSource, records: list[RequestRecord]) -> None:
    answers: list[int] = []

    def ask() -> None:
        answers.extend(len(ids(source)) for _ in range(3))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert answers == [len(records)] * 12


def test_sealing_while_reading_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """A file vanishes between listing and reading: the folder is listed again."""

    def write_and_seal() -> None:
        for number in range(15):
            whole = write_lines(tmp_path / "next", [make_record(number * 10 + i) for i in range(10)])
            lines = whole.rename(tmp_path / f"requests-{number:03}.jsonl")
            seal(lines, tmp_path / "sealed").rename(lines.with_suffix(".parquet"))
            lines.unlink()
            time.sleep(0.01)

    writer = threading.Thread(target=write_and_seal)
    source = open_source(tmp_path)
    counts: list[int] = []
    writer.start()
    while writer.is_alive() and len(counts) < 1000:
        counts.append(len(ids(source)))
    writer.join(timeout=30)
    source.close()
    assert counts == sorted(counts)
    assert all(count % 10 == 0 for count in counts)
    assert len(set(counts)) > 3


@pytest.mark.parametrize("place", ["", "requests-*", "*.parquet"])
def test_while_files_are_merged_each_record_is_read_once(tmp_path: Path, place: str) -> None:
    """The merged file and its parts are both there, and a list says so."""
    parts = [seal(write_lines(tmp_path / f"requests-{i}.jsonl", [make_record(i)])) for i in range(3)]
    seal(write_lines(tmp_path / "requests-day.jsonl", [make_record(i) for i in range(3)]))
    (tmp_path / "requests-day.merged").write_bytes(orjson.dumps([part.name for part in parts]))
    for lines in tmp_path.glob("*.jsonl"):
        lines.unlink()
    source = open_source(f"{tmp_path}/{place}")
    assert ids(source) == ["request-0", "request-1", "request-2"]
    source.close()


def test_a_damaged_file_is_named(folder: Path, source: RecordSource) -> None:
    (folder / "requests-7.parquet").write_bytes(b"PAR1 this is no parquet file")
    with pytest.raises(DataError, match=r"requests-7\.parquet"):
        ids(source)


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ("/nowhere/at/all", DataError, "no records at /nowhere/at/all"),
        ([], ConfigError, "no records named"),
        ("s3://bucket/records", ConfigError, "neither files, s3:// nor PostgreSQL"),
        (["postgresql://me:secret@h/db", "x"], ConfigError, "one database at a time"),
    ],
)
def test_places_that_cannot_be_read(where: str | list[str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        open_source(where)
    assert "secret" not in str(raised.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt is no record file"):
        open_source(tmp_path / "notes.txt")


def test_limits_that_make_no_sense_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="plenty"):
        open_source(tmp_path, limits=Limits(memory="plenty"))
