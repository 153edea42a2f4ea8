"""The overview's figures against a plain loop over the same records, in files and in PostgreSQL."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from day import Day, percentile
from recorded import make_record
from traffic import write_lines

from embedllm_router.analysis.overview import Overview, Sums, overview
from embedllm_router.analysis.span import RecordQuery, Span, window_of
from embedllm_router.analysis.verdict.recorded import verdict_of
from embedllm_router.records.reader.source import RecordSource, open_source
from embedllm_router.records.schema import RequestRecord

EVERYTHING = RecordQuery(Span.ALL)


@pytest.fixture(scope="module")
def seen(source: RecordSource) -> Overview:
    return overview(source, EVERYTHING)


def counted(records: Iterable[RequestRecord]) -> Sums:
    listed = list(records)
    compared = [r for r in listed if None not in {r.expected_cost_usd, r.likeliest_cost_usd, r.cheapest_cost_usd}]
    foreseen = [
        r for r in listed if r.billed_cost_usd is not None and r.expected_cost_usd is not None and not r.fallback
    ]
    return Sums(
        requests=len(listed),
        succeeded=sum(r.status == "success" for r in listed),
        failed=sum(r.status == "failure" for r in listed),
        fallbacks=sum(r.fallback for r in listed),
        failed_open=sum(r.failed_open is not None for r in listed),
        billed=sum(r.billed_cost_usd is not None for r in listed),
        billed_usd=sum(r.billed_cost_usd or 0 for r in listed),
        compared=len(compared),
        expected_usd=sum(r.expected_cost_usd or 0 for r in compared),
        likeliest_usd=sum(r.likeliest_cost_usd or 0 for r in compared),
        cheapest_usd=sum(r.cheapest_cost_usd or 0 for r in compared),
        p_correct=sum(r.p_correct or 0 for r in compared),
        likeliest_p_correct=sum(r.likeliest_p_correct or 0 for r in compared),
        cheapest_p_correct=sum(r.cheapest_p_correct or 0 for r in compared),
        baseline=len(known := [r for r in compared if r.baseline_cost_usd is not None]),
        baseline_usd=sum(r.baseline_cost_usd or 0 for r in known),
        baseline_p_correct=sum(r.baseline_p_correct or 0 for r in known),
        baseline_expected_usd=sum(r.expected_cost_usd or 0 for r in known),
        baseline_expected_p_correct=sum(r.p_correct or 0 for r in known),
        forecast=len(foreseen),
        forecast_usd=sum(r.expected_cost_usd or 0 for r in foreseen),
        forecast_billed_usd=sum(r.billed_cost_usd or 0 for r in foreseen),
        retried=sum(bool(r.failed_attempts) for r in listed),
        failed_attempts=sum(len(r.failed_attempts) for r in listed),
    )


def assert_same(found: Sums, expected: Sums) -> None:
    for name in Sums.__dataclass_fields__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9, abs=1e-12), name


def test_totals_are_those_of_a_plain_loop(seen: Overview, day: Day) -> None:
    assert_same(seen.total, counted(day.requests))
    assert seen.total.failed_open > 0
    assert seen.total.fallbacks > 0


def test_every_step_holds_the_requests_of_its_time(seen: Overview, day: Day) -> None:
    for start, sums in zip(seen.starts, seen.by_step, strict=True):
        assert_same(sums, counted(r for r in day.requests if 0 <= r.at.timestamp() - start < seen.step_s))
    assert sum(sums.requests for sums in seen.by_step) == len(day.requests)
    assert len(seen.starts) <= 61


def test_percentiles_are_those_of_a_sorted_list(seen: Overview, day: Day) -> None:
    latencies = [r.latency_ms for r in day.requests if r.latency_ms is not None]
    routes = [r.route_ms for r in day.requests]
    assert seen.spread.latency_p50 == pytest.approx(percentile(latencies, 0.5))
    assert seen.spread.latency_p95 == pytest.approx(percentile(latencies, 0.95))
    assert seen.spread.route_p50 == pytest.approx(percentile(routes, 0.5))
    assert seen.spread.route_p95 == pytest.approx(percentile(routes, 0.95))
    totals = [r.total_ms for r in day.requests if r.total_ms is not None]
    assert seen.spread.total_p50 == pytest.approx(percentile(totals, 0.5))
    assert seen.spread.total_p95 == pytest.approx(percentile(totals, 0.95))
    busiest = max(range(len(seen.starts)), key=lambda i: seen.by_step[i].requests)
    inside = [r for r in day.requests if 0 <= r.at.timestamp() - seen.starts[busiest] < seen.step_s]
    expected = percentile([r.latency_ms for r in inside if r.latency_ms is not None], 0.95)
    assert seen.spread_by_step[busiest].latency_p95 == pytest.approx(expected)


def test_each_llm_is_counted_by_choice_and_by_answer(seen: Overview, day: Day) -> None:
    chosen, served = Counter(r.chosen for r in day.requests), Counter(r.served for r in day.requests if r.served)
    assert {line.name: line.chosen.requests for line in seen.llms if line.chosen.requests} == chosen
    assert {line.name: line.answered for line in seen.llms if line.answered} == served
    for line in seen.llms:
        answered = [r for r in day.requests if r.served == line.name]
        assert line.answered_usd == pytest.approx(sum(r.billed_cost_usd or 0 for r in answered))
        assert sum(line.by_step) == line.chosen.requests
        slowest = percentile([r.latency_ms for r in answered if r.latency_ms is not None], 0.95)
        assert line.spread.latency_p95 == pytest.approx(slowest)
    assert [line.chosen.requests for line in seen.llms] == sorted(chosen.values(), reverse=True)


def test_a_reload_is_marked_where_the_records_begin_to_tell_of_it(seen: Overview, day: Day) -> None:
    """Only the second generation is a change: what decided first is none."""
    (change,) = seen.changes
    first = min(r.at for r in day.requests if r.generation == 2 and r.artifact is not None)
    assert (change.what, change.generation, change.artifact) == ("configuration", 2, "3f09ac21b7d4")
    assert change.at == _naive(first)


def test_other_weights_are_marked_and_canaries_and_restarts_are_not(tmp_path: Path) -> None:
    """A process that starts again counts its generations from 1: nothing else decides then."""
    snapshots = [
        ("a", 1, "live"),
        ("c", 1, "canary"),
        ("a", 2, "live"),
        ("a", 1, "live"),
        ("b", 3, "live"),
        ("b", 4, "live"),
    ]
    kinds = ("configuration", "weights", "configuration")
    write_lines(
        tmp_path,
        [
            make_record(10 * k + i, artifact=artifact, generation=generation, arm=arm)
            for k, (artifact, generation, arm) in enumerate(snapshots)
            for i in range(3)
        ],
    )
    source = open_source(tmp_path)
    found = overview(source, EVERYTHING).changes
    source.close()
    firsts = [_naive(make_record(10 * k).at) for k in (2, 4, 5)]
    assert [(one.at, one.what) for one in found] == list(zip(firsts, kinds, strict=True))


def test_reasons_and_problems_are_counted(seen: Overview, day: Day) -> None:
    assert seen.reasons == Counter(r.reason for r in day.requests)
    problems = Counter(r.failed_open or r.error for r in day.requests)
    assert seen.problems == {name: n for name, n in problems.items() if name is not None}


@pytest.mark.parametrize("span", [Span.HOUR, Span.DAY])
def test_a_span_takes_what_lies_in_it(source: RecordSource, day: Day, span: Span) -> None:
    length = timedelta(hours=1 if span is Span.HOUR else 24)
    found = overview(source, RecordQuery(span, until=_naive(day.end))).total.requests
    assert found == len(day.within(length))


def test_filters_and_an_earlier_end_narrow_it(source: RecordSource, day: Day) -> None:
    end = day.end - timedelta(hours=3)
    query = RecordQuery(Span.ALL, _naive(end), virtual_model="auto-cheap", key_alias="search")
    expected = [r for r in day.requests if (r.virtual_model, r.key_alias) == ("auto-cheap", "search") and r.at < end]
    assert expected
    assert_same(overview(source, query).total, counted(expected))


def test_no_records_are_zeros(nothing: RecordSource) -> None:
    for span in Span:
        found = overview(nothing, RecordQuery(span))
        assert (found.total, found.llms, found.reasons) == (Sums(), (), {})
        assert {sums.requests for sums in found.by_step} == {0}


@pytest.mark.parametrize("span", list(Span))
def test_a_window_has_few_steps_that_cover_it(nothing: RecordSource, span: Span) -> None:
    window = window_of(nothing, RecordQuery(span))
    since, until = (moment.replace(tzinfo=UTC).timestamp() for moment in (window.since, window.until))
    assert len(window.starts) <= 61
    assert window.starts[0] <= since < window.starts[0] + window.step_s
    assert window.starts[-1] <= until < window.starts[-1] + window.step_s
    assert all(start % window.step_s == 0 for start in window.starts)


def test_years_of_records_still_make_few_steps(source: RecordSource) -> None:
    query = RecordQuery(Span.ALL, until=datetime(2057, 1, 1))  # noqa: DTZ001 - UTC without zone, as records have it
    assert len(window_of(source, query).starts) <= 61


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def test_the_verdict_page_says_why_it_is_not_known(source: RecordSource) -> None:
    """Nothing was explored that day, so no fixed LLM could have been observed everywhere."""
    found = verdict_of(source, EVERYTHING.filters())
    assert found.verdict is not None
    assert not found.verdict.best.known
    assert found.sentence.startswith("Not known from these records: for ")
    assert found.verdict.baseline is not None
    assert found.verdict.baseline.llm == "gpt-4o"
