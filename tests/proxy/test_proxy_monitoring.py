"""Metrics, spans and health routes in the real proxy, with LiteLLM's `prometheus` and `otel` callbacks on."""

import time
from dataclasses import dataclass

import http_calls
import httpx
import pytest
from monitored import sampled, total
from otlp import Receiver, attributes

from embedllm_router.cli.demo import RunningProxy
from embedllm_router.telemetry.tracing import SPAN_NAME


@dataclass(frozen=True, slots=True)
class Watched:
    """A proxy, and where its spans go."""

    proxy: RunningProxy
    spans: Receiver

    def get(self, path: str, *, key: bool = True) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.proxy.api_key}"} if key else {}
        base = self.proxy.base_url.removesuffix("/v1")
        return http_calls.get(f"{base}{path}", headers=headers, timeout=30, follow_redirects=True)

    def counted(self, n: int, timeout_s: float = 10.0) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        """A scrape with so many outcomes of this file's requests; LiteLLM reports them a moment after the answer."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            samples = sampled(self.get("/embedllm/metrics").text)
            if total(samples, "embedllm_outcomes_total", virtual_model="auto-watched") >= n:
                return samples
            time.sleep(0.05)
        raise AssertionError(f"no {n} outcomes")

    def ask(self, prompt: str, **more: object) -> httpx.Response:
        body = {"model": "auto-watched", "messages": [{"role": "user", "content": prompt}], **more}
        headers = {"authorization": f"Bearer {self.proxy.api_key}"}
        return http_calls.post(f"{self.proxy.base_url}/chat/completions", json=body, headers=headers, timeout=60)


@pytest.fixture
def watched(proxy: RunningProxy, spans: Receiver) -> Watched:
    return Watched(proxy, spans)


def test_litellms_metrics_and_ours_show_the_same_requests(watched: Watched) -> None:
    """The virtual model is this file's own, and so are the counts under its name."""
    steps = total(sampled(watched.get("/embedllm/metrics").text), "embedllm_step_seconds_count", step="encode")
    assert watched.ask("hello").headers["x-embedllm-chosen"] == "sprinter"
    assert watched.ask("integral").headers["x-embedllm-chosen"] == "wizard"
    assert watched.ask("hello", embedllm={"cost_weight": "dear"}).status_code == 400
    ours = watched.counted(2)
    mine = {"virtual_model": "auto-watched"}
    for llm in ("sprinter", "wizard"):
        assert total(ours, "embedllm_decisions_total", llm=llm, reason="highest_utility", **mine) == 1
        assert total(ours, "embedllm_outcomes_total", llm=llm, status="success", **mine) == 1
        assert total(ours, "embedllm_billed_cost_usd_total", llm=llm, forecast="yes", **mine) > 0
    assert total(ours, "embedllm_rejected_total", field="embedllm.cost_weight", **mine) == 1
    assert total(ours, "embedllm_step_seconds_count", step="encode") >= steps + 2
    assert total(ours, "embedllm_ready") == 1
    host = sampled(watched.get("/metrics").text)
    assert {name for name in host if name.startswith("embedllm_")} == set(ours)
    watched_only = {
        labels for labels in ours["embedllm_decisions_total"] if ("virtual_model", "auto-watched") in labels
    }
    for labels in watched_only:
        assert host["embedllm_decisions_total"][labels] == ours["embedllm_decisions_total"][labels]
    assert any(name.startswith("litellm_") for name in host)


def test_a_scrape_needs_the_proxys_key_and_health_needs_none(watched: Watched) -> None:
    refused = {watched.get(path, key=False).status_code for path in ("/embedllm/metrics", "/v1/models")}
    assert refused <= {401, 500}  # 500 is LiteLLM's answer to a missing key where prisma is not installed
    assert watched.get("/embedllm/healthz", key=False).json()["status"] == "alive"
    assert watched.get("/embedllm/readyz", key=False).json()["ready"] is True


def test_the_span_is_a_child_of_litellms_and_reaches_the_collector(watched: Watched) -> None:
    request_id = watched.ask("hello hunter2").headers["x-litellm-call-id"]
    span = watched.spans.wait_for(lambda s: attributes(s).get("embedllm.request_id") == request_id)
    parent = watched.spans.wait_for(lambda s: s.span_id == span.parent_span_id)
    assert (span.name, parent.name) == (SPAN_NAME, "Received Proxy Server Request")
    assert parent.trace_id == span.trace_id
    found = attributes(span)
    assert found["gen_ai.request.model"] == "auto-watched"
    assert found["embedllm.chosen"] == "sprinter"
    assert found["embedllm.llm"] == "sprinter-7b-instruct"
    assert found["embedllm.p_correct"] > 0.9
    assert "hunter2" not in str(span)
    times = [parent.start_time_unix_nano, span.start_time_unix_nano, span.end_time_unix_nano]
    assert sorted(times) == times
    assert span.end_time_unix_nano < parent.end_time_unix_nano
