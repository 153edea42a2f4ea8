"""The list of decisions, one decision, what can be filtered by, and calibration, against plain loops."""

import csv
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from day import Day
from recorded import make_record
from traffic import write_lines

from embedllm_router._stats import wilson
from embedllm_router.analysis.calibration import judged_calibration
from embedllm_router.analysis.decisions import (
    DecisionSearch,
    decision_csv,
    decision_page,
    decision_row,
    feedback_on,
)
from embedllm_router.analysis.overview import choices
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.artifact.weights import Artifact
from embedllm_router.records.reader.source import RecordSource, open_source
from embedllm_router.records.schema import RequestRecord
from embedllm_router.web.dashboard import records_held

EVERYTHING = RecordQuery(Span.ALL)


def ids(records: Iterable[RequestRecord]) -> list[str]:
    return [r.request_id for r in sorted(records, key=lambda r: r.at, reverse=True)]


def found_ids(source: RecordSource, search: DecisionSearch) -> list[str]:
    page = decision_page(source, EVERYTHING, search, 0, 10_000)
    assert page.total == len(page.rows)
    return [row["request_id"] for row in page.rows]


def test_pages_are_the_newest_first_without_gap_or_repetition(source: RecordSource, day: Day) -> None:
    pages = [decision_page(source, EVERYTHING, DecisionSearch(), offset, 100) for offset in range(0, 1_200, 100)]
    assert [row["request_id"] for page in pages for row in page.rows] == ids(day.requests)
    assert {page.total for page in pages} == {1_200}


def test_filters_of_the_list_are_those_of_a_plain_loop(source: RecordSource, day: Day) -> None:
    r = day.requests
    assert found_ids(source, DecisionSearch(llm="gemini-pro")) == ids(
        x for x in r if "gemini-pro" in {x.chosen, x.served}
    )
    assert found_ids(source, DecisionSearch(reason="failed_open")) == ids(x for x in r if x.reason == "failed_open")
    assert found_ids(source, DecisionSearch(status="failure")) == ids(x for x in r if x.status == "failure")
    assert found_ids(source, DecisionSearch(only="fallback")) == ids(x for x in r if x.fallback)
    assert found_ids(source, DecisionSearch(only="failed_open", llm="gpt-4o-mini")) == ids(
        x for x in r if x.failed_open
    )
    assert found_ids(source, DecisionSearch(arm="canary")) == []


def test_search_finds_ids_and_hashes_as_they_are_and_names_whatever_their_case(source: RecordSource, day: Day) -> None:
    one = day.requests[3]
    assert found_ids(source, DecisionSearch(text=one.request_id[4:20])) == [one.request_id]
    assert found_ids(source, DecisionSearch(text=one.prompt_hash)) == ids(
        x for x in day.requests if x.prompt_hash == one.prompt_hash
    )
    assert found_ids(source, DecisionSearch(text="PRO/law")) == ids(
        x for x in day.requests if x.category == "mmlu_pro/law"
    )
    assert found_ids(source, DecisionSearch(text="ratelimit")) == ids(
        x for x in day.requests if x.error == "RateLimitError"
    )


def test_signs_that_sql_would_read_are_searched_for_as_they_are(tmp_path: Path) -> None:
    odd = ["50% off", "under_score", "bang!", "quo'te", "back\\slash"]
    write_lines(tmp_path, [make_record(i, category=name) for i, name in enumerate(odd)])
    source = open_source(tmp_path)
    for i, name in enumerate(odd):
        assert found_ids(source, DecisionSearch(text=name)) == [f"request-{i}"]
    for text in ("5%off", "under.score", "%'; DROP TABLE requests; --"):
        assert found_ids(source, DecisionSearch(text=text)) == []
    source.close()


def test_the_list_shows_the_mean_score_by_either_id(source: RecordSource, day: Day) -> None:
    page = decision_page(source, EVERYTHING, DecisionSearch(), 0, 1_200)
    shown = {row["request_id"]: row["feedback"] for row in page.rows if row["feedback"] is not None}
    assert shown == pytest.approx(day.scores())


def test_the_list_as_csv_holds_what_the_pages_hold(source: RecordSource) -> None:
    for search in (DecisionSearch(), DecisionSearch(only="fallback", llm="gpt-4o-mini"), DecisionSearch(text="law")):
        lines = list(csv.DictReader(decision_csv(source, EVERYTHING, search).decode().splitlines()))
        page = decision_page(source, EVERYTHING, search, 0, 10_000)
        assert [line["request_id"] for line in lines] == [row["request_id"] for row in page.rows]
        assert lines[0]["at"] == f"{page.rows[0]['at'].isoformat()}Z"
        given = {line["request_id"]: float(line["feedback"]) for line in lines if line["feedback"]}
        assert given == {r["request_id"]: pytest.approx(r["feedback"]) for r in page.rows if r["feedback"] is not None}


@pytest.mark.parametrize("alias", ['=cmd|"/c calc"!A1', "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_name_that_looks_like_a_formula_is_defused(tmp_path: Path, alias: str) -> None:
    write_lines(tmp_path, [make_record(0, key_alias=alias)])
    source = open_source(tmp_path)
    (line,) = csv.DictReader(decision_csv(source, EVERYTHING, DecisionSearch()).decode().splitlines())
    source.close()
    assert line["key_alias"] == f"'{alias}"


def test_one_decision_is_its_record_by_either_id(source: RecordSource, day: Day) -> None:
    record = next(r for r in day.requests if r.fallback)
    assert record.response_id is not None
    at = record.at.replace(tzinfo=None)
    for row in (
        decision_row(source, record.request_id, None),
        decision_row(source, record.response_id, None),
        decision_row(source, record.request_id, at.replace(microsecond=0)),
    ):
        assert row is not None
        assert row["request_id"] == record.request_id
        assert [c["name"] for c in row["candidates"]] == [c.name for c in record.candidates]
        assert row["billed_cost_usd"] == record.billed_cost_usd
        assert "embedding" not in row
    assert decision_row(source, "no-such-request", None) is None
    assert decision_row(source, record.request_id, at.replace(year=2001)) is None


def test_feedback_of_a_decision_is_all_that_was_said_by_either_id(source: RecordSource, day: Day) -> None:
    by_response = next(f for f in day.feedback if f.request_id.startswith("chatcmpl"))
    record = next(r for r in day.requests if r.response_id == by_response.request_id)
    row = decision_row(source, record.request_id, None)
    assert row is not None
    said = feedback_on(source, row)
    expected = [f for f in day.feedback if f.request_id in {record.request_id, record.response_id}]
    assert [(one["score"], one["source"]) for one in said] == [(f.score, f.source) for f in expected]


def test_choices_are_the_values_that_occur_most_frequent_first(source: RecordSource, day: Day) -> None:
    found = choices(source, EVERYTHING)
    for column in ("virtual_model", "key_alias", "chosen", "served", "reason", "status", "arm"):
        n = Counter(getattr(r, column) for r in day.requests)
        assert set(found[column]) == set(n) - {None}, column
        assert [n[value] for value in found[column]] == sorted((n[v] for v in found[column]), reverse=True)


def test_records_held_are_counted(source: RecordSource, day: Day) -> None:
    held = records_held(source)
    assert (held.requests, held.feedback) == (1_200, len(day.feedback))
    assert (held.oldest, held.newest) == tuple(r.at.replace(tzinfo=None) for r in (day.requests[0], day.requests[-1]))


def test_calibration_is_that_of_a_plain_loop(source: RecordSource, day: Day, artifact: Artifact) -> None:
    found = judged_calibration(source, EVERYTHING, artifact)
    scores = day.scores()
    judged = [(r.served, r.served_p_correct, scores[r.request_id]) for r in day.requests if r.request_id in scores]
    n = len(judged)
    assert found.answers == n
    assert found.p_correct == pytest.approx(sum(p or 0 for _, p, _ in judged) / n)
    assert found.score == pytest.approx(sum(s for *_, s in judged) / n)
    assert found.brier == pytest.approx(sum(((p or 0) - s) ** 2 for _, p, s in judged) / n)
    bins = {b: [(p, s) for _, p, s in judged if math.floor((p or 0) * 10) == b] for b in range(10)}
    assert {round(float(one.of) * 10): one.answers for one in found.bins} == {b: len(v) for b, v in bins.items() if v}
    gaps = [abs(sum(p or 0 for p, _ in v) - sum(s for _, s in v)) for v in bins.values()]
    assert found.ece == pytest.approx(sum(gaps) / n)
    assert {one.of: one.answers for one in found.llms} == Counter(served for served, *_ in judged)
    assert all(one.low <= one.score <= one.high for one in (*found.bins, *found.llms))
    assert found.sources == Counter(f.source for f in day.feedback)
    assert found.own_test is not None
    assert found.own_test.artifact == artifact.id


def test_an_answer_judged_twice_counts_once(tmp_path: Path, artifact: Artifact) -> None:
    from recorded import make_feedback  # noqa: PLC0415 - only this test wants planted feedback

    records = [make_record(n, topic="chat") for n in range(4)]
    feedback = make_feedback(records, share=1.0)
    write_lines(tmp_path, records, [*feedback, *feedback, feedback[0]])
    source = open_source(tmp_path)
    found = judged_calibration(source, EVERYTHING, artifact)
    assert found.answers == 4
    assert [one.of for one in found.bins] == [0.9]
    source.close()


def test_the_interval_is_wilsons() -> None:
    """95 of 100: 0.888 to 0.978, as the usual tables have it."""
    share = wilson(0.95, 100)
    assert (share.low, share.high) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert wilson(0.0, 5).low == 0.0


def test_without_records_everything_is_empty(nothing: RecordSource) -> None:
    assert decision_page(nothing, EVERYTHING, DecisionSearch(text="x"), 0, 50).rows == []
    assert choices(nothing, EVERYTHING)["chosen"] == []
    found = judged_calibration(nothing, EVERYTHING, None)
    assert (found.answers, found.score, found.ece, found.bins, found.own_test) == (0, None, None, (), None)
    assert records_held(nothing).newest is None
