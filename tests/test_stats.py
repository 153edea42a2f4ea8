"""The shared statistics: the logistic function keeps its argument's type and is the request path's to the bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedllm_router._stats import Examples, Resampling, fit_logistic, logit, losses, paired_difference, sigmoid
from embedllm_router.prediction.scorer import Scorer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_logistic_function_and_its_inverse_keep_the_type(dtype: Any) -> None:
    z: NDArray[Any] = np.linspace(-12, 12, 101).astype(dtype)
    p = sigmoid(z)
    assert p.dtype == dtype
    assert logit(p).dtype == dtype
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-z.astype(np.float64))), rtol=1e-6 if dtype is np.float32 else 1e-14)
    inner = np.abs(z) < 8
    np.testing.assert_allclose(logit(p)[inner], z[inner], atol=1e-3 if dtype is np.float32 else 1e-12)


def test_logits_beyond_measure_are_certainties_without_a_warning() -> None:
    dtypes: list[Any] = [np.float32, np.float64]
    for dtype in dtypes:
        p = sigmoid(np.array([-np.inf, -1e30, 0.0, 1e30, np.inf], dtype=dtype))
        assert p.tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-20)


def test_the_request_path_has_the_same_bits() -> None:
    """A decoder of one LLM whose logit is its bias."""
    for bias in np.random.default_rng(0).normal(0, 8, 50).astype(np.float32):
        decoder = {
            "input_mean": np.zeros(1, np.float32),
            "input_scale": np.ones(1, np.float32),
            **{f"{network}_network.0.weight": np.zeros((1, 1), np.float32) for network in ("prompt", "length")},
            **{f"{network}_network.0.bias": np.zeros(1, np.float32) for network in ("prompt", "length")},
            **{f"{which}_embeddings": np.zeros((1, 1), np.float32) for which in ("llm", "length")},
            "llm_bias": np.array([bias]),
            "length_bias": np.zeros(1, np.float32),
        }
        assert Scorer(decoder).score(np.zeros(1, np.float32)).p_correct == sigmoid(np.array([bias]))


@given(st.integers(0, 1000))
def test_a_fit_leaves_no_slope(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(60, 3)), rng.uniform(0, 3, 60)
    some = Examples(x, rng.normal(0, 4, 60), rng.random(60), weight)
    precision = rng.uniform(0.1, 50, 3)
    theta, _ = fit_logistic(some, precision)
    wrong = sigmoid(some.base + x @ theta) - some.score
    np.testing.assert_allclose(x.T @ (weight * wrong) + precision * theta, 0, atol=1e-9)


def test_losses_of_absurd_logits_stay_finite() -> None:
    assert losses(np.array([1e9, -1e9]), np.array([0.0, 1.0])).tolist() == pytest.approx([30, 30])


def test_both_bootstraps_give_the_same_interval_up_to_chance() -> None:
    values = np.random.default_rng(0).exponential(1, 4000)
    single, grouped = paired_difference(values, np.zeros(4000)), Resampling(4000).ratio(values)
    assert single.value == pytest.approx(grouped.value)
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.15)
