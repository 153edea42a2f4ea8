import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.data.split import leakage, question_stem, split_by_stem
from embedllm_router.errors import DataError

QUESTIONS = [f"How many apples has farmer number {i} in all?" for i in range(400)]


def test_options_case_and_punctuation_do_not_make_another_question() -> None:
    a = question_stem("Which planet is the LARGEST one?\nA. Mars\nB. Jupiter")
    b = question_stem("which planet, is the largest one\n(A) Venus\n(B) Saturn")
    assert a == b == "which planet is the largest one"


def test_a_stem_too_short_to_identify_a_question_keeps_its_options() -> None:
    assert question_stem("True or?\nA. yes\nB. no") != question_stem("True or?\nA. maybe\nB. no")


def test_symbols_tell_two_puzzles_apart() -> None:
    assert question_stem("Solve this grid now: # # @") != question_stem("Solve this grid now: # @ #")


def test_the_parts_are_disjoint_complete_and_about_the_shares() -> None:
    split = split_by_stem(QUESTIONS)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together.tolist()) == list(range(400))
    assert [len(split.train), len(split.validation), len(split.test)] == [320, 40, 40]


@given(st.lists(st.sampled_from(QUESTIONS[:30]), min_size=30, max_size=200), st.integers(0, 5))
def test_a_stem_is_never_on_two_sides(prompts: list[str], seed: int) -> None:
    with_options = [f"{p}\nA. {i}\nB. none" for i, p in enumerate(prompts)]
    split = split_by_stem(with_options, seed=seed)
    sides = [{prompts[i] for i in part} for part in (split.train, split.validation, split.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


def test_the_order_of_prompts_has_no_say() -> None:
    forward, backward = split_by_stem(QUESTIONS), split_by_stem(QUESTIONS[::-1])
    assert {QUESTIONS[i] for i in forward.test} == {QUESTIONS[::-1][i] for i in backward.test}


def test_another_seed_is_another_split() -> None:
    assert split_by_stem(QUESTIONS).test.tolist() != split_by_stem(QUESTIONS, seed=1).test.tolist()


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(DataError, match="sum to 1"):
        split_by_stem(QUESTIONS, shares=(0.8, 0.1, 0.2))


def test_leakage_counts_the_same_stem_and_the_reworded_one() -> None:
    text = "a long question about the yearly migration of grey geese over the northern sea and back home again"
    prompts = [text, text.upper(), text.replace("home", "south"), "something else entirely is being asked in here"]
    found = leakage(prompts, np.array([0]), np.array([1, 2, 3]))
    assert (found.same_stem, found.near_duplicates, found.n_test) == (1, 1, 3)


def test_a_stem_split_does_not_leak() -> None:
    prompts = [f"{q}\nA. {o}" for q in QUESTIONS for o in range(3)]
    split = split_by_stem(prompts)
    assert leakage(prompts, split.train, split.test).same_stem == 0
