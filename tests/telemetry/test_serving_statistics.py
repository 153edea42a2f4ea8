"""What is seen while serving becomes the next forecast, without feeding on itself."""

import math

import numpy as np
import pytest

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.decision import Conditions, Decision, Objective, Request
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.telemetry.serving_statistics import ServingStatistics

POOL = CandidatePool([Candidate(name, name, row, 1e-6, 1e-6) for row, name in enumerate(("long", "short"))])
SCORES = Scores(np.array([0.9, 0.8], dtype=np.float32), np.array([100.0, 100.0], dtype=np.float32))


def decided(observations: ServingStatistics, limit: int | None = None) -> Decision:
    seen = Conditions(observed=observations.of(POOL))
    return rank_candidates(POOL, SCORES, Request(Objective(), 10, limit, conditions=seen))


def test_nothing_seen_changes_nothing() -> None:
    observations = ServingStatistics()
    assert observations.of(POOL) is None
    assert observations.length_factor("long") == 1.0
    assert math.isnan(observations.latency_s("long"))


def test_the_forecast_approaches_what_is_answered_and_stays_there() -> None:
    observations, rng = ServingStatistics(), np.random.default_rng(0)
    for _ in range(2_000):
        decision = decided(observations)
        observations.answered(decision, "long", int(300 * rng.lognormal(0, 0.3)), None)
    mean = 3 * math.exp(0.3**2 / 2)
    assert observations.length_factor("long") == pytest.approx((200 * mean + 20) / 220, rel=0.05)
    assert observations.length_factor("short") == 1.0


def test_one_odd_answer_changes_little() -> None:
    observations = ServingStatistics()
    observations.answered(decided(observations), "long", 100_000, None)
    assert observations.length_factor("long") == pytest.approx((20 + 20) / 21, rel=1e-9), "capped at twenty times"


def test_an_answer_cut_by_the_request_s_limit_says_nothing() -> None:
    observations = ServingStatistics()
    observations.answered(decided(observations, limit=50), "long", 50, None)
    observations.answered(decided(observations, limit=150), "long", 150, None)
    assert observations.length_factor("long") == 1.0
    observations.answered(decided(observations, limit=150), "long", 120, None)
    assert observations.length_factor("long") > 1.0


def test_latencies_are_a_running_mean() -> None:
    observations = ServingStatistics()
    for latency_ms in [1_000.0] * 500 + [3_000.0] * 500:
        observations.answered(decided(observations), "short", None, latency_ms)
    old = math.exp(-500 / 200)
    expected = (1.0 * old * (1 - old) + 3.0 * (1 - old)) / (1 - old**2)
    assert observations.latency_s("short") == pytest.approx(expected, rel=0.01)


def test_a_group_outside_the_pool_is_ignored() -> None:
    observations = ServingStatistics()
    observations.answered(decided(observations), "stranger", 5, 10.0)
    assert observations.length_factor("stranger") == 1.0
