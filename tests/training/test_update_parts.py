"""The parts of learning beside naive or independent implementations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from embedllm_router import Router
from embedllm_router._stats import Examples, fit_logistic, losses
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.training.update.adaptation import OFFSETS, Directions, shift_of_all
from embedllm_router.training.update.fit import (
    LADDER,
    LLMChange,
    Rung,
    choose_rung,
    columns,
    fit_rung,
    hashed,
)
from embedllm_router.training.update.guard import expected_auc, ranking

Floats = NDArray[np.float64]


def examples(seed: int, n: int = 200, d: int = 4) -> Examples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    base = rng.normal(size=n)
    return Examples(x, base, rng.random(n), rng.uniform(0, 3, n))


@pytest.fixture(scope="module")
def shipped() -> Router:
    return Router.load()


def test_the_linear_decoder_is_the_scorers(shipped: Router) -> None:
    texts = ["What is 2 + 2?", "Write a poem about rain.", "def f(x):\n    return", "x" * 3000]
    decoder = LinearDecoder(shipped.artifact)
    columns = decoder.columns([*(shipped.encode(text).prompt_embedding for text in texts), None])
    logits = columns @ decoder.rows.T
    scorer = Scorer.from_artifact(shipped.artifact)
    for text, row in zip([*texts, ""], logits, strict=True):
        scored = scorer.score(shipped.encode(text).prompt_embedding if text else None).p_correct
        np.testing.assert_allclose(1 / (1 + np.exp(-row)), scored, atol=1e-5)
    assert decoder.columns([]).shape == (0, decoder.rows.shape[1])
    for name, tensor in decoder.tensors(decoder.rows).items():
        np.testing.assert_array_equal(tensor, shipped.artifact.decoder[name])


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_scipys(seed: int) -> None:
    some, precision = examples(seed), np.array([0.5, 1.0, 2.0, 40.0])

    def objective(theta: Floats) -> float:
        z = some.base + some.x @ theta
        p = 1 / (1 + np.exp(-z))
        loss = -(some.score * np.log(p) + (1 - some.score) * np.log(1 - p))
        return float(some.weight @ loss + 0.5 * precision @ theta**2)

    found = minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    theta, curvature = fit_logistic(some, precision)
    np.testing.assert_allclose(theta, found.x, atol=1e-5)
    step = 1e-3 * np.eye(4)
    for i in range(4):
        for j in range(4):
            ends = [objective(theta + a * step[i] + b * step[j]) * a * b for a in (1, -1) for b in (1, -1)]
            assert curvature[i, j] == pytest.approx(sum(ends) / 4e-6, rel=1e-3, abs=1e-3)


def test_the_fit_survives_certainty() -> None:
    """All right, and predicted certainly wrong: the first Newton step would overshoot by far."""
    sure = Examples(np.ones((500, 1)), np.full(500, -25.0), np.ones(500), np.ones(500))
    theta, _ = fit_logistic(sure, np.array([0.01]))
    assert math.isfinite(theta[0])
    assert losses(sure.base + theta[0], sure.score).mean() < 1.0


def test_losses_are_the_definition() -> None:
    z, y = np.array([-3.0, 0.0, 2.0]), np.array([0.0, 0.5, 1.0])
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(losses(z, y), -(y * np.log(p) + (1 - y) * np.log(1 - p)))


@given(st.integers(0, 10**6), st.floats(-0.9, 2), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_a_folded_change_is_the_change(seed: int, slope: float, offset: float) -> None:
    """Also where LLMs share a part of the logit, which no change of one LLM touches."""
    rng = np.random.default_rng(seed)
    prompts = np.column_stack([rng.normal(size=(40, 6)), np.ones(40)]).astype(np.float32)
    row, constant, shared = rng.normal(size=7), np.eye(7)[6], rng.normal(size=40)
    directions = Directions.of(prompts)
    change = LLMChange(0.7, slope, offset, rng.normal(size=len(directions)))
    own, phi = prompts @ row, directions.of_prompts(prompts)
    new = prompts @ change.folded(row, constant, directions) + shared
    np.testing.assert_allclose(new, change.logit(own + shared, own, phi), atol=1e-4)
    assert change.along is not None
    moved = columns(own, 0.7, phi) @ np.array([slope, offset, *change.along])
    np.testing.assert_allclose(change.logit(own + shared, own, phi), own + shared + moved, atol=1e-9)


def test_directions_have_length_one_on_average_and_are_orthogonal() -> None:
    rng = np.random.default_rng(0)
    hidden = (rng.normal(size=(500, 8)) * np.array([10, 5, 1, 1, 0.1, 0.1, 0, 0])).astype(np.float32)
    phi = Directions.of(hidden).of_prompts(hidden)
    assert np.mean((phi**2).sum(axis=1)) == pytest.approx(1.0, abs=1e-3)
    covariance = phi.T @ phi / len(phi)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-6
    assert len(Directions.of(np.ones((5, 3), dtype=np.float32))) == 0


def test_a_slope_never_reverses_what_was_learned() -> None:
    change = LLMChange.from_fit(np.array([-5.0, 0.1]), 0.0, embedding=False)
    assert change.slope == -0.9
    assert change.along is None


def line_world(seed: int, offset: float, n: int = 400) -> tuple[Examples, list[str]]:
    rng = np.random.default_rng(seed)
    logit = rng.normal(1, 1.5, n)
    score = (rng.random(n) < 1 / (1 + np.exp(-(logit + offset)))).astype(np.float64)
    return Examples(columns(logit, float(logit.mean()), None), logit, score, np.ones(n)), [str(i) for i in range(n)]


def test_the_ladder_is_climbed_only_where_data_say_so() -> None:
    flat = [rung for rung in LADDER if rung.along is None]
    still = [choose_rung(*line_world(seed, 0.0), flat) == Rung() for seed in range(20)]
    moved = [choose_rung(*line_world(seed, -1.5), flat) != Rung() for seed in range(20)]
    assert sum(still) >= 15
    assert all(moved)
    some, _ = line_world(0, -1.5, n=4000)
    assert fit_rung(some, Rung(line=10.0))[1] == pytest.approx(-1.5, abs=0.15)
    assert not fit_rung(some, Rung()).any()


def test_a_hash_is_even_and_always_the_same() -> None:
    values = np.array([hashed(f"key {i}") for i in range(4000)])
    assert hashed("key 7") == values[7]
    assert np.abs(np.histogram(values, bins=10, range=(0, 1))[0] - 400).max() < 80


@pytest.mark.parametrize(
    ("shifts", "common"),
    [
        ([-1.0, -1.1, -0.9, -1.0], True),
        ([-1.0, 0.0, 0.0, 0.0], False),
        ([-3.0, -3.0], False),
        ([0.05, -0.05, 0.0], False),
        ([2.0, -2.0, 2.0, -2.0], False),
    ],
)
def test_only_what_several_llms_share_is_common(shifts: list[float], common: bool) -> None:  # noqa: FBT001 - a table
    found = shift_of_all(np.array(shifts), np.full(len(shifts), 0.01), OFFSETS)
    assert (found != 0) == common
    if common:
        assert found == pytest.approx(-1.0, abs=0.3)


def test_an_llm_that_is_hardly_known_weighs_less_where_they_agree() -> None:
    shifts, variances = np.array([-1.0, -1.0, -1.0, 3.0]), np.array([0.01, 0.01, 0.01, 100.0])
    assert shift_of_all(shifts, variances, OFFSETS) < -0.5


@given(st.lists(st.sampled_from([0.05, 0.2, 0.5, 0.8, 0.95]) | st.floats(0.01, 0.99), min_size=2, max_size=12))
def test_the_expected_area_is_the_sum_over_pairs(p: list[float]) -> None:
    pairs = [(a * (1 - b), 1.0 if a > b else 0.5 if a == b else 0.0) for a in p for b in p]
    total = sum(weight for weight, _ in pairs)
    assert expected_auc(np.array(p)) == pytest.approx(sum(w * won for w, won in pairs) / total)


def test_the_areas_error_is_what_repetition_shows() -> None:
    rng = np.random.default_rng(0)

    def once() -> tuple[float, float]:
        p = rng.random(200)
        found = ranking((rng.random(200) < p).astype(np.float64), p)
        return found.auc, found.error

    runs = np.array([once() for _ in range(300)])
    assert runs[:, 0].std() == pytest.approx(runs[:, 1].mean(), rel=0.2)
    assert runs[:, 0].mean() == pytest.approx(expected_auc(rng.random(20_000)), abs=0.01)


def test_one_kind_of_verdict_ranks_nothing() -> None:
    only_right = ranking(np.ones(60), np.linspace(0, 1, 60))
    assert (only_right.auc, only_right.n_wrong) == (0.5, 0)
    assert math.isnan(only_right.error)
