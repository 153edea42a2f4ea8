"""Spans of decisions, made by the real SDK and read from its in-memory exporter."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from planted import SPRINTER, WIZARD

from embedllm_router import Router
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.router import Routing
from embedllm_router.telemetry.events import Routed
from embedllm_router.telemetry.tracing import SPAN_NAME, Tracer

STARTED_NS, ENDED_NS = 1_700_000_000_000_000_000, 1_700_000_000_000_700_000


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A provider of this test alone, where the process would have its global one."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def route(router: Router, prompt: str = "hello hello", objective: Objective | None = None) -> tuple[Routed, Routing]:
    routing = router.route(prompt, objective=objective or Objective(20.0))
    assert routing.decision.chosen is not None
    chosen = routing.decision.chosen.name
    return Routed("id-1", "auto", "acompletion", chosen, 0.7, routing.decision, objective_from="header"), routing


def only_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def decided(routed: Routed, routing: Routing | None, parent: object | None = None) -> None:
    Tracer().decided(routed, routing, parent=parent, started_ns=STARTED_NS, ended_ns=ENDED_NS)


def test_a_span_tells_the_decision(router: Router, exporter: InMemorySpanExporter) -> None:
    routed, routing = route(router)
    decided(routed, routing)
    span = only_span(exporter)
    assert (span.name, span.kind, span.status.status_code) == (SPAN_NAME, SpanKind.INTERNAL, StatusCode.UNSET)
    assert (span.start_time, span.end_time) == (STARTED_NS, ENDED_NS)
    assert span.parent is None
    found, chosen = dict(span.attributes or {}), routed.assessment
    assert chosen is not None
    expected = {
        "gen_ai.operation.name": "route",
        "gen_ai.request.model": "auto",
        "embedllm.request_id": "id-1",
        "embedllm.call_type": "acompletion",
        "embedllm.arm": "live",
        "embedllm.reason": "highest_utility",
        "embedllm.objective_from": "header",
        "embedllm.chosen": SPRINTER,
        "embedllm.llm": SPRINTER,
        "embedllm.runner_up": WIZARD,
        "embedllm.p_correct": chosen.p_correct,
        "embedllm.expected_cost_usd": chosen.cost_usd,
        "embedllm.expected_output_tokens": chosen.expected_output_tokens,
        "embedllm.utility": chosen.utility,
        "embedllm.cost_weight": 20.0,
        "embedllm.artifact": routing.artifact_id,
        "embedllm.input_tokens": routing.prompt.input_tokens,
        "embedllm.route_ms": 0.7,
        "embedllm.encode_ms": routing.timing_ms.encode,
        "embedllm.score_ms": routing.timing_ms.score,
        "embedllm.decide_ms": routing.timing_ms.decide,
        "embedllm.n_candidates": 3,
        "embedllm.n_excluded": 1,
        "embedllm.excluded.price_unknown": 1,
    }
    assert found == expected


def test_a_floor_and_a_limit_are_told_when_they_are_set(router: Router, exporter: InMemorySpanExporter) -> None:
    routed, routing = route(router, objective=Objective(min_p_correct=0.9, max_cost_usd=0.5))
    prompt = replace(routing.prompt, max_output_tokens=64)
    decided(routed, replace(routing, prompt=prompt))
    found = dict(only_span(exporter).attributes or {})
    assert found["embedllm.min_p_correct"] == 0.9
    assert found["embedllm.max_cost_usd"] == 0.5
    assert found["embedllm.floor_met"] is True
    assert found["gen_ai.request.max_tokens"] == 64
    assert "embedllm.within" not in found


def test_no_span_holds_the_prompt(router: Router, exporter: InMemorySpanExporter) -> None:
    decided(*route(router, "hello, my password is hunter2"))
    assert "hunter2" not in only_span(exporter).to_json()


def test_a_request_that_failed_open_is_an_error_of_ours(exporter: InMemorySpanExporter) -> None:
    decided(Routed("id-2", "auto", "responses", "sprinter", 0.2, failed_open="ArtifactError"), None)
    span = only_span(exporter)
    found = dict(span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert (found["error.type"], found["embedllm.reason"]) == ("ArtifactError", "failed_open")
    assert found["embedllm.chosen"] == "sprinter"
    assert "embedllm.p_correct" not in found


def test_the_span_is_a_child_of_the_hosts(router: Router, exporter: InMemorySpanExporter) -> None:
    host = trace.get_tracer("host")
    with host.start_as_current_span("ambient") as ambient, host.start_span("request") as request:
        decided(*route(router), parent=request)
        decided(*route(router), parent=None)
        decided(*route(router), parent="not a span")
    named, unnamed, odd = [s for s in exporter.get_finished_spans() if s.name == SPAN_NAME]
    assert named.parent == request.get_span_context()
    assert unnamed.parent == odd.parent == ambient.get_span_context()


def test_a_tracer_made_before_the_hosts_provider_finds_it(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    early, (routed, routing) = Tracer(), route(router)
    early.decided(routed, routing, parent=None, started_ns=STARTED_NS, ended_ns=ENDED_NS)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    early.decided(routed, routing, parent=None, started_ns=STARTED_NS, ended_ns=ENDED_NS)
    assert only_span(exporter).name == SPAN_NAME
    provider.shutdown()


def test_off_by_setting_makes_no_span(router: Router, exporter: InMemorySpanExporter) -> None:
    Tracer(enabled=False).decided(*route(router), parent=None, started_ns=STARTED_NS, ended_ns=ENDED_NS)
    assert exporter.get_finished_spans() == ()


def test_without_an_sdk_a_decision_costs_next_to_nothing(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """Well under what one decision takes; the real figure is a microsecond."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    tracer, (routed, routing) = Tracer(), route(router)
    best = min(_seconds(tracer, routed, routing) for _ in range(20))
    assert best < 10e-6


def _seconds(tracer: Tracer, routed: Routed, routing: Routing, n: int = 500) -> float:
    started = time.perf_counter()
    for _ in range(n):
        tracer.decided(routed, routing, parent=None, started_ns=STARTED_NS, ended_ns=ENDED_NS)
    return (time.perf_counter() - started) / n


def test_without_the_library_nothing_happens() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from embedllm_router.telemetry.events import Routed
from embedllm_router.telemetry.tracing import Tracer
Tracer().decided(Routed("i", "auto", "c", "x", 0.1), None, parent=None, started_ns=0, ended_ns=1)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"
    assert not done.stderr
