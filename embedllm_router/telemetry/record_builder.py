"""A routed request and its outcome → the record that is kept. Pure, but for the clock that an arrival reads."""

import base64
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedllm_router.prediction.ood_score import NOT_HEDGED, Hedge
from embedllm_router.records.schema import CandidateRecord, RequestRecord
from embedllm_router.routing.decision import Assessment, Decision, Exploration, known
from embedllm_router.routing.router import Timing
from embedllm_router.telemetry.events import Outcome, Routed, billed_usd

__all__ = ["Arrival", "Kept", "Shadow", "to_record"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came.

    Attributes:
        request_id: LiteLLM's call id.
        virtual_model: Name the client asked for.
        call_type: LiteLLM's name of the endpoint.
        at: When it came, UTC.
        started: The same on `time.perf_counter`'s clock, in seconds.
        generation: Number of the configuration that decides.
        key_alias: Alias of the API key; None when it has none.
        team_alias: Alias of the key's team; None when it has none.
        key_id: Id of the API key, for budgets of its own; never kept. None without one.
        team_id: Id of the key's team, likewise.
        parent_span: LiteLLM's OpenTelemetry span of the request; None without one.
    """

    request_id: str
    virtual_model: str
    call_type: str
    at: datetime
    started: float
    generation: int = 1
    key_alias: str | None = None
    team_alias: str | None = None
    key_id: str | None = None
    team_id: str | None = None
    parent_span: object | None = None

    @property
    def caller(self) -> str:
        """Whose traffic it belongs to: the API key's, else everybody's."""
        return self.key_id or ""

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since it came."""
        return (time.perf_counter() - self.started) * 1e3

    def routed(self, chosen: str, **more: Any) -> Routed:
        """Where it is sent; `more` are further fields of `Routed`."""
        return Routed(self.request_id, self.virtual_model, self.call_type, chosen, self.elapsed_ms, **more)


@dataclass(frozen=True, slots=True)
class Shadow:
    """What would have been decided.

    Attributes:
        artifact: Id of the weights that decided.
        chosen: Its choice; None when every candidate is excluded there.
    """

    artifact: str
    chosen: Assessment | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a request besides the decision.

    Attributes:
        arrival: When it came, and from whom.
        artifact: Id of the weights that decided; None when routing failed open. So are the next five.
        encoder: Id of their prompt encoder.
        timing: Milliseconds of each step.
        prompt_chars: Length of the embedded text.
        prompt_hash: Keyed hash of the embedded text.
        prompt: The text itself; None unless the settings ask for it.
        embedding: float32 (d_prompt,); None unless the settings ask for it.
        hedge: How novel the prompt is, and how far predictions were hedged for it.
    """

    arrival: Arrival
    artifact: str | None = None
    encoder: str | None = None
    timing: Timing | None = None
    prompt_chars: int | None = None
    prompt_hash: str | None = None
    prompt: str | None = None
    embedding: NDArray[np.float32] | None = None
    hedge: Hedge = NOT_HEDGED


def to_record(routed: Routed, kept: Kept, outcome: Outcome, *, shadow: Shadow | None = None) -> RequestRecord:
    """Makes the record of one request.

    Args:
        routed: Where it was sent and why.
        kept: What else is kept of it.
        outcome: What became of it.
        shadow: What would have been decided; None when nothing decides in the shadow.

    Returns:
        The record.
    """
    decision, timing = routed.decision, kept.timing
    served = decision.named(outcome.served) if decision and outcome.served else None
    shadow_choice = shadow.chosen if shadow else None
    return RequestRecord(
        at=kept.arrival.at,
        request_id=routed.request_id,
        virtual_model=routed.virtual_model,
        call_type=routed.call_type,
        key_alias=kept.arrival.key_alias,
        team_alias=kept.arrival.team_alias,
        artifact=kept.artifact,
        encoder=kept.encoder,
        generation=kept.arrival.generation,
        arm=routed.arm,
        reason=routed.reason,
        failed_open=routed.failed_open,
        objective_from=routed.objective_from,
        chosen=routed.chosen,
        runner_up=routed.runner_up,
        category=kept.hedge.nearest.name if kept.hedge.nearest else None,
        novelty=kept.hedge.novelty,
        hedge=kept.hedge.strength if decision else None,
        prompt_chars=kept.prompt_chars,
        prompt_hash=kept.prompt_hash,
        prompt=kept.prompt,
        embedding=None if kept.embedding is None else _packed(kept.embedding),
        encode_ms=timing.encode if timing else None,
        score_ms=timing.score if timing else None,
        decide_ms=timing.decide if timing else None,
        route_ms=routed.route_ms,
        shadow_artifact=shadow.artifact if shadow else None,
        shadow_chosen=shadow_choice.name if shadow_choice else None,
        shadow_p_correct=shadow_choice.p_correct if shadow_choice else None,
        shadow_cost_usd=shadow_choice.cost_usd if shadow_choice else None,
        status=outcome.status,
        served=outcome.served,
        fallback=outcome.served is not None and outcome.served != routed.chosen,
        served_p_correct=served.p_correct if served else None,
        error=outcome.error,
        response_id=outcome.response_id,
        billed_input_tokens=outcome.input_tokens,
        billed_output_tokens=outcome.output_tokens,
        billed_cost_usd=billed_usd(routed, outcome),
        latency_ms=outcome.latency_ms,
        **(_weighed(decision) if decision else {}),
    )


def _weighed(decision: Decision) -> dict[str, Any]:
    request, objective = decision.request, decision.request.objective
    chosen, likeliest, cheapest = decision.chosen, decision.likeliest, decision.cheapest
    assert chosen is not None
    assert likeliest is not None
    assert cheapest is not None
    return {
        "cost_weight": objective.cost_weight,
        "min_p_correct": objective.min_p_correct,
        "within": objective.within,
        "max_cost_usd": objective.max_cost_usd,
        "latency_weight": objective.latency_weight,
        "near_tie_margin": objective.near_tie_margin,
        "floor_met": decision.floor_met,
        "llm": chosen.llm,
        "p_correct": chosen.p_correct,
        "expected_output_tokens": chosen.expected_output_tokens,
        "expected_cost_usd": chosen.cost_usd,
        "utility": chosen.utility,
        "propensity": decision.propensity,
        **(_exploration(decision.explored.exploration) if decision.explored else {}),
        "likeliest": likeliest.name,
        "likeliest_p_correct": likeliest.p_correct,
        "likeliest_cost_usd": likeliest.cost_usd,
        "cheapest": cheapest.name,
        "cheapest_p_correct": cheapest.p_correct,
        "cheapest_cost_usd": cheapest.cost_usd,
        "candidates": _candidates(decision),
        "input_tokens": request.input_tokens,
        "max_output_tokens": request.max_output_tokens,
        "needs": tuple(sorted(request.needs)),
    }


def _exploration(rules: Exploration) -> dict[str, Any]:
    return {
        "exploration": rules.method,
        "exploration_epsilon": rules.epsilon,
        "exploration_max_loss": rules.max_loss,
        "exploration_max_extra_usd": rules.max_extra_usd,
        "exploration_spread": rules.spread,
    }


def _candidates(decision: Decision) -> tuple[CandidateRecord, ...]:
    """The ranked ones best first, then the excluded ones."""
    prior = decision.pool.prior if decision.request.objective.near_tie_margin > 0 else None
    nothing: list[float | None] = [None] * len(decision.assessed)
    usual_p, usual_usd = (known(prior.p_correct), known(prior.cost_usd)) if prior else (nothing, nothing)
    odds = known(decision.explored.odds) if decision.explored else nothing
    excluded = (i for i, a in enumerate(decision.assessed) if a.excluded is not None)
    return tuple(
        _candidate(decision.assessed[i], usual_p[i], usual_usd[i], odds[i]) for i in (*decision.ranking, *excluded)
    )


def _candidate(
    a: Assessment, usual_p: float | None, usual_usd: float | None, propensity: float | None
) -> CandidateRecord:
    excluded = a.excluded and str(a.excluded)
    weighed = a.p_correct, a.expected_output_tokens, a.cost_usd, a.utility
    return CandidateRecord(a.name, a.llm, *weighed, excluded, usual_p, usual_usd, propensity)


def _packed(embedding: NDArray[np.float32]) -> str:
    return base64.b64encode(embedding.astype("<f2").tobytes()).decode("ascii")
