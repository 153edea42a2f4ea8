"""A decision record and its outcome → the row that is stored."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedllm_router.records.schema import CandidateRecord, RequestRecord
from embedllm_router.routing.decision import Assessment, Decision, Exploration, known
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome, ShadowChoice, billed_usd

__all__ = ["to_record"]


def to_record(record: DecisionRecord, outcome: Outcome, *, shadow: ShadowChoice | None = None) -> RequestRecord:
    """Builds the stored row of one request.

    Args:
        record: Where it was sent and why.
        outcome: What became of it.
        shadow: What would have been decided; None when nothing decides in the shadow.
    """
    context, decision, timing = record.context, record.decision, record.timing
    served = decision.named(outcome.served) if decision and outcome.served else None
    nearest, shadow_choice = record.shrinkage.nearest, shadow.chosen if shadow else None
    return RequestRecord(
        at=context.at,
        request_id=context.request_id,
        virtual_model=context.virtual_model,
        call_type=context.call_type,
        key_alias=context.key_alias,
        team_alias=context.team_alias,
        artifact=record.artifact,
        encoder=record.encoder,
        generation=context.snapshot,
        arm=record.arm,
        reason=record.reason,
        failed_open=record.failed_open,
        objective_from=record.objective_from,
        chosen=record.chosen,
        runner_up=record.runner_up,
        category=nearest.name if nearest else None,
        novelty=record.shrinkage.ood_score,
        hedge=record.shrinkage.strength if decision else None,
        prompt_chars=record.prompt_chars,
        prompt_hash=record.prompt_hash,
        prompt=record.prompt,
        embedding=None if record.embedding is None else _packed(record.embedding),
        encode_ms=timing.encode if timing else None,
        score_ms=timing.score if timing else None,
        decide_ms=timing.decide if timing else None,
        route_ms=record.route_ms,
        shadow_artifact=shadow.artifact if shadow else None,
        shadow_chosen=shadow_choice.name if shadow_choice else None,
        shadow_p_correct=shadow_choice.p_correct if shadow_choice else None,
        shadow_cost_usd=shadow_choice.cost_usd if shadow_choice else None,
        status=outcome.status,
        served=outcome.served,
        fallback=outcome.served is not None and outcome.served != record.chosen,
        served_p_correct=served.p_correct if served else None,
        error=outcome.error,
        response_id=outcome.response_id,
        billed_input_tokens=outcome.input_tokens,
        billed_output_tokens=outcome.output_tokens,
        billed_cost_usd=billed_usd(record, outcome),
        latency_ms=outcome.latency_ms,
        **(_weighed(decision) if decision else {}),
    )


def _weighed(decision: Decision) -> dict[str, Any]:
    request, objective = decision.request, decision.request.objective
    chosen, most_accurate, cheapest = decision.chosen, decision.most_accurate, decision.cheapest
    assert chosen is not None
    assert most_accurate is not None
    assert cheapest is not None
    return {
        "cost_weight": objective.cost_weight,
        "min_p_correct": objective.min_p_correct,
        "within": objective.max_accuracy_drop,
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
        "likeliest": most_accurate.name,
        "likeliest_p_correct": most_accurate.p_correct,
        "likeliest_cost_usd": most_accurate.cost_usd,
        "cheapest": cheapest.name,
        "cheapest_p_correct": cheapest.p_correct,
        "cheapest_cost_usd": cheapest.cost_usd,
        "candidates": _candidates(decision),
        "input_tokens": request.input_tokens,
        "max_output_tokens": request.max_output_tokens,
        "needs": tuple(sorted(request.needs)),
    }


def _exploration(exploration: Exploration) -> dict[str, Any]:
    return {
        "exploration": exploration.method,
        "exploration_epsilon": exploration.epsilon,
        "exploration_max_loss": exploration.max_loss,
        "exploration_max_extra_usd": exploration.max_extra_usd,
        "exploration_spread": exploration.spread,
    }


def _candidates(decision: Decision) -> tuple[CandidateRecord, ...]:
    """The ranked ones best first, then the excluded ones."""
    average = decision.pool.average if decision.request.objective.near_tie_margin > 0 else None
    nothing: list[float | None] = [None] * len(decision.assessed)
    usual_p, usual_usd = (known(average.p_correct), known(average.cost_usd)) if average else (nothing, nothing)
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
