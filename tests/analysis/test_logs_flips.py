"""What would flip a choice is exact: a sweep of the knob through `policy.rank` finds the same."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from embedllm_router.analysis.explain import Knob, Weighed, best, knob_of, overtakes, ranges, to_win
from embedllm_router.routing.policy import Objective, rank

_candidates = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 1000), st.booleans(), st.sampled_from([0, 0, 1, 5])),
    min_size=1,
    max_size=7,
).filter(lambda rows: any(usable for _, _, usable, _ in rows))
Rows = list[tuple[int, int, bool, int]]
_knobs = st.sampled_from(["cost_weight", "min_p_correct", "within"])
_NEAR = 1e-6
GRIDS = {
    "cost_weight": [*np.linspace(0, 50, 101), *np.geomspace(1e-3, 1e5, 100), 1e9],
    "min_p_correct": list(np.linspace(0, 1, 301)),
    "within": list(np.linspace(0, 1, 301)),
}


def weighed(rows: Rows) -> Weighed:
    """Probabilities and waiting in hundredths, costs in ten-thousandths of a dollar, so that ties happen."""
    p, cost, waiting = (np.array([row[i] for row in rows], dtype=np.float64) for i in (0, 1, 3))
    return Weighed(p / 100, cost / 1e4, np.array([row[2] for row in rows]), waiting / 100)


def turned(knob: Knob, value: float) -> Objective:
    name = "max_accuracy_drop" if knob == "within" else knob  # records call it within
    return replace(Objective(), **{name: float(value)})


@settings(deadline=None)
@given(rows=_candidates, knob=_knobs)
def test_ranges_say_whom_every_setting_chooses(rows: Rows, knob: Knob) -> None:
    those = weighed(rows)
    found = ranges(turned(knob, 0.0), those)
    ends = [end for one in found for end in (one.low, one.high)]
    assert ends[0] == 0
    assert ends[1:-1:2] == ends[2::2], "one begins where the other ends"
    assert all(one.index != other.index for one, other in pairwise(found))
    for value in GRIDS[knob]:
        if any(math.isclose(value, end, rel_tol=_NEAR, abs_tol=1e-12) for end in ends[1:]):
            continue
        (holding,) = [one for one in found if value in one][:1]
        assert holding.index == best(turned(knob, value), those), value


@settings(deadline=None)
@given(rows=_candidates, knob=_knobs, at=st.integers(0, 300))
def test_a_candidate_overtakes_where_the_ranking_says_so(rows: Rows, knob: Knob, at: int) -> None:
    those = weighed(rows)
    objective = turned(knob, GRIDS[knob][at % len(GRIDS[knob])])
    chosen = best(objective, those)
    assert chosen is not None
    for index in those.indices:
        if index == chosen:
            continue
        change = overtakes(objective, those, index)
        for value in GRIDS[knob]:
            if change is not None and math.isclose(value, change.at, rel_tol=_NEAR, abs_tol=1e-9):
                continue
            turned_to = turned(knob, value)
            order = rank(turned_to, those.p_correct, those.cost_usd, those.usable, those.waiting)[0].tolist()
            is_ahead = order.index(index) < order.index(chosen)
            worth = those.worth if knob == "cost_weight" else those.p_correct
            if math.isclose(worth[index], worth[chosen]) or those.cost_usd[index] == those.cost_usd[chosen]:
                continue  # ties have no side
            expected = change is not None and (value < change.at if change.side == "below" else value > change.at)
            assert is_ahead == expected, (value, change)


@settings(deadline=None)
@given(rows=_candidates, knob=_knobs, at=st.integers(0, 300))
def test_what_it_takes_to_win_is_just_enough(rows: Rows, knob: Knob, at: int) -> None:
    those = weighed(rows)
    assume(len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(rows))
    objective = turned(knob, GRIDS[knob][at % len(GRIDS[knob])] + 1e-4)
    for index in those.indices:
        if index == best(objective, those):
            continue
        cost, p = to_win(objective, those, index)
        for value, column, sign in ((cost, "cost_usd", -1), (p, "p_correct", 1)):
            if value is None:
                extreme = 0.0 if sign < 0 else 1.0
                assert best(objective, changed(those, column, index, extreme)) != index or extreme == 0.0
                continue
            step = max(abs(value) * 1e-6, 1e-9)
            assert best(objective, changed(those, column, index, value + sign * step)) == index
            assert best(objective, changed(those, column, index, value - sign * step)) != index


def changed(those: Weighed, column: str, index: int, value: float) -> Weighed:
    numbers = getattr(those, column).copy()
    numbers[index] = value
    return replace(those, **{column: numbers})


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Objective(20.0), [("dear", 0.0, 30.0), ("cheap", 30.0, math.inf)]),
        (Objective(min_p_correct=0.5), [("cheap", 0.0, 0.6), ("dear", 0.6, 1.0)]),
        (Objective(max_accuracy_drop=0.1), [("dear", 0.0, 0.3), ("cheap", 0.3, math.inf)]),
    ],
)
def test_planted_ranges(objective: Objective, expected: list[tuple[str, float, float]]) -> None:
    """Dear: 0.9 for $0.011. Cheap: 0.6 for $0.001. So λ = 0.3 / 0.01 = 30. The third is dominated and never chosen."""
    those = Weighed(np.array([0.9, 0.6, 0.5]), np.array([0.011, 0.001, 0.002]), np.ones(3, dtype=bool))
    names = ("dear", "cheap", "never")
    found = [(names[one.index], one.low, one.high) for one in ranges(objective, those)]
    assert [name for name, *_ in found] == [name for name, *_ in expected]
    assert [end for _, *ends in found for end in ends] == pytest.approx([end for _, *ends in expected for end in ends])


def test_the_knob_is_the_one_the_policy_looks_at() -> None:
    assert knob_of(Objective(5.0)) == "cost_weight"
    assert knob_of(Objective(5.0, min_p_correct=0.5)) == "min_p_correct"
    assert knob_of(Objective(5.0, max_accuracy_drop=0.1)) == "within"
