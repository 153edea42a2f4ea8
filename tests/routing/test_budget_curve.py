"""The spend curve is what deciding every request again would give, and reading it backwards gives the spend wanted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.routing.budget import LADDER, MAX_COST_WEIGHT, SpendCurve, spend_at_each

_value = st.floats(-1, 1)
_cost = st.floats(1e-7, 10)
_candidates = st.lists(st.tuples(_value, _cost), min_size=1, max_size=15)


def curve_of(requests: list[list[tuple[float, float]]]) -> SpendCurve:
    curve = SpendCurve()
    for one in requests:
        curve.learn(spend(one))
    return curve


def spend(one: list[tuple[float, float]], base: float = 0.0, at_floor: float | None = None) -> np.ndarray:
    value, cost = np.array(one).T
    return spend_at_each(value, cost, base, at_floor)


@given(one=_candidates, base=st.floats(0, 1e4))
def test_spend_at_each_is_the_cost_of_who_has_the_highest_utility(one: list[tuple[float, float]], base: float) -> None:
    """Naively, one candidate after the other; only at a tie, to the last digit, may another be meant."""
    for weight, cost in zip(LADDER, spend(one, base), strict=True):
        strict = max(weight, base)
        utilities = [v - strict * c for v, c in one]
        meant = {c for u, (_, c) in zip(utilities, one, strict=True) if u >= max(utilities) - 1e-9 * (1 + strict)}
        assert cost in meant


@given(one=_candidates, base=st.floats(0, 1e4), floor=st.none() | _cost)
def test_spend_never_rises_with_the_cost_weight_and_ends_at_the_cheapest(
    one: list[tuple[float, float]], base: float, floor: float | None
) -> None:
    spends = spend(one, base, floor)
    assert (np.diff(spends) <= 0).all()
    if floor is None:
        cheapest = min(c for _, c in one)
        assert cheapest <= spends[-1] <= cheapest + 2 / MAX_COST_WEIGHT, "values differ by 2 at most"
    else:
        assert (spends <= floor).all()


@given(requests=st.lists(_candidates, min_size=1, max_size=8), share=st.floats(0.01, 0.99))
def test_the_cost_weight_for_a_spend_spends_that(requests: list[list[tuple[float, float]]], share: float) -> None:
    curve = curve_of(requests)
    dear, cheap = float(curve.spend[0]), float(curve.spend[-1])
    usd = cheap + share * (dear - cheap)
    if cheap < usd < dear:
        assert curve.at(curve.cost_weight_for(usd)) == pytest.approx(usd, rel=1e-6)


@given(requests=st.lists(_candidates, min_size=1, max_size=8), one=st.floats(1e-9, 20), more=st.floats(0, 20))
def test_more_money_never_raises_the_cost_weight(
    requests: list[list[tuple[float, float]]], one: float, more: float
) -> None:
    curve = curve_of(requests)
    richer, poorer = curve.cost_weight_for(one + more), curve.cost_weight_for(one)
    assert 0.0 <= richer <= poorer <= MAX_COST_WEIGHT


def test_enough_for_the_best_needs_no_cost_weight_and_too_little_for_the_cheapest_the_highest() -> None:
    curve = curve_of([[(0.5, 0.001), (0.9, 0.01)]])
    assert curve.cost_weight_for(0.01) == 0.0
    assert curve.cost_weight_for(0.0009) == MAX_COST_WEIGHT
    assert 40 < curve.cost_weight_for(0.005) < 50, "(0.9 - 0.5) / (0.01 - 0.001) is where the choice changes"


def test_recent_requests_weigh_more() -> None:
    curve = SpendCurve()
    for cost in [0.001] * 5_000 + [0.01] * 5_000:
        curve.learn(np.full(len(LADDER), cost))
    assert curve.at(1.0) == pytest.approx(0.01, rel=0.01)


def test_a_curve_that_saw_little_leans_on_another() -> None:
    ours, other = SpendCurve(), SpendCurve()
    assert ours.mixed_with(other, 20) is ours
    for _ in range(100):
        other.learn(np.full(len(LADDER), 0.01))
    assert ours.mixed_with(other, 20).at(1.0) == pytest.approx(0.01)
    for _ in range(20):
        ours.learn(np.full(len(LADDER), 0.03))
    assert ours.mixed_with(other, 20).at(1.0) == pytest.approx(0.02)


def test_the_ladder_reaches_from_nothing_to_the_cheapest() -> None:
    assert LADDER[0] == 0.0
    assert LADDER[-1] == MAX_COST_WEIGHT
    assert (np.diff(LADDER) > 0).all()
    assert math.isfinite(LADDER.sum())
