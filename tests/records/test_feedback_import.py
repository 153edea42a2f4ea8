"""Files of verdicts: every known form is read, every bad row is named, and what is stored can be read back."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import yaml
from recorded import make_record
from typer.testing import CliRunner

from embedllm_router.cli.feedback import app
from embedllm_router.config.process import StoreSettings
from embedllm_router.errors import ConfigError, DataError, EmbedLLMRouterError
from embedllm_router.records.feedback import BadRow, Layout, Scale, pattern_of, read_feedback, store_all, to_score
from embedllm_router.records.reader.recorded import Wanted, read_recorded
from embedllm_router.records.reader.source import open_source
from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.records.writer.store import open_store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
runner = CliRunner()


def write(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def scores(file: Path, layout: Layout | None = None) -> list[tuple[str, float]]:
    read = read_feedback([file], layout or Layout(), NOW)
    assert read.bad == []
    return [(one.request_id, one.score) for one in read.records]


def test_csv_with_all_columns(tmp_path: Path) -> None:
    file = write(
        tmp_path / "f.csv",
        "\N{ZERO WIDTH NO-BREAK SPACE}request_id,score,source,at,comment\r\n"
        "a,0.5,user,2026-01-02T03:04:05+02:00,hm\r\n"
        'b,up,,,"two\nlines"\r\n',
    )
    read = read_feedback([file], Layout(), NOW)
    assert read.bad == []
    assert read.records == [
        FeedbackRecord(at=datetime.fromisoformat("2026-01-02T01:04:05Z"), request_id="a", score=0.5, source="user"),
        FeedbackRecord(at=NOW, request_id="b", score=1.0, source="import"),
    ]


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"request_id": "a", "score": True}, {"request_id": "b", "score": 0.25}, {"custom_id": "c", "score": "no"}]
    file = write(tmp_path / "f.jsonl", b"\n".join(orjson.dumps(row) for row in rows) + b"\n\n")
    assert scores(file) == [("a", 1.0), ("b", 0.25), ("c", 0.0)]


def batch_line(request_id: str, content: str) -> bytes:
    """A line of OpenAI's batch output."""
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}
    return (
        orjson.dumps({"custom_id": request_id, "response": {"status_code": 200, "body": body}, "error": None}) + b"\n"
    )


CONTENT = "response.body.choices.0.message.content"


@pytest.mark.parametrize(
    ("content", "layout", "score"),
    [
        ("Correct.", Layout(score_field=CONTENT), 1.0),
        ("7", Layout(score_field=CONTENT, scale=Scale(1, 10)), 6 / 9),
        ('{"verdict": {"grade": "fail"}}', Layout(score_field=f"{CONTENT}.verdict.grade"), 0.0),
        ('Here:\n```json\n{"score": 3}\n```', Layout(score_field=f"{CONTENT}.score", scale=Scale(5, 0)), 0.4),
        (
            "Good work. Rating: [[8]]",
            Layout(score_field=CONTENT, scale=Scale(0, 10), pattern=re.compile(r"\[\[(\d+)")),
            0.8,
        ),
    ],
)
def test_what_a_judge_wrote(tmp_path: Path, content: str, layout: Layout, score: float) -> None:
    file = write(tmp_path / "judge.jsonl", batch_line("a", content))
    assert scores(file, layout) == [("a", pytest.approx(score))]


def test_bad_rows_are_named_by_file_row_column_and_reason(tmp_path: Path) -> None:
    lines = [
        b'{"request_id": "good", "score": 1}',
        b'{"request_id": "a", "score": 1.5}',
        b'{"request_id": "b"}',
        b'{"score": 1}',
        b'{"request_id": 5, "score": 1}',
        b'{"request_id": "c", "score": "maybe"}',
        b'{"request_id": "d", "score": 1, "at": "yesterday"}',
        b"[1]",
        b"{torn",
        b'{"request_id": "e", "score": null}',
        b'{"request_id": "f", "score": {"a": 1}}',
        b'{"request_id": "g", "score": 1, "source": ""}',
    ]
    file = write(tmp_path / "f.jsonl", b"\n".join(lines))
    read = read_feedback([file], Layout(), NOW)
    assert [one.request_id for one in read.records] == ["good"]
    assert [(one.row, one.column) for one in read.bad] == [
        (2, "score"),
        (3, "score"),
        (4, "request_id"),
        (5, "request_id"),
        (6, "score"),
        (7, "at"),
        (8, None),
        (9, None),
        (10, "score"),
        (11, "score"),
        (12, "source"),
    ]
    assert read.bad[0] == BadRow(str(file), 2, "score", "expected a number from 0 to 1, found 1.5")


def test_a_csv_row_with_too_many_fields_is_bad(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", "request_id,score\na,1\nb,1,2\n")
    read = read_feedback([file], Layout(), NOW)
    assert [(one.row, one.reason) for one in read.bad] == [(3, "more fields than the 2 columns")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.xlsx", b"", "expected .csv or JSON lines"),
        ("f.csv", "request_id,score\na,1\n".encode("utf-16"), "found UTF-16"),
        ("f.csv", b"request_id,score,score\na,1,0\n", "occur twice"),
        ("absent.csv", None, "cannot read"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_feedback([file], Layout(), NOW)


def test_what_is_not_read_hurts_nothing_and_what_is_wrong_costs_its_row(tmp_path: Path) -> None:
    """As `ingest` does: byte order marks, long fields, NaN elsewhere, times that no calendar has, foreign bytes."""
    rows = [
        b'\xef\xbb\xbf{"request_id":"a","score":1,"loss":NaN,"deep":%b}' % (b"[" * 500 + b"]" * 500),
        b'{"request_id":"b","score":NaN}',
        b'{"request_id":"c","score":%b}' % (b"9" * 400),
        b'{"request_id":"\\ud800","score":1}',
        b"[" * 100_000,
    ]
    read = read_feedback([write(tmp_path / "f.jsonl", b"\n".join(rows))], Layout(), NOW)
    assert [one.request_id for one in read.records] == ["a"]
    assert [(one.row, one.column) for one in read.bad] == [(2, "score"), (3, "score"), (4, "request_id"), (5, None)]
    long = b"x" * 300_000
    lines = [
        b"request_id,score,at,why",
        b"a,1,2026-01-01T00:00:00Z,%b" % long,
        b"b,1,9999-12-31T23:59:59-12:00,",
        b"c,1,0001-01-01T00:00:00+14:00,",
        b"\xff,1,,",
        b"d,0,,\xff",
    ]
    read = read_feedback([write(tmp_path / "f.csv", b"\n".join(lines))], Layout(), NOW)
    assert [one.request_id for one in read.records] == ["a", "d"]
    assert [(one.row, one.column) for one in read.bad] == [(3, "at"), (4, "at"), (5, "request_id")]


@pytest.mark.parametrize("text", ["1", "1:1", "a:b", "1:2:3", "nan:1", "0:inf"])
def test_a_scale_is_two_different_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="--scale"):
        Scale.parse(text)


@pytest.mark.parametrize("text", ["(", "no group"])
def test_a_pattern_has_a_group(text: str) -> None:
    with pytest.raises(ConfigError, match="--score-pattern"):
        pattern_of(text)


@pytest.mark.parametrize("verdict", [float("nan"), "nan", "inf", float("inf"), "", [], {}])
def test_what_is_no_verdict_has_no_score(verdict: object) -> None:
    score, why = to_score(verdict, Scale())
    assert score is None
    assert why


def test_the_command_stores_what_a_replay_then_reads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    store = open_store(StoreSettings(path=log))
    for i in range(3):
        store.put(make_record(i))
    store.close()
    file = write(tmp_path / "f.csv", "request_id,score\nrequest-0,1\nchatcmpl-1,0\n")
    done = runner.invoke(app, ["feedback", "import", str(file), "--into", str(log), "--source", "judge:x", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"read": 2, "stored": 2, "bad": []}
    source = open_source(log)
    try:
        assert [r.score for r in read_recorded(source).requests] == [1.0, 0.0, None]
        assert [r.score for r in read_recorded(source, Wanted(sources=["user"])).requests] == [None] * 3
    finally:
        source.close()


def test_bad_rows_stop_the_command_unless_told_to_skip_them(tmp_path: Path) -> None:
    log, lines = tmp_path / "log", ["request_id,score", "request-0,1", "request-1,two", "nobody's,1"]
    file = write(tmp_path / "f.csv", "\n".join(lines))
    store = open_store(StoreSettings(path=log))
    store.put(make_record(0))
    store.close()
    before = sorted(log.iterdir())
    command = ["feedback", "import", str(file), "--into", str(log)]
    done = runner.invoke(app, command)
    assert done.exit_code == 1
    assert f"bad row: {file}, row 3, column score" in done.stderr
    assert f"bad row: {file}, row 4: no request on record has the id" in done.stderr
    assert "nothing stored" in done.stdout
    assert runner.invoke(app, [*command, "--skip-bad", "--dry-run"]).exit_code == 0
    assert sorted(log.iterdir()) == before
    assert "1 verdicts stored; 2 bad rows" in runner.invoke(app, [*command, "--skip-bad"]).stdout


def test_a_configuration_says_where_the_records_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDLLM_ROUTER_STORE__PATH")  # the environment would win
    log = tmp_path / "log"
    store = open_store(StoreSettings(path=log))
    store.put(make_record(0))
    store.close()
    section = {"virtual_models": {"auto": {"default": "wizard"}}, "store": {"path": str(log)}}
    config = tmp_path / "proxy.yaml"
    callbacks = {"callbacks": ["embedllm_router.proxy_handler"]}
    whole = {"litellm_settings": callbacks, "callback_settings": {"embedllm_router": section}}
    config.write_text(yaml.safe_dump(whole))
    file = write(tmp_path / "f.csv", "request_id,score\nrequest-0,1\n")
    done = runner.invoke(app, ["feedback", "import", str(file), "--config", str(config)])
    assert "1 verdicts stored" in done.stdout, done.output


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    done = runner.invoke(app, ["feedback", "import", str(tmp_path / "nothing")])
    assert (done.exit_code, "No such file" in done.stderr) == (2, True)


def feedback(n: int) -> list[FeedbackRecord]:
    one = FeedbackRecord(at=NOW, request_id="r", score=1.0, source="import")
    return [replace(one, request_id=f"r{i}") for i in range(n)]


def test_more_than_a_queue_holds_arrives_whole(tmp_path: Path) -> None:
    store = open_store(StoreSettings(path=tmp_path / "log", flush_s=0.05), queue_mb=20)
    store_all(store, feedback(25_000))
    source = open_source(tmp_path / "log")
    try:
        rows = source.rows("SELECT count(DISTINCT request_id) AS n FROM feedback")
    finally:
        source.close()
    assert rows == [{"n": 25_000}]


def test_a_store_that_cannot_write_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "log", "a file where the folder should be")
    store = open_store(StoreSettings(path=tmp_path / "log", flush_s=0.05), close_s=0.5)
    with pytest.raises(EmbedLLMRouterError, match="only 0 of 3 records were stored"):
        store_all(store, feedback(3), patience_s=0.2)
    assert isinstance(store.health(), StoreHealth)
