"""A real Prometheus server scrapes the series and answers every query of the dashboard with a number."""

import json
import math
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import http_calls
import httpx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI
from monitored import FOLDER, STATUS, VARIABLES, eventful, panel_queries
from prometheus_client import CollectorRegistry
from recorded import START

from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.telemetry.prometheus import PrometheusMetrics
from embedllm_router.web.app import health_router

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def exposed(metrics: PrometheusMetrics) -> Iterator[int]:
    """The health routes on a port of their own."""
    app = FastAPI()
    routes = health_router(
        status=lambda: STATUS, metrics_text=metrics.scrape, auth=lambda: None, metrics_auth=lambda: True
    )
    app.include_router(routes)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """A server that scrapes the target and evaluates the alert rules."""
    shutil.copy(FOLDER / "alerts.yaml", folder)
    scrape = {"job_name": "litellm", "metrics_path": "/embedllm/metrics"}
    config = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{**scrape, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stderr=log, env={**os.environ, "GOMAXPROCS": "1"}
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(15)


def answer(url: str, query: str) -> list[Any]:
    reply = http_calls.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).json()
    assert reply["status"] == "success", f"{query}: {reply}"
    found: list[Any] = reply["data"]["result"]
    return found


def shows_a_number(url: str, query: str, timeout_s: float = 10.0) -> bool:
    """Asked again for a while: on a loaded machine a scrape may fail, and until the next one there is nothing."""
    deadline = time.monotonic() + timeout_s
    while not any(math.isfinite(float(one["value"][1])) for one in answer(url, query)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_for(url: str, query: str, at_least: float, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            found = answer(url, query)
        except (httpx.TransportError, json.JSONDecodeError):
            found = []
        if found and float(found[0]["value"][1]) >= at_least:
            return
        time.sleep(0.1)
    raise AssertionError(f"{query} did not reach {at_least}")


def happen(metrics: PrometheusMetrics) -> None:
    """Everything that is counted, a few times over."""
    for record in eventful():
        metrics.observe(record)
    metrics.rejected("auto", "embedllm.cost_weight")
    metrics.reloaded(ok=True)
    metrics.feedback(FeedbackRecord(at=START, request_id="request-1", score=1.0, source="user"))
    metrics.judged("auto", 0.01, 0.001, 2)
    metrics.not_judged("auto", "too_long")


def test_every_panel_shows_a_number_and_no_alert_is_false(tmp_path: Path) -> None:
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    happen(metrics)
    with exposed(metrics) as port, prometheus(tmp_path, port) as url:
        wait_for(url, "sum(embedllm_decisions_total)", 500)
        happen(metrics)
        wait_for(url, "sum(embedllm_decisions_total)", 1000)
        wait_for(url, "sum(increase(embedllm_decisions_total[1m]))", 100)
        for query in panel_queries():
            asked = query
            for variable, value in {**VARIABLES, "$__rate_interval": "1m"}.items():
                asked = asked.replace(variable, value)
            assert shows_a_number(url, asked), asked
        alerts = {one["labels"]["alertname"] for one in http_calls.get(f"{url}/api/v1/alerts").json()["data"]["alerts"]}
        assert alerts <= {"EmbedLLMFallingBack", "EmbedLLMRequestsFailing", "EmbedLLMFailingOpen"}
