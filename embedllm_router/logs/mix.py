"""Who answered, how it ended and why each was chosen: counts and shares."""

from dataclasses import dataclass

from embedllm_router.logs.totals import Totals

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
    status = totals.per_value("status", "n")
    success = int(status.get("success", 0))
    failure = int(status.get("failure", 0))
    served = totals.per_value("served", "n")
    return Outcomes(
        success=Count(success, n),
        failure=Count(failure, n),
        unknown=Count(n - success - failure, n),
        fallback=Count(totals.total("n_fallback"), int(sum(served.values()) - served.get(None, 0))),
        failed_open=Count(totals.total("n_failed_open"), n),
        floor_missed=Count(totals.total("n_floor_missed"), totals.total("n_floor")),
    )


def llm_shares(totals: Totals) -> tuple[LlmShare, ...]:
    """Every LLM that was chosen or answered; the one chosen most often first."""
    chosen, served = totals.per_value("chosen", "n"), totals.per_value("served", "n")
    billed = totals.per_value("served", "billed_usd")
    predicted, p = totals.per_value("chosen", "n_predicted"), totals.per_value("chosen", "predicted_p_correct")
    names = sorted({*chosen, *served} - {None}, key=lambda name: (-chosen.get(name, 0), str(name)))
    return tuple(
        LlmShare(
            llm=str(name),
            chosen=Count(int(chosen.get(name, 0)), totals.n),
            served=Count(int(served.get(name, 0)), totals.n),
            billed_usd=billed.get(name, 0.0),
            p_correct=p[name] / predicted[name] if predicted.get(name) else None,
        )
        for name in names
    )


def reasons(totals: Totals) -> dict[str, Count]:
    """How often each reason decided, the most frequent first."""
    found = totals.per_value("reason", "n")
    ordered = sorted(found, key=lambda reason: (-found[reason], str(reason)))
    return {str(reason): Count(int(found[reason]), totals.n) for reason in ordered}
