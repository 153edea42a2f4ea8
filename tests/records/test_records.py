"""Records: what is stored is what was decided, column by column."""

import dataclasses

import orjson
from hypothesis import given
from hypothesis import strategies as st
from recorded import make_feedback, make_records

from embedllm_router.records.schema import (
    CANDIDATE_COLUMNS,
    FEEDBACK_COLUMNS,
    LONGEST_ID,
    REQUEST_COLUMNS,
    CandidateRecord,
    FeedbackRecord,
    RequestRecord,
    bounded_id,
)


def test_every_field_has_a_column_in_order() -> None:
    for record, columns in (
        (RequestRecord, REQUEST_COLUMNS),
        (FeedbackRecord, FEEDBACK_COLUMNS),
        (CandidateRecord, CANDIDATE_COLUMNS),
    ):
        assert list(columns) == [f.name for f in dataclasses.fields(record)]


def test_optional_fields_keep_their_type() -> None:
    assert REQUEST_COLUMNS["p_correct"] == "DOUBLE"
    assert REQUEST_COLUMNS["floor_met"] == "BOOLEAN"
    assert REQUEST_COLUMNS["at"] == "TIMESTAMP"
    assert REQUEST_COLUMNS["billed_output_tokens"] == "BIGINT"
    assert REQUEST_COLUMNS["candidates"].endswith(
        "excluded VARCHAR, usual_p_correct DOUBLE, usual_cost_usd DOUBLE, propensity DOUBLE, "
        "known_by VARCHAR, p_correct_low DOUBLE, p_correct_high DOUBLE, p_unshrunk DOUBLE)[]"
    )


def test_records_become_one_json_object_each() -> None:
    records = make_records(200)
    for record in [*records, *make_feedback(records)]:
        columns = REQUEST_COLUMNS if isinstance(record, RequestRecord) else FEEDBACK_COLUMNS
        assert list(orjson.loads(orjson.dumps(record))) == list(columns)


@given(st.text(max_size=3_000), st.text(max_size=3_000))
def test_an_id_is_bounded_and_stays_apart_from_others(one: str, other: str) -> None:
    kept = bounded_id(one)
    assert len(kept.encode("utf-8", "surrogatepass")) <= LONGEST_ID
    assert (kept == bounded_id(other)) is (one == other)
    long = one + "x" * LONGEST_ID
    assert bounded_id(long) != bounded_id(long + "y")
    assert bounded_id(long)[:200] == long[:200]
