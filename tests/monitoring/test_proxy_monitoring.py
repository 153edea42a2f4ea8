"""Metrics, spans and health routes in the real proxy, with LiteLLM's `prometheus` and `otel` callbacks on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from monitored import sampled, total, write_probe
from otlp import Receiver, attributes, receiver
from proxied import planted_config

from embedllm_router.demo.run import RunningProxy, running_proxy
from embedllm_router.tracing import SPAN_NAME

TESTS = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Watched:
    """A proxy, and where its spans go."""

    proxy: RunningProxy
    spans: Receiver

    def get(self, path: str, *, key: bool = True) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.proxy.api_key}"} if key else {}
        base = self.proxy.base_url.removesuffix("/v1")
        return httpx.get(f"{base}{path}", headers=headers, timeout=30, follow_redirects=True)

    def ask(self, prompt: str) -> httpx.Response:
        body = {"model": "sprinter", "messages": [{"role": "user", "content": prompt}]}
        headers = {"authorization": f"Bearer {self.proxy.api_key}"}
        return httpx.post(f"{self.proxy.base_url}/chat/completions", json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def watched(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    write_probe(folder, artifact_dir)
    config = planted_config(artifact_dir) | {"litellm_settings": {"callbacks": ["prometheus", "probe.probe", "otel"]}}
    del config["callback_settings"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with receiver() as spans:
        environment = {
            "PYTHONPATH": f"{TESTS}:{TESTS / 'monitoring'}",
            "OTEL_EXPORTER": "otlp_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": spans.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with running_proxy(folder / "config.yaml", through="litellm", environment=environment) as proxy:
            yield Watched(proxy, spans)


def test_litellms_metrics_and_ours_show_the_same_count(watched: Watched) -> None:
    before = total(sampled(watched.get("/embedllm/metrics").text), "embedllm_decisions_total")
    assert watched.ask("hello").status_code == 200
    ours = watched.get("/embedllm/metrics").text
    host = sampled(watched.get("/metrics").text)
    assert total(sampled(ours), "embedllm_decisions_total", virtual_model="auto", llm="sprinter") == before + 1
    assert {n: v for n, v in host.items() if n.startswith("embedllm_")} == sampled(ours)
    assert any(name.startswith("litellm_") for name in host)
    assert "litellm_" not in ours


def test_a_scrape_needs_the_proxys_key_and_health_needs_none(watched: Watched) -> None:
    refused = {watched.get(path, key=False).status_code for path in ("/embedllm/metrics", "/v1/models")}
    assert refused <= {401, 500}  # 500 is LiteLLM's answer to a missing key where prisma is not installed
    assert watched.get("/embedllm/healthz", key=False).json()["status"] == "alive"
    assert watched.get("/embedllm/readyz", key=False).json()["ready"] is True


def test_the_span_is_a_child_of_litellms_and_reaches_the_collector(watched: Watched) -> None:
    assert watched.ask("hello hunter2").status_code == 200
    request_id = attributes(watched.spans.wait_for(lambda s: s.name == SPAN_NAME))["embedllm.request_id"]
    span = watched.spans.wait_for(lambda s: attributes(s).get("embedllm.request_id") == request_id)
    parent = watched.spans.wait_for(lambda s: s.span_id == span.parent_span_id)
    assert parent.name == "Received Proxy Server Request"
    assert parent.trace_id == span.trace_id
    found = attributes(span)
    assert found["gen_ai.request.model"] == "auto"
    assert found["embedllm.llm"] == "sprinter-7b-instruct"
    assert found["embedllm.p_correct"] > 0.9
    assert "hunter2" not in str(span)
    assert parent.start_time_unix_nano <= span.start_time_unix_nano < span.end_time_unix_nano
