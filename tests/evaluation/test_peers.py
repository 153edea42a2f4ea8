"""What bench_peers and bench_attack measure: planted topics and words are found, figures are those of a naive count."""

from collections.abc import Sequence
from dataclasses import replace

import bench_attack
import numpy as np
import pytest
from bench_attack import Measure, Server, attack, halves, whole
from bench_peers import HALF, UTILITY_WEIGHTS, WEIGHTS, NearestUtterances, Stage, Tiers, measure, over_sets
from planted import SPRINTER, WIZARD
from planted_parts import matrix, topic_part

from embedllm_router import Router
from embedllm_router.evaluation.frontier import sweep
from embedllm_router.evaluation.inputs import Part, llm_means
from embedllm_router.routing.decision import Objective
from embedllm_router.routing.pipeline import Policy


def unit(part: Part, topics: Sequence[str]) -> Part:
    """The part with vectors of length 1 and a category for each prompt."""
    x = part.x / np.linalg.norm(part.x, axis=1, keepdims=True)
    return Part(replace(part.matrix, categories=tuple(topics)), x)


def topics_of(part: Part) -> list[str]:
    return [str(topic) for topic in part.x[:, :3].argmax(axis=1)]


def test_utterances_find_the_planted_topic_and_far_prompts_get_the_means() -> None:
    train, test = (unit(part, topics_of(part)) for part in (topic_part(400, 0), topic_part(50, 1)))
    router = NearestUtterances()
    router.fit(train)
    assert (router.predict(test).argmax(axis=1) == test.x[:, :3].argmax(axis=1)).all()
    far = Part(test.matrix, np.eye(6, dtype=np.float32)[np.full(50, 5)])
    assert np.allclose(router.predict(far), llm_means(train.matrix))


def test_tiers_are_the_shares_of_their_prompts() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    part = Part(matrix(labels), np.zeros((4, 1), dtype=np.float32))
    tiers = Tiers({prompt: i // 2 for i, prompt in enumerate(part.matrix.prompts)})
    tiers.fit(part)
    assert tiers.predict(part).argmax(axis=1).tolist() == [0, 0, 1, 1]


def stage(labels: np.ndarray, cost: np.ndarray, p: np.ndarray) -> Stage:
    part = Part(matrix(labels), np.zeros((len(labels), 1), dtype=np.float32))
    return Stage("made_up", part, part, cost, cost, p, p.mean(axis=0), p)


def test_metrics_are_those_of_a_naive_count() -> None:
    """Two LLMs: a cheap one right on half of the prompts, a dear one on all, and a router that knows which."""
    labels = np.array([[1.0, 1.0], [0.0, 1.0]] * 20)
    cost = np.tile([0.001, 0.01], (40, 1))
    one = stage(labels, cost, labels * 0.8 + 0.1)
    found = measure(sweep(one.ours, cost, labels, cost, WEIGHTS), one, np.full((1, 40), 1 / 40))
    dear_share = 0.5  # the router pays only where the cheap one fails: all right at 0.0055 USD
    mean_cost = 0.001 + dear_share * 0.009
    assert found["utility at 20"][0] == pytest.approx(1.0 - 20 * mean_cost)
    rising = 0.75 * (mean_cost - 0.001) + 1.0 * (0.01 - mean_cost)
    assert found["AIQ"][0] == pytest.approx(rising / 0.009)
    assert found[HALF][0] == pytest.approx(0.5 + 0.5 * (0.005 - 0.001) / (mean_cost - 0.001))
    assert len(found) == 2 + len(UTILITY_WEIGHTS)


def test_half_the_cost_is_undefined_where_the_best_fixed_llm_is_the_cheapest() -> None:
    labels, cost = np.array([[1.0, 0.0]] * 10), np.tile([0.001, 0.01], (10, 1))
    one = stage(labels, cost, labels)
    assert np.isnan(measure(sweep(labels, cost, labels, cost, WEIGHTS), one, np.full((1, 10), 0.1))[HALF][0])


def test_a_mean_over_sets_leaves_out_sets_without_the_metric() -> None:
    samples = np.array([[1.0] * 50, [3.0] * 50, [np.nan] * 50])
    found = over_sets(samples, np.random.default_rng(0))
    assert (found.value, found.n) == (2.0, 2)
    assert found.low >= 1.0
    assert found.high <= 3.0


def served(router: Router) -> Server:
    return Server(router, Policy(router.pool([WIZARD, SPRINTER])))


def test_the_search_finds_the_planted_word(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sprinter` is poor at maths only, so the one word that makes `wizard` worth its price is "integral"."""
    monkeypatch.setattr(bench_attack, "pieces", lambda: ("please", "statute", *("so",) * 20, "integral"))
    plain = Measure("as served", router.scorer, Objective(10.0), whole)
    found = attack(served(router), "Hello", plain, 200, both_ends=False, seed=0)
    assert (found.before, found.after, found.prefix) == (SPRINTER, WIZARD, "")
    assert "integral" in found.suffix
    assert found.ratio > 10
    guarded = replace(plain, views=lambda text: (text, "Hello"), cheapest=True)
    assert attack(served(router), "Hello", guarded, 40, both_ends=True, seed=0).ratio == 1.0


def test_without_tries_nothing_changes(router: Router) -> None:
    median = Measure("median", router.scorer, Objective(10.0), halves)
    found = attack(served(router), "Hello", median, 0, both_ends=False, seed=0)
    assert (found.ratio, found.suffix) == (1.0, "")
