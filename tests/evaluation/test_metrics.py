"""Each fast metric against a naive second implementation, on data with ties and extremes."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.evaluation.metrics import auc, brier, expected_calibration_error, log_loss, routing

P = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5001, 0.9, 1.0])
PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), P), min_size=1, max_size=60)


def arrays(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    labels, p = zip(*pairs, strict=True)
    return np.array(labels, dtype=np.float32), np.array(p, dtype=np.float64)


@given(PAIRS)
def test_auc_is_the_share_of_right_wrong_pairs_in_order(pairs: list[tuple[float, float]]) -> None:
    right = [p for y, p in pairs if y == 1]
    wrong = [p for y, p in pairs if y == 0]
    wins = [1.0 if r > w else 0.5 if r == w else 0.0 for r, w in itertools.product(right, wrong)]
    naive = sum(wins) / len(wins) if wins else 0.5
    assert auc(*arrays(pairs)) == pytest.approx(naive)


@given(PAIRS)
def test_log_loss_is_the_mean_surprise(pairs: list[tuple[float, float]]) -> None:
    surprise = [-math.log(max(p if y == 1 else 1 - p, 1e-7)) for y, p in pairs]
    assert log_loss(*arrays(pairs)) == pytest.approx(sum(surprise) / len(pairs), abs=1e-6)


@given(PAIRS)
def test_brier_is_the_mean_squared_error(pairs: list[tuple[float, float]]) -> None:
    assert brier(*arrays(pairs)) == pytest.approx(sum((y - p) ** 2 for y, p in pairs) / len(pairs))


@given(PAIRS, st.integers(1, 20))
def test_calibration_error_is_the_gap_summed_bin_by_bin(pairs: list[tuple[float, float]], bins: int) -> None:
    ordered = sorted(pairs, key=lambda pair: pair[1])
    sizes = [len(pairs) // bins + (i < len(pairs) % bins) for i in range(bins)]
    gap, start = 0.0, 0
    for size in sizes:
        part = ordered[start : start + size]
        start += size
        gap += abs(sum(y for y, _ in part) - sum(p for _, p in part))
    assert expected_calibration_error(*arrays(pairs), bins=bins) == pytest.approx(gap / len(pairs), abs=1e-6)


@given(st.integers(0, 1000))
def test_routing_agrees_with_a_loop_and_never_beats_the_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (20, 4)).astype(np.float32)
    p, means = rng.random((20, 4)).astype(np.float32), rng.random(4).astype(np.float32)
    result = routing(labels, p, means)
    best = max(range(4), key=lambda j: means[j])
    picks = [labels[i][max(range(4), key=lambda j: p[i][j])] for i in range(20)]
    assert result.routing_accuracy == pytest.approx(sum(picks) / 20)
    assert result.best_single_accuracy == pytest.approx(sum(row[best] for row in labels) / 20)
    assert result.oracle_accuracy == pytest.approx(sum(max(row) for row in labels) / 20)
    assert result.random_accuracy == pytest.approx(labels.mean())
    assert result.routing_accuracy <= result.oracle_accuracy


def test_a_perfect_prediction_scores_perfectly() -> None:
    labels = np.array([0, 1, 1, 0], dtype=np.float32)
    assert auc(labels, labels) == 1
    assert brier(labels, labels) == 0
    assert log_loss(labels, labels) < 1e-6
    assert expected_calibration_error(labels, labels) == 0
