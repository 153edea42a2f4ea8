from dataclasses import replace

import numpy as np
import pytest
from synthetic import tiny_matrix

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.training.fit.facts import fill_unknown, log_output_tokens, smearing

NAN = float("nan")


def matrix_of(tokens: list[list[float]], counted: list[list[bool]] | None = None) -> CorrectnessMatrix:
    matrix = tiny_matrix([[1.0] * len(tokens[0])] * len(tokens))
    return replace(
        matrix,
        output_tokens=np.array(tokens, dtype=np.float32),
        counted=matrix.counted if counted is None else np.array(counted),
    )


def test_visible_tokens_are_the_length_of_an_llm_that_hides_nothing() -> None:
    logs = log_output_tokens(matrix_of([[100, NAN], [1, 50]]), {})
    np.testing.assert_allclose(np.exp(logs), [[100.0, NAN], [1.0, 50.0]], rtol=1e-5)


def test_hidden_reasoning_grows_with_how_long_others_answer() -> None:
    logs = log_output_tokens(matrix_of([[50, 10], [200, 10]]), {"llm1": 1000})
    hidden = np.exp(logs[:, 1]) - 10
    np.testing.assert_allclose(hidden, [500, 2000], rtol=1e-4)


def test_a_counted_length_holds_its_hidden_part_already() -> None:
    matrix = matrix_of([[50, 900], [200, 10]], counted=[[True, True], [False, False]])
    logs = log_output_tokens(matrix, {"llm1": 1000})
    np.testing.assert_allclose(np.exp(logs), [[50, 900], [200, 2010]], rtol=1e-4)


def test_without_any_visible_length_the_estimate_is_the_mean() -> None:
    logs = log_output_tokens(matrix_of([[NAN, 10]]), {"llm1": 1000})
    assert np.exp(logs[0, 1]) == pytest.approx(1010, rel=1e-4)


def test_unknown_llms_get_the_average_of_their_kind() -> None:
    values = np.array([1, 3, 0, 10, 0], dtype=np.float32)
    known = np.array([True, True, False, True, False])
    thinking = np.array([False, False, False, True, True])
    assert fill_unknown(values, known, thinking).tolist() == [1, 3, 2, 10, 10]


def test_unknown_llms_of_a_kind_never_seen_get_the_average_of_all() -> None:
    filled = fill_unknown(
        np.array([1, 3, 0], dtype=np.float32), np.array([True, True, False]), np.array([False, False, True])
    )
    assert filled.tolist() == [1, 3, 2]


def test_smearing_makes_the_mean_of_a_lognormal_right() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(5, 0.8, (50_000, 1)).astype(np.float32)
    shift = smearing(np.full_like(actual, 5), actual)
    assert np.exp(5 + shift[0]) == pytest.approx(np.exp(actual).mean(), rel=0.01)


def test_smearing_without_lengths_is_nothing() -> None:
    assert smearing(np.zeros((3, 2), np.float32), np.full((3, 2), np.nan, np.float32)).tolist() == [0, 0]
