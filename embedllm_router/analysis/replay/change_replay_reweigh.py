"""One recorded request's candidates by other numbers: predictions of new weights, prices and rules of a configuration.

Pure. What the record holds of a candidate and nothing else says stays: the wait for it, a cooldown, a key without
access. It knows nothing of objectives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from embedllm_router.analysis.replay.batch import waiting_of
from embedllm_router.analysis.replay.change_replay_prices import ImpliedPrice
from embedllm_router.prediction.scorer import Scores
from embedllm_router.records.reader.recorded_replay_recorded import RecordedRequest
from embedllm_router.records.schema import CandidateRecord
from embedllm_router.routing.pool import Candidate, Exclusion, Rules
from embedllm_router.serving.arms_virtual_models import VirtualModel

__all__ = ["NOT_SCORED", "Predictions", "configured", "named", "rescored"]

NOT_SCORED: Final = "not_scored"
"""Exclusion of a candidate whose LLM was not among those the recorded weights predicted for."""

_UNKNOWN: Final = str(Exclusion.LLM_UNKNOWN)
_KEPT: Final = frozenset(
    {Exclusion.KEY_ACCESS, Exclusion.PROVIDER, Exclusion.REGION, Exclusion.LABEL, Exclusion.COOLED_DOWN}
)
"""Why a candidate was excluded, where team, key, client or the moment may have done it."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of new weights for one request.

    Attributes:
        scores: For every LLM they know.
        rows: Row by LLM.
    """

    scores: Scores
    rows: Mapping[str, int]

    def of(self, llm: str | None, limit: int | None) -> tuple[float, float] | None:
        """p_correct and output tokens, the request's limit applied; None for an LLM the weights do not know."""
        row = self.rows.get(llm) if llm is not None else None
        if row is None:
            return None
        tokens = float(self.scores.output_tokens[row])
        return float(self.scores.p_correct[row]), tokens if limit is None else min(tokens, limit)


def named(candidates: Sequence[CandidateRecord], name: str) -> CandidateRecord | None:
    """The candidate of a name; None when there is none."""
    return next((one for one in candidates if one.name == name), None)


def rescored(
    request: RecordedRequest, one: CandidateRecord, known: Predictions, prices: Mapping[str, ImpliedPrice]
) -> CandidateRecord:
    """A recorded candidate by the predictions of new weights."""
    predicted = known.of(one.llm, request.max_output_tokens)
    if predicted is None:
        nothing = replace(one, p_correct=None, expected_output_tokens=None, cost_usd=None, utility=None)
        return replace(nothing, excluded=Exclusion.LLM_UNKNOWN)
    p_correct, tokens = predicted
    price = prices.get(one.name)
    cost = price.at_length(request, one, tokens) if price else one.cost_usd
    utility = _utility(request, p_correct, cost, _waiting(request, one))
    return replace(one, p_correct=p_correct, expected_output_tokens=tokens, cost_usd=cost, utility=utility)


def configured(
    request: RecordedRequest, model: VirtualModel, recorded: Sequence[CandidateRecord], known: Predictions | None
) -> list[CandidateRecord]:
    """The candidates of a new configuration.

    Args:
        request: As recorded.
        model: What it asks for, by the new configuration.
        recorded: Its candidates by the weights that decide.
        known: Predictions of those weights; None when they are the recorded ones.

    Returns:
        In the configuration's order. Where it states no price, the recorded cost of the same candidate stands.
    """
    pool = model.pool.candidates
    predicted = [_predicted(request, one, recorded, known) for one in pool]
    tokens = np.array([np.nan if one is None else one[1] for one in predicted])
    costs = model.pool.expected_cost(request.input_tokens or 0, tokens, {}).tolist()
    figures = [(*(one or (None, None)), cost) for one, cost in zip(predicted, costs, strict=True)]
    return [_configured(request, model, recorded, i, its) for i, its in enumerate(figures)]


def _predicted(
    request: RecordedRequest, one: Candidate, recorded: Sequence[CandidateRecord], known: Predictions | None
) -> tuple[float, float] | None:
    """By the new weights, else as recorded of the same LLM, whatever it was called."""
    if known is not None:
        return known.of(one.llm, request.max_output_tokens)
    same = _same(one, recorded) or next((c for c in recorded if c.llm == one.llm and c.p_correct is not None), None)
    if same is None or same.p_correct is None:
        return None
    return same.p_correct, same.expected_output_tokens or 0.0


def _same(one: Candidate, recorded: Sequence[CandidateRecord]) -> CandidateRecord | None:
    namesake = named(recorded, one.name)
    return namesake if namesake is not None and namesake.llm == one.llm else None


def _configured(
    request: RecordedRequest,
    model: VirtualModel,
    recorded: Sequence[CandidateRecord],
    index: int,
    figures: tuple[float | None, float | None, float],
) -> CandidateRecord:
    one = model.pool.candidates[index]
    p_correct, tokens, stated = figures
    same = _same(one, recorded)
    cost = (same.cost_usd if same else None) if np.isnan(stated) else stated
    if p_correct is None:
        return CandidateRecord(one.name, one.llm, None, None, None, None, NOT_SCORED if one.llm else _UNKNOWN)
    unpriced = Exclusion.PRICE_UNKNOWN if cost is None else None
    reason = unpriced or _excluded(request, one, model.settings.rules, named(recorded, one.name))
    utility = _utility(request, p_correct, cost, _waiting(request, named(request.candidates, one.name)))
    usual = _usual(model, index, same)
    return CandidateRecord(one.name, one.llm, p_correct, tokens, cost, utility, reason, *usual)


def _usual(model: VirtualModel, index: int, same: CandidateRecord | None) -> tuple[float | None, float | None]:
    """What settles near ties, by the configuration's weights and prices; where it states none, as recorded."""
    prior = model.pool.prior
    if prior is None or np.isnan(prior.cost_usd[index]):
        return (same.usual_p_correct, same.usual_cost_usd) if same else (None, None)
    return float(prior.p_correct[index]), float(prior.cost_usd[index])


def _excluded(request: RecordedRequest, one: Candidate, rules: Rules, namesake: CandidateRecord | None) -> str | None:
    """Why a request excludes a candidate; what the configuration does not say is as it was for its namesake."""
    before = namesake.excluded if namesake else None
    restricted = any(c.excluded == Exclusion.NOT_REQUESTED for c in request.candidates)
    if restricted and (namesake is None or before == Exclusion.NOT_REQUESTED):
        return Exclusion.NOT_REQUESTED
    broken = one.broken_rule(rules)
    if broken is not None or before in _KEPT:
        return broken or before
    needed = (request.input_tokens or 0) + (request.max_output_tokens or 0)
    if one.max_input_tokens is not None and one.max_input_tokens < needed:
        return Exclusion.CONTEXT_WINDOW
    if before == Exclusion.CONTEXT_WINDOW and one.max_input_tokens is None:
        return before
    lacking = next((Exclusion.lacking(c) for c in sorted(one.lacks) if c in request.needs), None)
    return lacking or (before if before is not None and before.startswith("no_") else None)


def _waiting(request: RecordedRequest, one: CandidateRecord | None) -> float:
    """What waiting takes off a utility; a candidate nobody waited for yet counts as the quickest."""
    if one is None:
        waits = [_waiting(request, other) for other in request.candidates if other.utility is not None]
        return min(waits, default=0.0)
    if one.p_correct is None or one.cost_usd is None or one.utility is None:
        return 0.0
    figures = (one.p_correct, one.cost_usd, request.objective.cost_weight, one.utility)
    return float(waiting_of(*(np.array([figure]) for figure in figures))[0])


def _utility(request: RecordedRequest, p_correct: float, cost: float | None, waiting: float) -> float | None:
    """At the recorded cost weight, as records have it: `CandidateBatch` takes the waiting out of it again."""
    return None if cost is None else p_correct - request.objective.cost_weight * cost - waiting
