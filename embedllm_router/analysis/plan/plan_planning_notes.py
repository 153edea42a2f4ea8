"""What a reader of a plan should know: what it rests on, and what it cannot say."""

from collections.abc import Iterator, Sequence
from typing import Final

from embedllm_router.analysis.plan.goal import Goal
from embedllm_router.analysis.plan.result import Observed, Outcome
from embedllm_router.analysis.plan.traffic import Traffic
from embedllm_router.artifact.guarantees import floor_that_keeps
from embedllm_router.artifact.manifest import ContractRow

__all__ = ["notes"]

_SHORT_DAYS: Final = 7.0
_FEW: Final = 200


def notes(  # noqa: PLR0913 - what a plan rests on, each said something about
    traffic: Traffic,
    goal: Goal,
    best: Outcome,
    observed: Observed | None,
    contract: Sequence[ContractRow],
    *,
    known: bool,
) -> tuple[str, ...]:
    """A sentence for each thing to know."""
    return (
        *_traffic(traffic),
        *_contract(goal, best, contract, known=known),
        *_feedback(observed),
        "Sessions, exploration and budgets change choices too; the plan knows the objective only.",
        "Near ties that go to favourites change choices as well, by no more than near_tie_margin of utility each.",
    )


def _traffic(traffic: Traffic) -> Iterator[str]:
    if traffic.rate.measured and traffic.rate.days < _SHORT_DAYS:
        yield (
            f"The records span {traffic.rate.days:.1f} days: a month of such days is assumed. "
            "--requests-per-month says otherwise."
        )
    if len(traffic.requests) < _FEW:
        yield f"{len(traffic.requests):,} requests are few: see the intervals."
    if len(traffic.virtual_models) > 1:
        names = ", ".join(traffic.virtual_models)
        yield f"{names} are planned together; --virtual-model plans one."
    if not traffic.virtual_models:
        yield "Every request's objective was set by its client, key or team: no setting of a virtual model changes it."


def _contract(goal: Goal, best: Outcome, contract: Sequence[ContractRow], *, known: bool) -> Iterator[str]:
    if best.held_out is None:
        lacking = "hold no contract: `embedllm-router contract` measures it" if known else "are not at hand: --artifact"
        yield f"How far the probabilities can be trusted is not known here; the weights that predicted them {lacking}."
        return
    yield (
        "The held-out answers are to benchmark prompts and benchmark LLMs, not to this traffic: they show how "
        "promises fared there."
    )
    if goal.accuracy is None:
        return
    short = goal.accuracy - best.held_out.accuracy.value
    if best.feasible and short > 0:
        yield (
            f"As held-out answers fared, the target would be missed by {short:.3f}. To allow for that, plan with "
            f"--target-accuracy {min(goal.accuracy + short, 1.0):.3f}."
        )
    floor = floor_that_keeps(contract, goal.accuracy)
    if floor is not None:
        yield (
            f"To promise {goal.accuracy:g} for the requests where some LLM reaches the floor: min_p_correct "
            f"{floor.value:g}; {floor.correct:.1%} of {floor.n_labels:,} such held-out answers were right, at least "
            f"{floor.at_least:.1%} with 95 % confidence."
        )


def _feedback(observed: Observed | None) -> Iterator[str]:
    if observed is None:
        yield "No feedback: whether any recorded answer was right was not observed."
    elif observed.difference.positive or observed.difference.negative:
        side = "more" if observed.difference.positive else "less"
        yield (
            f"Feedback says that answers were {side} often right than predicted, by "
            f"{abs(observed.difference.value):.3f}; `embedllm-router learn` corrects the weights."
        )
