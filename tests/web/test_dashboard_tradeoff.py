"""The ladder of cost weights against `policy.rank`, one request after another; and the learned LLMs."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from day import Day
from numpy.typing import NDArray
from recorded import COST_WEIGHT, START, USD, make_record, make_records
from traffic import write_lines

from embedllm_router.analysis.llms import learned_llms
from embedllm_router.analysis.plan.figures import MIN_BILLED
from embedllm_router.analysis.plan.traffic import Rate
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.analysis.tradeoff import LADDER, Frontier, frontier
from embedllm_router.artifact.weights import Artifact
from embedllm_router.evaluation.embeddings import nearest_llms
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


def days_apart(n: int, days: float) -> list[RequestRecord]:
    """Evenly spaced from the first to the last; bills are 0.9 of forecasts."""
    return [replace(make_record(k), at=START + k * timedelta(days=days) / (n - 1)) for k in range(n)]


def test_a_month_costs_bills_times_the_rate_observed(tmp_path: Path) -> None:
    """Forty-one requests over two days: twenty a day, each billed 0.9 of 0.016 USD."""
    write_lines(tmp_path, days_apart(41, 2))
    source = open_source(tmp_path)
    found, told = frontier(source, EVERYTHING, 10), frontier(source, EVERYTHING, 100, per_month=1_000)
    source.close()
    assert (found.requests, found.hours) == (10, 48)
    assert found.rate is not None
    assert found.rate.per_month == pytest.approx(20 * 365 / 12)
    assert found.billed_ratio is None
    assert told.billed_ratio == pytest.approx(0.9)
    assert told.now.usd_per_month is not None
    assert found.now.usd_per_month is not None
    assert told.now.usd_per_month.value == pytest.approx(1_000 * 0.9 * USD["wizard"])
    assert found.now.usd_per_month.value == pytest.approx(found.rate.per_month * USD["wizard"])
    assert told.now.usd_per_month.low == pytest.approx(told.now.usd_per_month.high), "every request cost the same"
    assert told.rate == Rate(1_000, measured=False, days=2)


def test_an_llm_s_forecasts_are_put_right_by_its_own_bills(tmp_path: Path) -> None:
    """The wizard bills a tenth of its forecasts and the sprinter three times as much; the novice was never asked."""
    maths = [make_record(k, billed_cost_usd=0.1 * USD["wizard"]) for k in range(40)]
    chat = [make_record(40 + k, topic="chat", billed_cost_usd=3 * USD["sprinter"]) for k in range(40)]
    write_lines(tmp_path, [*maths, *chat])
    source = open_source(tmp_path)
    found = frontier(source, EVERYTHING, 100)
    source.close()
    assert found.now.usd_per_request is not None
    assert found.now.usd_per_request.value == pytest.approx((0.1 * USD["wizard"] + 3 * USD["sprinter"]) / 2)
    ratio = (0.1 * USD["wizard"] + 3 * USD["sprinter"]) / (USD["wizard"] + USD["sprinter"])
    assert found.billed_ratio == pytest.approx(ratio)
    of_forecast = {"wizard": 0.1, "sprinter": 3.0, "novice": ratio}
    for rung in found.ladder:
        mix = dict(zip(found.names, rung.mix, strict=True))
        assert rung.usd_per_request is not None
        expected = sum(n * of_forecast[name] * USD[name] for name, n in mix.items() if n) / 80
        assert rung.usd_per_request.value == pytest.approx(expected)
    assert len({rung.mix for rung in found.ladder}) > 1


def test_under_a_day_of_records_tells_no_rate(tmp_path: Path) -> None:
    write_lines(tmp_path, days_apart(41, 0.99))
    source = open_source(tmp_path)
    found, told = frontier(source, EVERYTHING, 100), frontier(source, EVERYTHING, 100, per_month=1_000)
    source.close()
    assert (found.rate, found.now.usd_per_month, found.ladder[0].usd_per_month) == (None, None, None)
    assert found.hours == pytest.approx(0.99 * 24)
    assert told.ladder[0].usd_per_month is not None


def test_intervals_are_those_of_a_naive_bootstrap(replayed: Frontier, day: Day) -> None:
    records = latest(day, 300)
    cost = np.array([r.expected_cost_usd for r in records], dtype=float)
    own = np.array([r.served == r.chosen and r.billed_cost_usd is not None for r in records])
    billed = np.array([r.billed_cost_usd or 0.0 for r in records])
    chosen = np.array([r.chosen for r in records])
    enough = {name for name in chosen if (own & (chosen == name)).sum() >= MIN_BILLED}

    def by_bills(i: NDArray[np.intp]) -> float:
        total = 0.0
        for name in set(chosen):
            mine = chosen[i] == name
            paid = own[i] & (mine if name in enough else True)
            total += cost[i][mine].sum() * billed[i][paid].sum() / cost[i][paid].sum()
        return total / len(i)

    rng = np.random.default_rng(5)
    drawn = [by_bills(rng.integers(0, 300, 300)) for _ in range(1_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = replayed.now.usd_per_request
    assert found is not None
    assert found.value == pytest.approx(by_bills(np.arange(300)))
    assert (found.low, found.high) == (pytest.approx(low, rel=0.05), pytest.approx(high, rel=0.05))
    assert replayed.virtual_models[0] == "auto"


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


def test_the_llms_have_todays_traffic_and_the_likes_that_the_evaluation_finds(
    artifact: Artifact, tmp_path: Path
) -> None:
    write_lines(tmp_path, [make_record(n) for n in range(3)])
    source = open_source(tmp_path)
    found = learned_llms(artifact, source, EVERYTHING)
    source.close()
    assert {llm.id: llm.chosen for llm in found.llms if llm.chosen} == {"wizard-2025-01-01": 3}
    for llm in found.llms:
        expected = nearest_llms(artifact, llm.id, 5)
        assert [name for name, _ in llm.nearest] == [one.llm for one in expected]
        assert [cosine for _, cosine in llm.nearest] == pytest.approx([one.similarity for one in expected])


def test_without_weights_there_are_no_llms(nothing: RecordSource) -> None:
    assert learned_llms(None, nothing, EVERYTHING).llms == ()
