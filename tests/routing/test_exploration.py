"""Exploration: its caps hold, its odds are the truth, and what little is known of is tried more often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.decision import Decision, Exploration, Objective, Reason, Request
from embedllm_router.routing.exploration import explore, logit_spread
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidateAverage, CandidatePool

Rows = list[tuple[float, float, float]]
"""p_correct, USD per request, answers learned from."""
ROWS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 0.1), st.sampled_from([0.0, 5.0, 300.0, 1e5])), min_size=1, max_size=8
)
METHODS = st.builds(
    Exploration,
    epsilon=st.floats(0, 1),
    max_loss=st.floats(0, 1),
    max_extra_usd=st.floats(0, 0.1),
    thompson=st.booleans(),
    spread=st.floats(0, 10),
)


def decided(rows: Rows, objective: Objective | None = None) -> Decision:
    labels = np.array([n for _, _, n in rows])
    pool = CandidatePool(
        [Candidate(f"c{i}", f"c{i}", i, 0.0, 0.0, usd_per_request=usd) for i, (_, usd, _) in enumerate(rows)],
        CandidateAverage(np.full(len(rows), 0.5), np.zeros(len(rows)), labels),
    )
    scores = Scores(np.array([p for p, _, _ in rows], np.float32), np.full(len(rows), 10.0, np.float32))
    return rank_candidates(pool, scores, Request(objective or Objective(1.0), 10))


def odds_of(decision: Decision, exploration: Exploration, seed: int = 0, **more: float) -> np.ndarray:
    explored = explore(decision, exploration, np.random.default_rng(seed), **more).explored
    assert explored is not None
    return explored.odds


@given(rows=ROWS, exploration=METHODS, seed=st.integers(0, 9))
def test_odds_sum_to_one_within_the_caps_and_the_choice_has_its_own(
    rows: Rows, exploration: Exploration, seed: int
) -> None:
    decision = decided(rows)
    tried = explore(decision, exploration, np.random.default_rng(seed))
    if not exploration.on:
        assert tried is decision
        return
    assert tried.explored is not None
    odds, best = tried.explored.odds, decision.ranking[0]
    assert odds.sum() == pytest.approx(1.0)
    assert (odds >= 0).all()
    outside = (decision.p_correct < decision.p_correct[best] - exploration.max_loss) | (
        decision.cost_usd > decision.cost_usd[best] + exploration.max_extra_usd
    )
    assert (odds[outside] == 0).all()
    assert tried.propensity == odds[tried.ranking[0]] > 0
    assert sorted(tried.ranking) == sorted(decision.ranking)
    assert (tried.reason is Reason.EXPLORED) == (tried.ranking[0] != best)


def test_epsilon_is_drawn_evenly() -> None:
    decision = decided([(0.9, 0.0, 0.0), (0.85, 0.0, 0.0), (0.1, 0.0, 0.0)])
    np.testing.assert_allclose(odds_of(decision, Exploration(0.2)), [0.9, 0.1, 0.0])


@pytest.mark.parametrize("exploration", [Exploration(0.2), Exploration(0.1, thompson=True), Exploration(thompson=True)])
def test_choices_are_as_frequent_as_their_odds_on_average(exploration: Exploration) -> None:
    decision = decided([(0.80, 0.0, 2000.0), (0.78, 0.0, 20.0), (0.75, 0.0, 20.0), (0.1, 0.0, 0.0)])
    dice = np.random.default_rng(0)
    tried = [explore(decision, exploration, dice) for _ in range(4_000)]
    share = np.bincount([one.ranking[0] for one in tried], minlength=4) / len(tried)
    said = np.mean([one.explored.odds for one in tried if one.explored], axis=0)
    np.testing.assert_allclose(share, said, atol=0.03)
    assert share[0] < 1


def test_scores_weighed_by_propensity_are_unbiased() -> None:
    """What the odds are for: the accuracy of a policy that was not served, from what was."""
    truth = np.array([0.8, 0.6, 0.7])
    decision = decided([(0.80, 0.0, 50.0), (0.78, 0.0, 20.0), (0.76, 0.0, 20.0)])
    rng, dice = np.random.default_rng(1), np.random.default_rng(2)
    tried = [explore(decision, Exploration(0.05, thompson=True), dice) for _ in range(6_000)]
    for wanted in range(3):
        asked = [(one.ranking[0] == wanted) * (rng.random() < truth[one.ranking[0]]) / one.propensity for one in tried]
        assert np.mean(asked) == pytest.approx(truth[wanted], abs=4 * np.std(asked) / len(asked) ** 0.5)


def test_what_is_certain_is_not_explored() -> None:
    rows = [(0.80, 0.0, 1e9), (0.79, 0.0, 1e9)]
    np.testing.assert_array_equal(odds_of(decided(rows), Exploration(thompson=True)), [1.0, 0.0])
    thin = [(0.80, 0.0, 3.0), (0.79, 0.0, 3.0)]
    np.testing.assert_array_equal(odds_of(decided(thin), Exploration(thompson=True, spread=0.0)), [1.0, 0.0])


@settings(max_examples=50)
@given(rows=ROWS, index=st.integers(0, 7))
def test_without_uncertainty_whoever_was_put_first_stays(rows: Rows, index: int) -> None:
    """Near ties, budgets and sessions have the last word where nothing is uncertain."""
    decision = decided(rows)
    kept = decision.putting_first(decision.ranking[index % len(rows)], Reason.SESSION_KEPT)
    tried = explore(kept, Exploration(thompson=True, spread=0.0), np.random.default_rng(0))
    assert (tried.ranking, tried.propensity, tried.reason) == (kept.ranking, 1.0, Reason.SESSION_KEPT)


def test_the_less_is_known_of_an_llm_the_more_it_is_tried() -> None:
    shares = [
        odds_of(decided([(0.80, 0.0, 1e4), (0.75, 0.0, n)]), Exploration(thompson=True))[1]
        for n in (0, 10, 100, 1_000, 10_000)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.2
    assert shares[-1] == 0


def test_a_strange_prompt_widens_and_so_does_the_setting() -> None:
    decision, plain = decided([(0.80, 0.0, 1e3), (0.75, 0.0, 1e3)]), Exploration(thompson=True)
    assert odds_of(decision, plain, widening=5.0)[1] > odds_of(decision, plain)[1]
    wide = Exploration(thompson=True, spread=5.0)
    np.testing.assert_array_equal(odds_of(decision, wide), odds_of(decision, plain, widening=5.0))


def test_shares_won_are_the_probabilities_of_the_drawn_logits() -> None:
    """Two candidates: the naive share from many single draws of both logits."""
    rows = [(0.8, 0.01, 100.0), (0.75, 0.0, 20.0)]
    decision, rng = decided(rows), np.random.default_rng(5)
    p, n = np.array([0.8, 0.75]), np.array([100.0, 20.0])
    logits = np.log(p / (1 - p)) + logit_spread(p, n) * rng.standard_normal((200_000, 2))
    wins = (1 / (1 + np.exp(-logits)) - np.array([0.01, 0.0])).argmax(axis=1).mean()
    said = np.mean([odds_of(decision, Exploration(thompson=True), seed)[1] for seed in range(40)])
    assert said == pytest.approx(wins, abs=0.02)


@pytest.mark.parametrize("objective", [Objective(min_p_correct=0.7), Objective(max_accuracy_drop=0.1)])
def test_a_floor_is_not_drawn_for(objective: Objective) -> None:
    decision = decided([(0.80, 0.01, 3.0), (0.79, 0.0, 3.0)], objective)
    np.testing.assert_array_equal(odds_of(decision, Exploration(thompson=True)), [0.0, 1.0])


def test_the_spread_of_a_logit_falls_with_answers_from_one() -> None:
    assert logit_spread(np.array([0.5]), np.array([0.0]))[0] == 1.0
    assert logit_spread(np.array([0.5]), np.array([396.0]))[0] == pytest.approx(0.1)


def test_what_is_too_novel_stays_with_the_default() -> None:
    decision = decided([(0.9, 0.0, 3.0), (0.8, 0.0, 3.0)]).putting_first(1, Reason.OUT_OF_DISTRIBUTION)
    assert explore(decision, Exploration(1.0, 1.0, 1.0, thompson=True), np.random.default_rng(0)) is decision
