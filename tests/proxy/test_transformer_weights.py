"""Weights that name a sentence transformer, behind LiteLLM's hooks: the same choices, or in time the default."""

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asked_plugin import ask, events
from planted_transformer import MINILM, needs_minilm, transformer_artifact
from proxied import planted_config

from embedllm_router import Router
from embedllm_router.config.settings import read_settings
from embedllm_router.prediction.transformer_encoder import TransformerEncoder
from embedllm_router.proxy.container import Container, assemble
from embedllm_router.proxy.plugin import ProxyHandler
from embedllm_router.serving.encoder_queue import EncoderQueue

pytestmark = needs_minilm
PROMPTS = [f"Question {n}: what is the integral of x to the power of {n}?" for n in range(12)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    transformer_artifact(folder, TransformerEncoder(MINILM, device="cpu").spec)
    return folder / "artifact"


@pytest.fixture
def make_handler(
    weights: Path, tmp_path: Path, proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> Iterator[Callable[..., ProxyHandler]]:
    """Builds a handler with settings of the encoder."""
    config: dict[str, Any] = planted_config(weights)
    monkeypatch.setattr(proxy_server, "llm_model_list", config["model_list"])
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(tmp_path / "records"))
    monkeypatch.setenv("EMBEDLLM_ROUTER_STATE__PATH", str(tmp_path / "state"))
    built: list[Container] = []

    def make(**encoder: Any) -> ProxyHandler:
        section = {**config["callback_settings"]["embedllm_router"], "encoder": {"device": "cpu", **encoder}}
        built.append(assemble(read_settings(section), log_to=log))
        return ProxyHandler(built[-1])

    yield make
    for one in built:
        one.close()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


async def test_requests_at_once_go_where_each_alone_goes(
    make_handler: Callable[..., ProxyHandler], log: io.StringIO
) -> None:
    handler = make_handler(timeout_ms=60_000)
    at_once = await asyncio.gather(*(ask(handler, prompt) for prompt in PROMPTS))
    assert at_once == [await ask(handler, prompt) for prompt in PROMPTS]
    assert not events(log, "routing.failed_open")
    decided = events(log, "routing.decided")
    assert len(decided) == 2 * len(PROMPTS)
    assert all(event["timing_ms"]["encode"] > 0 for event in decided)
    (loaded,) = events(log, "routing.encoder_loaded")
    assert (loaded["encoder"], loaded["device"]) == (MINILM, "cpu")


async def test_a_prompt_that_is_not_embedded_in_time_goes_to_the_default(
    make_handler: Callable[..., ProxyHandler], log: io.StringIO
) -> None:
    handler = make_handler(timeout_ms=0.01)
    assert await ask(handler, PROMPTS[0]) == "sprinter"
    (failed,) = events(log, "routing.failed_open")
    assert failed["reason"] == "EncoderError"
    assert "encoder.timeout_ms = 0.01" in failed["error"]
    await ask(handler, " ")
    assert len(events(log, "routing.failed_open")) == 1, "a prompt without text needs no embedding"


def test_reloading_keeps_the_transformer_and_other_settings_load_another(
    make_handler: Callable[..., ProxyHandler],
) -> None:
    live = make_handler().container.live

    def encoder() -> EncoderQueue:
        router = live.snapshot.router
        assert isinstance(router, Router)
        assert isinstance(router.encoder, EncoderQueue)
        return router.encoder

    before = encoder()
    live.reload()
    assert encoder() is before
    live.snapshot.settings.__dict__["encoder"] = live.snapshot.settings.encoder.model_copy(update={"max_batch": 2})
    live.reload()
    assert encoder() is not before
