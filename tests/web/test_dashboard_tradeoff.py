"""The ladder of cost weights against `policy.rank`, one request after another; and the map of LLMs."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from day import Day
from recorded import COST_WEIGHT, make_record, make_records
from traffic import write_lines

from embedllm_router.analysis.llms import map_of_llms
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.analysis.tradeoff import LADDER, Frontier, frontier
from embedllm_router.artifact.weights import Artifact
from embedllm_router.evaluation.embeddings import llm_map, nearest_llms
from embedllm_router.records.reader.source import RecordSource, open_source
from embedllm_router.records.schema import RequestRecord
from embedllm_router.routing.policy import Objective, rank

EVERYTHING = RecordQuery(Span.ALL)


@pytest.fixture(scope="module")
def replayed(source: RecordSource) -> Frontier:
    return frontier(source, EVERYTHING, 300)


def latest(day: Day, n: int) -> list[RequestRecord]:
    return [r for r in reversed(day.requests) if r.failed_open is None][:n]


def decided(record: RequestRecord, cost_weight: float) -> str:
    """Whom the policy itself chooses."""
    c = [one for one in record.candidates if one.excluded is None]
    p, usd = (np.array([getattr(one, name) for one in c], dtype=float) for name in ("p_correct", "cost_usd"))
    order, _ = rank(Objective(cost_weight), p, usd, np.ones(len(c), dtype=bool))
    return c[order[0]].name


def test_each_rung_is_what_the_policy_decides(replayed: Frontier, day: Day) -> None:
    records = latest(day, 300)
    assert replayed.requests == 300
    for rung in replayed.ladder[:: max(1, len(replayed.ladder) // 8)]:
        assert rung.cost_weight is not None
        names = [decided(r, rung.cost_weight) for r in records]
        assert dict(zip(replayed.names, rung.mix, strict=True)) == {n: names.count(n) for n in replayed.names}
        picked = [next(c for c in r.candidates if c.name == n) for r, n in zip(records, names, strict=True)]
        assert rung.p_correct == pytest.approx(np.mean([c.p_correct for c in picked]))
        assert rung.cost_usd == pytest.approx(np.mean([c.cost_usd for c in picked]))


def test_now_is_what_was_recorded(replayed: Frontier, day: Day) -> None:
    records = latest(day, 300)
    assert replayed.now.p_correct == pytest.approx(np.mean([r.p_correct for r in records]))
    assert replayed.now.cost_usd == pytest.approx(np.mean([r.expected_cost_usd for r in records]))
    assert sum(replayed.now.mix) == 300
    assert replayed.cost_weight == 20
    assert sum(replayed.objectives.values()) == 300


def test_a_higher_cost_weight_never_costs_more_nor_is_likelier_right(replayed: Frontier) -> None:
    for lower, higher in pairwise(replayed.ladder):
        assert (lower.cost_weight or 0) < (higher.cost_weight or 0)
        assert (higher.cost_usd or 0) <= (lower.cost_usd or 0) + 1e-15
        assert (higher.p_correct or 0) <= (lower.p_correct or 0) + 1e-12


def test_the_ladder_is_cut_only_where_nothing_changes(replayed: Frontier) -> None:
    kept = [rung.cost_weight for rung in replayed.ladder]
    inner = [w for w in LADDER if (kept[1] or 0) <= w <= (kept[-1] or 0)]
    assert kept == [0.0, *inner]
    assert replayed.ladder[0].mix == replayed.ladder[1].mix
    assert replayed.ladder[-2].mix != replayed.ladder[-1].mix


def test_singles_are_means_over_what_they_could_take(replayed: Frontier, day: Day) -> None:
    records = latest(day, 300)
    assert {single.name for single in replayed.singles} == set(replayed.names) - {"in-house"}
    for single in replayed.singles:
        could = [c for r in records for c in r.candidates if c.name == single.name and c.excluded is None]
        assert single.could_take == len(could)
        assert single.p_correct == pytest.approx(np.mean([c.p_correct for c in could]))
        assert single.cost_usd == pytest.approx(np.mean([c.cost_usd for c in could]))


def test_the_planted_llms_change_where_arithmetic_says(tmp_path: Path) -> None:
    """Maths goes to the wizard until λ outweighs 0.45 of accuracy for 0.01598 USD, at λ = 28.2; then to the novice."""
    write_lines(tmp_path, [make_record(n) for n in range(5)])
    source = open_source(tmp_path)
    found = frontier(source, EVERYTHING, 10)
    source.close()
    chosen = {rung.cost_weight: found.names[rung.mix.index(5)] for rung in found.ladder}
    assert {chosen[w] for w in (0.0, 25.0)} == {"wizard"}
    assert chosen[30.0] == "novice"
    assert found.names[found.now.mix.index(5)] == "wizard"
    assert found.cost_weight == COST_WEIGHT


def test_a_recorded_limit_on_cost_still_holds(tmp_path: Path) -> None:
    write_lines(tmp_path, [make_record(0, max_cost_usd=0.001, chosen="novice")])
    source = open_source(tmp_path)
    found = frontier(source, EVERYTHING, 10)
    source.close()
    assert found.names[found.ladder[0].mix.index(1)] == "novice"
    assert found.objectives == {"cost_weight 20, max_cost_usd 0.001": 1}


@pytest.mark.parametrize(
    ("changes", "words"), [({"within": 0.05}, "within 0.05"), ({"min_p_correct": 0.8}, "min_p_correct 0.8")]
)
def test_floors_are_named_and_set_no_cost_weight(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    write_lines(tmp_path, [make_record(0, **changes)])
    source = open_source(tmp_path)
    found = frontier(source, EVERYTHING, 10)
    source.close()
    assert (found.objectives, found.cost_weight) == ({words: 1}, None)


def test_requests_that_failed_open_are_left_out(tmp_path: Path) -> None:
    records = make_records(400)
    write_lines(tmp_path, records)
    source = open_source(tmp_path)
    found = frontier(source, EVERYTHING, 2_000)
    source.close()
    assert found.requests == sum(r.failed_open is None for r in records) < 400


def test_nothing_is_an_empty_frontier(nothing: RecordSource) -> None:
    found = frontier(nothing, EVERYTHING, 100)
    assert (found.requests, found.ladder, found.singles, found.now.p_correct) == (0, (), (), None)


def test_the_map_is_that_of_the_evaluation_with_todays_traffic(artifact: Artifact, tmp_path: Path) -> None:
    write_lines(tmp_path, [make_record(n) for n in range(3)])
    source = open_source(tmp_path)
    found = map_of_llms(artifact, source, EVERYTHING)
    source.close()
    places, explained = llm_map(artifact)
    assert [(llm.x, llm.y) for llm in found.llms] == [tuple(place) for place in places.tolist()]
    assert found.explained == explained
    assert {llm.id: llm.chosen for llm in found.llms if llm.chosen} == {"wizard-2025-01-01": 3}
    for llm in found.llms:
        expected = nearest_llms(artifact, llm.id, 5)
        assert [name for name, _ in llm.nearest] == [one.llm for one in expected]
        assert [cosine for _, cosine in llm.nearest] == pytest.approx([one.similarity for one in expected])


def test_without_weights_the_map_is_empty(nothing: RecordSource) -> None:
    assert map_of_llms(None, nothing, EVERYTHING).llms == ()
