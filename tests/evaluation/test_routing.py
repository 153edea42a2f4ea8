"""Pools, costs, routing over pools and the verdict."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_parts import matrix

from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.evaluation.baselines import BestSingle, DatasetOracle, Oracle
from embedllm_router.evaluation.frontier import CostMetrics, price_answers
from embedllm_router.evaluation.inputs import Part, find_pools, pool_means
from embedllm_router.evaluation.result import judge
from embedllm_router.evaluation.routing import Field, field_of, mean_cost_metrics, pareto_distances, route, sweep_pools


def llm(name: str, price: float | None = 1.0, *, thinking: bool = False) -> LearnedLLM:
    return LearnedLLM(
        id=name,
        vendor="v",
        thinking=thinking,
        n_labels=10,
        mean_correctness=0.5,
        input_usd_per_mtok=price,
        output_usd_per_mtok=price,
    )


def field(labels: np.ndarray, prices: list[float | None], datasets: tuple[str, ...] | None = None) -> Field:
    test = matrix(labels, datasets=datasets)
    llms = [llm(f"llm{i}", price) for i, price in enumerate(prices)]
    costs = price_answers(test, llms, np.full(labels.shape, 100, np.float32))
    return field_of(test, costs, None, np.linspace(0, 1, len(prices)))


def random_field(seed: int) -> tuple[Field, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (30, 4)).astype(float)
    return field(labels, [1, 2, 5, 30], ("a",) * 12 + ("b",) * 18), rng.random((30, 4)).astype(np.float32)


def test_a_pool_has_no_missing_label() -> None:
    observed = np.ones((20, 3), bool)
    observed[0, 0] = False  # 95 %: the LLM stays, the prompt goes
    observed[:5, 2] = False  # 75 %: the LLM goes
    (pool,) = find_pools(matrix(np.ones((20, 3)), observed=observed))
    assert pool.columns.tolist() == [0, 1]
    assert pool.rows.tolist() == list(range(1, 20))


def test_one_llm_makes_no_pool() -> None:
    assert find_pools(matrix(np.ones((5, 3))), np.array([True, False, False])) == ()


def test_the_best_single_llm_is_chosen_on_the_pools_own_data_set() -> None:
    train = matrix(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), datasets=("a", "b", "b"))
    (pool,) = find_pools(matrix(np.ones((2, 2)), datasets=("a", "a")))
    assert pool_means(pool, train).tolist() == [1, 0]


def test_cost_is_prompt_bytes_and_tokens_at_list_price() -> None:
    tokens = np.array([[50.0, 50.0, 50.0, np.nan]])
    llms = [llm("plain", 2.0), llm("thinks", 2.0, thinking=True), llm("unpriced", None), llm("unrecorded", 2.0)]
    made = matrix(np.ones((1, 4)), prompts=("éé" * 4,), tokens=tokens)
    costs = price_answers(made, llms, np.full((1, 4), 100, np.float32))
    of_prompt = 16 / 4 * 2e-6
    expected = [of_prompt + 50 * 2e-6, of_prompt + 100 * 2e-6, np.nan, of_prompt + 100 * 2e-6]
    assert costs.cost[0] == pytest.approx(expected, nan_ok=True)
    assert costs.expected_cost[0, 0] == pytest.approx(of_prompt + 2e-4)
    assert costs.priced.tolist() == [True, True, False, True]
    assert costs.recorded == pytest.approx(1 / 3)


def test_counted_tokens_are_charged_to_an_llm_that_reasons_and_recorded_input_tokens_to_all() -> None:
    made = replace(
        matrix(np.ones((1, 2)), prompts=("éé" * 4,), tokens=np.array([[700.0, 50.0]])),
        counted=np.array([[True, False]]),
        input_tokens=np.array([9.0], np.float32),
    )
    costs = price_answers(made, [llm("thinks", 2.0, thinking=True)] * 2, np.full((1, 2), 100, np.float32))
    assert costs.cost[0] == pytest.approx([(9 + 700) * 2e-6, (9 + 100) * 2e-6])
    assert costs.expected_cost[0] == pytest.approx([(4 + 100) * 2e-6] * 2), "a router knows neither"
    assert costs.recorded == pytest.approx(1 / 2)


def test_llms_without_a_price_route_but_do_not_cost() -> None:
    found = field(np.array([[1.0, 0.0, 1.0]] * 3), [None, 1.0, 2.0])
    assert found.all_llms[0].pool.columns.tolist() == [0, 1, 2]
    assert found.priced[0].pool.columns.tolist() == [1, 2]
    assert found.n_prompts == 3


def test_without_training_labels_the_artifacts_own_means_choose_the_best_single_llm() -> None:
    assert field(np.ones((3, 3)), [1, 1, 1]).all_llms[0].best == 2


@given(st.integers(0, 1000))
def test_routing_agrees_with_a_loop_over_prompts(seed: int) -> None:
    pools, p = random_field(seed)
    routed = route(pools.all_llms, p)
    at = 0
    for arena in pools.all_llms:
        for i, row in enumerate(arena.pool.rows):
            best = max(range(4), key=lambda j: p[row, j])
            assert routed.correct[at] == arena.labels[i, best]
            assert routed.chosen[at] == best
            assert routed.oracle[at] == max(arena.labels[i])
            right = [j for j in range(4) if arena.labels[i, j]]
            assert routed.ideal[at] == (min(right, key=lambda j: arena.cost[i, j]) if right else -1)
            at += 1
    assert at == len(routed.correct) == 30


@given(st.integers(0, 1000))
def test_no_router_beats_its_oracle_and_the_oracle_beats_every_router(seed: int) -> None:
    pools, p = random_field(seed)
    routed = route(pools.all_llms, p)
    assert (routed.correct <= routed.oracle).all()
    assert (routed.best_single <= routed.oracle).all()
    perfect = np.concatenate([arena.labels for arena in pools.all_llms])
    assert route(pools.all_llms, perfect.astype(np.float32)).correct.mean() == routed.oracle.mean()


def test_references_choose_what_their_names_say() -> None:
    labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    datasets = ("a", "a", "b", "b", "b")
    test = Part(matrix(labels, datasets=datasets), np.zeros((5, 1), np.float32))
    train = Part(matrix(1 - labels, datasets=datasets), np.zeros((5, 1), np.float32))
    best = BestSingle()
    best.fit(train)
    assert best.predict(test).argmax(axis=1).tolist() == [1, 1, 0, 0, 0]
    assert DatasetOracle().predict(test).argmax(axis=1).tolist() == [0, 0, 1, 1, 1]
    assert np.array_equal(Oracle().predict(test), labels)


def test_figures_over_pools_are_weighted_by_prompts_and_leave_undefined_ones_out() -> None:
    pools, p = random_field(1)
    results = sweep_pools(pools.priced, p)
    mean = mean_cost_metrics(results)
    for one in fields(CostMetrics):
        values = [(getattr(r.metrics, one.name), len(r.arena.labels)) for r in results]
        known = [(v, n) for v, n in values if math.isfinite(v)]
        naive = sum(v * n for v, n in known) / sum(n for _, n in known) if known else math.nan
        assert getattr(mean, one.name) == pytest.approx(naive, nan_ok=True)


def test_the_frontier_itself_has_no_distance_to_the_frontier() -> None:
    labels = np.array([[1.0, 0.0], [0.0, 1.0]] * 10)
    pools = field(labels, [1.0, 5.0])
    perfect, random = (
        sweep_pools(pools.priced, p) for p in (labels.astype(np.float32), np.full((20, 2), 0.5, np.float32))
    )
    distances = pareto_distances([perfect, random])
    assert distances[0] < distances[1] or distances == [0, 0]


def test_a_perfect_router_pays_and_a_blind_one_does_not() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 2)) < [0.6, 0.8]).astype(float)
    pools = field(labels, [1.0, 10.0])
    perfect = judge(
        route(pools.all_llms, labels.astype(np.float32)), sweep_pools(pools.priced, labels.astype(np.float32))
    )
    assert perfect.gain.positive
    assert perfect.cost_save is not None
    assert perfect.cost_save.low > 0.3
    assert perfect.held_out is not None
    assert perfect.held_out.saved > 0.3
    assert perfect.held_out.accuracy_difference.high >= 0
    assert "more accurate" in perfect.sentences()[0]
    blind = np.tile(np.array([0.6, 0.8], np.float32), (300, 1))
    verdict = judge(route(pools.all_llms, blind), sweep_pools(pools.priced, blind))
    assert verdict.gain.value == 0
    assert "not shown to be more accurate" in verdict.sentences()[0]
    assert verdict.cost_save is not None
    assert verdict.cost_save.value == 0


def test_a_harmful_router_is_called_so_and_cost_is_not_judged_without_prices() -> None:
    labels = np.tile([0.0, 1.0], (60, 1))
    pools = field(labels, [None, None])
    verdict = judge(route(pools.all_llms, 1 - labels.astype(np.float32)), ())
    assert verdict.gain.negative
    assert "less accurate" in verdict.sentences()[0]
    assert "Cost could not be judged" in verdict.sentences()[1]
