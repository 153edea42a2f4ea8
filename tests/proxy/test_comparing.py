"""What a judge says of answers is read strictly, and two orders that contradict each other are a tie."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.proxy.call import Message
from embedllm_router.proxy.comparing import compared, comparison_messages, read_scores

SCORES = st.lists(st.floats(0, 1), min_size=5, max_size=5)


def test_the_judge_sees_letters_and_the_rubric() -> None:
    system, user = comparison_messages([Message("user", "q")], ["x" * 50_000, "two"], "be strict")
    case = json.loads(user.content)
    assert (system.role, case["task"], case["rubric"]) == ("system", [{"role": "user", "content": "q"}], "be strict")
    assert (len(case["answers"]["A"]), case["answers"]["B"]) == (40_000, "two")


@pytest.mark.parametrize(
    "text",
    [
        *("", "A is better", "[1, 0]", '{"A": 1}', '{"A": 1, "B": 0, "C": 0}', '{"A": true, "B": 0}'),
        *('{"A": 2, "B": 0}', '{"A": "1", "B": 0}', '{"A": NaN, "B": 0}', 'Sure: {"A": 1, "B": 0}'),
    ],
)
def test_what_is_no_score_for_each_answer_is_nothing(text: str) -> None:
    assert read_scores(text, 2) is None


def test_scores_are_read_bare_and_fenced() -> None:
    assert read_scores('{"B": 0.25, "A": 1}', 2) == read_scores('```json\n{"A": 1, "B": 0.25}\n```', 2) == (1.0, 0.25)


def test_orders_that_agree_are_averaged_and_others_tie() -> None:
    agreed = compared((0.2, 0.8, 0.5), (0.4, 1.0, 0.5))
    assert agreed.scores == pytest.approx((0.3, 0.9, 0.5))
    assert agreed.reversed == (False, False, False)
    tied = compared((0.9, 0.1, 1.0), (0.1, 0.7, 1.0))
    assert tied.scores == pytest.approx((0.45, 0.45, 1.0))
    assert tied.reversed == (False, True, False)


@given(SCORES, SCORES)
def test_answers_about_which_the_orders_contradict_each_other_are_equal(one: list[float], other: list[float]) -> None:
    found = compared(one, other)
    assert sum(found.scores) == pytest.approx((sum(one) + sum(other)) / 2)
    for i in range(len(one)):
        for j in range(len(one)):
            if (one[i] - one[j]) * (other[i] - other[j]) < 0:
                assert found.scores[i] == pytest.approx(found.scores[j])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_a_judge_of_the_same_mind_in_both_orders_is_taken_at_its_word(scores: list[float]) -> None:
    assert compared(scores, scores).scores == pytest.approx(tuple(scores))
