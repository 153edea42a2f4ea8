"""The routes machines ask, in a FastAPI app of their own."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi import FastAPI, Header, HTTPException
from fastapi.testclient import TestClient
from monitored import NOT_LOADED, STATUS, sampled, total
from prometheus_client import CollectorRegistry

from embedllm_router.telemetry.metrics import NoMetrics
from embedllm_router.telemetry.prometheus import PrometheusMetrics
from embedllm_router.telemetry.status import Status
from embedllm_router.web.app import health_router

KEY = {"authorization": "Bearer sk-1234"}


def auth(authorization: str = Header("")) -> None:
    if authorization != KEY["authorization"]:
        raise HTTPException(401, "no key")


class Plugin:
    """What the routes are told."""

    def __init__(self) -> None:
        self.status: Status = STATUS
        self.needs_key = True
        self.metrics = PrometheusMetrics(lambda: self.status, CollectorRegistry())


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


@pytest.fixture(params=["included", "put in front"])
def client(plugin: Plugin, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    router = health_router(
        status=lambda: plugin.status,
        metrics_text=plugin.metrics.scrape,
        auth=auth,
        metrics_auth=lambda: plugin.needs_key,
    )
    app = FastAPI()
    if request.param == "included":
        app.include_router(router)
    else:
        app.router.routes[:0] = router.routes
    with TestClient(app) as client:
        yield client


def test_a_living_process_says_so_to_anyone(client: TestClient, plugin: Plugin) -> None:
    plugin.status = NOT_LOADED
    answer = client.get("/embedllm/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "alive", "version": "9.9.9", "started_at": "2026-01-01T00:00:00Z"}
    assert client.head("/embedllm/healthz").status_code == 200


def test_ready_is_who_routes(client: TestClient, plugin: Plugin) -> None:
    answer = client.get("/embedllm/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "reason": None, "artifact": "0123456789ab"}
    plugin.status = NOT_LOADED
    answer = client.get("/embedllm/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reason": "no weights could be loaded", "artifact": None}


def test_a_scrape_needs_a_key_while_the_host_says_so(client: TestClient, plugin: Plugin) -> None:
    assert client.get("/embedllm/metrics").status_code == 401
    answer = client.get("/embedllm/metrics", headers=KEY)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert total(sampled(answer.text), "embedllm_generation") == 3
    plugin.needs_key = False
    assert client.get("/embedllm/metrics").status_code == 200


def test_a_scrape_gets_the_format_it_accepts(client: TestClient) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0", **KEY}
    answer = client.get("/embedllm/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


def test_metrics_that_are_off_are_not_found() -> None:
    app = FastAPI()
    router = health_router(
        status=lambda: STATUS, metrics_text=NoMetrics().scrape, auth=auth, metrics_auth=lambda: False
    )
    app.include_router(router)
    answer = TestClient(app).get("/embedllm/metrics")
    assert answer.status_code == 404
    assert "prometheus-client" in answer.json()["detail"]


def test_a_virtual_model_that_can_choose_nobody_is_not_ready(client: TestClient, plugin: Plugin) -> None:
    one = replace(STATUS.virtual_models[0], excluded=dict.fromkeys(STATUS.virtual_models[0].candidates, "llm_unknown"))
    plugin.status = replace(STATUS, virtual_models=(*STATUS.virtual_models[1:], one))
    answer = client.get("/embedllm/readyz")
    assert answer.status_code == 503
    assert answer.json()["reason"] == f"no candidate of {one.name} can be chosen"
