"""LLMs chosen at a reasoning effort, on the real proxy: what arrives at them, at each endpoint and after fallbacks."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import http_calls
import httpx
import pytest
import yaml
from proxied import all_events, events

from embedllm_router.cli.demo import RunningProxy, running_proxy

REASONS = "gpt-5.4"
CLAUDE = "claude-sonnet-4-5-20250929"
PLAIN = "gpt-4o-2024-08-06"
QUESTION = "Prove that infinitely many primes are congruent to 3 modulo 4, then find all x with x^2 = -1 modulo 65537."
HELLO = [{"role": "user", "content": QUESTION}]
USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16, "input_tokens": 9, "output_tokens": 7}
ANSWERS: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "25"}, "finish_reason": "stop"}],
    },
    "completions": {"object": "text_completion", "choices": [{"index": 0, "text": "25", "finish_reason": "stop"}]},
    "messages": {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "25"}],
        "stop_reason": "end_turn",
    },
    "responses": {
        "object": "response",
        "status": "completed",
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "25", "annotations": []}],
            }
        ],
    },
}


@dataclass
class Upstream:
    """The LLMs' end: what it was sent, and which LLMs fail."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.bodies.append(body)
        if body["model"] in self.failing:
            return 500, {"error": {"message": "simulated failure", "type": "simulated"}}
        shape = ANSWERS[path.removeprefix("/v1/")]
        return 200, {"id": "made-up", "created": 1, "created_at": 1, "model": body["model"], "usage": USAGE, **shape}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = made.answer(self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        yield made
        server.shutdown()


def row(name: str, model: str, base: str, efforts: list[str] | None = None) -> dict[str, Any]:
    params = {"model": model, "api_base": base, "api_key": "made-up"}
    return {"model_name": name, "litellm_params": params, "model_info": {"embedllm_efforts": efforts or []}}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[RunningProxy]:
    config = {
        "model_list": [
            row("thinker", f"openai/{REASONS}", f"{upstream.url}/v1", ["none", "low", "high"]),
            row("claude", f"anthropic/{CLAUDE}", upstream.url, ["none", "high"]),
            row("plain", f"openai/{PLAIN}", f"{upstream.url}/v1"),
        ],
        "router_settings": {
            "num_retries": 0,
            "disable_cooldowns": True,
            "model_group_alias": {"auto": "plain"},
            "context_window_fallbacks": [{"thinker": ["plain"]}],
        },
        "litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"]},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "callback_settings": {
            "embedllm_router": {"virtual_models": {"auto": {"default": "plain"}}, "resting": {"failures": None}}
        },
    }
    file = tmp_path_factory.mktemp("efforts") / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(config))
    with running_proxy(file) as running:
        yield running


@pytest.fixture
def arrived(upstream: Upstream) -> Iterator[list[dict[str, Any]]]:
    upstream.bodies.clear()
    upstream.failing.clear()
    yield upstream.bodies
    upstream.failing.clear()


def ask(pool: RunningProxy, path: str, *candidates: str, **body: Any) -> httpx.Response:
    said: dict[str, Any] = {"model": "auto", **body}
    if candidates:
        said["embedllm"] = {"candidates": list(candidates)}
    if path == "/v1/messages":
        said = {"max_tokens": 8_000, **said}
    headers = {"authorization": f"Bearer {pool.api_key}"}
    return http_calls.post(f"{pool.base_url.removesuffix('/v1')}{path}", json=said, headers=headers)


def effort_in(body: dict[str, Any]) -> object:
    """Any parameter of any API that sets an effort."""
    found = {
        name: body[name] for name in ("reasoning_effort", "reasoning", "thinking", "output_config") if name in body
    }
    return next(iter(found.values()), None) if len(found) < 2 else found


CHAT, RESPONSES, MESSAGES, COMPLETIONS = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    RESPONSES: {"input": QUESTION},
    MESSAGES: {"messages": HELLO},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("candidate", "sent"),
    [
        ("thinker:none", "none"),
        ("thinker:low", "low"),
        ("thinker:high", "high"),
        ("claude:none", {"type": "disabled"}),
        ("claude:high", {"type": "enabled", "budget_tokens": 4_096}),
    ],
)
def test_the_effort_of_the_choice_arrives_on_every_endpoint(
    pool: RunningProxy, arrived: list[dict[str, Any]], path: str, candidate: str, sent: object
) -> None:
    answer = ask(pool, path, candidate, **BODIES[path])
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-embedllm-chosen"] == answer.headers["x-embedllm-served"] == candidate
    assert effort_in(arrived[-1]) == expected(path, candidate, sent)


def expected(path: str, candidate: str, sent: object) -> object:
    """What LiteLLM makes of it: Claude reasons only if told to, and the Responses API has the effort in an object."""
    if candidate.startswith("claude"):
        return None if candidate == "claude:none" and path != MESSAGES else sent
    if path == CHAT:
        return sent
    return None if (path, sent) == (MESSAGES, "none") else {"effort": sent}


def test_a_request_s_other_settings_of_reasoning_stay(pool: RunningProxy, arrived: list[dict[str, Any]]) -> None:
    ask(pool, RESPONSES, "thinker:low", **BODIES[RESPONSES], reasoning={"summary": "auto"})
    assert arrived[-1]["reasoning"] == {"effort": "low", "summary": "auto"}


@pytest.mark.parametrize(
    ("path", "own", "chosen"),
    [
        (CHAT, {"reasoning_effort": "low"}, "thinker:low"),
        (CHAT, {"thinking": {"type": "enabled", "budget_tokens": 5_000}}, "claude:high"),
        (RESPONSES, {"reasoning": {"effort": "high"}}, "thinker:high"),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1_024}}, "thinker:low"),
        (MESSAGES, {"thinking": {"type": "disabled"}}, "claude:none"),
    ],
)
def test_the_client_s_own_effort_wins_in_any_form(
    pool: RunningProxy, arrived: list[dict[str, Any]], path: str, own: dict[str, Any], chosen: str
) -> None:
    group = chosen.partition(":")[0]
    answer = ask(pool, path, group, **BODIES[path], **own)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-embedllm-chosen"] == chosen
    (body,) = arrived
    (as_sent,) = own.values()
    assert effort_in(body) == ({"effort": "low"} if path == MESSAGES and group == "thinker" else as_sent)
    said = events(pool, answer.headers["x-litellm-call-id"], 1)[0]
    excluded = {one["name"]: one["excluded"] for one in said["candidates"]}  # type: ignore[attr-defined]  # JSON
    others = [name for name in excluded if name.startswith(group) and name != chosen]
    assert {excluded[name] for name in others} == {"effort"}


def test_an_effort_that_no_candidate_has_is_a_400_that_says_so(pool: RunningProxy) -> None:
    answer = ask(pool, CHAT, "thinker", **BODIES[CHAT], reasoning_effort="medium")
    assert answer.status_code == 400
    assert "'thinker:low': 'effort'" in answer.text


def test_messages_with_too_small_a_limit_leave_no_room_to_think(pool: RunningProxy) -> None:
    answer = ask(pool, MESSAGES, "claude", **BODIES[MESSAGES], max_tokens=4_096)
    assert answer.headers["x-embedllm-chosen"] == "claude:none"


def test_a_legacy_completion_sets_no_effort(pool: RunningProxy, arrived: list[dict[str, Any]]) -> None:
    answer = ask(pool, COMPLETIONS, "thinker", prompt="2 + 2 =")
    assert answer.headers["x-embedllm-chosen"] == "thinker:none"
    assert effort_in(arrived[-1]) is None


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("fails", "candidates", "tried"),
    [
        ({REASONS}, ["thinker", "plain"], ["thinker:high", "plain"]),
        ({REASONS}, ["thinker", "claude:high"], ["thinker:high", "claude:high"]),
        ({CLAUDE}, ["claude", "thinker:none"], ["claude:high", "thinker:none"]),
        ({REASONS, CLAUDE}, ["thinker", "claude", "plain"], ["thinker:high", "claude:high", "plain"]),
    ],
)
def test_a_fallback_carries_its_own_effort(  # noqa: PLR0913, PLR0917 - the proxy, both ends of it, and the case
    pool: RunningProxy,
    upstream: Upstream,
    arrived: list[dict[str, Any]],
    path: str,
    fails: set[str],
    candidates: list[str],
    tried: list[str],
) -> None:
    upstream.failing |= fails
    answer = ask(pool, path, *candidates, **BODIES[path])
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-embedllm-chosen"] == tried[0]
    assert answer.headers["x-embedllm-served"] == tried[-1]
    efforts = [name.partition(":")[2] for name in tried]
    thinking = {"type": "enabled", "budget_tokens": 4_096}
    sent = [thinking if name.startswith("claude") else effort for name, effort in zip(tried, efforts, strict=True)]
    wanted = [expected(path, name, effort) if effort else None for name, effort in zip(tried, sent, strict=True)]
    assert [effort_in(body) for body in arrived] == wanted
    decided, served = events(pool, answer.headers["x-litellm-call-id"], 2)
    assert (decided["chosen"], served["served"], served["fallback"]) == (tried[0], tried[-1], True)


def test_fallbacks_of_the_client_and_of_the_router_carry_none_of_the_choice(
    pool: RunningProxy, upstream: Upstream, arrived: list[dict[str, Any]]
) -> None:
    upstream.failing.add(REASONS)
    for own, served in (["plain"], "plain"), ([{"model": "claude"}], "claude"):
        arrived.clear()
        answer = ask(pool, CHAT, "thinker", **BODIES[CHAT], fallbacks=own)
        assert answer.headers["x-embedllm-served"] == served
        assert effort_in(arrived[0]) == "high"
        assert effort_in(arrived[-1]) is None


def test_the_models_listing_names_each_effort(pool: RunningProxy) -> None:
    headers = {"authorization": f"Bearer {pool.api_key}"}
    listed = http_calls.get(f"{pool.base_url.removesuffix('/v1')}/embedllm/models", headers=headers).json()["data"][0]
    by_name = {one["id"]: one for one in listed["candidates"]}
    assert set(by_name) == {"thinker:none", "thinker:low", "thinker:high", "claude:none", "claude:high", "plain"}
    low = by_name["thinker:low"]
    assert (low["model_group"], low["reasoning_effort"], low["known_by"]) == ("thinker", "low", "like")
    pools = [one for one in all_events(pool) if one["event"] == "routing.pool"]
    assert pools[0]["summary"] == "5 of 6 LLMs are known, 1 by a stand-in"


@pytest.mark.parametrize(
    ("path", "named_by", "place"),
    [
        ("/v1/models", "id", None),
        ("/models", "id", None),
        ("/v1/model/info", "model_name", "model_info"),
        ("/model/info", "model_name", "model_info"),
        ("/model_group/info", "model_group", None),
    ],
)
def test_litellm_s_own_listings_say_what_the_pool_can_do(
    pool: RunningProxy, path: str, named_by: str, place: str | None
) -> None:
    """The alias's target has 128,000 tokens of context, the pool's largest LLM over a million."""
    url, headers = f"{pool.base_url.removesuffix('/v1')}{path}", {"authorization": f"Bearer {pool.api_key}"}
    answer = http_calls.get(url, headers=headers)
    assert answer.status_code == 200, answer.text
    listed = answer.json()["data"]
    auto = next(one for one in listed if one[named_by] == "auto")
    said = auto[place] if place else auto
    assert said["max_input_tokens"] > 1_000_000
    assert said["supports_vision"] is True
    others = [one for one in listed if one[named_by] == "plain"]
    assert all((one[place] if place else one)["max_input_tokens"] == 128_000 for one in others)
    assert http_calls.get(url).status_code == 401


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_one_virtual_model_is_found_as_it_is_listed(pool: RunningProxy, path: str) -> None:
    """As clients ask before they offer a model (`models.retrieve`); LiteLLM alone finds no alias there."""
    url, headers = f"{pool.base_url.removesuffix('/v1')}{path}", {"authorization": f"Bearer {pool.api_key}"}
    listed = {one["id"]: one for one in http_calls.get(url, headers=headers).json()["data"]}
    answer = http_calls.get(f"{url}/auto", headers=headers)
    assert (answer.status_code, answer.json()) == (200, listed["auto"])
    assert answer.json()["max_input_tokens"] > 1_000_000
    assert http_calls.get(f"{url}/plain", headers=headers).json()["id"] == "plain"
    assert http_calls.get(f"{url}/nobody", headers=headers).status_code == 404
    assert http_calls.get(f"{url}/auto").status_code == 401
    of_another = {"authorization": "Bearer sk-of-another"}
    assert http_calls.get(f"{url}/auto", headers=of_another).status_code in {400, 401}
