"""Prompts embedded by an endpoint, behind LiteLLM's hooks and on the running proxy: all are answered."""

import io
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import http_calls
import orjson
import pytest
import yaml
from asked_plugin import ask, events
from embedding_server import EmbeddingServer, by_words, embedding_server, spec_of_words
from planted_transformer import transformer_artifact
from proxied import all_events, planted_config
from starlette.responses import Response
from waiting import until

from embedllm_router.cli.demo import running_proxy
from embedllm_router.config.settings import read_settings
from embedllm_router.errors import ArtifactError
from embedllm_router.proxy.container import Container, assemble
from embedllm_router.proxy.plugin import ProxyHandler

KEY = "sk-of-the-endpoint"
TIMEOUT_MS = 400.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endpoint")
    transformer_artifact(folder, spec_of_words())
    return folder / "artifact"


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def config(weights: Path, tmp_path: Path, proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A configuration whose deployments LiteLLM knows, and an environment with the endpoint's key."""
    config = planted_config(weights)
    monkeypatch.setattr(proxy_server, "llm_model_list", config["model_list"])
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(tmp_path / "records"))
    monkeypatch.setenv("EMBEDLLM_ROUTER_STATE__PATH", str(tmp_path / "state"))
    monkeypatch.setenv("KEY_OF_THE_ENDPOINT", KEY)
    return config


@pytest.fixture
def make_handler(
    config: dict[str, Any], server: EmbeddingServer, log: io.StringIO
) -> Iterator[Callable[..., ProxyHandler]]:
    """Builds a handler with settings of the encoder."""
    built: list[Container] = []

    def make(**encoder: Any) -> ProxyHandler:
        whole = {"endpoint": server.url, "api_key": "os.environ/KEY_OF_THE_ENDPOINT", "timeout_ms": 20_000, **encoder}
        section = {**config["callback_settings"]["embedllm_router"], "encoder": whole}
        built.append(assemble(read_settings(section), log_to=log))
        return ProxyHandler(built[-1])

    yield make
    for one in built:
        one.close()


async def test_prompts_go_where_their_topic_s_llm_is_and_the_key_nowhere(
    make_handler: Callable[..., ProxyHandler],
    server: EmbeddingServer,
    log: io.StringIO,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    handler = make_handler()
    assert [await ask(handler, prompt) for prompt in ("hello", "integral")] == ["sprinter", "wizard"]
    (loaded,) = events(log, "routing.encoder_loaded")
    assert (loaded["endpoint"], loaded["checked"]) == (server.url, True)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in log.getvalue() + caplog.text


async def test_a_bad_answer_sends_its_requests_to_the_default_and_the_next_are_routed(
    make_handler: Callable[..., ProxyHandler], server: EmbeddingServer, log: io.StringIO
) -> None:
    handler = make_handler()
    server.spoil = lambda right: Response(orjson.dumps({"data": right["data"] * 2}))
    assert await ask(handler, "integral") == "sprinter"
    server.spoil = None
    server.embed = lambda texts: [row[::-1] for row in by_words(texts)]
    assert await ask(handler, "integral") == "sprinter", "another transformer has taken its place"
    server.embed = by_words
    assert await ask(handler, "integral") == "wizard"
    failed = events(log, "routing.failed_open")
    assert [one["reason"] for one in failed] == ["EncoderError", "ArtifactError"]
    assert "index are not 0, 1, 2" in failed[0]["error"]


async def test_an_endpoint_that_is_silent_at_the_start_is_asked_again(
    make_handler: Callable[..., ProxyHandler], server: EmbeddingServer, log: io.StringIO
) -> None:
    server.spoil = lambda _: Response(status_code=503)
    handler = make_handler()
    (silent,) = events(log, "routing.encoder_silent")
    assert "answered 503" in silent["error"]
    assert await ask(handler, "integral") == "sprinter"
    server.spoil = None
    assert await ask(handler, "integral") == "wizard"


def test_another_transformer_at_the_start_makes_the_weights_unusable_and_a_reload_fail(
    make_handler: Callable[..., ProxyHandler], server: EmbeddingServer, log: io.StringIO
) -> None:
    server.embed = lambda texts: [row[::-1] for row in by_words(texts)]
    live = make_handler().container.live
    (refused,) = events(log, "routing.artifact_unusable")
    assert "embeds otherwise than 'acme/words'" in refused["error"]
    with pytest.raises(ArtifactError, match="embeds otherwise"):
        live.reload()
    server.embed = by_words
    live.reload()
    assert live.snapshot.router is not None


def test_a_static_encoder_sends_no_prompt_anywhere(
    artifact_dir: Path, make_handler: Callable[..., ProxyHandler], server: EmbeddingServer, log: io.StringIO
) -> None:
    settings = make_handler().container.live
    n_calls = len(server.calls)
    settings.snapshot.settings.__dict__["artifact"] = artifact_dir
    settings.reload()
    assert events(log, "routing.encoder_not_needed")
    assert len(server.calls) == n_calls


def test_the_proxy_lives_while_the_endpoint_hangs(weights: Path, server: EmbeddingServer, tmp_path: Path) -> None:
    """Eight requests wait for embeddings that never come; meanwhile the proxy answers others, and then these."""
    config = planted_config(weights)
    encoder = {"endpoint": server.url, "api_key": "os.environ/KEY_OF_THE_ENDPOINT", "timeout_ms": TIMEOUT_MS}
    config["callback_settings"]["embedllm_router"]["encoder"] = encoder
    file = tmp_path / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(config))
    with running_proxy(file, environment={"KEY_OF_THE_ENDPOINT": KEY}) as proxy, ThreadPoolExecutor(8) as clients:
        headers = {"authorization": f"Bearer {proxy.api_key}"}

        def chosen(_: int = 0) -> str:
            body = {"model": "auto", "messages": [{"role": "user", "content": "integral"}]}
            answer = http_calls.post(f"{proxy.base_url}/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            return str(answer.headers["x-embedllm-chosen"])

        assert chosen() == "wizard"
        server.open.clear()
        waiting = [clients.submit(chosen, n) for n in range(8)]
        taken = []
        while not all(one.done() for one in waiting):
            started = time.monotonic()
            live = http_calls.get(f"{proxy.base_url.removesuffix('/v1')}/health/liveliness")
            taken.append(time.monotonic() - started)
            assert live.status_code == 200
        assert {one.result() for one in waiting} == {"sprinter"}
        assert len(taken) > 2, "the proxy answered while requests waited"
        server.open.set()
        until(lambda: chosen() == "wizard" or None, 60.0)  # it may rest for a while
        failed = [event for event in all_events(proxy) if event["event"] == "routing.failed_open"]
        assert {event["reason"] for event in failed} == {"EncoderError"}
        assert KEY not in proxy.log.read_text(errors="replace")
