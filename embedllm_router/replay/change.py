"""What shall be different: another objective, other weights, another configuration. And a request's candidates then.

A request is weighed again from what was recorded of it. It knows nothing of how the differences are summed up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from embedllm_router.candidates import Candidate, Exclusion
from embedllm_router.policy import Objective
from embedllm_router.records import CandidateRecord
from embedllm_router.replay.new_config import NewConfig
from embedllm_router.replay.prices import ImpliedPrice
from embedllm_router.replay.recorded import RecordedRequest
from embedllm_router.replay.rescore import Rescorer
from embedllm_router.scorer import Scores

__all__ = ["NOT_SCORED", "RECORDED", "Change", "NewAim", "Weighed", "weigh"]

NOT_SCORED: Final = "not_scored"
"""Exclusion of a candidate whose LLM was not among those the recorded weights predicted for."""

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
        """What a request is decided by."""
        limit = recorded.max_cost_usd if self.max_cost_usd is None else self.max_cost_usd
        return replace(self.aim or recorded, max_cost_usd=limit)


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
        candidates = [_rescored(request, one, known, prices) for one in candidates]
    before = _named(candidates, request.chosen)
    objective = request.objective
    if model is not None:
        candidates = [_configured(request, one, candidates, known) for one in model.pool.candidates]
        objective = model.settings.objective if request.objective_from in _OWN_OBJECTIVE else objective
        stayed = _named(candidates, request.chosen)
        before = stayed if stayed and before and stayed.llm == before.llm else before
    return Weighed(request, change.aim.instead_of(objective), candidates, before), how


def _named(candidates: Sequence[CandidateRecord], name: str) -> CandidateRecord | None:
    return next((one for one in candidates if one.name == name), None)


@dataclass(frozen=True, slots=True)
class _Predictions:
    """Predictions of new weights for one request."""

    scores: Scores
    rows: Mapping[str, int]

    def of(self, llm: str | None, limit: int | None) -> tuple[float, float] | None:
        """p_correct and output tokens, the request's limit applied; None for an LLM the weights do not know."""
        row = self.rows.get(llm) if llm is not None else None
        if row is None:
            return None
        tokens = float(self.scores.output_tokens[row])
        return float(self.scores.p_correct[row]), tokens if limit is None else min(tokens, limit)


def _predict(request: RecordedRequest, rescorer: Rescorer | None) -> tuple[str, _Predictions | None]:
    """How a request was scored, and the predictions; None when they are the recorded ones or there are none."""
    if rescorer is None:
        return RECORDED, None
    basis, scores = rescorer.score(request)
    return str(basis), None if scores is None else _Predictions(scores, rescorer.rows)


def _rescored(
    request: RecordedRequest, one: CandidateRecord, known: _Predictions, prices: Mapping[str, ImpliedPrice]
) -> CandidateRecord:
    predicted = known.of(one.llm, request.max_output_tokens)
    if predicted is None:
        nothing = replace(one, p_correct=None, expected_output_tokens=None, cost_usd=None, utility=None)
        return replace(nothing, excluded=Exclusion.LLM_UNKNOWN)
    p_correct, tokens = predicted
    price = prices.get(one.name)
    cost = price.at_length(request, one, tokens) if price else one.cost_usd
    return replace(one, p_correct=p_correct, expected_output_tokens=tokens, cost_usd=cost, utility=None)


def _configured(
    request: RecordedRequest, one: Candidate, recorded: Sequence[CandidateRecord], known: _Predictions | None
) -> CandidateRecord:
    """A candidate of the new configuration; `recorded` has the numbers of the weights that decide."""
    namesake = _named(recorded, one.name)
    same = namesake if namesake is not None and namesake.llm == one.llm else None
    twin = same or next((c for c in recorded if c.llm == one.llm and c.p_correct is not None), None)
    predicted = known.of(one.llm, request.max_output_tokens) if known else None
    if predicted is None and twin is not None and twin.p_correct is not None:
        predicted = twin.p_correct, twin.expected_output_tokens or 0.0
    p_correct, tokens = predicted or (None, None)
    cost = _cost(request, one, tokens, same)
    reason = _standing(one, p_correct, cost) or _excluded(request, one, namesake)
    return CandidateRecord(one.name, one.llm, p_correct, tokens, cost, None, reason)


def _cost(request: RecordedRequest, one: Candidate, tokens: float | None, same: CandidateRecord | None) -> float | None:
    if tokens is None:
        return None
    if one.input_usd_per_token is None or one.output_usd_per_token is None:
        return same.cost_usd if same else None
    return (request.input_tokens or 0) * one.input_usd_per_token + tokens * one.output_usd_per_token


def _standing(one: Candidate, p_correct: float | None, cost: float | None) -> str | None:
    if one.llm is None:
        return Exclusion.LLM_UNKNOWN
    if p_correct is None:
        return NOT_SCORED
    return Exclusion.PRICE_UNKNOWN if cost is None else None


def _excluded(request: RecordedRequest, one: Candidate, namesake: CandidateRecord | None) -> str | None:
    """Why a request excludes a candidate; what the configuration does not say is as it was for its namesake."""
    before = namesake.excluded if namesake else None
    restricted = any(c.excluded == Exclusion.NOT_REQUESTED for c in request.candidates)
    if restricted and (namesake is None or before == Exclusion.NOT_REQUESTED):
        return Exclusion.NOT_REQUESTED
    needed = (request.input_tokens or 0) + (request.max_output_tokens or 0)
    if one.max_input_tokens is not None and one.max_input_tokens < needed:
        return Exclusion.CONTEXT_WINDOW
    if before == Exclusion.CONTEXT_WINDOW and one.max_input_tokens is None:
        return before
    lacking = next((Exclusion.lacking(c) for c in sorted(one.lacks) if c in request.needs), None)
    return lacking or (before if before is not None and before.startswith("no_") else None)
