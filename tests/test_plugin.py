"""The plugin inside LiteLLM's own process: what it touches, what it leaves alone, and how it fails."""

import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import HTTPException
from proxied import planted_config

from embedllm_router import Router
from embedllm_router.parts import Parts, assemble
from embedllm_router.plugin import ProxyHandler
from embedllm_router.settings import read_settings


@pytest.fixture
def log_text() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def proxy_server() -> ModuleType:
    """LiteLLM's proxy in this process; the deprecations it warns of on import are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("litellm.proxy.proxy_server")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture
def make_handler(
    artifact_dir: Path,
    records: Path,
    log_text: io.StringIO,
    proxy_server: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., ProxyHandler]]:
    """Builds a handler of the planted configuration with other settings in its section."""
    config: dict[str, Any] = planted_config(artifact_dir)
    monkeypatch.setattr(proxy_server, "llm_model_list", config["model_list"])
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(records))
    built: list[Parts] = []

    def make(**section: Any) -> ProxyHandler:
        settings = read_settings({**config["callback_settings"]["embedllm_router"], **section})
        built.append(assemble(settings, log_to=log_text))
        return ProxyHandler(built[-1])

    yield make
    for parts in built:
        parts.close()


@pytest.fixture
def handler(make_handler: Callable[..., ProxyHandler]) -> ProxyHandler:
    return make_handler()


@pytest.fixture
def live_router(handler: ProxyHandler) -> Router:
    router = handler._live.generation.router
    assert router is not None
    return router


async def routed(handler: ProxyHandler, call_type: str = "acompletion", **body: Any) -> dict[str, Any]:
    data = {"model": "auto", "messages": [{"role": "user", "content": "integral"}], "litellm_call_id": "1", **body}
    return await handler.async_pre_call_hook(None, None, data, call_type)


def logged(log_text: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [e for line in log_text.getvalue().splitlines() if (e := json.loads(line))["event"] == event]


async def test_a_virtual_model_becomes_the_chosen_group(handler: ProxyHandler, log_text: io.StringIO) -> None:
    data = await routed(handler)
    assert data["model"] == "wizard"
    assert data["fallbacks"] == ["sprinter"]
    (event,) = logged(log_text, "routing.decided")
    assert event["chosen"] == "wizard"


async def test_any_other_model_is_left_alone(handler: ProxyHandler, log_text: io.StringIO) -> None:
    data = await routed(handler, model="sprinter", embedllm={"cost_weight": 3})
    assert data["model"] == "sprinter"
    assert "fallbacks" not in data
    assert "embedllm" not in data, "our own field never reaches a provider"
    assert log_text.getvalue() == ""


@pytest.mark.parametrize("call_type", ["aembedding", "acompact_responses", "amoderation", "arerank"])
async def test_other_endpoints_are_left_alone(handler: ProxyHandler, call_type: str) -> None:
    data = await routed(handler, call_type)
    assert data["model"] == "auto"


async def test_the_client_s_own_fallbacks_stand(handler: ProxyHandler) -> None:
    assert (await routed(handler, fallbacks=["novice"]))["fallbacks"] == ["novice"]


@pytest.mark.parametrize("model", [None, 3, ["auto"]])
async def test_a_model_that_is_no_name_is_litellm_s_business(handler: ProxyHandler, model: object) -> None:
    assert (await routed(handler, model=model))["model"] == model


async def test_a_wish_that_cannot_be_met_is_a_400(handler: ProxyHandler) -> None:
    with pytest.raises(HTTPException) as caught:
        await routed(handler, embedllm={"candidates": ["novice"]})
    assert caught.value.status_code == 400
    assert "price_unknown" in str(caught.value.detail)


@pytest.mark.parametrize("fault", [RuntimeError("secret prompt text"), MemoryError(), KeyError("x"), RecursionError()])
async def test_an_encoder_that_raises_never_reaches_the_client(
    handler: ProxyHandler,
    live_router: Router,
    log_text: io.StringIO,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raises(_text: str) -> None:
        raise fault

    monkeypatch.setattr(live_router._encoder, "encode", raises)
    data = await routed(handler, model="auto-quality")
    assert data["model"] == "wizard", "the declared default answers"
    (event,) = logged(log_text, "routing.failed_open")
    assert (event["level"], event["reason"]) == ("warning", type(fault).__name__)
    assert event["where"].startswith("test_plugin.py:")
    assert "secret prompt text" not in log_text.getvalue()


async def test_after_a_fault_routing_goes_on(
    handler: ProxyHandler, live_router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(live_router, "route", None)
        assert (await routed(handler))["model"] == "sprinter"
    assert (await routed(handler))["model"] == "wizard"


async def test_floors_are_on_record(handler: ProxyHandler, log_text: io.StringIO) -> None:
    assert (await routed(handler, embedllm={"min_p_correct": 0.9}))["model"] == "wizard"
    assert (await routed(handler, embedllm={"min_p_correct": 0.99}))["model"] == "wizard"
    met, unmet = logged(log_text, "routing.decided")
    assert (met["min_p_correct"], met["floor_met"], met["objective_from"]) == (0.9, True, "body")
    assert unmet["floor_met"] is False, "the likeliest answers, and the record says so"


async def test_an_llm_that_cannot_see_is_not_sent_an_image(
    handler: ProxyHandler, proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Any = [{**row, "model_info": {**row["model_info"]}} for row in proxy_server.llm_model_list]
    rows[0]["model_info"]["supports_vision"] = False
    monkeypatch.setattr(proxy_server, "llm_model_list", rows)
    parts = [{"type": "text", "text": "integral"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert (await routed(handler, messages=[{"role": "user", "content": parts}]))["model"] == "sprinter"


async def test_without_an_artifact_the_default_answers(
    make_handler: Callable[..., ProxyHandler], tmp_path: Path, log_text: io.StringIO
) -> None:
    lost = make_handler(artifact=str(tmp_path / "nowhere"))
    assert "the defaults answer" in logged(log_text, "routing.artifact_unusable")[0]["consequence"]
    assert (await routed(lost))["model"] == "sprinter"
    assert len(logged(log_text, "routing.failed_open")) == 1


async def test_with_every_candidate_excluded_the_default_answers(
    handler: ProxyHandler, log_text: io.StringIO, proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Any = proxy_server.llm_model_list
    monkeypatch.setattr(proxy_server, "llm_model_list", [row for row in rows if row["model_name"] == "stranger"])
    assert (await routed(handler))["model"] == "sprinter"
    assert "llm_unknown" in logged(log_text, "routing.failed_open")[0]["error"]


async def test_a_changed_model_list_is_read_again(
    handler: ProxyHandler, proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await routed(handler))["model"] == "wizard"
    rows: Any = proxy_server.llm_model_list
    monkeypatch.setattr(proxy_server, "llm_model_list", [row for row in rows if row["model_name"] != "wizard"])
    assert (await routed(handler))["model"] == "sprinter"


async def test_prompt_text_is_logged_only_when_asked(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    secret = [{"role": "user", "content": "integral hunter2"}]
    await routed(make_handler(), messages=secret)
    assert "hunter2" not in log_text.getvalue()
    await routed(make_handler(log={"prompt": True}), messages=secret)
    assert logged(log_text, "routing.decided")[-1]["prompt"] == "integral hunter2"


async def test_requests_never_answered_are_forgotten_in_the_end(
    handler: ProxyHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedllm_router.observer._MAX_PENDING", 3)
    for call_id in "abcde":
        await routed(handler, litellm_call_id=call_id)
    assert [call_id for call_id in "abcde" if handler._observer.find(call_id)] == ["c", "d", "e"]


async def test_a_megabyte_of_prompt_is_routed(handler: ProxyHandler) -> None:
    data = await routed(handler, model="auto-quality", messages=[{"role": "user", "content": "integral " * 120_000}])
    assert data["model"] == "wizard"
