"""Every switch point is found: between two of them, the sums are those of `policy.rank` request by request."""

import numpy as np
import pytest

from embedllm_router.analysis.plan.switches import Steps, cost_weight_steps, floor_steps, select
from embedllm_router.analysis.replay.batch import CandidateBatch
from embedllm_router.routing.policy import Objective, rank

SETTINGS = ("cost_weight", "min_p_correct")


def random_batch(seed: int, n_requests: int = 7, n_names: int = 5) -> CandidateBatch:
    """Small numbers with many ties, some candidates unusable or unknown, some with waiting; all can be answered."""
    rng = np.random.default_rng(seed)
    shape = n_requests, n_names
    p = rng.integers(0, 11, shape) / 10 if seed % 2 else rng.random(shape)
    cost = rng.integers(0, 6, shape) / 100 if seed % 3 else rng.random(shape) / 50
    usable = rng.random(shape) < 0.8
    usable[np.arange(n_requests), rng.integers(0, n_names, n_requests)] = True
    known = usable | (rng.random(shape) < 0.5)
    waiting = rng.integers(0, 3, shape) / 16 if seed % 5 == 0 else np.zeros(shape)
    return CandidateBatch(
        names=tuple("abcdefgh"[:n_names]),
        p_correct=np.where(known, p, np.nan),
        cost_usd=np.where(known, cost, np.nan),
        usable=usable,
        position=np.argsort(rng.random(shape), axis=1).astype(np.int32),
        waiting=waiting,
        usual_p_correct=np.full(shape, np.nan),
        usual_cost_usd=np.full(shape, np.nan),
    )


def naive_sums(batch: CandidateBatch, objective: Objective) -> tuple[float, float]:
    p_sum = cost_sum = 0.0
    for i in range(len(batch)):
        order = np.argsort(batch.position[i])
        p, cost, usable = (getattr(batch, name)[i][order] for name in ("p_correct", "cost_usd", "usable"))
        waits = batch.waiting[i][order] if objective.min_p_correct is None else 0.0
        ranked, _ = rank(objective, p, cost, usable, waits)
        first = next(j for j in ranked.tolist() if usable[j])
        p_sum, cost_sum = p_sum + p[first], cost_sum + cost[first]
    return p_sum, cost_sum


def steps_of(setting: str, batch: CandidateBatch) -> Steps:
    return cost_weight_steps(batch) if setting == "cost_weight" else floor_steps(batch)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seed", range(30))
def test_inside_every_step_the_sums_are_those_of_the_policy(setting: str, seed: int) -> None:
    batch = random_batch(seed)
    steps = steps_of(setting, batch)
    assert steps.at[0] == 0
    assert (np.diff(steps.at) > 0).all()
    for k in range(len(steps)):
        end = min(steps.end(k), 1.0) if setting == "min_p_correct" else steps.end(k)
        value = steps.at[k] + 1.0 if np.isinf(end) else (steps.at[k] + end) / 2
        assert naive_sums(batch, Objective(**{setting: value})) == pytest.approx(
            (steps.p_correct[k], steps.cost_usd[k])
        )


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seed", range(20))
def test_nothing_changes_where_no_switch_point_is(setting: str, seed: int) -> None:
    batch = random_batch(seed)
    steps = steps_of(setting, batch)
    top = 1.0 if setting == "min_p_correct" else 1.2 * max(steps.at[-1], 1.0)
    for value in np.random.default_rng(seed).random(40) * top:
        k = int(np.searchsorted(steps.at, value)) - 1
        found = naive_sums(batch, Objective(**{setting: float(value)}))
        assert found == pytest.approx((steps.p_correct[max(k, 0)], steps.cost_usd[max(k, 0)]))


@pytest.mark.parametrize("seed", range(30))
def test_cost_never_rises_with_the_cost_weight_and_never_falls_with_the_floor(seed: int) -> None:
    batch = random_batch(seed, n_requests=30)
    assert (np.diff(cost_weight_steps(batch).cost_usd) <= 1e-12).all()
    floors = floor_steps(batch)
    assert (np.diff(floors.cost_usd) >= -1e-12).all()
    assert (np.diff(floors.p_correct) >= -1e-12).all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_batch_in_parts_is_the_batch(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(4, n_requests=50)
    whole = steps_of(setting, batch)
    monkeypatch.setattr("embedllm_router.analysis.plan.switches._ROWS", 7)
    parts = steps_of(setting, batch)
    assert parts.at == pytest.approx(whole.at)
    assert parts.p_correct == pytest.approx(whole.p_correct)
    assert parts.cost_usd == pytest.approx(whole.cost_usd)


@pytest.mark.parametrize("setting", SETTINGS)
def test_without_requests_there_is_one_step_of_nothing(setting: str) -> None:
    steps = steps_of(setting, select(random_batch(0), np.arange(0)))
    assert (steps.at.tolist(), steps.p_correct.tolist(), steps.cost_usd.tolist()) == ([0.0], [0.0], [0.0])


def test_planted_switch_points() -> None:
    """Dear is right 0.9 at 0.02, cheap 0.5 at 0.01: λ switches at 0.4 / 0.01, τ at 0.5."""
    one = np.ones((1, 2))
    batch = CandidateBatch(
        ("cheap", "dear"),
        np.array([[0.5, 0.9]]),
        np.array([[0.01, 0.02]]),
        one > 0,
        np.array([[0, 1]], np.int32),
        0 * one,
        one * np.nan,
        one * np.nan,
    )
    weights, floors = cost_weight_steps(batch), floor_steps(batch)
    assert weights.at == pytest.approx([0, 40])
    assert weights.p_correct == pytest.approx([0.9, 0.5])
    assert floors.at == pytest.approx([0, 0.5])
    assert floors.cost_usd == pytest.approx([0.01, 0.02])
