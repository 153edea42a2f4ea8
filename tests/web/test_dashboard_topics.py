"""Topics by LLM against a plain loop, in files and in PostgreSQL."""

from collections import defaultdict

import pytest
from day import Day

from embedllm_router._stats import wilson
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.analysis.topics import by_topic_and_llm, topic_of
from embedllm_router.records.reader.source import Filters, RecordSource
from embedllm_router.records.schema import RequestRecord

WHICH = (Filters(), Filters(virtual_model="auto-cheap"), Filters(key_alias="search"))


def mean(values: list[float]) -> object:
    return pytest.approx(sum(values) / len(values)) if values else None


@pytest.mark.parametrize("filters", WHICH)
def test_each_cell_is_that_of_a_plain_loop(source: RecordSource, day: Day, filters: Filters) -> None:
    chosen: defaultdict[tuple[str, str], list[RequestRecord]] = defaultdict(list)
    judged: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    scores = day.scores()
    wanted = [
        r
        for r in day.requests
        if filters.virtual_model in {None, r.virtual_model} and filters.key_alias in {None, r.key_alias}
    ]
    for r in wanted:
        chosen[topic_of(r.category), r.chosen].append(r)
        if r.request_id in scores and r.served:
            judged[topic_of(r.category), r.served].append(scores[r.request_id])
    found = by_topic_and_llm(source, filters)
    assert sum(line.all.n for line in found) == len(wanted)
    assert [line.all.n for line in found] == sorted((line.all.n for line in found), reverse=True)
    assert {(line.topic, one.llm) for line in found for one in line.llms} == {*chosen, *judged}
    for line in found:
        assert line.all.share == pytest.approx(line.all.n / len(wanted))
        assert sum(one.share for one in line.llms) == pytest.approx(1)
        for one in line.llms:
            assert one.llm is not None
            mine, said = chosen[line.topic, one.llm], judged[line.topic, one.llm]
            assert (one.n, one.judged) == (len(mine), len(said))
            assert one.p_correct == mean([r.p_correct for r in mine if r.p_correct is not None])
            paid = [r.expected_cost_usd if r.billed_cost_usd is None else r.billed_cost_usd for r in mine]
            assert one.usd_per_request == mean([usd for usd in paid if usd is not None])
            if said:
                expected = wilson(sum(said) / len(said), len(said))
                assert one.score is not None
                assert (one.score.low, one.score.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_no_records_have_no_topics(nothing: RecordSource) -> None:
    assert by_topic_and_llm(nothing, RecordQuery(Span.DAY).filters()) == ()
