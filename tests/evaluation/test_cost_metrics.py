"""Published cost figures: planted answers, and second implementations written from the definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.evaluation.frontier import (
    Curve,
    Reference,
    aiq,
    aiq_of_code,
    arena_score,
    cost_metrics,
    cost_to_reach,
    deferral_area,
    hull,
    pareto_distance,
    performance_gap_recovered,
    rising,
)

SEEDS = st.integers(0, 10_000)
LINE = Curve.of(np.array([1.0, 3.0]), np.array([0.5, 0.9]))
LLMS = Reference(np.array([1.0, 5.0]), np.array([0.5, 0.8]), best=1)


def random_case(seed: int) -> tuple[Curve, Reference]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    reference = Reference(rng.uniform(0.1, 9, 4), rng.random(4), int(rng.integers(4)))
    return Curve.of(rng.uniform(0.1, 9, n), rng.random(n)), reference


def mixture(curve: Curve, budget: float) -> float:
    """The best accuracy of mixing two operating points within a mean budget; flat below the cheapest."""
    points = list(zip(curve.cost.tolist(), curve.accuracy.tolist(), strict=True))
    affordable = [a for c, a in points if c <= budget] or [max(a for c, a in points if c == points[0][0])]
    for c1, a1 in points:
        for c2, a2 in points:
            if c1 <= budget < c2:
                affordable.append(a1 + (a2 - a1) * (budget - c1) / (c2 - c1))
    return max(affordable)


def integral(heights: list[float], low: float, high: float) -> float:
    """Midpoint rule."""
    return sum(heights) / len(heights) * (high - low)


def midpoints(low: float, high: float, n: int = 2000) -> list[float]:
    return [low + (high - low) * (i + 0.5) / n for i in range(n)]


@given(SEEDS)
def test_aiq_is_the_mean_best_mixture_over_the_cost_range(seed: int) -> None:
    curve, reference = random_case(seed)
    low, high = float(reference.cost.min()), float(reference.cost.max())
    naive = integral([mixture(curve, x) for x in midpoints(low, high, 300)], 0, 1)
    assert aiq(curve, low, high) == pytest.approx(naive, abs=5e-3)


def test_aiq_of_the_code_counts_nothing_below_the_first_point() -> None:
    assert aiq_of_code(LINE, 5.0) == pytest.approx((0.7 * 2 + 0.9 * 2) / 5)
    assert aiq_of_code(LINE, 2.0) == pytest.approx(0.7 * 2 / 3)


def test_aiq_of_the_paper_divides_by_the_range() -> None:
    assert aiq(LINE, 1.0, 5.0) == pytest.approx((0.7 * 2 + 0.9 * 2) / 4)


def test_deferral_area_is_flat_outside_the_curve() -> None:
    assert deferral_area(LINE, 5.0) == pytest.approx((0.5 * 1 + 0.7 * 2 + 0.9 * 2) / 5)


@given(SEEDS)
def test_deferral_area_ignores_points_that_do_not_pay(seed: int) -> None:
    curve, reference = random_case(seed)
    worse = Curve.of(np.append(curve.cost, curve.cost[-1] + 1), np.append(curve.accuracy, curve.accuracy.max() - 0.1))
    dearest = float(reference.cost.max())
    assert deferral_area(worse, dearest) == pytest.approx(deferral_area(curve, dearest))


@given(SEEDS, st.floats(0, 1))
def test_cost_to_reach_is_the_smallest_budget_whose_mixture_suffices(seed: int, target: float) -> None:
    curve, _ = random_case(seed)
    cost = cost_to_reach(hull(curve), target)
    if target > curve.accuracy.max():
        assert math.isnan(cost)
    else:
        assert mixture(curve, cost + 1e-9) >= target - 1e-6
        if cost > curve.cost[0] + 1e-6:
            assert mixture(curve, cost - 1e-6) < target + 1e-9


@given(SEEDS, st.floats(0, 1))
def test_cost_to_reach_walks_the_points_that_pay(seed: int, target: float) -> None:
    """Second implementation: the first segment between ever better points that crosses the target."""
    curve, _ = random_case(seed)
    points: list[tuple[float, float]] = []
    for c, a in sorted(zip(curve.cost.tolist(), curve.accuracy.tolist(), strict=True), key=lambda p: (p[0], -p[1])):
        if not points or a > points[-1][1]:
            points.append((c, a))
    naive = points[0][0] if target <= points[0][1] else math.nan
    for (c0, a0), (c1, a1) in itertools.pairwise(points):
        if a0 < target <= a1:
            naive = c0 + (target - a0) / (a1 - a0) * (c1 - c0)
    assert cost_to_reach(rising(curve), target) == pytest.approx(naive, nan_ok=True)


def test_saving_and_qnc_of_a_router_that_reaches_the_best_llm_early() -> None:
    found = cost_metrics(LINE, LLMS)
    assert found.cost_save == pytest.approx(1 - 3 / 5), "of an operating point; QNC may mix two"
    assert found.qnc == pytest.approx(2.5 / 5)
    assert found.perf_gain == pytest.approx(0.9 / 0.8 - 1)


def test_a_router_that_never_reaches_the_best_llm_saves_nothing_and_has_no_qnc() -> None:
    found = cost_metrics(Curve.of(np.array([1.0]), np.array([0.5])), LLMS)
    assert found.cost_save == 0
    assert math.isnan(found.qnc)
    assert math.isnan(found.cpt50)


def test_gap_recovered_by_mixing_weak_and_strong_at_random_is_one_half() -> None:
    """RouteLLM: a random router's APGR is 0.5, its CPT(50 %) 50 % of calls, its CPT(80 %) 80 %."""
    line = Curve.of(LLMS.cost, LLMS.accuracy)
    assert performance_gap_recovered(line, LLMS) == pytest.approx((0.5, 0.5, 0.8))


@given(SEEDS)
def test_apgr_agrees_with_routellm_for_two_llms_of_fixed_cost(seed: int) -> None:
    """Second implementation after RouteLLM: area over the share of strong calls, weak at 0 and strong at 1."""
    rng = np.random.default_rng(seed)
    share = np.sort(np.append(rng.random(4), [0.0, 1.0]))
    quality = 0.3 + 0.5 * np.sqrt(share)  # concave: the hull changes nothing
    naive = (np.sum((quality[1:] + quality[:-1]) * np.diff(share)) / 2 - 0.3) / 0.5
    reference = Reference(np.array([2.0, 12.0]), np.array([0.3, 0.8]), best=1)
    found = performance_gap_recovered(Curve.of(2.0 + 10.0 * share, quality), reference)
    assert found[0] == pytest.approx(naive)
    assert found[1] == pytest.approx(np.interp(0.55, quality, share))


def test_there_is_no_gap_when_the_cheapest_llm_is_the_best() -> None:
    reference = Reference(np.array([1.0, 5.0]), np.array([0.9, 0.8]), best=1)
    assert all(math.isnan(v) for v in performance_gap_recovered(LINE, reference))


@given(st.floats(0, 1), st.floats(1e-6, 0.2))
def test_arena_score_is_the_papers_formula(accuracy: float, cost: float) -> None:
    per_thousand = min(max(cost * 1000, 0.0044), 200.0)
    c = (math.log2(200) - math.log2(per_thousand)) / (math.log2(200) - math.log2(0.0044))
    naive = 1.1 * accuracy * c / (0.1 * accuracy + c) if accuracy + c > 0 else 0.0
    found = arena_score(np.array([accuracy]), np.array([cost]))
    assert found == pytest.approx([naive])
    assert 0 <= found[0] <= 1


def test_arena_score_of_free_and_of_ruinous_answers() -> None:
    assert arena_score(np.array([1.0, 1.0, 0.0]), np.array([0.0, 9.0, 1e-3])) == pytest.approx([1.0, 0.0, 0.0])


@given(SEEDS)
def test_saving_is_that_of_the_cheapest_point_as_accurate_as_the_best_llm(seed: int) -> None:
    curve, reference = random_case(seed)
    accuracy, cost = reference.accuracy[reference.best], reference.cost[reference.best]
    enough = [c for c, a in zip(curve.cost, curve.accuracy, strict=True) if a >= accuracy]
    assert cost_metrics(curve, reference).cost_save == pytest.approx(max(1 - min(enough, default=cost) / cost, 0))


def test_a_point_as_dear_as_a_better_one_is_no_part_of_the_frontier() -> None:
    twins = Curve.of(np.array([1.0, 1.0, 10.0]), np.array([0.5, 0.9, 1.0]))
    assert pareto_distance(Curve.of(np.array([1.0]), np.array([0.5])), twins) == pytest.approx(0.4 / 0.5)


def test_pareto_distance_of_a_free_answer_is_finite() -> None:
    points = Curve.of(np.array([0.0, 1.0]), np.array([0.2, 0.9]))
    assert pareto_distance(points, points) == 0


@given(SEEDS)
def test_pareto_distance_is_the_mean_gap_to_the_nearest_undominated_point(seed: int) -> None:
    """Second implementation of the definition: L1, in accuracy and log cost, each scaled over everyone's points."""
    curve, reference = random_case(seed)
    points = [*zip(curve.cost, curve.accuracy, strict=True), *zip(reference.cost, reference.accuracy, strict=True)]
    everyone = Curve.of(*np.array(points).T)
    front = [(c, a) for c, a in points if not any((x <= c and y >= a) and (x, y) != (c, a) for x, y in points)]
    logs, accuracies = [math.log(c) for c, _ in points], [a for _, a in points]
    spans = [max(v) - min(v) or 1.0 for v in (logs, accuracies)]
    gaps = [
        min(abs(math.log(c / x)) / spans[0] + abs(a - y) / spans[1] for x, y in front)
        for c, a in zip(curve.cost, curve.accuracy, strict=True)
    ]
    assert pareto_distance(curve, everyone) == pytest.approx(np.mean(gaps))


@given(SEEDS)
def test_every_figure_stays_in_its_range(seed: int) -> None:
    found = cost_metrics(*random_case(seed))
    for name in ("cost_save", "aiq", "aiq_code", "deferral_area", "arena", "arena_best"):
        assert 0 <= getattr(found, name) <= 1
    assert found.arena <= found.arena_best
    assert found.perf_gain >= -1
    for value in (found.qnc, found.cpt50, found.cpt80):
        assert math.isnan(value) or value >= 0
