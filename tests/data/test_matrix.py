import numpy as np
import pytest
from synthetic import tiny_matrix

from embedllm_router.errors import DataError


def test_labels_are_right_from_one_half_on() -> None:
    assert tiny_matrix([[0.0, 0.49, 0.5, 1.0]]).labels().tolist() == [[0, 0, 1, 1]]


def test_selecting_llms_keeps_ids_beside_their_columns_and_drops_unanswered_prompts() -> None:
    matrix = tiny_matrix([[1, 0], [0, 1]], [[True, True], [True, False]])
    narrow = matrix.select_llms(["llm1"])
    assert narrow.llm_ids == ("llm1",)
    assert narrow.prompt_ids == ("p0",)
    assert narrow.correctness.tolist() == [[0]]


def test_selecting_an_unknown_llm_names_it() -> None:
    with pytest.raises(DataError, match="llm9"):
        tiny_matrix([[1.0]]).select_llms(["llm9"])


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_values_outside_zero_to_one_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        tiny_matrix([[bad]])


def test_a_mask_of_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(DataError, match=r"shape of observed is \(1, 2\), expected \(1, 1\)"):
        tiny_matrix([[1.0]], [[True, True]])


def test_unobserved_pairs_are_not_labels() -> None:
    assert tiny_matrix([[1, 1]], [[True, False]]).n_labels == 1
    assert np.isnan(tiny_matrix([[1.0]]).output_tokens).all()


def test_a_thinned_matrix_is_the_same_each_time_and_part_of_a_larger_one() -> None:
    matrix = tiny_matrix([[i % 2] for i in range(50)])
    few, more = matrix.thinned(10), matrix.thinned(20)
    assert few.prompt_ids == matrix.thinned(10).prompt_ids
    assert len(few.prompt_ids) == 10
    assert set(few.prompt_ids) < set(more.prompt_ids)
    assert list(few.prompt_ids) == [item for item in matrix.prompt_ids if item in few.prompt_ids]
    assert matrix.thinned(None) is matrix.thinned(50) is matrix
