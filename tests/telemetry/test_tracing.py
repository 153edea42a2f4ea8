"""Spans of decisions, made by the real SDK and read from its in-memory exporter."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from planted import SPRINTER, WIZARD

from embedllm_router import Router
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.prompt import read_body
from embedllm_router.telemetry.decision_record import DecisionRecord, RequestContext
from embedllm_router.telemetry.tracing import SPAN_NAME, Tracer

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A provider of this test alone, where the process would have its global one."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def context(request_id: str = "id-1", call_type: str = "acompletion", parent: object | None = None) -> RequestContext:
    return RequestContext(request_id, "auto", call_type, AT, time.perf_counter(), parent_span=parent)


def route(
    router: Router,
    prompt: str = "hello hello",
    objective: Objective | None = None,
    *,
    parent: object | None = None,
    max_tokens: int | None = None,
) -> DecisionRecord:
    read = replace(read_body({"prompt": prompt}), max_output_tokens=max_tokens)
    routing = router.route(read, objective=objective or Objective(20.0))
    assert routing.decision.chosen is not None
    return DecisionRecord(
        context(parent=parent),
        routing.decision.chosen.name,
        0.7,
        decision=routing.decision,
        objective_from="header",
        artifact=routing.artifact_id,
        encoder=routing.encoder_id,
        timing=routing.timing_ms,
        prompt=prompt,
    )


def only_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def decided(record: DecisionRecord) -> None:
    Tracer().decided(record)


def test_a_span_tells_the_decision(router: Router, exporter: InMemorySpanExporter) -> None:
    record = route(router)
    decided(record)
    span = only_span(exporter)
    assert (span.name, span.kind, span.status.status_code) == (SPAN_NAME, SpanKind.INTERNAL, StatusCode.UNSET)
    assert span.start_time == round(AT.timestamp() * 1e9)
    assert span.end_time is not None
    assert 0 < span.end_time - span.start_time < 60e9, "from the request's arrival until now"
    assert span.parent is None
    found, chosen, timing = dict(span.attributes or {}), record.assessment, record.timing
    assert chosen is not None
    assert timing is not None
    assert record.decision is not None
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
        "embedllm.artifact": record.artifact,
        "embedllm.input_tokens": record.decision.request.input_tokens,
        "embedllm.route_ms": 0.7,
        "embedllm.encode_ms": timing.encode,
        "embedllm.score_ms": timing.score,
        "embedllm.decide_ms": timing.decide,
        "embedllm.n_candidates": 3,
        "embedllm.n_excluded": 1,
        "embedllm.excluded.price_unknown": 1,
    }
    assert found == expected


def test_a_floor_and_a_limit_are_told_when_they_are_set(router: Router, exporter: InMemorySpanExporter) -> None:
    decided(route(router, objective=Objective(min_p_correct=0.9, max_cost_usd=0.5), max_tokens=64))
    found = dict(only_span(exporter).attributes or {})
    assert found["embedllm.min_p_correct"] == 0.9
    assert found["embedllm.max_cost_usd"] == 0.5
    assert found["embedllm.floor_met"] is True
    assert found["gen_ai.request.max_tokens"] == 64
    assert "embedllm.within" not in found


def test_no_span_holds_the_prompt(router: Router, exporter: InMemorySpanExporter) -> None:
    decided(route(router, "hello, my password is hunter2"))
    assert "hunter2" not in only_span(exporter).to_json()


def test_a_request_that_failed_open_is_an_error_of_ours(exporter: InMemorySpanExporter) -> None:
    decided(DecisionRecord(context("id-2", "responses"), "sprinter", 0.2, failed_open="ArtifactError"))
    span = only_span(exporter)
    found = dict(span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert (found["error.type"], found["embedllm.reason"]) == ("ArtifactError", "failed_open")
    assert found["embedllm.chosen"] == "sprinter"
    assert "embedllm.p_correct" not in found


def test_the_span_is_a_child_of_the_hosts(router: Router, exporter: InMemorySpanExporter) -> None:
    host = trace.get_tracer("host")
    with host.start_as_current_span("ambient") as ambient, host.start_span("request") as request:
        decided(route(router, parent=request))
        decided(route(router))
        decided(route(router, parent="not a span"))
    named, unnamed, odd = [s for s in exporter.get_finished_spans() if s.name == SPAN_NAME]
    assert named.parent == request.get_span_context()
    assert unnamed.parent == odd.parent == ambient.get_span_context()


def test_a_tracer_made_before_the_hosts_provider_finds_it(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    early, record = Tracer(), route(router)
    early.decided(record)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    early.decided(record)
    assert only_span(exporter).name == SPAN_NAME
    provider.shutdown()


def test_off_by_setting_makes_no_span(router: Router, exporter: InMemorySpanExporter) -> None:
    Tracer(enabled=False).decided(route(router))
    assert exporter.get_finished_spans() == ()


def test_without_an_sdk_a_decision_costs_next_to_nothing(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """Well under what one decision takes; the real figure is a microsecond."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    tracer, record = Tracer(), route(router)
    best = min(_seconds(tracer, record) for _ in range(20))
    assert best < 10e-6


def _seconds(tracer: Tracer, record: DecisionRecord, n: int = 500) -> float:
    started = time.perf_counter()
    for _ in range(n):
        tracer.decided(record)
    return (time.perf_counter() - started) / n


def test_without_the_library_nothing_happens() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from datetime import UTC, datetime
from embedllm_router.telemetry.decision_record import DecisionRecord, RequestContext
from embedllm_router.telemetry.tracing import Tracer
Tracer().decided(DecisionRecord(RequestContext("i", "auto", "c", datetime.now(UTC), 0.0), "x", 0.1))
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"
    assert not done.stderr
