"""Whether a conversation stays on its LLM: numbers in, an index and a reason out. Pure.

Another LLM must be better by more than a margin, and by more than the sticky one saves because its provider still
has the conversation in its prompt cache.
"""

from dataclasses import dataclass
from enum import StrEnum

from embedllm_router.routing.decision import Decision
from embedllm_router.routing.session_sessions_bonds import Bond

__all__ = ["Margins", "SessionReason", "Stay", "keeps_up", "stay"]


class SessionReason(StrEnum):
    """Why a conversation's LLM answers, or another."""

    NEW = "session_new"
    KEPT = "session_kept"
    SWITCHED = "session_switched"
    LOCKED = "session_locked"


@dataclass(frozen=True, slots=True)
class Margins:
    """How much better another LLM must be.

    Attributes:
        utility: In utility, that is in accuracy; at least 0.
        cost: For an objective with a floor: how much cheaper, as a share of the cheapest's cost; at least 0.
    """

    utility: float = 0.02
    cost: float = 0.1


@dataclass(frozen=True, slots=True)
class Stay:
    """Who answers.

    Attributes:
        index: Of a candidate in the decision's ranking.
        reason: Why.
    """

    index: int
    reason: SessionReason


_DEFAULT = Margins()


def stay(
    decision: Decision,
    sticky: int | None,
    *,
    bond: Bond | None = None,
    margins: Margins = _DEFAULT,
    saving_usd: float = 0.0,
) -> Stay:
    """Decides whether a conversation stays on its LLM.

    Args:
        decision: With a ranking that is not empty.
        sticky: Index of the candidate that answered before; None when nobody is known to have.
        bond: What ties the request to it; a tie holds as long as it can be chosen at all.
        margins: How much better another must be.
        saving_usd: What its prompt cache saves and its expected cost does not count yet, in USD.

    Returns:
        Who answers, and why.
    """
    best = decision.ranking[0]
    if sticky is None:
        return Stay(best, SessionReason.NEW)
    if sticky not in decision.ranking:
        return Stay(best, SessionReason.SWITCHED)
    if bond is not None:
        return Stay(sticky, SessionReason.LOCKED)
    if keeps_up(decision, sticky, margins, saving_usd=saving_usd):
        return Stay(sticky, SessionReason.KEPT)
    return Stay(best, SessionReason.SWITCHED)


def keeps_up(decision: Decision, index: int, margins: Margins = _DEFAULT, *, saving_usd: float = 0.0) -> bool:
    """Whether a candidate is as good as the best but for the margins: a tie, as far as one cares.

    Args:
        decision: What was weighed.
        index: Of a candidate in its ranking.
        margins: How much better another must be to count as better.
        saving_usd: What it saves and its expected cost does not count yet, in USD.
    """
    best, objective = decision.ranking[0], decision.request.objective
    if index == best:
        return True
    if decision.floor_met is None or objective.cost_weight > 0:  # under a budget a floor gives way to the utility
        gap = decision.utility[best] - decision.utility[index] - objective.cost_weight * saving_usd
        return bool(gap <= margins.utility)
    p_correct, cost_usd = decision.p_correct, decision.cost_usd
    if not decision.floor_met:
        return bool(p_correct[index] >= p_correct[best] - margins.utility)
    cheap_enough = cost_usd[index] - saving_usd <= cost_usd[best] * (1 + margins.cost)
    return bool(cheap_enough and p_correct[index] >= _floor(decision) - margins.utility)


def _floor(decision: Decision) -> float:
    objective = decision.request.objective
    if objective.within is not None:
        return float(max(decision.p_correct[i] for i in decision.ranking)) - objective.within
    return objective.min_p_correct or 0.0
