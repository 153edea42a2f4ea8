"""A routed request from arrival to outcome: log line, span, headers and stored row are read off its decision record."""

import base64
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedllm_router.prediction.ood_score import NO_SHRINKAGE, Shrinkage
from embedllm_router.records.owners import key_hash_of
from embedllm_router.records.schema import CandidateRecord, RequestRecord
from embedllm_router.routing.decision import Assessment, Decision, Exploration, known
from embedllm_router.routing.pipeline import Timing

__all__ = [
    "DecisionRecord",
    "Outcome",
    "RequestContext",
    "ShadowChoice",
    "billed_usd",
    "candidate_records",
    "to_record",
    "total_ms",
]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request for a virtual model as it came.

    Attributes:
        request_id: LiteLLM's call id; a client may choose it.
        virtual_model: Name the client asked for.
        call_type: LiteLLM's name of the endpoint.
        at: When it came, UTC.
        started: The same on `time.perf_counter`'s clock, in seconds.
        snapshot: Number of the configuration that decides.
        key_alias: Alias of the API key; None when it has none.
        team_alias: Alias of the key's team; None when it has none.
        key_id: Id of the API key, for budgets, sessions and drift of its own; never kept. None without one.
        team_id: Id of the key's team, likewise.
        parent_span: LiteLLM's OpenTelemetry span of the request; None without one.
        tracking_id: Id of our own, which no two requests share; empty takes the call id.
        user_id: Id of the end user, else of the key's user; never kept as it is. None without either.
        private: Whether the client asked that the request is not logged ("no-log"): nothing of its prompt is kept.
    """

    request_id: str
    virtual_model: str
    call_type: str
    at: datetime
    started: float
    snapshot: int = 1
    key_alias: str | None = None
    team_alias: str | None = None
    key_id: str | None = None
    team_id: str | None = None
    parent_span: object | None = None
    tracking_id: str = ""
    user_id: str | None = None
    private: bool = False

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since it came."""
        return (time.perf_counter() - self.started) * 1e3


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """Where one request was sent and why.

    Attributes:
        context: The request as it came.
        chosen: Candidate it was sent to: a model group, or one at a reasoning effort.
        route_ms: Milliseconds spent in our hook.
        failed_open: Why the default answers; None when routing decided.
        decision: What was weighed; None when routing failed open. So are the fields below.
        arm: "live", or "canary" when that decided.
        objective_from: Who set the objective: "config", "team", "key", "header", "body" or "canary".
        artifact: Id of the weights that decided.
        encoder: Id of their prompt encoder.
        timing: Milliseconds of each step.
        shrinkage: How far from training prompts the prompt is, and how far its predictions were shrunk.
        baseline: The candidate that savings are counted against; None without one.
        wants_several: Whether the request asks for more than one answer.
        prompt_chars: Length of the embedded text.
        prompt_hash: Keyed hash of the embedded text.
        prompt: The text itself; None unless the settings ask for it.
        embedding: float32 (d_prompt,); None unless the settings ask for it.
    """

    context: RequestContext
    chosen: str
    route_ms: float
    failed_open: str | None = None
    decision: Decision | None = None
    arm: str = "live"
    objective_from: str | None = None
    artifact: str | None = None
    encoder: str | None = None
    timing: Timing | None = None
    shrinkage: Shrinkage = NO_SHRINKAGE
    baseline: str | None = None
    wants_several: bool = False
    prompt_chars: int | None = None
    prompt_hash: str | None = None
    prompt: str | None = None
    embedding: NDArray[np.float32] | None = None

    @property
    def reason(self) -> str:
        """Why the chosen one was chosen."""
        return "failed_open" if self.decision is None else str(self.decision.reason)

    @property
    def assessment(self) -> Assessment | None:
        """What was weighed for the chosen candidate."""
        return self.decision.chosen if self.decision else None

    @property
    def runner_up(self) -> str | None:
        """Name of the second best candidate."""
        second = self.decision.runner_up if self.decision else None
        return second.name if second else None


@dataclass(frozen=True, slots=True)
class ShadowChoice:
    """What the shadow would have decided.

    Attributes:
        artifact: Id of the weights that decided.
        chosen: Its choice; None when every candidate is excluded there.
    """

    artifact: str
    chosen: Assessment | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What really happened to a routed request.

    Attributes:
        served: Model group that answered, or the candidate that it is at an effort; None when none did.
        status: "success", "failure", or "unknown" when none was reported.
        input_tokens: Billed input tokens; None when unknown.
        output_tokens: Billed output tokens; None when unknown.
        cost_usd: Billed cost in USD; None when unknown.
        latency_ms: From the call to its last byte; None when unknown.
        ended_at: When the last byte came, or the last error; None when unknown.
        error: Class of the final error; None on success.
        response_id: Id inside the response body; None when unknown.
        from_cache: Whether LiteLLM's response cache answered, at no cost and in no LLM's time.
        abandoned: Whether the client left before the last byte.
        cut: Whether something other than the LLM ended the answer: a limit, a filter, an error or the client.
    """

    served: str | None
    status: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    ended_at: datetime | None = None
    error: str | None = None
    response_id: str | None = None
    from_cache: bool = False
    abandoned: bool = False
    cut: bool = False


def billed_usd(record: DecisionRecord, outcome: Outcome) -> float | None:
    """What the answer cost in USD; None when unknown."""
    if outcome.from_cache:
        return 0.0
    # LiteLLM bills some bridged endpoints at 0.0; tokens at the deployment's own prices are the truth then.
    if outcome.cost_usd or not outcome.output_tokens or outcome.served is None or record.decision is None:
        return outcome.cost_usd
    pool, tier = record.decision.pool, record.decision.request.service_tier
    return pool.cost_usd(outcome.served, outcome.input_tokens or 0, outcome.output_tokens, tier)


def total_ms(record: DecisionRecord, outcome: Outcome) -> float | None:
    """Milliseconds from the request's arrival to its end, as the client waited; None when unknown."""
    if outcome.ended_at is None:
        return None
    return max((outcome.ended_at.astimezone(UTC) - record.context.at).total_seconds() * 1e3, 0.0)


def to_record(
    record: DecisionRecord,
    outcome: Outcome,
    *,
    shadow: ShadowChoice | None = None,
    user_hash: str | None = None,
    failed_attempts: tuple[str, ...] = (),
) -> RequestRecord:
    """Builds the stored row of one request.

    Args:
        record: Where it was sent and why.
        outcome: What became of it.
        shadow: What would have been decided; None when nothing decides in the shadow.
        user_hash: Keyed hash of the user's id; None when none is known.
        failed_attempts: Calls that failed: model group and class of error.
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
        key_hash=key_hash_of(context.key_id),
        user_hash=user_hash,
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
        total_ms=total_ms(record, outcome),
        failed_attempts=failed_attempts,
        **(_weighed(decision, record.baseline) if decision else {}),
    )


def _weighed(decision: Decision, baseline: str | None) -> dict[str, Any]:
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
        **(_baseline(decision, baseline) if baseline is not None else {}),
        "candidates": candidate_records(decision),
        "input_tokens": request.input_tokens,
        "max_output_tokens": request.max_output_tokens,
        "needs": tuple(sorted(request.needs)),
        "service_tier": request.service_tier or None,
    }


def _baseline(decision: Decision, name: str) -> dict[str, Any]:
    """What the baseline would have cost, where it could have been chosen."""
    one = decision.named(name)
    if one is None or one.excluded is not None:
        return {}
    return {"baseline": name, "baseline_p_correct": one.p_correct, "baseline_cost_usd": one.cost_usd}


def _exploration(exploration: Exploration) -> dict[str, Any]:
    return {
        "exploration": exploration.method,
        "exploration_epsilon": exploration.epsilon,
        "exploration_max_loss": exploration.max_loss,
        "exploration_max_extra_usd": exploration.max_extra_usd,
        "exploration_spread": exploration.spread,
    }


def candidate_records(decision: Decision) -> tuple[CandidateRecord, ...]:
    """The ranked ones best first, then the excluded ones."""
    average = decision.pool.average if decision.request.objective.near_tie_margin > 0 else None
    nothing: list[float | None] = [None] * len(decision.assessed)
    usual_p, usual_usd = (known(average.p_correct), known(average.cost_usd)) if average else (nothing, nothing)
    odds = known(decision.explored.odds) if decision.explored else nothing
    unshrunk = nothing if decision.p_unshrunk is None else known(decision.p_unshrunk)
    excluded = (i for i, a in enumerate(decision.assessed) if a.excluded is not None)
    return tuple(
        _candidate(decision.assessed[i], usual_p[i], usual_usd[i], odds[i], unshrunk[i])
        for i in (*decision.ranking, *excluded)
    )


def _candidate(
    a: Assessment, usual_p: float | None, usual_usd: float | None, propensity: float | None, unshrunk: float | None
) -> CandidateRecord:
    excluded = a.excluded and str(a.excluded)
    weighed = a.p_correct, a.expected_output_tokens, a.cost_usd, a.utility
    known = a.known_by, a.p_correct_low, a.p_correct_high
    return CandidateRecord(a.name, a.llm, *weighed, excluded, usual_p, usual_usd, propensity, *known, unshrunk)


def _packed(embedding: NDArray[np.float32]) -> str:
    return base64.b64encode(embedding.astype("<f2").tobytes()).decode("ascii")
