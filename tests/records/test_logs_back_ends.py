"""Files and PostgreSQL give the same answers to the same questions."""

from datetime import datetime
from pathlib import Path

import orjson
import pytest
from postgres_server import PostgresServer
from reading import Sources, new_database
from recorded import START, make_feedback, make_record, make_records

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.reader.source import open_source


def test_a_row_is_the_record(recorded: Sources) -> None:
    record = make_record(7, needs=("vision", "tools"), within=0.05, floor_met=True)
    (row,) = recorded([record]).rows("SELECT * FROM requests")
    assert row == orjson.loads(orjson.dumps(record)) | {"at": record.at.replace(tzinfo=None)}


def test_parameters_percent_signs_and_casts(recorded: Sources) -> None:
    source = recorded([make_record(n) for n in range(3)])
    sql = "SELECT request_id, CAST($n AS BIGINT) AS n FROM requests WHERE request_id LIKE '%' || $end"
    assert source.rows(sql, {"end": "-2", "n": 3, "unused": None}) == [{"request_id": "request-2", "n": 3}]
    assert source.rows("SELECT count(*) AS n FROM requests WHERE request_id LIKE '%1'") == [{"n": 1}]


@pytest.mark.parametrize("odd", ["a\0b", "lone \ud800"])
def test_what_no_store_holds_is_asked_for_as_it_is_kept(recorded: Sources, odd: str) -> None:
    source = recorded([make_record(1, key_alias=odd), make_record(2, key_alias="other")])
    assert source.rows("SELECT count(*) AS n FROM requests WHERE key_alias = $alias", {"alias": odd}) == [{"n": 1}]


def test_sums_are_plain_numbers(recorded: Sources) -> None:
    source = recorded([make_record(n) for n in range(3)])
    (row,) = source.rows("SELECT sum(input_tokens) AS a, avg(input_tokens) AS b, sum(p_correct) AS c FROM requests")
    assert row == {"a": 30, "b": 10, "c": pytest.approx(3 * 0.95)}
    assert [type(value) for value in row.values()][::2] == [int, float]


def test_times_are_utc_without_a_zone(recorded: Sources) -> None:
    source = recorded([make_record(n) for n in range(3)])
    after = START.replace(tzinfo=None).replace(second=1)
    rows = source.rows('SELECT date_trunc(\'hour\', "at") AS hour FROM requests WHERE "at" >= $after', {"after": after})
    assert rows == [{"hour": datetime(2026, 1, 1)}] * 2  # noqa: DTZ001 - stored without a zone


def test_percentiles_and_filtered_counts(recorded: Sources) -> None:
    source = recorded([make_record(n, route_ms=float(n)) for n in range(5)])
    sql = (
        "SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY route_ms) AS q, "
        "count(*) FILTER (WHERE route_ms > 1) AS n FROM requests"
    )
    assert source.rows(sql) == [{"q": 1.0, "n": 3}]


def test_candidates_one_by_one(recorded: Sources) -> None:
    source = recorded([make_record(1), make_record(2, candidates=())])
    rows = source.rows("SELECT * FROM weighed WHERE request_id LIKE $id ORDER BY candidate_name", {"id": "request-%"})
    found = [(r["candidate_name"], r["candidate_p_correct"], r["candidate_excluded"], r["chosen"]) for r in rows]
    assert found == [
        ("novice", 0.5, None, "wizard"),
        ("sprinter", 0.05, None, "wizard"),
        ("stranger", None, "llm_unknown", "wizard"),
        ("wizard", 0.95, None, "wizard"),
    ]


def test_feedback_is_beside_the_requests(recorded: Sources) -> None:
    records = make_records(30)
    feedback = make_feedback(records, share=1.0)
    source = recorded([*records, *feedback])
    (row,) = source.rows("SELECT count(*) AS n, sum(score) AS right FROM requests JOIN feedback USING (request_id)")
    assert row == {"n": len(feedback), "right": sum(f.score for f in feedback)}


def test_a_database_without_records_says_so(postgres: PostgresServer) -> None:
    source = open_source(new_database(postgres))
    with pytest.raises(DataError, match="holds no records: no proxy has opened its store there yet"):
        source.rows("SELECT count(*) FROM requests")
    source.close()


def test_a_dead_database_is_named_without_its_password() -> None:
    source = open_source("postgresql://someone:secret@127.0.0.1:9/records")
    with pytest.raises(DataError, match=r"postgresql://127\.0\.0\.1:9/records does not answer") as raised:
        source.rows("SELECT 1")
    assert "secret" not in str(raised.value)
    assert "someone" not in source.where
    source.close()


def test_a_url_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError, match="database URL is not usable") as raised:
        open_source("postgresql://someone:secret@127.0.0.1:port/records")
    assert "secret" not in str(raised.value)


def test_reading_cannot_write(postgres: PostgresServer) -> None:
    source = open_source(new_database(postgres))
    with pytest.raises(Exception, match="read-only"):
        source.rows("CREATE TABLE requests (a INT)")
    source.close()


def test_a_folder_that_is_not_there_yet_holds_no_records(tmp_path: Path) -> None:
    source = open_source(tmp_path / "later", must_exist=False)
    assert source.rows("SELECT count(*) AS n FROM requests") == [{"n": 0}]
    source.close()
