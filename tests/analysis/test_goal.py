"""The step that serves a goal best, on curves of any shape, and the number that stands for it."""

import numpy as np
import pytest

from embedllm_router.analysis.plan.goal import DAYS_PER_MONTH, Goal, just_beyond, pick, read_goal
from embedllm_router.analysis.plan.switches import Steps

SETTINGS = ("cost_weight", "min_p_correct")


def steps_at(*at: float) -> Steps:
    zeros = np.zeros(len(at))
    return Steps(np.array(at), zeros, zeros)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seed", range(40))
def test_no_step_serves_the_goal_better(setting: str, seed: int) -> None:
    """Against looking at every step, on curves that rise and fall at random, with ties."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    accuracy, usd = rng.integers(0, 6, n) / 5, rng.integers(1, 6, n) * 1.0
    steps = steps_at(*np.sort(rng.random(n)) * (np.arange(n) > 0))
    for goal in (Goal(accuracy=0.6), Goal(usd=2.0, per="month"), Goal(accuracy=1.0), Goal(usd=0.5, per="month")):
        found = pick(goal, setting, steps, accuracy, usd)  # type: ignore[arg-type]  # the two settings
        wanted, most = goal.accuracy or 0.0, goal.usd or np.inf
        met = [k for k in range(n) if accuracy[k] >= wanted and usd[k] <= most]
        assert found.feasible == bool(met)
        cost_first = (goal.accuracy is not None) == bool(met)
        keys = {k: (usd[k], -accuracy[k]) if cost_first else (-accuracy[k], usd[k]) for k in (met or range(n))}
        assert keys[found.step] == min(keys.values())


@pytest.mark.parametrize(
    ("setting", "goal", "side"),
    [
        ("cost_weight", Goal(accuracy=0.5), "end"),
        ("cost_weight", Goal(usd=1.0, per="month"), "start"),
        ("min_p_correct", Goal(accuracy=0.5), "start"),
        ("min_p_correct", Goal(usd=1.0, per="month"), "end"),
    ],
)
def test_the_number_is_just_inside_the_end_that_the_goal_lies_at(setting: str, goal: Goal, side: str) -> None:
    steps = steps_at(0.0, 0.123456, 0.345678)
    accuracy, usd = np.array([0.0, 1.0, 0.0]), np.array([9.0, 1.0, 9.0])
    found = pick(goal, setting, steps, accuracy, usd)  # type: ignore[arg-type]  # the two settings
    assert found.step == 1
    assert found.setting == (0.3456 if side == "end" else 0.1235)
    assert 0.123456 < found.exact < 0.345678


@pytest.mark.parametrize("value", [0.3, 40.0, 39.99999, 1e-7, 123456.0, 0.99995, 7.0, 1 / 3, 28.1690, 1e12])
def test_just_beyond_is_strictly_beyond_and_near(value: float) -> None:
    above, below = just_beyond(value, 1), just_beyond(value, -1)
    assert below < value < above
    assert above - below < value * 2.1e-3
    for one in (above, below):
        assert float(f"{one:.4g}") == one
    assert just_beyond(0.0, 1) == just_beyond(0.0, -1) == 0.0


def test_a_goal_out_of_reach_at_the_first_step_is_a_setting_of_nothing() -> None:
    found = pick(Goal(accuracy=0.99), "cost_weight", steps_at(0.0, 5.0), np.array([0.8, 0.5]), np.array([2.0, 1.0]))
    assert (found.step, found.feasible, found.setting, found.exact) == (0, False, 0.0, 0.0)


def test_a_budget_a_day_is_a_twelfth_of_a_year_a_month() -> None:
    goal = read_goal(None, "$ 20/day")
    assert (goal.usd, goal.per) == (20.0, "day")
    assert goal.usd_per_month == pytest.approx(20 * 365 / 12)
    assert pytest.approx(365 / 12) == DAYS_PER_MONTH
    assert read_goal(None, "1e3 USD / month").usd_per_month == 1000.0
