"""The running proxy beside LLMs that fail or whose budget is spent: they are left alone, and no request is lost."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import http_calls
import httpx
import pytest
import yaml
from paid_llms import PaidLLM, StandIn, paid_llms
from planted import SPRINTER, WIZARD
from proxied import deployment, planted_config

from embedllm_router.cli.demo import RunningProxy, running_proxy

MATHS: Any = [{"role": "user", "content": "integral"}]
REST_S = 4.0
FAILURES = 5
SOON_S = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A proxy and the LLMs behind it."""

    proxy: RunningProxy
    llms: StandIn

    def ask(self, model: str) -> httpx.Response:
        url, headers = f"{self.proxy.base_url}/chat/completions", {"authorization": f"Bearer {self.proxy.api_key}"}
        return http_calls.post(url, json={"model": model, "messages": MATHS}, headers=headers, timeout=30)

    def read(self, path: str) -> httpx.Response:
        url, headers = self.proxy.base_url.removesuffix("/v1"), {"authorization": f"Bearer {self.proxy.api_key}"}
        return http_calls.get(f"{url}{path}", headers=headers, timeout=30)

    def calls(self, llm: str) -> int:
        return sum(body["model"] == llm for body in self.llms.bodies)

    def excluded(self, answer: httpx.Response) -> dict[str, str]:
        """Why candidates of a request were excluded, by its record."""
        wanted = f'"request_id":"{answer.headers["x-litellm-call-id"]}"'
        lines = self.proxy.log.read_text(errors="replace").splitlines()
        event = next(json.loads(line) for line in lines if wanted in line and '"routing.decided"' in line)
        return {one["name"]: one["excluded"] for one in event["candidates"] if one["excluded"]}

    def until(self, model: str, holds: Callable[[httpx.Response], bool]) -> httpx.Response:
        """Asks until an answer is as expected; every one is a 200."""
        deadline = time.monotonic() + SOON_S
        while True:
            answer = self.ask(model)
            assert answer.status_code == 200, answer.text
            if holds(answer):
                return answer
            assert time.monotonic() < deadline, dict(answer.headers)
            time.sleep(0.1)


def configuration(artifact: Path) -> dict[str, Any]:
    """The wizard is chosen wherever it may be; its namesakes have a budget of their own, and of their provider's."""
    config = planted_config(artifact)
    metered = deployment("metered", WIZARD, (10.0, 40.0))
    metered["litellm_params"] = {**metered["litellm_params"], "max_budget": 1e-9, "budget_duration": "1d"}  # type: ignore[dict-item]
    hosted = deployment("hosted", WIZARD, (10.0, 40.0))
    hosted["litellm_params"] = {**hosted["litellm_params"], "model": f"hosted_vllm/{WIZARD}"}  # type: ignore[dict-item]
    config["model_list"] = [
        deployment("wizard", WIZARD, (10.0, 40.0)),
        deployment("sprinter", "acme-fast", (0.2, 0.6), embedllm=SPRINTER),
        metered,
        hosted,
    ]
    config["router_settings"] |= {
        "model_group_alias": {},
        "provider_budget_config": {"hosted_vllm": {"budget_limit": 1e-9, "time_period": "1d"}},
    }
    ours = config["callback_settings"]["embedllm_router"]
    ours["resting"] = {"rest_s": REST_S, "max_rest_s": REST_S}
    ours["virtual_models"] = {
        f"auto-{name}": {"default": "sprinter", "cost_weight": 0, "candidates": [name, "sprinter"]}
        for name in ("wizard", "metered", "hosted")
    }
    return config


@pytest.fixture(scope="module")
def stage(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    file = tmp_path_factory.mktemp("left-alone") / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(configuration(artifact_dir)))
    llms = StandIn({WIZARD: PaidLLM(1.0), "acme-fast": PaidLLM(0.0)}, {})
    with paid_llms(llms) as base, running_proxy(file, environment={"UPSTREAM_API_BASE": base}) as proxy:
        yield Stage(proxy, llms)


@pytest.mark.parametrize("name", ["metered", "hosted"])
def test_what_is_over_litellm_s_budget_is_no_candidate(stage: Stage, name: str) -> None:
    first = stage.ask(f"auto-{name}")
    assert first.headers["x-embedllm-served"] == name
    spent = stage.until(f"auto-{name}", lambda answer: answer.headers["x-embedllm-chosen"] == "sprinter")
    assert stage.excluded(spent) == {name: "over_budget"}
    pinned = stage.ask(name)
    assert (pinned.status_code, "budget" in pinned.text) == (429, True), "LiteLLM refuses it by its own name"
    assert f'embedllm_llm_left_alone{{llm="{name}",reason="over_budget"}} 1.0' in stage.read("/embedllm/metrics").text


def test_an_llm_that_fails_every_request_rests_until_it_answers_again(stage: Stage) -> None:
    stage.until("auto-wizard", lambda answer: answer.headers["x-embedllm-served"] == "wizard")
    stage.llms.broken.add(WIZARD)
    before, began = stage.calls(WIZARD), time.monotonic()
    answers = [stage.ask("auto-wizard") for _ in range(60)]
    took_s = time.monotonic() - began
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-embedllm-served"] for answer in answers} == {"sprinter"}
    assert FAILURES <= stage.calls(WIZARD) - before <= FAILURES + 2 + took_s / REST_S
    resting = stage.until("auto-wizard", lambda answer: answer.headers["x-embedllm-chosen"] == "sprinter")
    assert stage.excluded(resting) == {"wizard": "resting"}
    listed = {one["id"]: one["candidates"] for one in stage.read("/embedllm/models").json()["data"]}
    assert {one["id"]: one["excluded"] for one in listed["auto-wizard"]} == {"wizard": "resting", "sprinter": None}
    stage.llms.broken.clear()
    stage.until("auto-wizard", lambda answer: answer.headers["x-embedllm-served"] == "wizard")
    assert stage.excluded(stage.ask("auto-wizard")) == {}


def test_pinned_calls_that_a_client_makes_fail_let_nothing_rest(stage: Stage) -> None:
    """A time limit that nobody can keep is the client's own."""
    stage.llms.latency_s = 0.1
    body = {"model": "wizard", "messages": MATHS, "timeout": 0.01}
    url, headers = f"{stage.proxy.base_url}/chat/completions", {"authorization": f"Bearer {stage.proxy.api_key}"}
    statuses = {http_calls.post(url, json=body, headers=headers, timeout=30).status_code for _ in range(8)}
    assert statuses == {408}
    assert stage.ask("auto-wizard").headers["x-embedllm-served"] == "wizard"
