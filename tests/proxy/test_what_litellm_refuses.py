"""What LiteLLM's Router or a provider would refuse is no candidate, in a process with LiteLLM's own Router and keys."""

import copy
import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import litellm
import pytest
import yaml
from litellm.router import Router

from embedllm_router.config.settings import read_settings
from embedllm_router.proxy.container import Container, assemble
from embedllm_router.proxy.plugin import ProxyHandler

SHIPPED: Any = yaml.safe_load((Path(__file__).parents[2] / "proxy_config.yaml").read_text(encoding="utf-8"))
HELLO: Any = [{"role": "user", "content": "Say hello"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
SOUND: Any = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]


@pytest.fixture(scope="module")
def proxy_server() -> ModuleType:
    """LiteLLM's proxy in this process; the deprecations it warns of on import are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("litellm.proxy.proxy_server")


@pytest.fixture
def log_text() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def serving(
    tmp_path: Path, log_text: io.StringIO, proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., ProxyHandler]]:
    """Builds a plugin and then LiteLLM's Router, in this order as the proxy does, over deployments."""
    monkeypatch.setattr(litellm, "model_cost", copy.deepcopy(litellm.model_cost))
    for name, value in (("UPSTREAM_API_BASE", "http://127.0.0.1:1/v1"), ("UPSTREAM_API_KEY", "sk-made-up")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(tmp_path / "records"))
    monkeypatch.setenv("EMBEDLLM_ROUTER_STATE__PATH", str(tmp_path / "state"))
    built: list[Container] = []

    def make(rows: list[dict[str, Any]], *, router: dict[str, Any] | None = None, **virtual_model: Any) -> ProxyHandler:
        section = {"virtual_models": {"auto": {"default": rows[0]["model_name"], **virtual_model}}}
        built.append(assemble(read_settings(section), log_to=log_text))
        handler = ProxyHandler(built[-1])
        settings = {"num_retries": 0, "enable_pre_call_checks": True, **(router or {})}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = Router(model_list=copy.deepcopy(rows), **settings)
        monkeypatch.setattr(proxy_server, "llm_router", made)
        monkeypatch.setattr(proxy_server, "llm_model_list", made.get_model_list())
        return handler

    yield make
    for one in built:
        one.close()


def row(name: str, model: str, usd_per_mtok: float = 1.0, params: Any = None, **info: Any) -> dict[str, Any]:
    """A deployment of LiteLLM's."""
    price = usd_per_mtok / 1e6
    given = {"model": model, "api_key": "x", "input_cost_per_token": price, "output_cost_per_token": price}
    return {"model_name": name, "litellm_params": given | (params or {}), "model_info": info}


async def excluded(
    handler: ProxyHandler, log_text: io.StringIO, key: object = None, call_type: str = "acompletion", **body: Any
) -> dict[str, str]:
    """What a request's record says of the candidates that were excluded."""
    data = {"model": "auto", "messages": HELLO, "litellm_call_id": "1", **body}
    await handler.async_pre_call_hook(key, None, data, call_type)
    line = log_text.getvalue().splitlines()[-1]
    event = json.loads(line)
    assert event["event"] == "routing.decided", line
    return {one["name"]: one["excluded"] for one in event["candidates"] if one["excluded"]}


@pytest.mark.parametrize("seen", ["before", "after"])
async def test_what_the_shipped_configuration_s_llms_can_do(
    serving: Callable[..., ProxyHandler],
    log_text: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    seen: str,
) -> None:
    """Entries that LiteLLM's Router made for its deployments say nothing of what an LLM lacks."""
    handler = serving(SHIPPED["model_list"])
    if seen == "after":
        monkeypatch.setattr(handler, "_prices", litellm.model_cost)
    assert await excluded(handler, log_text, tools=TOOLS) == {}
    deaf = await excluded(handler, log_text, messages=SOUND)
    assert deaf == dict.fromkeys(["gpt-4o-mini", "gpt-4o", "o3-mini"], "no_audio")


async def test_one_deployment_s_word_on_itself_says_nothing_of_another(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    rows = [row("seeing", "openai/gpt-4o-2024-08-06"), row("blind", "openai/gpt-4o-2024-08-06", supports_vision=False)]
    picture: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert await excluded(serving(rows), log_text, messages=picture) == {"blind": "no_vision"}


async def test_a_fine_tune_may_call_tools(serving: Callable[..., ProxyHandler], log_text: io.StringIO) -> None:
    tuned = row("tuned", "openai/ft:gpt-4o-mini-2024-07-18:org::1", embedllm="gpt-4o-mini-2024-07-18")
    assert await excluded(serving([row("gpt-4o", "openai/gpt-4o-2024-08-06"), tuned]), log_text, tools=TOOLS) == {}
