import dataclasses

import numpy as np
import pytest
from samples_matrix import grouped_matrix

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import (
    benchmarks,
    leakage_report,
    leave_llms_out,
    leave_one_benchmark_out,
    question_stem,
)
from embedllm_router.errors import DataError


def parts(split: object) -> list[set[int]]:
    return [set(getattr(split, name).tolist()) for name in ("train", "validation", "test", "dropped")]


def test_each_benchmark_is_held_out_once_and_whole() -> None:
    matrix = grouped_matrix()
    splits = list(leave_one_benchmark_out(matrix))
    assert [s.held_out for s in splits] == ["algebra", "history", "poetry"]
    for split in splits:
        assert split.test.tolist() == [i for i, d in enumerate(matrix.datasets) if d == split.held_out]
        assert set.union(*parts(split)) == set(range(len(matrix.prompts)))
        assert sum(map(len, parts(split))) == len(matrix.prompts)
        assert split.train.size > 5 * split.validation.size > 0


def test_a_question_of_the_held_out_benchmark_leaves_the_others() -> None:
    matrix = grouped_matrix(shared_questions=4)
    for split in leave_one_benchmark_out(matrix):
        stems = [question_stem(p) for p in matrix.prompts]
        assert not {stems[i] for i in split.test} & {stems[i] for i in [*split.train, *split.validation]}
    by_name = {s.held_out: s for s in leave_one_benchmark_out(matrix)}
    assert len(by_name["algebra"].dropped) == len(by_name["history"].dropped) == 4
    assert len(by_name["poetry"].dropped) == 0


def test_one_data_set_is_split_by_its_categories_and_by_what_one_names() -> None:
    matrix = grouped_matrix()
    single = dataclasses.replace(matrix, datasets=("all",) * len(matrix.prompts), categories=matrix.datasets)
    assert benchmarks(matrix) == benchmarks(single) == matrix.datasets
    first = [name[0] for name in matrix.datasets]
    assert [s.held_out for s in leave_one_benchmark_out(single, groups=first)] == ["a", "h", "p"]


def test_each_llm_is_held_out_once_and_never_learned_from() -> None:
    matrix = grouped_matrix()
    splits = list(leave_llms_out(matrix, n_folds=3))
    assert sorted(llm for s in splits for llm in s.test_llms) == sorted(matrix.llm_ids)
    for split in splits:
        assert not set(split.seen_llms) & set(split.test_llms)
        assert set(split.seen_llms) | set(split.test_llms) == set(matrix.llm_ids)
        train, validation, test = split.matrices(matrix)
        assert (train.llm_ids, validation.llm_ids, test.llm_ids) == (split.seen_llms, split.seen_llms, split.test_llms)
        assert not set(train.prompt_ids) & set(test.prompt_ids)


def test_whole_groups_of_llms_are_held_out() -> None:
    matrix = grouped_matrix()
    vendors = {llm: llm.partition("/")[0] for llm in matrix.llm_ids}
    splits = list(leave_llms_out(matrix, groups=vendors))
    assert [s.held_out for s in splits] == ["anta", "bort"]
    assert {llm.partition("/")[0] for llm in splits[0].test_llms} == {"anta"}


def test_the_order_of_columns_has_no_say_and_the_seed_has() -> None:
    matrix = grouped_matrix()
    turned = matrix.select_llms(matrix.llm_ids[::-1])

    def folds(m: CorrectnessMatrix, seed: int) -> list[set[str]]:
        return [set(s.test_llms) for s in leave_llms_out(m, n_folds=3, seed=seed)]

    assert folds(matrix, 0) == folds(turned, 0)
    assert any(folds(matrix, 0) != folds(matrix, seed) for seed in range(1, 9))


def test_the_same_seed_gives_the_same_rows() -> None:
    matrix = grouped_matrix()
    for a, b in zip(leave_one_benchmark_out(matrix, seed=3), leave_one_benchmark_out(matrix, seed=3), strict=True):
        np.testing.assert_array_equal(a.train, b.train)


def test_the_leakage_report_counts_what_the_stem_does_not_see() -> None:
    matrix = grouped_matrix(shared_questions=4, reworded_questions=3)
    report = leakage_report(matrix, leave_one_benchmark_out(matrix))
    assert list(report) == ["algebra", "history", "poetry"]
    assert all(found.same_stem == 0 for found in report.values())
    assert report["history"].n_test == 40
    assert 1 <= report["history"].near_duplicates <= 3
    assert report["poetry"].near_duplicates == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: leave_one_benchmark_out(m, groups=["one"] * len(m.prompts)), "at least two"),
        (lambda m: leave_one_benchmark_out(m, groups=["one"]), "1 names, expected one per prompt, 120"),
        (lambda m: leave_llms_out(m, n_folds=1), "n_folds is 1, expected from 2 to the number of LLMs, 6"),
        (lambda m: leave_llms_out(m, n_folds=7), "n_folds is 7"),
        (lambda m: leave_llms_out(m, groups={}), "have no group"),
        (lambda m: leave_llms_out(m, groups=dict.fromkeys(m.llm_ids, "all")), "at least two"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(call(grouped_matrix()))  # type: ignore[operator]
