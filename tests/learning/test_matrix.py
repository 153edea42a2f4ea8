import numpy as np
import pytest
from synthetic import tiny_matrix

from embedllm_router.data.matrix import merge
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


def test_merging_aligns_llms_by_id_whatever_their_order() -> None:
    a = tiny_matrix([[1, 0]])
    b = tiny_matrix([[1, 0, 1]]).select_llms(["llm2", "llm0"])
    renamed = type(b)(**{**{f: getattr(b, f) for f in b.__slots__}, "prompt_ids": ("other",)})
    merged = merge([a, renamed])
    assert merged.llm_ids == ("llm0", "llm1", "llm2")
    assert merged.correctness.tolist() == [[1, 0, 0], [1, 0, 1]]
    assert merged.observed.tolist() == [[True, True, False], [True, False, True]]


def test_a_prompt_id_in_two_sets_is_refused() -> None:
    with pytest.raises(DataError, match="p0"):
        merge([tiny_matrix([[1.0]]), tiny_matrix([[0.0]])])


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        merge([])


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
