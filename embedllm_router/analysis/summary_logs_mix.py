"""Who answered, how it ended and why each was chosen: counts and shares."""

from dataclasses import dataclass

import numpy as np

from embedllm_router.analysis.summary_logs_totals import Totals

__all__ = ["Count", "LlmShare", "Outcomes", "llm_shares", "outcomes", "reasons"]


@dataclass(frozen=True, slots=True)
class Count:
    """How many of how many.

    Attributes:
        n: How many.
        of: Of how many it could have been.
    """

    n: int
    of: int

    @property
    def share(self) -> float | None:
        """In [0, 1]; None of nothing."""
        return self.n / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class LlmShare:
    """One LLM's part.

    Attributes:
        llm: Its model group.
        chosen: Requests it was chosen for, of all.
        served: Requests it answered, of all.
        billed_usd: Billed cost of those it answered.
        p_correct: Mean predicted probability of those it was chosen for; None when none was predicted.
    """

    llm: str
    chosen: Count
    served: Count
    billed_usd: float
    p_correct: float | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How requests ended.

    Attributes:
        success: Answered, of all.
        failure: Ended in an error.
        unknown: Nobody reported an outcome.
        fallback: Another LLM answered than the chosen one, of those answered.
        failed_open: Routing failed and the default answered, of all.
        floor_missed: No candidate reached the floor that the objective set, of those with a floor.
    """

    success: Count
    failure: Count
    unknown: Count
    fallback: Count
    failed_open: Count
    floor_missed: Count


def outcomes(totals: Totals) -> Outcomes:
    """Adds up how requests ended."""
    n = totals.n
    success, failure = (int(totals.total("n", totals.where(status=status))) for status in ("success", "failure"))
    missed, met = (int(totals.total("n", totals.where(floor_met=is_met))) for is_met in (False, True))
    pairs = zip(totals.by["chosen"], totals.by["served"], strict=True)
    fell = np.array([served not in {None, chosen} for chosen, served in pairs], dtype=bool)
    return Outcomes(
        success=Count(success, n),
        failure=Count(failure, n),
        unknown=Count(n - success - failure, n),
        fallback=Count(int(totals.total("n", fell)), n - int(totals.total("n", totals.where(served=None)))),
        failed_open=Count(int(totals.total("n", totals.where(reason="failed_open"))), n),
        floor_missed=Count(missed, missed + met),
    )


def llm_shares(totals: Totals) -> tuple[LlmShare, ...]:
    """Every LLM that was chosen or answered; the one chosen most often first."""
    chosen, served = totals.per_value("chosen", "n"), totals.per_value("served", "n")
    billed = totals.per_value("served", "billed_usd")
    predicted, p = (totals.per_value("chosen", name, totals.compared) for name in ("n", "p_correct"))
    return tuple(
        LlmShare(
            llm=name,
            chosen=Count(int(chosen.get(name, 0)), totals.n),
            served=Count(int(served.get(name, 0)), totals.n),
            billed_usd=billed.get(name, 0.0),
            p_correct=p[name] / predicted[name] if predicted.get(name) else None,
        )
        for name in sorted({*chosen, *served}, key=lambda name: (-chosen.get(name, 0), name))
    )


def reasons(totals: Totals) -> dict[str, Count]:
    """How often each reason decided, the most frequent first."""
    found = totals.per_value("reason", "n")
    ordered = sorted(found, key=lambda reason: (-found[reason], reason))
    return {reason: Count(int(found[reason]), totals.n) for reason in ordered}
