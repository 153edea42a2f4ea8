"""A span per decision in the host's OpenTelemetry traces. Without an SDK in the process it does nothing.

Names follow OpenTelemetry's GenAI conventions where they have one; the rest is `embedllm.*`. No span holds a prompt.
It knows nothing of LiteLLM: the parent span is handed in.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from embedllm_router import __version__
from embedllm_router.routing.policy import Assessment, Decision
from embedllm_router.routing.router import Routing
from embedllm_router.telemetry.events import Routed

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

    def decided(
        self, routed: Routed, routing: Routing | None, *, parent: object | None, started_ns: int, ended_ns: int
    ) -> None:
        """Records where a request was sent and why.

        Args:
            routed: Where.
            routing: Everything that was weighed; None when routing failed open.
            parent: The host's span of the request; None takes the current one, if any.
            started_ns: When the decision began, in nanoseconds since 1970.
            ended_ns: When it was made.
        """
        if self._tracer is None:
            return
        span = self._tracer.start_span(
            SPAN_NAME,
            context=trace.set_span_in_context(parent) if parent and isinstance(parent, trace.Span) else None,
            attributes={_OPERATION: "route", _REQUESTED: routed.virtual_model},
            start_time=started_ns,
        )
        if not span.is_recording():
            return
        span.set_attributes(dict(_of_request(routed)))
        if routing is not None:
            span.set_attributes(dict(_of_decision(routing)))
        if routed.failed_open is not None:
            span.set_attribute(_ERROR, routed.failed_open)
            span.set_status(Status(StatusCode.ERROR, "failed open: the default answers"))
        span.end(ended_ns)


def _of_request(routed: Routed) -> Iterator[tuple[str, Value]]:
    yield _REQUESTED, routed.virtual_model  # once more: a host's span processor may have put its own name there
    yield "embedllm.request_id", routed.request_id
    yield "embedllm.call_type", routed.call_type
    yield "embedllm.arm", routed.arm
    yield "embedllm.reason", routed.reason
    yield "embedllm.chosen", routed.chosen
    yield "embedllm.route_ms", routed.route_ms
    yield from _known({"embedllm.objective_from": routed.objective_from, "embedllm.runner_up": routed.runner_up})
    if routed.assessment is not None:
        yield from _of_chosen(routed.assessment)


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


def _of_decision(routing: Routing) -> Iterator[tuple[str, Value]]:
    decision, timing = routing.decision, routing.timing_ms
    objective = decision.request.objective
    yield "embedllm.artifact", routing.artifact_id
    yield "embedllm.cost_weight", objective.cost_weight
    yield "embedllm.input_tokens", routing.prompt.input_tokens
    yield "embedllm.encode_ms", timing.encode
    yield "embedllm.score_ms", timing.score
    yield "embedllm.decide_ms", timing.decide
    yield from _known(
        {
            "embedllm.min_p_correct": objective.min_p_correct,
            "embedllm.within": objective.within,
            "embedllm.max_cost_usd": objective.max_cost_usd,
            "embedllm.floor_met": decision.floor_met,
            _MAX_TOKENS: routing.prompt.max_output_tokens,
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
