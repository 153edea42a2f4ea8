"""Several data sets become one matrix: shared items are one row, and every rule equals its naive definition."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import tiny_matrix

from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.data.matrix import Conflicts, CorrectnessMatrix, merge
from embedllm_router.errors import DataError

NAN = float("nan")
RULES: dict[OnConflict, Callable[[list[float]], float]] = {
    OnConflict.MEAN: lambda s: sum(s) / len(s),
    OnConflict.FIRST: lambda s: s[0],
    OnConflict.LAST: lambda s: s[-1],
    OnConflict.MAX: max,
}


def sets_of(answers: list[list[list[float]]]) -> list[CorrectnessMatrix]:
    """One set per entry, all of the same prompts; NaN is unobserved."""
    return [
        replace(
            tiny_matrix(np.nan_to_num(scores).tolist(), np.isfinite(scores).tolist()),
            datasets=(f"set{i}",) * len(scores),
        )
        for i, scores in enumerate(answers)
    ]


def named(matrix: CorrectnessMatrix, dataset: str, *ids: str) -> CorrectnessMatrix:
    return replace(matrix, datasets=(dataset,) * len(ids), prompt_ids=ids, prompts=tuple(f"text of {i}" for i in ids))


def test_llms_are_aligned_by_id_whatever_their_order() -> None:
    a = named(tiny_matrix([[1, 0]]), "a", "x")
    b = named(tiny_matrix([[1, 0, 1]]).select_llms(["llm2", "llm0"]), "b", "y")
    merged = merge([a, b])
    assert merged.matrix.llm_ids == ("llm0", "llm1", "llm2")
    assert merged.matrix.correctness.tolist() == [[1, 0, 0], [1, 0, 1]]
    assert merged.matrix.observed.tolist() == [[True, True, False], [True, False, True]]
    assert (merged.shared_prompts, merged.conflicts) == (0, Conflicts(0, 0))


def test_a_shared_item_is_one_row_of_the_first_set_with_the_answers_of_both() -> None:
    a = named(tiny_matrix([[1.0], [0.0]]), "a", "x", "y")
    b = replace(named(tiny_matrix([[1.0], [0.0]]), "b", "y", "z"), llm_ids=("llm1",), categories=("other", "other"))
    merged = merge([a, b])
    assert merged.matrix.prompt_ids == ("x", "y", "z")
    assert merged.matrix.datasets == ("a", "a", "b")
    assert merged.matrix.categories == ("any", "any", "other")
    assert merged.matrix.observed.tolist() == [[True, False], [True, True], [False, True]]
    assert merged.matrix.correctness.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert (merged.shared_prompts, merged.conflicts) == (1, Conflicts(0, 0))


def test_the_same_id_of_another_text_is_another_item() -> None:
    a, b = (named(tiny_matrix([[s]]), d, "1") for s, d in ((1.0, "a"), (0.0, "b")))
    merged = merge([a, replace(b, prompts=("something else",))])
    assert merged.matrix.prompt_ids == ("1", "b:1")
    assert merged.matrix.correctness.tolist() == [[1], [0]]
    assert merged.shared_prompts == 0


def test_the_same_text_under_another_id_is_another_item() -> None:
    a, b = (replace(named(tiny_matrix([[1.0]]), d, d), prompts=("same text",)) for d in "ab")
    assert merge([a, b]).matrix.prompt_ids == ("a", "b")


SCORE = st.sampled_from([NAN, 0.0, 0.25, 0.5, 1.0])
SETS = st.integers(2, 4).flatmap(
    lambda n: st.lists(
        st.lists(st.lists(SCORE, min_size=2, max_size=2), min_size=3, max_size=3), min_size=n, max_size=n
    )
)


@given(SETS, st.sampled_from(list(RULES)))
def test_each_rule_equals_its_naive_definition(answers: list[list[list[float]]], rule: OnConflict) -> None:
    merged = merge(sets_of(answers), rule)
    repeated = conflicting = 0
    for row in range(3):
        for llm in range(2):
            found = [a[row][llm] for a in answers if np.isfinite(a[row][llm])]
            assert merged.matrix.observed[row, llm] == bool(found)
            assert merged.matrix.correctness[row, llm] == pytest.approx(RULES[rule](found) if found else 0.0)
            repeated += max(len(found) - 1, 0)
            conflicting += len(set(found)) > 1
    assert merged.conflicts == Conflicts(repeated, conflicting)
    assert merged.shared_prompts == 3


def test_scores_that_agree_are_no_conflict_and_scores_that_differ_are_refused_on_demand() -> None:
    agreeing = sets_of([[[1.0, 0.0]], [[1.0, NAN]]])
    assert merge(agreeing, OnConflict.ERROR).conflicts == Conflicts(1, 0)
    with pytest.raises(DataError, match=r"1 pairs .* prompt p0, LLM 'llm1', scores \[0\.0, 0\.5\]"):
        merge([*agreeing, *sets_of([[[1.0, 0.5]]])], OnConflict.ERROR)


@pytest.mark.parametrize(
    ("rule", "tokens", "counted"),
    [
        (OnConflict.MEAN, 300, True),  # an estimate does not water down what was counted
        (OnConflict.FIRST, 60, False),
        (OnConflict.LAST, 400, True),
        (OnConflict.MAX, 200, True),
    ],
)
def test_lengths_go_with_the_answer_that_counts(rule: OnConflict, tokens: float, counted: bool) -> None:  # noqa: FBT001 - a table's column
    sets = [
        replace(m, output_tokens=np.array([[n]], np.float32), counted=np.array([[c]]))
        for m, (n, c) in zip(sets_of([[[0.0]], [[1.0]], [[0.5]]]), ((60, False), (200, True), (400, True)), strict=True)
    ]
    matrix = merge(sets, rule).matrix
    assert matrix.output_tokens.tolist() == [[tokens]]
    assert matrix.counted.tolist() == [[counted]]


def test_input_tokens_are_those_of_the_first_set_that_knows_them() -> None:
    sets = [
        replace(m, input_tokens=np.array([n], np.float32))
        for m, n in zip(sets_of([[[1.0]]] * 3), (NAN, 7, 9), strict=True)
    ]
    assert merge(sets).matrix.input_tokens.tolist() == [7]


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        merge([])
