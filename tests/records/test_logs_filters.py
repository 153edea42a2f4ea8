"""A condition means the same in SQL on either back end and as a test of one row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from reading import Sources
from recorded import START, USD, make_record, make_records

from embedllm_router.records.reader.source import Filters
from embedllm_router.records.schema import RequestRecord

CONDITIONS = [
    Filters(),
    Filters(since=START + timedelta(seconds=20)),
    Filters(until=START + timedelta(seconds=20)),
    Filters(since=START + timedelta(seconds=5), until=START + timedelta(seconds=6)),
    Filters(virtual_model="auto-cheap"),
    Filters(llm="novice"),
    Filters(llm="wizard-2025-01-01"),
    Filters(key_alias="team-b"),
    Filters(reason="failed_open"),
    Filters(status="failure"),
    Filters(arm="canary"),
    Filters(category="planted/maths"),
    Filters(min_cost_usd=USD["sprinter"]),
    Filters(max_cost_usd=USD["sprinter"], status="success"),
    Filters(excluded="too_expensive"),
    Filters(excluded="llm_unknown", key_alias="team-a"),
]


@pytest.fixture
def records() -> list[RequestRecord]:
    varied = make_records(300, seed=3)
    wizard = make_record(900, arm="canary", expected_cost_usd=None, billed_cost_usd=None)
    dear = make_record(901)
    too_dear = tuple(replace(c, excluded="too_expensive") for c in dear.candidates)
    return [*varied, wizard, make_record(902, candidates=too_dear)]


def test_sql_and_row_agree_and_every_condition_divides(recorded: Sources, records: list[RequestRecord]) -> None:
    source = recorded([*records])
    rows = source.rows("SELECT * FROM requests")
    for filters in CONDITIONS:
        where, parameters = filters.where()
        found = source.rows(f"SELECT request_id FROM requests WHERE {where}", parameters)  # noqa: S608 - our own
        expected = {row["request_id"] for row in rows if filters.accept(row)}
        assert {row["request_id"] for row in found} == expected, filters
        assert filters == Filters() or 0 < len(expected) < len(rows), filters


def test_a_row_that_lacks_a_value_meets_no_condition_on_it() -> None:
    row = dict.fromkeys(("key_alias", "category", "billed_cost_usd", "expected_cost_usd", "candidates"))
    for filters in (
        Filters(key_alias="team-a"),
        Filters(category="x"),
        Filters(max_cost_usd=1.0),
        Filters(excluded="too_expensive"),
    ):
        assert not filters.accept(row)


def test_times_in_any_zone_are_the_same_moment() -> None:
    berlin = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert Filters(since=berlin).where() == Filters(since=datetime(2026, 1, 1, tzinfo=UTC)).where()


def test_the_billed_cost_counts_where_there_is_one() -> None:
    row = {"billed_cost_usd": 0.5, "expected_cost_usd": 2.0}
    assert Filters(max_cost_usd=1.0).accept(row)
    assert not Filters(max_cost_usd=1.0).accept(row | {"billed_cost_usd": None})
