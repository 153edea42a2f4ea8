"""What in the grades of a run tells of broken references or graders rather than of LLMs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["GradedAnswer", "doubts", "why_not_learned"]

_FEWEST: Final = 10


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """A grade and where it comes from.

    Attributes:
        llm: Model group.
        grader: Kind of the grader.
        score: In [0, 1].
    """

    llm: str
    grader: str
    score: float


def why_not_learned(answers: Sequence[GradedAnswer]) -> str | None:
    """Why nothing shall be learned from the grades of a run; None where it may be."""
    if len(answers) < _FEWEST or any(one.score for one in answers):
        return None
    return (
        f"none of {len(answers):,} graded answers is right, so no weights were written: references or graders that do "
        "not fit are likelier. Compare some answers in the journal with their references, and give the corrected "
        "prompts with another --out"
    )


def doubts(answers: Sequence[GradedAnswer]) -> list[str]:
    """What is learned from although it may be wrong, one sentence each."""
    if len(answers) >= _FEWEST and all(one.score == 1 for one in answers):
        said = "are right: the prompts tell no LLM from another. Harder ones do, or a grader passes everything"
        return [f"all {len(answers):,} graded answers {said}"]
    return [
        *(
            f"none of {n:,} answers graded by {kind} is right: compare its references with answers in the journal"
            for kind, n in _all_wrong(answers, lambda one: one.grader)
        ),
        *(
            f"none of {n:,} graded answers of {llm} is right: see in the journal whether it answers what is asked"
            for llm, n in _all_wrong(answers, lambda one: one.llm)
        ),
    ]


def _all_wrong(answers: Iterable[GradedAnswer], part: Callable[[GradedAnswer], str]) -> list[tuple[str, int]]:
    """Parts of the answers without a right one, and how many each has."""
    scores = dict[str, list[float]]()
    for one in answers:
        scores.setdefault(part(one), []).append(one.score)
    return [(name, len(mine)) for name, mine in scores.items() if len(mine) >= _FEWEST and not any(mine)]
