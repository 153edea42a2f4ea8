"""Intervals and resampled metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router._stats import estimate, paired_difference, ratio_of_sums, resamples
from embedllm_router.evaluation.metrics import (
    _weighted_auc,
    _weighted_ece,
    accuracy,
    auc,
    correctness,
    correctness_intervals,
    expected_calibration_error,
    reliability,
)
from embedllm_router.evaluation.routing import risk_coverage


def test_every_resample_draws_as_many_prompts_as_there_are() -> None:
    counts = resamples(7, seeds=(0, 1), draws=5)
    assert counts.shape == (10, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (resamples(7, seeds=(0, 1), draws=5) == counts).all()


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 400), np.zeros(400)
    found = paired_difference(a, b)
    assert found.value == pytest.approx(a.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * a.std() / 20, rel=0.1)
    assert found.positive
    assert not found.negative


def test_equal_routers_differ_by_exactly_nothing() -> None:
    a = np.array([0.0, 1.0, 1.0])
    found = paired_difference(a, a)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_undefined_resamples_are_left_out() -> None:
    assert np.isnan(estimate(1.0, np.array([np.nan, np.nan]), 2).low)
    assert estimate(1.0, np.array([np.nan, 2.0]), 2).low == 2


def test_a_prompt_without_labels_does_not_count() -> None:
    found = ratio_of_sums(np.array([2.0, 0.0]), np.array([4.0, 0.0]), resamples(2, draws=20))
    assert found.value == 0.5
    assert found.low == found.high == 0.5


@given(st.integers(0, 1000))
def test_weighted_metrics_equal_the_plain_ones_on_repeated_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, q = rng.integers(0, 2, 40).astype(float), np.sort(rng.choice([0.1, 0.3, 0.35, 0.8], 40))
    weight = rng.integers(0, 3, 40).astype(np.float32)
    y[:2], weight[:2] = [0, 1], 1
    times = weight.astype(int)
    assert _weighted_auc(y, q, weight) == pytest.approx(auc(np.repeat(y, times), np.repeat(q, times)))
    ones = np.ones(40, dtype=np.float32)
    q = np.sort(rng.random(45))
    y, ones = rng.integers(0, 2, 45).astype(float), np.ones(45, dtype=np.float32)
    assert _weighted_ece(y, q, ones) == pytest.approx(expected_calibration_error(y, q))


def test_intervals_hold_the_figures() -> None:
    rng = np.random.default_rng(1)
    p = rng.random((60, 5)).astype(np.float32)
    labels = (rng.random((60, 5)) < p).astype(np.float32)
    observed = rng.random((60, 5)) < 0.8
    plain, found = correctness(labels, p, observed), correctness_intervals(labels, p, observed)
    for name in ("log_loss", "brier", "auc", "accuracy"):
        one = getattr(found, name)
        assert one.value == pytest.approx(getattr(plain, name))
        assert one.low <= one.value <= one.high


def test_no_labels_give_no_figures() -> None:
    empty = np.zeros((2, 2), dtype=np.float32)
    assert np.isnan(correctness(empty, empty, np.zeros((2, 2), bool)).log_loss)


def test_accuracy_takes_one_half_as_right() -> None:
    assert accuracy(np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.4])) == pytest.approx(1 / 3)


def test_reliability_bins_sum_to_all_labels() -> None:
    p = np.linspace(0, 1, 31)
    found = reliability((p > 0.5).astype(float), p)
    assert found[:, 2].sum() == 31
    assert (np.diff(found[:, 0]) > 0).all()


@given(st.integers(0, 1000))
def test_risk_at_a_coverage_is_counted_over_the_surest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure, correct = rng.random(20), rng.integers(0, 2, 20).astype(float)
    curve = risk_coverage(sure, correct)
    order = sorted(range(20), key=lambda i: -sure[i])
    naive = [sum(1 - correct[i] for i in order[: k + 1]) / (k + 1) for k in range(20)]
    assert curve.risk.tolist() == pytest.approx(naive)
    assert curve.area == pytest.approx(sum(naive) / 20)
    assert curve.risk_at(0.25) == pytest.approx(naive[4])
    assert curve.risk_at(1.0) == pytest.approx(1 - correct.mean())
