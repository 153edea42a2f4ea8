"""Decisions and outcomes → the fields of log events and response headers. Pure.

No prompt text, key or header of the client enters an event unless the settings ask for the text.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from embedllm_router.routing.policy import Assessment, Decision
from embedllm_router.routing.router import Routing

__all__ = ["Outcome", "Routed", "billed_usd", "decided", "response_headers", "served"]

Fields = dict[str, object]
_AS_IT_IS = string.ascii_letters + string.digits + string.punctuation + " "


@dataclass(frozen=True, slots=True)
class Routed:
    """One routed request, kept until its answer is through.

    Attributes:
        request_id: LiteLLM's call id.
        virtual_model: Name the client asked for.
        call_type: LiteLLM's name of the endpoint.
        chosen: Model group the request was sent to.
        route_ms: Milliseconds spent in our hook.
        decision: What was weighed; None when routing failed open.
        failed_open: Why the default answers; None when routing decided.
        arm: "live", or "canary" when that decided.
        objective_from: Who set the objective: "config", "header", "body" or "canary"; None when routing failed open.
    """

    request_id: str
    virtual_model: str
    call_type: str
    chosen: str
    route_ms: float
    decision: Decision | None = None
    failed_open: str | None = None
    arm: str = "live"
    objective_from: str | None = None

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
class Outcome:
    """What really happened to a routed request.

    Attributes:
        served: Model group that answered; None when none did.
        status: "success", "failure", or "unknown" when none was reported.
        input_tokens: Billed input tokens; None when unknown.
        output_tokens: Billed output tokens; None when unknown.
        cost_usd: Billed cost in USD; None when unknown.
        latency_ms: From the call to its last byte; None when unknown.
        error: Class of the final error; None on success.
        response_id: Id inside the response body; None when unknown.
    """

    served: str | None
    status: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    error: str | None = None
    response_id: str | None = None


def decided(routed: Routed, routing: Routing, *, with_prompt: bool) -> Fields:
    """Fields of `routing.decided`: the whole decision."""
    timing = routing.timing_ms
    fields: Fields = {
        "request_id": routed.request_id,
        "virtual_model": routed.virtual_model,
        "call_type": routed.call_type,
        "arm": routed.arm,
        "artifact": routing.artifact_id,
        **routing.decision.request.objective.said,
        "objective_from": routed.objective_from,
        "floor_met": routing.decision.floor_met,
        "reason": routed.reason,
        "chosen": routed.chosen,
        **_weighed(routed.assessment),
        "runner_up": routed.runner_up,
        "prompt_chars": len(routing.prompt.text),
        "input_tokens": routing.prompt.input_tokens,
        "novelty": routing.hedge.novelty,
        "hedge": round(routing.hedge.strength, 4),
        "candidates": [candidate_fields(a) for a in routing.decision.assessments()],
        "timing_ms": {
            "encode": round(timing.encode, 3),
            "score": round(timing.score, 3),
            "decide": round(timing.decide, 3),
            "total": round(routed.route_ms, 3),
        },
    }
    if with_prompt:
        fields["prompt"] = routing.prompt.text
    return fields


def candidate_fields(assessment: Assessment) -> Fields:
    """One candidate of a decision, rounded for reading."""
    return {
        "name": assessment.name,
        "llm": assessment.llm,
        "p_correct": _rounded(assessment.p_correct, 4),
        "expected_output_tokens": _rounded(assessment.expected_output_tokens, 0),
        "cost_usd": _rounded(assessment.cost_usd, 9),
        "utility": _rounded(assessment.utility, 6),
        "excluded": assessment.excluded,
    }


def served(routed: Routed, outcome: Outcome) -> Fields:
    """Fields of `routing.served`: forecast beside fact."""
    return {
        "request_id": routed.request_id,
        "virtual_model": routed.virtual_model,
        "status": outcome.status,
        "chosen": routed.chosen,
        "served": outcome.served,
        "fallback": outcome.served is not None and outcome.served != routed.chosen,
        "failed_open": routed.failed_open,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
        "cost_usd": _rounded(billed_usd(routed, outcome), 9),
        "expected_cost_usd": _weighed(routed.assessment)["expected_cost_usd"],
        "latency_ms": _rounded(outcome.latency_ms, 1),
        "error": outcome.error,
    }


def billed_usd(routed: Routed, outcome: Outcome) -> float | None:
    """What the answer cost in USD; None when unknown."""
    # LiteLLM bills some bridged endpoints at 0.0; tokens at the deployment's own prices are the truth then.
    if outcome.cost_usd or not outcome.output_tokens or outcome.served is None or routed.decision is None:
        return outcome.cost_usd
    pool = routed.decision.pool
    return pool.cost_usd(outcome.served, outcome.input_tokens or 0, outcome.output_tokens)


def response_headers(routed: Routed, served_by: str | None) -> dict[str, str]:
    """Headers of the answer; a figure that is unknown has none. What no header can hold is percent-coded."""
    headers = {
        "x-embedllm-virtual-model": routed.virtual_model,
        "x-embedllm-chosen": routed.chosen,
        "x-embedllm-route-ms": f"{routed.route_ms:.3f}",
    }
    if served_by is not None:
        headers["x-embedllm-served"] = served_by
    if routed.runner_up is not None:
        headers["x-embedllm-runner-up"] = routed.runner_up
    if routed.failed_open is not None:
        headers["x-embedllm-failed-open"] = routed.failed_open
    weighed = routed.assessment
    if weighed is not None and weighed.p_correct is not None and weighed.cost_usd is not None:
        headers["x-embedllm-p-correct"] = f"{weighed.p_correct:.4f}"
        headers["x-embedllm-expected-cost-usd"] = f"{weighed.cost_usd:.9f}"
    return {name: quote(value, safe=_AS_IT_IS) for name, value in headers.items()}


def _weighed(assessment: Assessment | None) -> Mapping[str, object]:
    if assessment is None:
        return {"llm": None, "p_correct": None, "expected_cost_usd": None, "utility": None}
    return {
        "llm": assessment.llm,
        "p_correct": _rounded(assessment.p_correct, 4),
        "expected_cost_usd": _rounded(assessment.cost_usd, 9),
        "utility": _rounded(assessment.utility, 6),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
