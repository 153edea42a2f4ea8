"""The newest records are found where they lie, however they are spread over time."""

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from recorded import START, make_record
from traffic import write_lines

from embedllm_router.analysis.decisions import DecisionSearch, decision_page, place_of_newest
from embedllm_router.analysis.overview import _thinning, overview
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.records.reader.source import RecordSource, open_source

Spread = Callable[[int], float]
SPREADS: dict[str, Spread] = {
    "one a minute": lambda n: 60.0 * n,
    "all at once": lambda _: 1.5,
    "in bursts of 37": lambda n: 86_400.0 * (n // 37),
    "rarely": lambda n: 1e5 * n,
    "at random": lambda n: random.Random(n).uniform(0, 1e6),
}


@pytest.fixture(params=SPREADS)
def spread(request: pytest.FixtureRequest, tmp_path: Path) -> RecordSource:
    records = [
        make_record(n, at=START + timedelta(seconds=SPREADS[request.param](n)), error="odd" if n % 7 == 0 else None)
        for n in range(150)
    ]
    return open_source(write_lines(tmp_path, records))


@pytest.mark.parametrize(("skip", "take"), [(0, 1), (0, 50), (40, 50), (149, 1), (140, 50), (0, 500)])
def test_a_page_is_that_of_sorting_everything(spread: RecordSource, skip: int, take: int) -> None:
    for text, kind in ((None, "TRUE"), ("odd", "error = 'odd'")):
        order = f'SELECT request_id FROM requests WHERE {kind} ORDER BY "at" DESC, request_id'  # noqa: S608 - a kind of this test's own
        expected = [row["request_id"] for row in spread.rows(order)]
        page = decision_page(spread, RecordQuery(Span.ALL), DecisionSearch(text=text), skip, take)
        assert page.total == len(expected)
        assert [row["request_id"] for row in page.rows] == expected[skip : skip + take]


def test_beyond_the_last_there_is_nothing_but_the_total(spread: RecordSource) -> None:
    for scattered in (False, True):
        place = place_of_newest(spread, "TRUE", {}, range(150, 200), scattered=scattered)
        assert (place.total, place.where, place.given) == (150, "FALSE", {})


def test_without_records_there_is_no_place(nothing: RecordSource) -> None:
    assert place_of_newest(nothing, "TRUE", {}, range(10)).total == 0


def test_percentiles_of_very_many_are_over_a_fair_part_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    at = [START + timedelta(microseconds=rng.randrange(3_600_000_000)) for _ in range(4_000)]
    records = [make_record(n, at=moment, latency_ms=rng.lognormvariate(6, 0.5)) for n, moment in enumerate(at)]
    source = open_source(write_lines(tmp_path, records))
    whole = overview(source, RecordQuery(Span.ALL))
    monkeypatch.setattr("embedllm_router.analysis.overview._SORTED", 2_000)
    part = overview(source, RecordQuery(Span.ALL))
    assert (whole.every, part.every) == (1, 2)
    assert part.total == whole.total
    assert part.spread.latency_p95 != whole.spread.latency_p95
    assert part.spread.latency_p95 == pytest.approx(whole.spread.latency_p95, rel=0.05)
    assert part.spread.latency_p50 == pytest.approx(whole.spread.latency_p50, rel=0.05)


def test_thinning_keeps_what_clocks_of_a_millisecond_record() -> None:
    assert [_thinning(n) for n in (0, 100_000, 100_001, 1_000_000, 10**7, 10**12)] == [1, 1, 2, 10, 100, 1000]
    assert all(1000 % _thinning(n) == 0 for n in range(0, 10**8, 1_234_567))
