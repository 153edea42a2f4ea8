"""Whether a session stays on its LLM.

Another LLM must be better by more than a margin, and by more than the pinned one saves because its provider still
has the session in its prompt cache. Where only the pinned LLM could go on, it answers as long as it can be chosen.
"""

from dataclasses import dataclass

from embedllm_router.routing.decision import Decision, Reason
from embedllm_router.routing.prompt import Bond

__all__ = ["Margins", "PinnedSession", "keep_session", "keeps_up"]


@dataclass(frozen=True, slots=True)
class Margins:
    """How much better another LLM must be.

    Attributes:
        utility: In utility, that is in accuracy; at least 0.
        cost: For an objective with a floor: how much cheaper, as a share of the cheapest's cost; at least 0.
    """

    utility: float = 0.02
    cost: float = 0.1


_DEFAULT = Margins()


@dataclass(frozen=True, slots=True)
class PinnedSession:
    """The LLM a session is pinned to.

    Attributes:
        name: The candidate that answered before.
        bond: What ties the request to it; None when any LLM may go on.
        margins: How much better another must be.
    """

    name: str
    bond: Bond | None = None
    margins: Margins = _DEFAULT


def keep_session(decision: Decision, session: PinnedSession) -> Decision:
    """Leaves a session on its LLM while that one keeps up, and where no other LLM could go on.

    Args:
        decision: What would be chosen; its ranking may be empty.
        session: The session.

    Returns:
        The decision with the pinned LLM first; unchanged where another LLM takes over, and where the pinned one cannot
        be chosen or is first anyway.
    """
    pinned = decision.best_of(session.name)
    if pinned is None and session.bond is not None:  # at another effort the same LLM can go on too
        at = decision.pool.index.get(session.name)
        pinned = None if at is None else decision.best_of(decision.pool.groups[at])
    if pinned is None or pinned == decision.ranking[0]:
        return decision
    if session.bond is not None:
        return decision.putting_first(pinned, Reason.SESSION_LOCKED)
    if keeps_up(decision, pinned, session.margins):
        return decision.putting_first(pinned, Reason.SESSION_KEPT)
    return decision


def keeps_up(decision: Decision, index: int, margins: Margins = _DEFAULT) -> bool:
    """Whether a candidate is as good as the best but for the margins: a tie, as far as one cares.

    Args:
        decision: What was weighed.
        index: Of a candidate in its ranking.
        margins: How much better another must be to count as better.
    """
    best, objective = decision.ranking[0], decision.request.objective
    if index == best:
        return True
    if decision.floor_met is None or objective.cost_weight > 0:  # under a budget a floor gives way to the utility
        return bool(decision.utility[best] - decision.utility[index] <= margins.utility)
    p_correct, cost_usd = decision.p_correct, decision.cost_usd
    if not decision.floor_met:
        return bool(p_correct[index] >= p_correct[best] - margins.utility)
    cheap_enough = cost_usd[index] <= cost_usd[best] * (1 + margins.cost)
    return bool(cheap_enough and p_correct[index] >= _floor(decision) - margins.utility)


def _floor(decision: Decision) -> float:
    objective = decision.request.objective
    if objective.max_accuracy_drop is not None:
        return float(max(decision.p_correct[i] for i in decision.ranking)) - objective.max_accuracy_drop
    return objective.min_p_correct or 0.0
