"""A span per decision in the host's OpenTelemetry traces. Without an SDK in the process it does nothing.

Names follow OpenTelemetry's GenAI conventions where they have one; the rest is `embedllm.*`. No span holds a prompt.
The parent span is handed in.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from embedllm_router import __version__
from embedllm_router.routing.decision import Assessment, Decision
from embedllm_router.telemetry.decision_record import DecisionRecord

try:
    from opentelemetry import trace
    from opentelemetry.trace import Status, StatusCode
except ImportError:  # an optional library: its absence means that nobody traces
    trace = None  # type: ignore[assignment]

__all__ = ["SPAN_NAME", "Tracer"]

SPAN_NAME = "embedllm route"

_OPERATION, _REQUESTED = "gen_ai.operation.name", "gen_ai.request.model"
_MAX_TOKENS, _ERROR = "gen_ai.request.max_tokens", "error.type"

Value = str | bool | int | float


class Tracer:
    """Makes spans of decisions.

    Args:
        enabled: Whether the settings ask for spans.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        # Made before the host may have set its provider; it finds that one when it comes.
        self._tracer = trace.get_tracer("embedllm_router", __version__) if enabled and trace is not None else None

    def decided(self, record: DecisionRecord) -> None:
        """Makes the span of a decision, from the request's arrival until now, under the host's span of the request."""
        if self._tracer is None:
            return
        context = record.context
        started_ns = round(context.at.timestamp() * 1e9)
        parent = context.parent_span
        span = self._tracer.start_span(
            SPAN_NAME,
            context=trace.set_span_in_context(parent) if parent and isinstance(parent, trace.Span) else None,
            attributes={_OPERATION: "route", _REQUESTED: context.virtual_model},
            start_time=started_ns,
        )
        if not span.is_recording():
            return
        span.set_attributes(dict(_of_request(record)))
        if record.decision is not None:
            span.set_attributes(dict(_of_decision(record, record.decision)))
        if record.failed_open is not None:
            span.set_attribute(_ERROR, record.failed_open)
            span.set_status(Status(StatusCode.ERROR, "failed open: the default answers"))
        span.end(started_ns + round(context.elapsed_ms * 1e6))


def _of_request(record: DecisionRecord) -> Iterator[tuple[str, Value]]:
    yield _REQUESTED, record.context.virtual_model  # once more: a host's span processor may have put its own name there
    yield "embedllm.request_id", record.context.request_id
    yield "embedllm.call_type", record.context.call_type
    yield "embedllm.arm", record.arm
    yield "embedllm.reason", record.reason
    yield "embedllm.chosen", record.chosen
    yield "embedllm.route_ms", record.route_ms
    yield from _known({"embedllm.objective_from": record.objective_from, "embedllm.runner_up": record.runner_up})
    if record.assessment is not None:
        yield from _of_chosen(record.assessment)


def _of_chosen(chosen: Assessment) -> Iterator[tuple[str, Value]]:
    yield from _known(
        {
            "embedllm.llm": chosen.llm,
            "embedllm.p_correct": chosen.p_correct,
            "embedllm.expected_cost_usd": chosen.cost_usd,
            "embedllm.expected_output_tokens": chosen.expected_output_tokens,
            "embedllm.utility": chosen.utility,
        }
    )


def _of_decision(record: DecisionRecord, decision: Decision) -> Iterator[tuple[str, Value]]:
    request, timing = decision.request, record.timing
    objective = request.objective
    yield "embedllm.cost_weight", objective.cost_weight
    yield "embedllm.input_tokens", request.input_tokens
    yield from _known(
        {
            "embedllm.artifact": record.artifact,
            "embedllm.encode_ms": timing.encode if timing else None,
            "embedllm.score_ms": timing.score if timing else None,
            "embedllm.decide_ms": timing.decide if timing else None,
            "embedllm.min_p_correct": objective.min_p_correct,
            "embedllm.within": objective.max_accuracy_drop,
            "embedllm.max_cost_usd": objective.max_cost_usd,
            "embedllm.floor_met": decision.floor_met,
            _MAX_TOKENS: request.max_output_tokens,
        }
    )
    yield from _of_candidates(decision)


def _of_candidates(decision: Decision) -> Iterator[tuple[str, Value]]:
    excluded = Counter(str(reason) for reason in decision.excluded if reason is not None)
    yield "embedllm.n_candidates", len(decision.excluded)
    yield "embedllm.n_excluded", excluded.total()
    for reason, n in excluded.items():
        yield f"embedllm.excluded.{reason}", n


def _known(values: Mapping[str, Value | None]) -> Iterator[tuple[str, Value]]:
    return ((name, value) for name, value in values.items() if value is not None)
