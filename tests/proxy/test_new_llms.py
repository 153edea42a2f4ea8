"""A pool of LLMs that were released after the weights: it is routed from the first request, by the real proxy."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import http_calls
import openai
import pytest
import yaml
from proxied import all_events, deployment, events

from embedllm_router.cli.demo import PROMPTS, RunningProxy, running_proxy

OLD = "gpt-4-0613"
NEW = (
    "gpt-6-sol",
    "gpt-6-luna",
    "us.anthropic.claude-opus-5-5",
    "vertex_ai/claude-sonnet-5-5@default",
    "claude-haiku-5-5",
    "gemini/gemini-3.8-flash",
    "gemini/gemini-4-argon",
    "perplexity/xai/grok-4.6",
    "dashscope/qwen3.8-max",
    "zai/glm-5.3",
    "mistral/mistral-large-4",
    "github_copilot/claude-sonnet-5.5",
)
"""Names of LiteLLM's price map whose LLMs appeared in the second half of 2026."""
POOL = {"default": OLD, "candidates": list(NEW)}
THROUGH_ANY = {"default": OLD, "candidates": ["any/gpt-4o-2024-08-06", "any/gpt-4o-mini-2024-07-18"]}
"""Both are served through the deployment of `any/*`."""
ASKED = [
    *PROMPTS.values(),
    "Translate into French: the harbour is closed until Monday.",
    "Write a SQL query that lists the ten customers with the highest revenue in 2025.",
    "Which vitamin deficiency causes scurvy, and why?",
    "Summarise the plot of Hamlet in two sentences.",
    "Prove that the square root of 2 is irrational.",
]


def priced() -> dict[str, tuple[float, float]]:
    """USD per million tokens of input and output, by LiteLLM's map; a plan's included use counts as the list price."""
    prices: Mapping[str, Any] = import_module("litellm").model_cost
    found = {name: prices.get(name, {}) for name in NEW}
    usd = {name: (one.get("input_cost_per_token"), one.get("output_cost_per_token")) for name, one in found.items()}
    return {name: ((a or 3e-6) * 1e6, (b or 15e-6) * 1e6) for name, (a, b) in usd.items()}


@pytest.fixture(scope="module")
def new_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    rows = [deployment(name, name, usd) for name, usd in priced().items()]
    config = {
        "model_list": [*rows, deployment(OLD, OLD, (30.0, 60.0)), deployment("any/*", "*", None)],
        "router_settings": {"num_retries": 0, "model_group_alias": {"auto": OLD}},
        "litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"]},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "callback_settings": {"embedllm_router": {"virtual_models": {"auto": POOL, "auto-any": THROUGH_ANY}}},
    }
    file = tmp_path_factory.mktemp("new") / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(config))
    with running_proxy(file) as running:
        yield running


def chosen(proxy: RunningProxy, cost_weight: float) -> list[str]:
    """What is chosen for each of twelve prompts; none may fail open."""
    names = []
    with openai.OpenAI(base_url=proxy.base_url, api_key=proxy.api_key, max_retries=0, timeout=30) as client:
        for prompt in ASKED:
            raw = client.chat.completions.with_raw_response.create(
                model="auto",
                messages=[{"role": "user", "content": prompt}],
                extra_headers={"x-embedllm-cost-weight": str(cost_weight)},
            )
            assert "x-embedllm-failed-open" not in raw.headers
            low, high = map(float, raw.headers["x-embedllm-p-correct-interval"].split("-"))
            assert low < float(raw.headers["x-embedllm-p-correct"]) < high
            assert raw.headers["x-embedllm-known-by"] in {"labels", "published", "family"}
            names.append(raw.headers["x-embedllm-chosen"])
    return names


def test_new_llms_are_chosen_by_accuracy_and_by_cost(new_pool: RunningProxy) -> None:
    assert len(ASKED) == 12
    assert chosen(new_pool, 0).count(OLD) <= 1
    assert len(set(chosen(new_pool, 20))) >= 3
    cost = {name: sum(usd) for name, usd in priced().items()} | {OLD: 90.0}
    cheaper_half = sorted(cost, key=lambda name: cost[name])[: len(cost) // 2]
    assert set(chosen(new_pool, 5_000)) <= set(cheaper_half)


def test_the_start_says_how_each_is_known(new_pool: RunningProxy) -> None:
    pools = {one["virtual_model"]: one for one in all_events(new_pool) if one["event"] == "routing.pool"}
    pool = pools["auto"]
    assert pool["summary"] == "1 of 13 LLMs are known, 12 by family"
    assert set(pool["remedies"]) == {"family"}  # type: ignore[call-overload]  # JSON
    said = [one for one in all_events(new_pool) if one["event"] == "routing.llm_expected"]
    assert {str(one["group"]) for one in said} == set(NEW)


def test_the_listing_says_what_the_pool_can_do_and_how_each_llm_is_known(new_pool: RunningProxy) -> None:
    root = new_pool.base_url.removesuffix("/v1")
    assert http_calls.get(f"{root}/embedllm/models").status_code == 401
    key = {"authorization": f"Bearer {new_pool.api_key}"}
    answer = http_calls.get(f"{root}/embedllm/models", headers=key)
    found = {one["id"]: one for one in answer.json()["data"]}
    auto = found["auto"]
    assert auto["supports_vision"] is auto["supports_function_calling"] is True
    assert auto["max_input_tokens"] > 500_000, "the largest window of the pool"
    known = {one["id"]: one["known_by"] for one in auto["candidates"]}
    assert known == dict.fromkeys(NEW, "family") | {OLD: "labels"}
    assert all(one["excluded"] is None for one in auto["candidates"])


def test_candidates_are_served_through_a_wildcard(new_pool: RunningProxy) -> None:
    with openai.OpenAI(base_url=new_pool.base_url, api_key=new_pool.api_key, max_retries=0, timeout=30) as client:
        for cost_weight, llm in ((0, "gpt-4o-2024-08-06"), (5_000, "gpt-4o-mini-2024-07-18")):
            raw = client.chat.completions.with_raw_response.create(
                model="auto-any",
                messages=[{"role": "user", "content": "Which vitamin deficiency causes scurvy?"}],
                extra_headers={"x-embedllm-cost-weight": str(cost_weight)},
            )
            assert llm in (raw.parse().choices[0].message.content or "")
            assert raw.headers["x-embedllm-chosen"] == raw.headers["x-embedllm-served"] == f"any/{llm}"
            served = events(new_pool, raw.headers["x-litellm-call-id"], 2)[1]
            assert (served["served"], served["fallback"]) == (f"any/{llm}", False)
