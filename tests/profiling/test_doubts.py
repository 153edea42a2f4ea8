"""Grades that tell of broken references: planted for all answers, one grader, one LLM."""

from embedllm_router.profiling.doubts import GradedAnswer, doubts, why_not_learned


def _answers(llm: str, grader: str, *scores: float) -> list[GradedAnswer]:
    return [GradedAnswer(llm, grader, score) for score in scores]


def test_ten_wrong_answers_and_no_right_one_are_not_learned_from() -> None:
    wrong = _answers("a", "exact", *[0.0] * 6) + _answers("b", "numeric", *[0.0] * 4)
    assert "none of 10 graded answers is right" in str(why_not_learned(wrong))
    assert why_not_learned(wrong[:9]) is None
    assert why_not_learned([*wrong, *_answers("b", "exact", 0.5)]) is None


def test_one_grader_or_one_llm_that_is_always_wrong_is_a_note() -> None:
    answers = _answers("a", "regex", *[0.0] * 10) + _answers("b", "exact", *[1.0] * 10)
    of_grader, of_llm = doubts(answers)
    assert "graded by regex" in of_grader
    assert "answers of a is right" in of_llm
    assert doubts(answers[1:]) == []


def test_answers_that_are_all_right_are_a_note() -> None:
    assert "all 10 graded answers are right" in doubts(_answers("a", "exact", *[1.0] * 10))[0]
    assert doubts(_answers("a", "exact", *[1.0] * 9)) == []
