"""Choices and curves: λ never raises cost, the hull agrees with its definition, nothing beats the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.evaluation.frontier import COST_WEIGHTS, Curve, choose, hull, sweep

POINTS = st.lists(
    st.tuples(st.integers(0, 20).map(lambda v: v / 4), st.integers(0, 10).map(lambda v: v / 10)),
    min_size=1,
    max_size=12,
)


def curve_of(points: list[tuple[float, float]]) -> Curve:
    cost, accuracy = np.array(points, dtype=np.float64).T
    return Curve.of(cost, accuracy)


@given(st.integers(0, 10_000))
def test_raising_the_cost_weight_never_raises_expected_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, cost = rng.random((15, 4)), rng.choice([0.0, 1e-4, 1e-3, 0.02], (15, 4))
    swept = sweep(p, cost, (p > 0.5).astype(float), cost)
    assert (np.diff(swept.expected_cost, axis=1) <= 0).all()


@given(st.integers(0, 10_000))
def test_every_choice_maximises_utility_and_ties_go_to_the_cheaper_then_to_the_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, cost = rng.choice([0.2, 0.5, 0.8], (10, 4)), rng.choice([0.001, 0.002], (10, 4))
    weight = float(rng.choice([0.0, 1.0, 200.0]))
    chosen = choose(p, cost, weight)
    for row in range(10):
        keys = [(-(p[row, j] - weight * cost[row, j]), cost[row, j], j) for j in range(4)]
        assert chosen[row] == min(range(4), key=lambda j: keys[j])


@given(st.integers(0, 10_000))
def test_no_cost_weight_beats_the_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (12, 3)).astype(float)
    swept = sweep(rng.random((12, 3)), rng.random((12, 3)), labels, rng.random((12, 3)))
    assert swept.curve().accuracy.max() <= labels.max(axis=1).mean() + 1e-12
    assert swept.curve().cost.min() >= 0


def test_the_oracle_reaches_its_own_bound_at_the_cheapest_right_llm() -> None:
    labels = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    cost = np.tile([1.0, 5.0], (3, 1)) * 1e-3
    swept = sweep(labels, cost, labels, cost)
    assert swept.correct[:, 0].tolist() == [1, 1, 0]
    assert swept.cost[:, 0].tolist() == pytest.approx([1e-3, 5e-3, 1e-3])


def test_the_last_weight_buys_the_cheapest() -> None:
    cost = np.array([[3e-7, 2e-7, 9e-3]])
    assert choose(np.array([[0.9, 0.1, 1.0]]), cost, float(COST_WEIGHTS[-1])).tolist() == [1]


@given(POINTS)
def test_the_hull_is_the_highest_chord_made_non_decreasing(points: list[tuple[float, float]]) -> None:
    """Second implementation: at any cost, the best mixture of two points that are not dearer on average."""
    vertices = hull(curve_of(points))
    for at in np.linspace(vertices.cost[0], max(c for c, _ in points), 13):
        chords = [a for c, a in points if c <= at]
        for c1, a1 in points:
            for c2, a2 in points:
                if c1 <= at < c2:
                    chords.append(a1 + (a2 - a1) * (at - c1) / (c2 - c1))
        assert np.interp(at, vertices.cost, vertices.accuracy) == pytest.approx(max(chords))


@given(POINTS)
def test_the_hull_rises_and_bends_down(points: list[tuple[float, float]]) -> None:
    vertices = hull(curve_of(points))
    slopes = np.diff(vertices.accuracy) / np.diff(vertices.cost)
    assert (np.diff(vertices.cost) > 0).all()
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 1e-9).all()
