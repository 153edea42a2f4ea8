"""The real proxy, the real SDKs, simulated LLMs: every endpoint, as a client sees it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import http_calls
import openai
import pytest
import yaml
from planted import NOVICE, SPRINTER, WIZARD
from proxied import all_events, deployment, events, planted_config

from embedllm_router.cli.demo import RunningProxy, running_proxy

MATHS: Any = [{"role": "user", "content": "integral"}]
Raw = Any


class Clients:
    """Both SDKs, pointed at one proxy."""

    def __init__(self, proxy: RunningProxy) -> None:
        self.openai = openai.OpenAI(base_url=proxy.base_url, api_key=proxy.api_key, max_retries=0, timeout=30)
        root = proxy.base_url.removesuffix("/v1")
        self.anthropic = anthropic.Anthropic(base_url=root, api_key=proxy.api_key, max_retries=0, timeout=30)


@contextmanager
def clients_of(proxy: RunningProxy) -> Iterator[Clients]:
    both = Clients(proxy)
    with both.openai, both.anthropic:
        yield both


@pytest.fixture(scope="module")
def clients(proxy: RunningProxy) -> Iterator[Clients]:
    """One pair for the whole file: making an SDK's client takes longer than a request."""
    with clients_of(proxy) as both:
        yield both


def chat(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.openai.chat.completions.with_raw_response.create(model=model, messages=MATHS, **extra)
    return raw, raw.parse().choices[0].message.content or ""


def chat_stream(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.openai.chat.completions.with_raw_response.create(model=model, messages=MATHS, stream=True, **extra)
    return raw, "".join(e.choices[0].delta.content or "" for e in raw.parse() if e.choices)


def responses(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.openai.responses.with_raw_response.create(model=model, input="integral", **extra)
    return raw, raw.parse().output_text


def responses_stream(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.openai.responses.with_raw_response.create(model=model, input=MATHS, stream=True, **extra)
    return raw, "".join(e.delta for e in raw.parse() if e.type == "response.output_text.delta")


def completions(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.openai.completions.with_raw_response.create(model=model, prompt="integral", **extra)
    return raw, raw.parse().choices[0].text


def completions_stream(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.openai.completions.with_raw_response.create(model=model, prompt="integral", stream=True, **extra)
    return raw, "".join(e.choices[0].text or "" for e in raw.parse() if e.choices)


def messages(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.anthropic.messages.with_raw_response.create(
        model=model, messages=MATHS, system="Be brief.", max_tokens=50, **extra
    )
    return raw, "".join(block.text for block in raw.parse().content if block.type == "text")


def messages_stream(c: Clients, model: str, **extra: Any) -> tuple[Raw, str]:
    raw = c.anthropic.messages.with_raw_response.create(
        model=model, messages=MATHS, max_tokens=50, stream=True, **extra
    )
    text = "".join(
        e.delta.text for e in raw.parse() if e.type == "content_block_delta" and e.delta.type == "text_delta"
    )
    return raw, text


Ask = Callable[..., tuple[Raw, str]]
ENDPOINTS: list[Ask] = [
    chat,
    chat_stream,
    responses,
    responses_stream,
    completions,
    completions_stream,
    messages,
    messages_stream,
]
each_endpoint = pytest.mark.parametrize("ask", ENDPOINTS, ids=lambda ask: ask.__name__)


@each_endpoint
def test_auto_is_routed_and_says_so(clients: Clients, proxy: RunningProxy, ask: Ask) -> None:
    raw, text = ask(clients, "auto")
    assert WIZARD in text
    assert raw.headers["x-embedllm-virtual-model"] == "auto"
    assert raw.headers["x-embedllm-chosen"] == raw.headers["x-embedllm-served"] == "wizard"
    assert raw.headers["x-embedllm-runner-up"] == "sprinter"
    assert raw.headers["x-embedllm-p-correct"] == "0.9526"
    assert float(raw.headers["x-embedllm-expected-cost-usd"]) > 0
    assert float(raw.headers["x-embedllm-route-ms"]) > 0
    decided, served = events(proxy, raw.headers["x-litellm-call-id"], 2)
    assert (decided["event"], served["event"]) == ("routing.decided", "routing.served")
    assert served["served"] == "wizard"
    assert served["fallback"] is False


@each_endpoint
def test_auto_answers_like_a_pinned_llm(clients: Clients, ask: Ask) -> None:
    _, routed = ask(clients, "auto")
    raw, pinned = ask(clients, "wizard")
    assert routed == pinned
    assert not [name for name in raw.headers if name.startswith("x-embedllm")], "a pinned LLM is left alone"


@each_endpoint
def test_a_bad_wish_is_a_400_that_names_the_field(clients: Clients, ask: Ask) -> None:
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as caught:
        ask(clients, "auto", extra_body={"embedllm": {"cost_weight": "cheap"}})
    assert "embedllm.cost_weight" in str(caught.value)


@each_endpoint
def test_the_header_overrides_the_cost_weight(clients: Clients, ask: Ask) -> None:
    raw, _ = ask(clients, "auto", extra_headers={"x-embedllm-cost-weight": "1000"})
    assert raw.headers["x-embedllm-chosen"] == "sprinter"


BROKEN_BODIES: list[tuple[str, dict[str, Any]]] = [
    ("chat/completions", {"messages": "not a list"}),
    ("chat/completions", {"messages": [{"role": "martian", "content": "x"}]}),
    ("chat/completions", {"messages": MATHS, "temperature": "hot"}),
    ("chat/completions", {}),
    ("responses", {"input": 7}),
    ("responses", {}),
    ("messages", {"messages": MATHS}),
    ("messages", {"max_tokens": 5}),
    ("completions", {"prompt": {"no": "text"}}),
    ("completions", {}),
]


@pytest.mark.parametrize(("endpoint", "body"), BROKEN_BODIES, ids=str)
def test_a_broken_body_gets_the_pinned_llm_s_verdict(proxy: RunningProxy, endpoint: str, body: dict[str, Any]) -> None:
    def status(model: str) -> int:
        key = {"authorization": f"Bearer {proxy.api_key}"}
        url = f"{proxy.base_url}/{endpoint}"
        return http_calls.post(url, json={"model": model, **body}, headers=key, timeout=30).status_code

    assert status("auto") == status("sprinter")


def test_virtual_models_differ(clients: Clients) -> None:
    assert chat(clients, "auto-cheap")[0].headers["x-embedllm-chosen"] == "sprinter"
    assert chat(clients, "auto-quality")[0].headers["x-embedllm-chosen"] == "wizard"


def test_virtual_models_are_listed(clients: Clients) -> None:
    listed = {model.id for model in clients.openai.models.list()}
    assert {"auto", "auto-cheap", "auto-quality", "wizard"} <= listed


def test_the_body_overrides_cost_weight_and_candidates(clients: Clients) -> None:
    raw, _ = chat(clients, "auto", extra_body={"embedllm": {"cost_weight": 1000}})
    assert raw.headers["x-embedllm-chosen"] == "sprinter"
    raw, _ = chat(clients, "auto", extra_body={"embedllm": {"candidates": ["sprinter"]}})
    assert raw.headers["x-embedllm-chosen"] == "sprinter"
    assert "x-embedllm-runner-up" not in raw.headers


def test_token_ids_are_routed(clients: Clients) -> None:
    raw = clients.openai.completions.with_raw_response.create(model="auto", prompt=[1, 2, 3])
    assert raw.headers["x-embedllm-p-correct"] == "0.5000"


def test_the_decision_is_on_record_whole(clients: Clients, proxy: RunningProxy) -> None:
    raw, _ = chat(clients, "auto")
    decided, served = events(proxy, raw.headers["x-litellm-call-id"], 2)
    candidates: Any = decided["candidates"]
    assert [(c["name"], c["llm"], c["excluded"]) for c in candidates] == [
        ("wizard", WIZARD, None),
        ("sprinter", SPRINTER, None),
        ("novice", NOVICE, "price_unknown"),
        ("stranger", None, "llm_unknown"),
    ]
    wizard = candidates[0]
    assert wizard["p_correct"] == 0.9526
    assert 0 < wizard["expected_output_tokens"] <= 400, "what was predicted, or less after shorter answers were seen"
    assert wizard["utility"] == pytest.approx(wizard["p_correct"] - 1 * wizard["cost_usd"], abs=1e-4)
    assert set(decided["timing_ms"]) == {"encode", "score", "decide", "total"}  # type: ignore[call-overload]
    assert len(str(decided["artifact"])) == 12
    assert served["output_tokens"] == 20
    assert served["cost_usd"] == pytest.approx((served["input_tokens"] * 10 + 20 * 40) / 1e6)  # type: ignore[operator]
    forecast = (2 * 10 + float(wizard["expected_output_tokens"]) * 40) / 1e6
    assert served["expected_cost_usd"] == pytest.approx(forecast, rel=0.01)


def test_the_bridged_endpoint_is_billed_too(clients: Clients, proxy: RunningProxy) -> None:
    raw, _ = messages(clients, "auto")
    served = events(proxy, raw.headers["x-litellm-call-id"], 2)[1]
    assert served["cost_usd"] == pytest.approx((served["input_tokens"] * 10 + 20 * 40) / 1e6)  # type: ignore[operator]


def test_start_up_reports_what_matched_and_what_did_not(proxy: RunningProxy) -> None:
    found = {(e["event"], e.get("group")): e for e in all_events(proxy)}
    assert found["routing.llm_matched", "wizard"]["how"] == "spelling"
    assert found["routing.llm_matched", "sprinter"]["how"] == "declared, exact"
    assert "input_cost_per_token" in str(found["routing.price_unknown", "novice"]["remedy"])
    assert "base_model" in str(found["routing.llm_unknown", "stranger"]["remedy"])
    assert found["routing.llm_unknown", "stranger"]["nearest"] == []
    assert ("routing.candidate_unknown", "absent") in found


def test_no_prompt_key_or_header_in_the_log(clients: Clients, proxy: RunningProxy) -> None:
    clients.openai.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "integral hunter2"}],
        extra_headers={"x-private": "hunter3"},
    )
    text = "\n".join(str(event) for event in all_events(proxy))
    assert "hunter" not in text
    assert proxy.api_key not in text


@pytest.fixture(scope="module")
def failing_proxy(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """The wizard is down, and LiteLLM is told to send its European requests to the sprinter, which is nowhere."""
    config: dict[str, Any] = planted_config(artifact_dir)
    config["model_list"].append(deployment("wizard-eu", WIZARD, (10.0, 40.0), region="eu"))
    virtual: Any = config["callback_settings"]["embedllm_router"]["virtual_models"]
    virtual["auto"]["candidates"] = ["wizard", "sprinter", "novice", "stranger"]
    virtual["auto-known"] = {"default": "stranger", "candidates": ["wizard"]}
    virtual["auto-eu"] = {"default": "wizard-eu", "regions": {"allow": ["eu"]}}
    config["router_settings"]["model_group_alias"]["auto-eu"] = "sprinter"
    config["router_settings"]["fallbacks"] = [{"wizard-eu": ["sprinter"]}]
    config["callback_settings"]["embedllm_router"]["resting"] = {
        "failures": None
    }  # each request shall meet the failure
    file = tmp_path_factory.mktemp("failing") / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(config))
    with running_proxy(file, failures={WIZARD: 503}) as running:
        yield running


@pytest.fixture(scope="module")
def failing_clients(failing_proxy: RunningProxy) -> Iterator[Clients]:
    with clients_of(failing_proxy) as both:
        yield both


@pytest.mark.parametrize(
    "ask",
    [ask for ask in ENDPOINTS if ask is not completions_stream],  # LiteLLM has no fallback there, for any model
    ids=lambda ask: ask.__name__,
)
def test_the_next_best_answers_when_the_chosen_fails(
    failing_proxy: RunningProxy, failing_clients: Clients, ask: Ask
) -> None:
    raw, text = ask(failing_clients, "auto")
    assert "acme-fast" in text
    assert raw.headers["x-embedllm-chosen"] == "wizard"
    assert raw.headers["x-embedllm-served"] == "sprinter"
    served = events(failing_proxy, raw.headers["x-litellm-call-id"], 2)[1]
    assert (served["served"], served["fallback"]) == ("sprinter", True)


def test_the_default_answers_when_the_only_usable_llm_fails(failing_clients: Clients) -> None:
    raw, text = chat(failing_clients, "auto-known")
    assert "stranger" in text
    assert (raw.headers["x-embedllm-chosen"], raw.headers["x-embedllm-served"]) == ("wizard", "stranger")


def test_when_nobody_answers_the_record_says_so(failing_proxy: RunningProxy, failing_clients: Clients) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        chat(failing_clients, "auto", extra_body={"embedllm": {"candidates": ["wizard"]}})
    headers = caught.value.response.headers
    assert headers["x-embedllm-chosen"] == "wizard"
    assert "x-embedllm-served" not in headers
    served = events(failing_proxy, headers["x-litellm-call-id"], 2)[1]
    assert (served["status"], served["served"]) == ("failure", None)


@each_endpoint
def test_a_rule_binds_litellm_s_own_fallbacks(failing_clients: Clients, ask: Ask) -> None:
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
        ask(failing_clients, "auto-eu")
    assert getattr(caught.value, "status_code", 0) >= 500


def test_a_rule_binds_every_way_around_it(failing_clients: Clients) -> None:
    for model, extra in (("auto-eu", {"fallbacks": ["sprinter"]}), ("auto-eu,auto-eu", {})):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(failing_clients, model, extra_body=extra)
        assert caught.value.param == next(iter(extra), "model")


def test_with_the_artifact_gone_the_defaults_answer(artifact_dir: Path, tmp_path: Path) -> None:
    """Started by LiteLLM's own command, as `litellm --config` does."""
    config = planted_config(artifact_dir)
    settings: Any = config["callback_settings"]
    settings["embedllm_router"]["artifact"] = str(tmp_path / "gone")
    file = tmp_path / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(config))
    with running_proxy(file, through="litellm") as running, clients_of(running) as both:
        for ask in ENDPOINTS:
            raw, text = ask(both, "auto-quality")
            assert WIZARD in text
            assert raw.headers["x-embedllm-failed-open"] == "ArtifactError"
        assert [e for e in all_events(running) if e["event"] == "routing.artifact_unusable"]
