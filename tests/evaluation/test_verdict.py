"""Planted pools whose verdict is known by construction, and how often intervals hold the truth."""

import numpy as np
import pytest

from embedllm_router.evaluation.verdict import (
    MARGIN,
    Answer,
    Answered,
    Graded,
    compare,
    headline,
    judge,
    judge_choices,
    judge_pool,
    n_words,
    pick_fixed,
    requests_to_tell,
    uses_of,
)


def graded(p: np.ndarray, usd: tuple[float, ...], seed: int = 0, *, said: np.ndarray | None = None) -> Graded:
    """Answers drawn from true probabilities p (n, n_llms); `said` is what a router predicts, else the truth."""
    labels = (np.random.default_rng(seed).random(p.shape) < p).astype(np.float64)
    cost = np.broadcast_to(np.array(usd), p.shape).astype(np.float64)
    return Graded(labels, cost, p if said is None else said, cost)


def specialists(n: int) -> np.ndarray:
    """Two LLMs, each right 9 times in 10 on its half of the prompts and 4 times in 10 on the other."""
    mine = np.arange(n) % 2 == 0
    return np.stack([np.where(mine, 0.9, 0.4), np.where(mine, 0.4, 0.9)], axis=1)


def test_routing_pays_where_each_llm_is_good_at_other_prompts() -> None:
    found = judge_pool(graded(specialists(400), (0.01, 0.01)))
    assert found.judgement.answer is Answer.PAYS
    assert found.judgement.better
    assert found.judgement.for_accuracy.accuracy_change.value == pytest.approx(0.25, abs=0.06)


def test_routing_pays_where_a_cheap_llm_knows_half_of_the_prompts_as_well() -> None:
    easy = np.arange(3000) % 2 == 0
    p = np.stack([np.full(3000, 0.9), np.where(easy, 0.93, 0.2)], axis=1)
    found = judge_pool(graded(p, (0.02, 0.001)))
    assert found.judgement.cheaper
    assert found.judgement.for_savings.cost_change_share.value == pytest.approx(-0.475, abs=0.05)
    assert headline(found.judgement, "big").startswith("Routing pays")


def test_one_llm_that_is_best_everywhere_is_used_for_everything() -> None:
    p = np.stack([np.full(1000, 0.9), np.full(1000, 0.6), np.full(1000, 0.5)], axis=1)
    found = judge_pool(graded(p, (0.001, 0.01, 0.02)))
    assert found.judgement.answer is Answer.USE_ONE
    assert found.fixed.column == 0
    assert found.fixed.agreement == 1.0
    assert headline(found.judgement, "best").startswith("Use best for everything")


def test_a_router_that_chooses_the_worse_llm_is_told_to_stop() -> None:
    p = specialists(600)
    found = judge_pool(graded(p, (0.01, 0.01), said=p[:, ::-1]))
    assert found.judgement.answer is Answer.USE_ONE
    assert found.judgement.for_accuracy.accuracy_change.high < 0


def test_a_coin_toss_is_not_shown_and_says_how_many_answers_would_tell() -> None:
    p = np.full((200, 2), 0.5)
    found = judge_pool(graded(p, (0.01, 0.01), said=np.random.default_rng(1).random((200, 2))))
    assert found.judgement.answer is Answer.NOT_SHOWN
    assert found.judgement.n_more is not None
    assert "more answers needed" in headline(found.judgement, "a")


def test_so_many_more_answers_do_tell() -> None:
    """A difference that is not shown is shown with the number of answers asked for."""
    few = _paired(150, 0.16, 0.10)
    judgement = judge(compare(*few))
    assert judgement.answer is Answer.NOT_SHOWN
    assert judgement.n_more is not None
    needed = 150 + judgement.n_more
    gain = few[0].correct.mean() - few[1].correct.mean()
    routed, fixed = (Answered(np.resize(one.correct, needed), np.resize(one.cost, needed)) for one in few)
    more = compare(routed, fixed)
    assert gain > 0
    assert abs(more.utility_change.low) < 0.15 * gain  # at the very edge


def _paired(n: int, better: float, worse: float, seed: int = 4) -> tuple[Answered, Answered]:
    u = np.random.default_rng(seed).random(n)
    routed = np.where(u < better, 1.0, np.where(u < better + worse, 0.0, 1.0))
    fixed = np.where(u < better, 0.0, 1.0)
    cost = np.full(n, 0.01)
    return Answered(routed, cost), Answered(fixed, cost)


@pytest.mark.parametrize(("n", "better", "worse"), [(60, 0.2, 0.1), (300, 0.05, 0.05), (300, 0.01, 0.03)])
def test_the_interval_holds_the_truth_as_often_as_it_says(n: int, better: float, worse: float) -> None:
    found = [compare(*_paired(n, better, worse, seed)).accuracy_change for seed in range(200)]
    held = [one.low <= better - worse <= one.high for one in found]
    assert np.mean(held) >= 0.91


def test_routing_that_never_helps_is_seldom_said_to_pay() -> None:
    answers = [judge(compare(*_paired(200, 0.1, 0.1, seed))).answer for seed in range(200)]
    assert answers.count(Answer.PAYS) <= 12


def test_few_answers_that_never_differ_prove_nothing_but_equal_choices_do() -> None:
    same = Answered(np.ones(40), np.full(40, 0.01))
    assert judge(compare(same, same)).answer is Answer.NOT_SHOWN
    assert judge(compare(same, same, differ=False)).answer is Answer.USE_ONE


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_routing_that_only_costs_asks_for_no_more_answers(right: float) -> None:
    fixed, routed = (Answered(np.full(40, right), np.full(40, usd)) for usd in (0.001, 0.015))
    found = judge(compare(routed, fixed), compare(fixed, fixed))
    assert found.answer is Answer.USE_ONE
    assert "costs more, and was never more right in 40 requests" in headline(found, "a")
    once = Answered(np.where(np.arange(40) == 0, 1.0, 0.0), routed.cost)
    assert right or judge(compare(once, fixed)).answer is Answer.NOT_SHOWN
    few = np.arange(20)
    assert judge(compare(routed.select(few), fixed.select(few))).answer is Answer.NOT_SHOWN


def test_an_llm_without_a_right_answer_earns_no_place() -> None:
    pool = Graded(
        np.zeros((60, 2)), np.full((60, 2), 0.01) * [1, 5], np.full((60, 2), 0.5), np.full((60, 2), 0.01) * [1, 5]
    )
    assert {one.role for one in uses_of(pool, ("a", "b"))} == {"never right", "never chosen"}


def test_the_fixed_llm_is_picked_on_other_requests() -> None:
    """Equals by construction: hindsight would find a best one, picking on other requests finds the average."""
    gaps = []
    for seed in range(60):
        labels = (np.random.default_rng(seed).random((100, 8)) < 0.5).astype(float)
        fixed = pick_fixed(labels, np.ones_like(labels))
        gaps.append(labels[np.arange(100), fixed.picked].mean() - 0.5)
        assert labels.mean(axis=0).max() == labels[:, fixed.column].mean()
    assert abs(np.mean(gaps)) < 0.02


def test_a_cost_weight_decides_whether_accuracy_is_worth_its_price() -> None:
    p = np.stack([np.full(500, 0.85), np.full(500, 0.6)], axis=1)
    pool = graded(p, (0.02, 0.001))
    dear = np.zeros(500, dtype=np.intp)
    assert judge_choices(pool, dear, 0.0).fixed.column == 0
    found = judge_choices(pool, dear, 100.0)
    assert found.fixed.column == 1
    assert found.judgement.answer is Answer.USE_ONE


def test_without_prices_accuracy_alone_decides() -> None:
    found = judge_pool(graded(specialists(400), (np.nan, np.nan)))
    assert found.judgement.answer is Answer.PAYS
    assert not found.judgement.cheaper
    worse = judge_pool(graded(specialists(400), (np.nan, np.nan), said=specialists(400)[:, ::-1]))
    assert worse.judgement.answer is Answer.USE_ONE


def test_llms_that_never_earn_their_place_are_found() -> None:
    """The third is dominated; the fourth is chosen for a tenth of the prompts, and a copy of the first there."""
    n = 600
    p = np.column_stack([specialists(n), np.full(n, 0.3), specialists(n)[:, 0]])
    said = p.copy()
    said[::10, 3] += 0.01
    uses = {one.llm: one for one in uses_of(graded(p, (0.01, 0.01, 0.02, 0.01), said=said), ("a", "b", "c", "d"))}
    assert uses["c"].chosen_at_most == 0
    assert uses["c"].role == "never chosen"
    assert uses["d"].chosen_at_most == pytest.approx(0.1)
    assert uses["d"].role in {"dispensable", "not shown"}
    assert uses["b"].role == "earns its place"


def test_requests_to_tell_follow_the_variance() -> None:
    """Against a simulated experiment: with so many requests the interval just excludes 0 half of the time."""
    residual, propensity, difference = np.full(10, 0.21), 0.25, 0.05
    n = requests_to_tell(difference, residual, propensity)
    assert n == pytest.approx(0.21 * (4 + 4 / 3) * (1.96 / 0.05) ** 2, rel=0.01)
    assert requests_to_tell(0.0, residual, propensity) is None


def test_numbers_in_words_claim_two_digits() -> None:
    assert n_words(1234) == "about 1,300 more answers needed"
    assert n_words(7) == "about 7 more answers needed"
    assert n_words(None).startswith("more than a million")
    assert MARGIN == 0.02


def test_a_saving_too_small_to_matter_is_no_reason_to_route() -> None:
    same = np.ones(400)
    found = judge(compare(Answered(same, np.full(400, 0.0099)), Answered(same, np.full(400, 0.01))))
    assert found.for_savings.cost_change_share.high < 0
    assert found.answer is Answer.USE_ONE
