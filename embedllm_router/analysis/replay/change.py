"""What shall be different: another objective, other weights, another configuration. And a request's candidates then.

A request is weighed again from what was recorded of it. It knows nothing of how the differences are summed up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from embedllm_router.analysis.replay.change_replay_new_config import NewConfig
from embedllm_router.analysis.replay.change_replay_prices import ImpliedPrice
from embedllm_router.analysis.replay.change_replay_reweigh import Predictions, configured, named, rescored
from embedllm_router.records.reader.recorded import Rescorer
from embedllm_router.records.reader.recorded_replay_recorded import RecordedRequest
from embedllm_router.records.schema import CandidateRecord
from embedllm_router.routing.policy import Objective

__all__ = ["RECORDED", "Change", "NewAim", "Weighed", "weigh"]

RECORDED: Final = "recorded predictions"
"""How a request was scored when the weights are the recorded ones."""

_UNKNOWN_MODEL: Final = "virtual model not in the new configuration"
_OWN_OBJECTIVE: Final = frozenset({"config", "canary"})


@dataclass(frozen=True, slots=True)
class NewAim:
    """An objective for every request.

    Attributes:
        aim: What the best candidate is; its limit on cost is not looked at. None keeps the recorded aim.
        max_cost_usd: Limit on the expected cost; None keeps the recorded one.
    """

    aim: Objective | None = None
    max_cost_usd: float | None = None

    def instead_of(self, recorded: Objective) -> Objective:
        """What a request is decided by; waits and near ties count as they did."""
        limit = recorded.max_cost_usd if self.max_cost_usd is None else self.max_cost_usd
        kept = {"latency_weight": recorded.latency_weight, "near_tie_margin": recorded.near_tie_margin}
        return replace(self.aim or recorded, max_cost_usd=limit, **kept)


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that shall be different; None keeps what was recorded.

    Attributes:
        aim: The objective.
        rescorer: The weights.
        config: Candidates, prices and objectives; an objective that a client chose stays its own.
    """

    aim: NewAim = NewAim()
    rescorer: Rescorer | None = None
    config: NewConfig | None = None

    @property
    def new_numbers(self) -> bool:
        """Whether candidates have other numbers than the recorded ones."""
        return self.rescorer is not None or self.config is not None


@dataclass(frozen=True, slots=True)
class Weighed:
    """A request weighed again.

    Attributes:
        request: As recorded.
        objective: What it is decided by.
        candidates: What there is to choose from.
        before: The recorded choice by the same numbers; by the recorded price where it is no candidate any more. None
            when it was not weighed.
    """

    request: RecordedRequest
    objective: Objective
    candidates: Sequence[CandidateRecord]
    before: CandidateRecord | None

    @property
    def slower(self) -> float:
        """How much more a wait counts than it did; 1 where it was not recorded how much it counted."""
        before = self.request.objective.latency_weight
        return self.objective.latency_weight / before if before > 0 else 1.0

    def stays(self, name: str | None) -> bool:
        """Whether a name is the recorded choice and still stands for the same LLM."""
        if self.before is None or name != self.request.chosen:
            return False
        return any(c.name == name and c.llm == self.before.llm for c in self.candidates)


def weigh(request: RecordedRequest, change: Change, prices: Mapping[str, ImpliedPrice]) -> tuple[Weighed | None, str]:
    """Weighs a recorded request again.

    Args:
        request: The request.
        change: What is different.
        prices: Implied prices by candidate; used only when the weights are different.

    Returns:
        What it would be decided on, and how it was scored; or None, and why it cannot be weighed again.
    """
    model = None
    if change.config is not None:
        model = change.config.virtual_models.get(request.virtual_model)
        if model is None:
            return None, _UNKNOWN_MODEL
    how, known = _predict(request, change.rescorer)
    if change.rescorer is not None and known is None:
        return None, how
    candidates: Sequence[CandidateRecord] = request.candidates
    if known is not None:
        candidates = [rescored(request, one, known, prices) for one in candidates]
    before = named(candidates, request.chosen)
    objective = request.objective
    if model is not None:
        candidates = configured(request, model, candidates, known)
        objective = model.settings.objective if request.objective_from in _OWN_OBJECTIVE else objective
        stayed = named(candidates, request.chosen)
        before = stayed if stayed and before and stayed.llm == before.llm else before
    return Weighed(request, change.aim.instead_of(objective), candidates, before), how


def _predict(request: RecordedRequest, rescorer: Rescorer | None) -> tuple[str, Predictions | None]:
    """How a request was scored, and the predictions; None when they are the recorded ones or there are none."""
    if rescorer is None:
        return RECORDED, None
    basis, scores = rescorer.score(request)
    return str(basis), None if scores is None else Predictions(scores, rescorer.rows)
