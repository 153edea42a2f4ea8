"""Off-policy estimates on logs whose truth is known: the truth of the new policy is planted, not estimated."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from embedllm_router.analysis.replay.off_policy import Logged, OffPolicy, Pairs, off_policy

N_TOPICS, N_LLMS = 3, 3
TRUTH = np.array([[0.9, 0.8, 0.5], [0.9, 0.2, 0.5], [0.6, 0.7, 0.3]])
"""Probability that an LLM (column) is right on a topic (row)."""
OLD, NEW = np.array([0, 0, 0]), np.array([1, 0, 1])
"""Which LLM the old and the new policy prefer on each topic."""


@dataclass(frozen=True)
class World:
    """How a log comes about: exploration, wrong predictions, and who gives feedback."""

    exploration: float = 0.3
    bias: float = 0.0
    feedback: tuple[float, ...] = (0.5, 0.5, 0.5)
    n: int = 2000

    def log(self, seed: int) -> tuple[Logged, float, float]:
        """A log by an ε-greedy policy, and the true accuracy of the new and of the old policy on its prompts."""
        rng = np.random.default_rng(seed)
        topic = rng.integers(0, N_TOPICS, self.n)
        rows = np.arange(self.n)
        chance = np.full((self.n, N_LLMS), self.exploration / N_LLMS)
        chance[rows, OLD[topic]] += 1 - self.exploration
        asked = (rng.random(self.n)[:, None] > chance.cumsum(axis=1)).sum(axis=1)
        right = rng.random(self.n) < TRUTH[topic, asked]
        said = rng.random(self.n) < np.array(self.feedback)[asked]
        believed = np.clip(TRUTH + self.bias * np.array([0.0, 1.0, 1.0]), 0, 1)
        logged = Logged(
            chosen=asked,
            wanted=NEW[topic],
            propensity=chance[rows, asked],
            reachable=chance[rows, NEW[topic]] > 0,
            score=np.where(said, right, np.nan),
            p_chosen=believed[topic, asked],
            p_wanted=believed[topic, NEW[topic]],
        )
        return logged, float(TRUTH[topic, NEW[topic]].mean()), float((chance * TRUTH[topic]).sum(axis=1).mean())


def estimates(world: World, runs: int) -> list[tuple[OffPolicy, float, float]]:
    made = []
    for seed in range(runs):
        logged, new, old = world.log(seed)
        found = off_policy(logged)
        assert found is not None
        made.append((found, new, old))
    return made


WORLDS = {
    "right predictions": World(),
    "wrong predictions": World(bias=0.25),
    "feedback differs by LLM": World(bias=0.25, feedback=(0.2, 0.9, 0.4)),
    "little exploration": World(exploration=0.1, bias=0.1),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_95_percent_interval_holds_the_truth_about_95_times_in_100(name: str) -> None:
    made = estimates(WORLDS[name], runs=60)
    for figure in ("ips", "snips", "dr"):
        held = sum(getattr(o, figure).low <= new <= getattr(o, figure).high for o, new, _ in made)
        assert held >= 51, f"{figure}: {held} of 60"  # chance of fewer at 95 %: 0.0003; at 90 %: 0.1
    assert sum(o.before.low <= old <= o.before.high for o, _, old in made) >= 51
    assert sum(o.change.low <= new - old <= o.change.high for o, new, old in made) >= 51


def test_the_estimates_are_unbiased_where_predictions_are_wrong() -> None:
    made = estimates(World(bias=0.25, feedback=(0.2, 0.9, 0.4)), runs=40)
    predicted = World(bias=0.25).log(0)[0].p_wanted.mean()
    truth = np.mean([new for _, new, _ in made])
    assert abs(predicted - truth) > 0.1  # the direct method is far off
    for figure in ("ips", "snips", "dr"):
        assert np.mean([getattr(o, figure).value for o, *_ in made]) == pytest.approx(truth, abs=0.015)


def test_right_predictions_make_dr_narrower_than_ips() -> None:
    made = estimates(World(), runs=20)
    width = {f: np.mean([getattr(o, f).high - getattr(o, f).low for o, *_ in made]) for f in ("ips", "dr")}
    assert width["dr"] < 0.7 * width["ips"]


def test_a_deterministic_log_says_nothing_of_the_flips() -> None:
    """All that was observed is the old choice: where the new one differs, dr is the prediction, and it says so."""
    logged, *_ = World(exploration=0.0, bias=0.25, feedback=(1.0, 1.0, 1.0)).log(0)
    found = off_policy(logged)
    assert found is not None
    flips = logged.chosen != logged.wanted
    assert (found.n_flips, found.n_flips_unobserved) == (flips.sum(), flips.sum())
    assert found.supported == pytest.approx(1 - flips.mean())
    assert found.ips.value == pytest.approx(logged.score[~flips].mean())
    corrected = np.where(flips, logged.p_wanted, logged.score)
    assert found.dr.value == pytest.approx(corrected.mean())


def test_the_same_policy_changes_nothing() -> None:
    logged, *_ = World(exploration=0.0).log(0)
    same = off_policy(replace(logged, wanted=logged.chosen, p_wanted=logged.p_chosen))
    assert same is not None
    assert (same.change.value, same.change.low, same.change.high) == (0, 0, 0)
    assert (same.supported, same.n_flips) == (1, 0)
    assert same.effective_n == pytest.approx(same.n_feedback)


def test_effective_n_counts_equal_weights_fully_and_a_dominant_one_as_one() -> None:
    asked = np.zeros(101, dtype=np.intp)
    propensity = np.full(101, 1.0)
    propensity[0] = 1e-6
    ones = np.ones(101)
    found = off_policy(Logged(asked, asked, propensity, ones > 0, ones, ones * 0.5, ones * 0.5))
    assert found is not None
    assert found.effective_n == pytest.approx(1, abs=0.001)
    assert found.largest_weight == pytest.approx(1e6)


def test_an_llm_nobody_said_anything_of_is_unsupported_even_where_explored() -> None:
    logged, *_ = World(feedback=(0.5, 0.0, 0.5)).log(0)
    found = off_policy(logged)
    assert found is not None
    wanted_silent = logged.wanted == 1
    assert found.supported == pytest.approx(1 - wanted_silent.mean())
    assert found.n_flips_unobserved == (wanted_silent & (logged.chosen != 1)).sum()


def test_without_feedback_there_is_no_estimate() -> None:
    logged, *_ = World(feedback=(0.0, 0.0, 0.0)).log(0)
    assert off_policy(logged) is None


def test_requests_without_predictions_are_left_out() -> None:
    logged, *_ = World(n=1000).log(0)
    logged.p_wanted[:100] = np.nan
    found = off_policy(logged)
    assert found is not None
    assert found.n_requests == 900


def judged_log(seed: int, share: float = 0.15) -> tuple[Logged, Pairs, float]:
    """A deterministic log with wrong predictions, of which a share was judged, and the true change of accuracy."""
    world, rng = World(exploration=0.0, bias=0.25, feedback=(share,) * N_LLMS), np.random.default_rng(1000 + seed)
    logged, new, old = world.log(seed)
    topic = np.random.default_rng(seed).integers(0, N_TOPICS, world.n)  # as the log draws it
    drawn = (rng.random(world.n) < share) & (logged.chosen != logged.wanted)
    mine, its = (
        np.where(drawn, rng.random(world.n) < TRUTH[topic, who], np.nan) for who in (logged.chosen, logged.wanted)
    )
    pairs = Pairs(mine, its, np.where(drawn, share, np.nan), np.ones(world.n, dtype=bool))
    return logged, pairs, new - old


def test_pairs_tell_the_change_where_nothing_was_explored() -> None:
    found, held = [], 0
    for seed in range(60):
        logged, pairs, truth = judged_log(seed)
        made = off_policy(logged, pairs)
        assert made is not None
        assert made.by_pairs is not None
        assert (made.by_pairs.n, made.by_pairs.possible) == (np.isfinite(pairs.odds).sum(), 1.0)
        held += made.by_pairs.change.low <= truth <= made.by_pairs.change.high
        found.append((made.by_pairs.change.value - truth, made.change.value - truth))
    by_pairs, by_feedback = np.mean(found, axis=0)
    assert held >= 51
    assert abs(by_pairs) < 0.01
    assert abs(by_feedback) > 0.05  # without exploration it is the prediction


def test_a_handful_of_pairs_says_nothing() -> None:
    logged, pairs, _ = judged_log(0, share=0.01)
    made = off_policy(logged, pairs)
    assert made is not None
    assert made.by_pairs is None
    assert made.n_pairs == np.isfinite(pairs.odds).sum() > 0
