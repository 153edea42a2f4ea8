"""Two LiteLLM proxies and one Redis, all real: one budget, one memory of conversations, also across its death."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any

import http_calls
import httpx
import pytest
import yaml
from local_redis import LocalRedis, local_redis
from planted import SPRINTER, WIZARD
from proxied import deployment, events, planted_config

from embedllm_router.cli.demo import RunningProxy, running_proxy
from embedllm_router.serving.sessions import SESSION_HEADER

KEY = "sk-one-key-for-both-of-them"
BUDGET_USD = 3_000.0
MOST = 1e9  # the cost weight of a budget that is used up
SHORT, LONG = "integral", "integral " * 50_000
N_DEAR = 16
SOON_S = 20.0
TOOL_CALL = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
IN_A_TOOL_CALL: list[dict[str, Any]] = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
    {"role": "tool", "tool_call_id": "call-1", "content": "nothing"},
]


@dataclass(frozen=True, slots=True)
class Pair:
    """Both proxies and what they share."""

    one: RunningProxy
    two: RunningProxy
    redis: LocalRedis

    @property
    def both(self) -> tuple[RunningProxy, RunningProxy]:
        return self.one, self.two

    def spent_usd(self) -> float:
        """What Redis says was spent or is in flight: a hash with one field `count:amount` for each proxy."""
        with contextlib.closing(self.redis.client()) as client:
            (key,) = client.keys("embedllm:sum:spend:*")
            return sum(float(str(value).rpartition(":")[2]) for value in client.hvals(key))

    def billed_usd(self) -> float:
        """What both proxies' own logs say was billed."""
        return sum(float(e["cost_usd"]) for proxy in self.both for e in heard(proxy, "routing.served"))


def configuration(artifact: Path, redis: LocalRedis) -> dict[str, Any]:
    """Accuracy at any price, as long as the day's money lasts; a long prompt is dear even for the cheaper LLM."""
    config: dict[str, Any] = planted_config(artifact)
    config["model_list"] = [
        deployment("wizard", WIZARD, (10_000.0, 400.0)),
        deployment("sprinter", "acme-fast", (2_000.0, 60.0), embedllm=SPRINTER),
    ]
    config["router_settings"]["model_group_alias"] = {"auto": "sprinter"}
    ours = config["callback_settings"]["embedllm_router"]
    ours["state"] = {"redis_url": redis.url}
    ours["virtual_models"] = {
        "auto": {"default": "sprinter", "cost_weight": 0, "budgets": [{"usd": BUDGET_USD, "per": "day"}]}
    }
    return config


@pytest.fixture(scope="module")
def pair(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both started at once, with one configuration and one key."""
    now = datetime.now(UTC)
    if now.hour == 23 and now.minute >= 57:
        pytest.skip("the day's budget is renewed at midnight, which is near")
    folder = tmp_path_factory.mktemp("two")
    with local_redis(folder, keeps=True) as redis, contextlib.ExitStack() as stack:
        file = folder / "proxy_config.yaml"
        file.write_text(yaml.safe_dump(configuration(artifact_dir, redis)))
        with ThreadPoolExecutor(2) as at_once:
            begun = [
                at_once.submit(stack.enter_context, running_proxy(file, environment={"LITELLM_MASTER_KEY": KEY}))
                for _ in range(2)
            ]
            one, two = (future.result() for future in begun)
        yield Pair(one, two, redis)


def ask(
    proxy: RunningProxy, said: str | list[dict[str, Any]], session: str | None = None, **more: object
) -> httpx.Response:
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return http_calls.post(
        f"{proxy.base_url}/chat/completions",
        json={"model": "auto", "messages": messages, **more},
        headers={"Authorization": f"Bearer {KEY}"} | ({SESSION_HEADER: session} if session else {}),
        timeout=30,
    )


def decided(proxy: RunningProxy, answer: httpx.Response) -> dict[str, Any]:
    """The event of the decision behind an answer."""
    request_id = answer.headers["x-litellm-call-id"]
    return events(proxy, request_id, 1)[0]


def heard(proxy: RunningProxy, event: str) -> list[dict[str, Any]]:
    """Every event of a name in a proxy's log."""
    lines = [line for line in proxy.log.read_text(errors="replace").splitlines() if line.startswith("{")]
    return [found for line in lines if (found := json.loads(line))["event"] == event]


def soon(holds: Callable[[], object]) -> None:
    end = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.05)


def until(proxy: RunningProxy, said: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Asks until a decision is as expected; every answer is a 200."""
    end = time.monotonic() + SOON_S
    while True:
        answer = ask(proxy, said)
        assert answer.status_code == HTTPStatus.OK, answer.text
        if holds(found := decided(proxy, answer)):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def await_news(pair: Pair) -> None:
    """Returns when the second proxy has what the first one has put in shared state.

    Asking about a session that a proxy has not heard of begins it there, so every attempt takes a session of its own,
    and more time than the one before.
    """
    attempts = count(1)

    def arrived() -> bool:
        attempt = next(attempts)
        session = f"attempt {attempt}"
        assert ask(pair.one, SHORT, session).headers["x-embedllm-chosen"] == "wizard"
        time.sleep(0.25 * attempt)
        return ask(pair.two, IN_A_TOOL_CALL, session).headers["x-embedllm-chosen"] == "wizard"

    soon(arrived)


def test_a_tool_s_result_that_comes_to_the_other_one_at_once_stays_with_its_llm(pair: Pair) -> None:
    """From the first request of a fresh pair on; on its own such a request goes to the sprinter."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    chosen = []
    for number in range(10):
        here, there = pair.both if number % 2 else pair.both[::-1]
        assert ask(here, SHORT, f"at once {number}", tools=tools).headers["x-embedllm-chosen"] == "wizard"
        chosen.append(ask(there, IN_A_TOOL_CALL, f"at once {number}", tools=tools).headers["x-embedllm-chosen"])
    assert chosen == ["wizard"] * 10


def test_they_share_budget_and_conversations_and_a_dead_redis_costs_no_request(pair: Pair) -> None:
    rich = decided(pair.two, ask(pair.two, SHORT))
    assert rich["chosen"] == "wizard"
    assert rich["cost_weight"] < 1

    assert decided(pair.one, ask(pair.one, SHORT, "a talk"))["chosen"] == "wizard"
    assert decided(pair.two, ask(pair.two, IN_A_TOOL_CALL, "another talk"))["chosen"] == "sprinter"
    await_news(pair)
    assert ask(pair.two, IN_A_TOOL_CALL, "a talk").headers["x-embedllm-chosen"] == "wizard", "the other one began it"

    for _ in range(N_DEAR):
        assert ask(pair.one, LONG).status_code == HTTPStatus.OK
    poor = until(pair.two, SHORT, lambda found: found["cost_weight"] == MOST)
    assert (poor["chosen"], poor["reason"]) == ("sprinter", "within_budget"), "the other one spent the money"
    soon(lambda: pair.spent_usd() == pytest.approx(pair.billed_usd(), rel=1e-6))
    before = pair.billed_usd()
    assert before > BUDGET_USD

    pair.redis.kill()
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda i: ask(pair.both[i % 2], LONG if i < 2 else SHORT), range(24)))
    assert [answer.status_code for answer in answers] == [HTTPStatus.OK] * 24
    assert {answer.headers["x-embedllm-chosen"] for answer in answers} == {"sprinter"}, "nobody forgot the budget"
    soon(lambda: all(heard(proxy, "state.redis_lost") for proxy in pair.both))

    pair.redis.start()
    soon(lambda: all(heard(proxy, "state.redis_back") for proxy in pair.both))
    soon(lambda: pair.spent_usd() == pytest.approx(pair.billed_usd(), rel=1e-6))
    assert pair.spent_usd() > before + 100, "what was spent without Redis is in it now"
    for proxy in pair.both:
        assert decided(proxy, ask(proxy, SHORT))["cost_weight"] == MOST
        assert ask(proxy, IN_A_TOOL_CALL, "a talk").headers["x-embedllm-chosen"] == "wizard", "the talk went on"
