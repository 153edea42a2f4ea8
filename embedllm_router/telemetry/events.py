"""Fields of log events, and response headers, read off a decision record and its outcome.

No prompt text, key or header of the client enters an event unless the settings ask for the text.
"""

import string
from collections.abc import Mapping
from urllib.parse import quote

from embedllm_router.routing.decision import Assessment
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome, billed_usd, total_ms

__all__ = ["candidate_fields", "decided", "response_headers", "served"]

Fields = dict[str, object]
_AS_IT_IS = string.ascii_letters + string.digits + string.punctuation + " "


def decided(record: DecisionRecord, *, prompt: str | None = None) -> Fields:
    """Fields of `routing.decided`: the whole decision.

    Args:
        record: One with a decision.
        prompt: The embedded text, where the settings ask that the log shows it.
    """
    decision, timing = record.decision, record.timing
    assert decision is not None
    assert timing is not None
    fields: Fields = {
        "request_id": record.context.request_id,
        "virtual_model": record.context.virtual_model,
        "call_type": record.context.call_type,
        "arm": record.arm,
        "artifact": record.artifact,
        **decision.request.objective.fields,
        "objective_from": record.objective_from,
        "floor_met": decision.floor_met,
        "reason": record.reason,
        "chosen": record.chosen,
        **_weighed(record.assessment),
        "runner_up": record.runner_up,
        "prompt_chars": record.prompt_chars,
        "input_tokens": decision.request.input_tokens,
        "novelty": record.shrinkage.ood_score,
        "hedge": round(record.shrinkage.strength, 4),
        "candidates": [candidate_fields(a) for a in decision.assessments()],
        "timing_ms": {
            "encode": round(timing.encode, 3),
            "score": round(timing.score, 3),
            "decide": round(timing.decide, 3),
            "total": round(record.route_ms, 3),
        },
    }
    if prompt is not None:
        fields["prompt"] = prompt
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
        "known_by": assessment.known_by,
        "p_correct_low": _rounded(assessment.p_correct_low, 4),
        "p_correct_high": _rounded(assessment.p_correct_high, 4),
    }


def served(record: DecisionRecord, outcome: Outcome) -> Fields:
    """Fields of `routing.served`: forecast beside fact."""
    return {
        "request_id": record.context.request_id,
        "virtual_model": record.context.virtual_model,
        "status": outcome.status,
        "chosen": record.chosen,
        "served": outcome.served,
        "fallback": outcome.served is not None and outcome.served != record.chosen,
        "failed_open": record.failed_open,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
        "cost_usd": _rounded(billed_usd(record, outcome), 9),
        "expected_cost_usd": _weighed(record.assessment)["expected_cost_usd"],
        "latency_ms": _rounded(outcome.latency_ms, 1),
        "total_ms": _rounded(total_ms(record, outcome), 1),
        "error": outcome.error,
    }


def response_headers(record: DecisionRecord, served_by: str | None) -> dict[str, str]:
    """Headers of the answer; a figure that is unknown has none. What no header can hold is percent-coded."""
    headers = {
        "x-embedllm-virtual-model": record.context.virtual_model,
        "x-embedllm-chosen": record.chosen,
        "x-embedllm-route-ms": f"{record.route_ms:.3f}",
    }
    if served_by is not None:
        headers["x-embedllm-served"] = (
            record.decision.answered_by(served_by) if record.decision else None
        ) or served_by
    if record.runner_up is not None:
        headers["x-embedllm-runner-up"] = record.runner_up
    if record.failed_open is not None:
        headers["x-embedllm-failed-open"] = record.failed_open
    weighed = record.assessment
    if weighed is not None and weighed.p_correct is not None and weighed.cost_usd is not None:
        headers["x-embedllm-p-correct"] = f"{weighed.p_correct:.4f}"
        if weighed.p_correct_low is not None and weighed.p_correct_high is not None:
            headers["x-embedllm-p-correct-interval"] = f"{weighed.p_correct_low:.4f}-{weighed.p_correct_high:.4f}"
        if weighed.known_by is not None:
            headers["x-embedllm-known-by"] = weighed.known_by
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
