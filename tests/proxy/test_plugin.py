"""The plugin inside LiteLLM's own process: what it touches, what it leaves alone, and how it fails."""

import asyncio
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.hooks.responses_id_security import ResponsesIDSecurity
from litellm.responses.utils import ResponsesAPIRequestUtils
from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.router import RouterRateLimitError
from proxied import planted_config

from embedllm_router import Router
from embedllm_router.config.settings import read_settings
from embedllm_router.proxy.container import Container, assemble
from embedllm_router.proxy.plugin import ProxyHandler
from embedllm_router.proxy.request_context import key_id_of
from embedllm_router.records.owners import key_hash_of
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.routing.pool import Exclusion
from embedllm_router.routing.prompt import Prompt
from embedllm_router.serving.sessions import SESSION_HEADER


@pytest.fixture
def log_text() -> io.StringIO:
    return io.StringIO()


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
    monkeypatch.setenv("EMBEDLLM_ROUTER_STATE__PATH", str(records.parent / "state"))
    built: list[Container] = []

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
    router = handler._live.snapshot.router
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


@pytest.mark.parametrize(
    ("virtual", "body", "fallbacks"),
    [
        ({"default": "stranger", "candidates": ["wizard"]}, {}, ["stranger"]),
        ({"default": "novice"}, {}, ["sprinter", "novice"]),
        ({"default": "novice", "max_fallbacks": 1}, {}, ["sprinter", "novice"]),
        ({"default": "novice", "max_fallbacks": 0}, {}, None),
        ({"default": "novice", "labels": ["zero-retention"]}, {}, []),
        ({"default": "novice"}, {"embedllm": {"candidates": ["wizard", "sprinter"]}}, ["sprinter"]),
        ({"default": "absent", "candidates": ["wizard"]}, {}, None),
    ],
)
async def test_the_default_is_the_last_fallback_unless_it_may_not_answer(
    make_handler: Callable[..., ProxyHandler],
    proxy_server: ModuleType,
    virtual: dict[str, Any],
    body: dict[str, Any],
    fallbacks: list[str] | None,
) -> None:
    for row in proxy_server.llm_model_list:
        if row["model_name"] == "wizard":
            row["model_info"]["embedllm_labels"] = ["zero-retention"]
    data = await routed(make_handler(virtual_models={"auto": virtual}), **body)
    assert data["model"] == "wizard"
    assert data.get("fallbacks") == fallbacks


async def test_the_default_is_a_candidate_whether_it_is_listed_or_not(
    make_handler: Callable[..., ProxyHandler],
) -> None:
    handler = make_handler(
        virtual_models={"auto": {"default": "sprinter", "candidates": ["wizard"], "profile": "cheap"}}
    )
    data = await routed(handler, messages=[{"role": "user", "content": "hello"}])
    assert data["model"] == "sprinter"


async def test_a_decision_says_how_sure_it_is_and_what_its_llms_are_known_by(
    make_handler: Callable[..., ProxyHandler], proxy_server: ModuleType, log_text: io.StringIO
) -> None:
    for row in proxy_server.llm_model_list:
        if row["model_name"] == "stranger":
            row["model_info"]["embedllm_like"] = "sprinter-7b-instruct"
    await routed(make_handler())
    (event,) = logged(log_text, "routing.decided")
    found = {one["name"]: one for one in event["candidates"]}
    assert {name: one["known_by"] for name, one in found.items()} == {
        "wizard": "labels",
        "sprinter": "labels",
        "novice": "labels",
        "stranger": "like",
    }
    widths = {name: one["p_correct_high"] - one["p_correct_low"] for name, one in found.items()}
    assert widths["stranger"] > 1.3 * widths["sprinter"] > 0
    assert all(one["p_correct_low"] <= one["p_correct"] <= one["p_correct_high"] for one in found.values())


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

    monkeypatch.setattr(live_router.encoder, "encode", raises)
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
        broken.setattr(live_router, "scorer", None)
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
    monkeypatch.setattr("embedllm_router.telemetry.tracker._MAX_PENDING", 3)
    for call_id in "abcde":
        await routed(handler, litellm_call_id=call_id)
    assert [call_id for call_id in "abcde" if handler._tracker.find(call_id)] == ["c", "d", "e"]


async def test_a_megabyte_of_prompt_is_routed(handler: ProxyHandler) -> None:
    data = await routed(handler, model="auto-quality", messages=[{"role": "user", "content": "integral " * 120_000}])
    assert data["model"] == "wizard"


def a_key(**more: Any) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(api_key="sk-made-up", key_alias="team-a", **more)


async def asked(handler: ProxyHandler, key: UserAPIKeyAuth, **body: Any) -> dict[str, Any]:
    data = {"model": "auto", "messages": [{"role": "user", "content": "integral"}], "litellm_call_id": "1", **body}
    return await handler.async_pre_call_hook(key, None, data, "acompletion")


async def test_request_key_team_and_virtual_model_in_this_order(handler: ProxyHandler, log_text: io.StringIO) -> None:
    team, key = {"embedllm": {"cost_weight": 11}}, {"embedllm": {"cost_weight": 22}}
    headers = {"headers": {"x-embedllm-cost-weight": "33"}}
    await asked(handler, a_key())
    await asked(handler, a_key(team_metadata=team))
    await asked(handler, a_key(team_metadata=team, metadata=key))
    await asked(handler, a_key(team_metadata=team, metadata=key), proxy_server_request=headers)
    await asked(handler, a_key(metadata=key), proxy_server_request=headers, embedllm={"cost_weight": 44})
    decided = logged(log_text, "routing.decided")
    assert [e["cost_weight"] for e in decided] == [1, 11, 22, 33, 44]
    assert [e["objective_from"] for e in decided] == ["config", "team", "key", "header", "body"]


async def test_a_key_whose_own_settings_are_wrong_is_told_so(handler: ProxyHandler) -> None:
    with pytest.raises(HTTPException) as caught:
        await asked(handler, a_key(metadata={"embedllm": {"regoins": ["eu"]}}))
    assert caught.value.param == "key.embedllm.regoins"  # type: ignore[attr-defined]  # ours, for LiteLLM


async def test_what_a_request_may_set_is_the_operator_s_to_say(make_handler: Callable[..., ProxyHandler]) -> None:
    virtual = {"auto": {"default": "sprinter", "requests": {"allowed_overrides": ["within"], "min_cost_weight": 1}}}
    with pytest.raises(HTTPException) as caught:
        await routed(make_handler(virtual_models=virtual), embedllm={"cost_weight": 0})
    assert "it may set within" in str(caught.value.detail)


def placed(rows: Any, **regions: str) -> list[dict[str, Any]]:
    return [
        {**row, "model_info": {**row["model_info"], "region": regions.get(row["model_name"], "us")}} for row in rows
    ]


async def test_a_region_rule_holds_and_says_so(
    make_handler: Callable[..., ProxyHandler],
    proxy_server: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    log_text: io.StringIO,
) -> None:
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "regions": {"allow": ["EU"]}}})
    monkeypatch.setattr(proxy_server, "llm_model_list", placed(proxy_server.llm_model_list, sprinter="eu"))
    assert (await routed(handler))["model"] == "sprinter"
    excluded = {c["name"]: c["excluded"] for c in logged(log_text, "routing.decided")[0]["candidates"]}
    assert excluded == {"sprinter": None, "wizard": "region", "novice": "price_unknown", "stranger": "llm_unknown"}


async def test_where_rules_leave_nobody_the_answer_is_a_400_that_lists_them(
    make_handler: Callable[..., ProxyHandler], proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "regions": {"allow": ["eu"]}}})
    monkeypatch.setattr(proxy_server, "llm_model_list", placed(proxy_server.llm_model_list))
    with pytest.raises(HTTPException) as caught:
        await routed(handler)
    assert caught.value.status_code == 400
    assert "'wizard': 'region'" in str(caught.value.detail)


@pytest.mark.parametrize("section", [{"regions": {"allow": ["eu"]}}, {"labels": ["zdr"]}, {"access": "enforce"}])
async def test_when_we_fail_the_default_answers_only_if_no_rule_forbids_it(
    make_handler: Callable[..., ProxyHandler],
    proxy_server: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    section: dict[str, Any],
) -> None:
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", **section}})
    monkeypatch.setattr(proxy_server, "llm_model_list", placed(proxy_server.llm_model_list))
    monkeypatch.setattr(handler._live.snapshot.router, "scorer", None)
    with pytest.raises(HTTPException) as caught:
        await asked(handler, a_key(models=["auto"]))
    assert "the default 'sprinter' may not answer" in str(caught.value.detail)


async def test_a_client_s_own_region_wish_binds_the_default_too(
    handler: ProxyHandler, live_router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_router, "scorer", None)
    with pytest.raises(HTTPException):
        await routed(handler, embedllm={"regions": ["eu"]})
    assert (await routed(handler))["model"] == "sprinter"


async def test_a_key_s_rule_binds_what_a_body_s_fault_would_let_through(
    handler: ProxyHandler, live_router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the body holds, the rules of key and team are read first, and no fallback leads past them."""
    monkeypatch.setattr(live_router, "scorer", None)
    key = a_key(metadata={"embedllm": {"regions": ["eu"]}})
    for body in ({}, {"embedllm": {"cost_weight": 10**400}}, {"embedllm": {"labels": ["x"]}}):
        with pytest.raises(HTTPException) as caught:
            await asked(handler, key, **body)
        assert caught.value.status_code == 400


async def test_without_routing_a_rule_leaves_no_fallback(
    make_handler: Callable[..., ProxyHandler], proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "regions": {"allow": ["eu"]}}})
    monkeypatch.setattr(proxy_server, "llm_model_list", placed(proxy_server.llm_model_list, sprinter="eu"))
    await routed(handler)
    monkeypatch.setattr(handler._live.snapshot.router, "scorer", None)
    data = await routed(handler, fallbacks=["wizard"])
    assert (data["model"], data["fallbacks"], data["context_window_fallbacks"]) == ("sprinter", [], [])


@pytest.mark.parametrize(
    ("model", "call_type"), [("auto", "aembedding"), ("auto,auto", "acompletion"), ("wizard, auto", "aresponses")]
)
async def test_what_is_not_routed_is_refused_only_where_rules_bind(
    handler: ProxyHandler, model: str, call_type: str
) -> None:
    body = {"model": model, "litellm_call_id": "1"}
    plain, bound = a_key(), a_key(team_metadata={"embedllm": {"regions": ["eu"]}})
    assert (await handler.async_pre_call_hook(plain, None, dict(body), call_type))["model"] == model
    with pytest.raises(HTTPException) as caught:
        await handler.async_pre_call_hook(bound, None, dict(body), call_type)
    assert caught.value.status_code == 400


async def test_access_is_inherited_unless_it_is_enforced(make_handler: Callable[..., ProxyHandler]) -> None:
    key = a_key(models=["auto", "sprinter"])
    assert (await asked(make_handler(), key))["model"] == "wizard"
    enforcing = make_handler(virtual_models={"auto": {"default": "sprinter", "access": "enforce"}})
    assert (await asked(enforcing, key))["model"] == "sprinter"


async def test_a_group_that_rests_is_not_chosen(handler: ProxyHandler, log_text: io.StringIO) -> None:
    handler.container.availability.refuse(Exclusion.COOLED_DOWN, ["wizard"])
    assert (await routed(handler))["model"] == "sprinter"
    excluded = {c["name"]: c["excluded"] for c in logged(log_text, "routing.decided")[0]["candidates"]}
    assert excluded["wizard"] == "cooled_down"


async def test_where_all_that_may_answer_rest_they_are_asked_all_the_same(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    handler = make_handler(virtual_models={"auto": {"default": "sprinter"}})
    groups = list(handler._served().groups)
    handler.container.availability.refuse(Exclusion.RESTING, groups)
    assert (await routed(handler))["model"] == "wizard"
    assert (await routed(handler, embedllm={"candidates": ["sprinter"]}))["model"] == "sprinter", "no 400"
    handler.container.availability.refuse(Exclusion.RESTING, ["wizard"])
    assert (await routed(handler))["model"] == "sprinter"
    excluded = {c["name"]: c["excluded"] for c in logged(log_text, "routing.decided")[-1]["candidates"]}
    assert excluded["wizard"] == "resting"


async def test_when_nothing_can_see_an_image_the_operator_may_prefer_a_400(
    make_handler: Callable[..., ProxyHandler], proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Any = proxy_server.llm_model_list
    blind = [{**row, "model_info": {**row["model_info"], "supports_vision": False}} for row in rows]
    monkeypatch.setattr(proxy_server, "llm_model_list", blind)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert (await routed(make_handler(), messages=image))["model"] == "sprinter"
    refusing = make_handler(virtual_models={"auto": {"default": "sprinter", "on_no_candidate": "refuse"}})
    with pytest.raises(HTTPException) as caught:
        await routed(refusing, messages=image)
    assert "no_vision" in str(caught.value.detail)


async def test_exploration_is_on_record_with_its_propensity(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO, records: Path
) -> None:
    exploration = {"epsilon": 1.0, "max_loss": 1.0, "max_extra_usd": 1.0}
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "exploration": exploration}})
    chosen = {(await routed(handler, litellm_call_id=str(number)))["model"] for number in range(40)}
    assert chosen == {"wizard", "sprinter"}
    assert {e["reason"] for e in logged(log_text, "routing.decided")} == {"explored", "highest_utility"}
    handler.container.close()
    assert {r["propensity"] for r in kept_in(records)} == {0.5}


def kept_in(records: Path, kind: str = "requests") -> list[dict[str, Any]]:
    return [json.loads(line) for file in records.glob(f"{kind}-*.jsonl") for line in file.read_text().splitlines()]


async def test_a_client_that_says_what_it_wants_is_not_explored_on(make_handler: Callable[..., ProxyHandler]) -> None:
    exploration = {"epsilon": 1.0, "max_loss": 1.0, "max_extra_usd": 1.0}
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "exploration": exploration}})
    wish = {"min_p_correct": 0.9}
    assert {(await routed(handler, embedllm=wish))["model"] for _ in range(20)} == {"wizard"}


async def test_lengths_seen_while_serving_sharpen_the_forecast(handler: ProxyHandler, log_text: io.StringIO) -> None:
    now = datetime.now(UTC)
    for number in range(300):
        await routed(handler, litellm_call_id=str(number))
        payload = {"model_group": "wizard", "prompt_tokens": 3, "completion_tokens": 800, "response_cost": 0.1}
        kwargs = {"litellm_call_id": str(number), "standard_logging_object": payload}
        await handler.async_log_success_event(kwargs, None, now, now)
    first, last = (e["candidates"][0]["expected_output_tokens"] for e in logged(log_text, "routing.decided")[::299])
    assert first == 400
    assert 750 < last <= 800, "twice the forecast was answered, again and again"


async def test_a_thumb_in_the_metadata_is_kept_as_feedback(handler: ProxyHandler, records: Path) -> None:
    await asked(handler, a_key(), litellm_call_id="7")
    await billed(handler, "7", 0.1)
    thumb = {"embedllm_feedback_for": "7", "embedllm_thumb": "down"}
    assert (await asked(handler, a_key(), metadata=thumb))["model"] == "wizard"
    await asyncio.gather(*handler._judging)
    with pytest.raises(HTTPException) as caught:
        await asked(handler, a_key(), metadata={**thumb, "embedllm_thumb": "sideways"})
    assert caught.value.param == "metadata.embedllm_thumb"  # type: ignore[attr-defined]  # ours, for LiteLLM
    handler.container.close()
    (kept,) = kept_in(records, "feedback")
    assert (kept["request_id"], kept["score"], kept["key_alias"]) == ("7", 0.0, "team-a")


async def test_feedback_on_another_key_s_answer_is_refused_and_said_so(
    handler: ProxyHandler, records: Path, log_text: io.StringIO
) -> None:
    await asked(handler, a_key(), metadata={"embedllm_feedback_for": "nobody's", "embedllm_thumb": "up"})
    await asyncio.gather(*handler._judging)
    handler.container.close()
    assert kept_in(records, "feedback") == []
    (refused,) = logged(log_text, "feedback.refused")
    assert (refused["feedback_for"], refused["reason"]) == ("nobody's", "no request of this key")


async def billed(handler: ProxyHandler, call_id: str, usd: float) -> None:
    now = datetime.now(UTC)
    payload = {"model_group": "wizard", "prompt_tokens": 3, "completion_tokens": 800, "response_cost": usd}
    await handler.async_log_success_event(
        {"litellm_call_id": call_id, "standard_logging_object": payload}, None, now, now
    )


def test_the_start_says_that_no_record_will_fit(
    make_handler: Callable[..., ProxyHandler], records: Path, log_text: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make_handler()
    handler.start()
    assert logged(log_text, "store.trouble") == []
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))
        handler.start()
    records.write_text("a file in the way of the folder")
    make_handler().start()
    full, in_the_way = logged(log_text, "store.trouble")
    assert full["error"] == f"{records.parent} has 3 MB left"
    assert in_the_way["error"] == f"{records} is a file, expected a folder"
    assert "store.path" in full["remedy"]


def test_the_start_says_what_the_default_retention_will_delete(
    make_handler: Callable[..., ProxyHandler], records: Path, log_text: io.StringIO
) -> None:
    make_handler().start()
    records.mkdir(exist_ok=True)
    old = records / "requests-20200101T000000000000Z-1-aa.parquet"
    old.touch()
    os.utime(old, (0, 0))
    make_handler().start()
    (nothing, some) = logged(log_text, "store.retention")
    assert (nothing["level"], nothing["days"], nothing["older_files"]) == ("info", 90, 0)
    assert (some["level"], some["older_files"], some["deleted_from_s"]) == ("warning", 1, 3600)
    assert "store.retention_days" in some["remedy"]


async def test_the_end_says_what_could_not_be_written(
    make_handler: Callable[..., ProxyHandler], records: Path, log_text: io.StringIO
) -> None:
    records.write_text("a file in the way of the folder")  # noqa: ASYNC240 - nothing else runs
    handler = make_handler()
    await routed(handler)
    handler.container.close()
    handler.container.close()
    (told,) = logged(log_text, "store.records_lost")
    assert told["lost"] == 1
    assert str(records) in told["error"]


async def test_a_made_up_call_id_of_any_length_is_followed(
    handler: ProxyHandler, records: Path, log_text: io.StringIO
) -> None:
    call_id = "hunter" * 2_000
    await routed(handler, litellm_call_id=call_id)
    now = datetime.now(UTC)
    await handler.async_log_success_event({"litellm_call_id": call_id}, None, now, now)
    handler.container.close()
    (record,) = kept_in(records, "requests")
    assert record["status"] == "success"
    assert call_id not in log_text.getvalue() + record["request_id"]


class LoggingObject:
    """Has `model_call_details`, which LiteLLM also hands to log hooks."""

    def __init__(self, **details: Any) -> None:
        self.model_call_details: dict[str, Any] = details


async def test_one_call_id_for_two_tenants_mixes_nothing_up(
    make_handler: Callable[..., ProxyHandler], records: Path
) -> None:
    """A client may choose the call id: headers, outcome and bill stay with the request they belong to."""
    budgets = [{"usd": 5_000.0, "per": "day", "scope": "key"}]
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "budgets": budgets, "cost_weight": 0}})
    mine = await asked(
        handler,
        UserAPIKeyAuth(api_key="sk-1", key_alias="mine"),
        litellm_logging_obj=LoggingObject(litellm_call_id="1"),
    )
    yours = await asked(
        handler,
        UserAPIKeyAuth(api_key="sk-2", key_alias="yours"),
        litellm_logging_obj=LoggingObject(litellm_call_id="1"),
        embedllm={"cost_weight": 1e6},
        embedllm_tracking_id="forged",
    )
    assert "embedllm_tracking_id" not in yours
    chosen = [await handler.async_post_call_response_headers_hook(data, None, None) for data in (mine, yours)]
    assert [headers and headers["x-embedllm-chosen"] for headers in chosen] == ["wizard", "sprinter"]
    stranger = {"litellm_call_id": "1", "litellm_logging_obj": LoggingObject(litellm_call_id="1")}
    assert await handler.async_post_call_response_headers_hook(stranger, None, None) is None
    for data, usd in ((mine, 0.5), (yours, 0.25)):
        payload = {"model_group": data["model"], "completion_tokens": 8, "response_cost": usd}
        details = data["litellm_logging_obj"].model_call_details | {"standard_logging_object": payload}
        now = datetime.now(UTC)
        await handler.async_log_success_event(details, None, now, now)
    assert sorted(s.committed_usd for s in handler.container.budget_enforcer.status()) == [0.25, 0.5]
    handler.container.close()
    kept = {r["key_alias"]: (r["request_id"], r["billed_cost_usd"]) for r in kept_in(records)}
    assert kept == {"mine": ("1", 0.5), "yours": ("1", 0.25)}


ENDED_AT_A_LIMIT = {"choices": [{"finish_reason": "length"}]}


@pytest.mark.parametrize(
    ("payload", "more", "answer", "bill", "learns"),
    [
        ({}, {}, {"choices": [{"finish_reason": "stop"}]}, 0.5, (True, True)),
        ({"cache_hit": True, "response_cost": 0.0}, {}, None, 0.0, (False, False)),
        ({}, {"litellm_params": {"metadata": {"client_disconnected": True}}}, None, 0.5, (False, False)),
        ({}, {}, ENDED_AT_A_LIMIT, 0.5, (False, True)),
        ({}, {}, {"stop_reason": "max_tokens"}, 0.5, (False, True)),
        ({}, {}, {"response": {"status": "incomplete"}}, 0.5, (False, True)),
        ({"completion_tokens": -800, "response_cost": -9.0}, {}, None, 0.0, (False, True)),
        ({"response_cost": float("nan")}, {}, None, 0.0, (False, True)),
    ],
)
async def test_only_a_whole_answer_of_an_llm_teaches(  # noqa: PLR0913, PLR0917 - one row of the table each
    handler: ProxyHandler,
    records: Path,
    payload: dict[str, Any],
    more: dict[str, Any],
    answer: object,
    bill: float,
    learns: tuple[bool, bool],
) -> None:
    await routed(handler)
    usual = {"model_group": "wizard", "prompt_tokens": 3, "completion_tokens": 800, "response_cost": 0.5}
    kwargs = {"litellm_call_id": "1", "standard_logging_object": usual | payload, **more}
    now = datetime.now(UTC)
    await handler.async_log_success_event(kwargs, answer, now, now)
    statistics = handler._tracker.statistics
    assert (statistics.length_factor("wizard") != 1.0, statistics.latency_s("wizard") == 0.0) == learns
    handler.container.close()
    (record,) = kept_in(records)
    assert record["billed_cost_usd"] == bill


async def test_feedback_that_is_not_kept_is_said_so_once(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    handler = make_handler(store={"enabled": False})
    for _ in range(3):
        await routed(handler, metadata={"embedllm_feedback_for": "an earlier one", "embedllm_thumb": "up"})
    assert len(logged(log_text, "feedback.not_kept")) == 1


async def test_a_watch_that_meets_an_error_of_ours_says_so_once_and_goes_on(
    handler: ProxyHandler, log_text: io.StringIO
) -> None:
    n_begun = 0

    async def work() -> None:
        nonlocal n_begun
        n_begun += 1
        if n_begun < 4:
            raise KeyError("hunter2")

    await handler._background.keep_up(work, again_s=0.0)
    assert n_begun == 4
    (told,) = logged(log_text, "routing.background_failed")
    assert (told["work"], told["reason"]) == ("work", "KeyError")
    assert "hunter2" not in log_text.getvalue()


def test_what_the_store_meets_is_in_the_log_when_it_changes(handler: ProxyHandler, log_text: io.StringIO) -> None:
    well, full = StoreHealth("files", "/records"), StoreHealth("files", "/records", last_error="no space", queued=7)
    losing = replace(full, dropped=5)
    for before, now in pairwise([well, well, full, full, losing, losing, replace(losing, dropped=6), well]):
        handler._background.report_store(before, now)
    told = [json.loads(line) for line in log_text.getvalue().splitlines() if '"store.' in line]
    assert [(e["event"].removeprefix("store."), e["dropped"]) for e in told] == [
        ("trouble", 0),
        ("records_lost", 5),
        ("records_lost", 6),
        ("recovered", 0),
    ]
    assert (told[0]["error"], told[0]["queued"], told[2]["lost"]) == ("no space", 7, 1)


async def test_an_exhausted_budget_downgrades_rather_than_refuses(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    budgets = [{"usd": 5_000.0, "per": "day"}]
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "budgets": budgets}})
    assert (await routed(handler, litellm_call_id="1"))["model"] == "wizard"
    await billed(handler, "1", 6_000.0)
    assert (await routed(handler, litellm_call_id="2"))["model"] == "sprinter"
    last = logged(log_text, "routing.decided")[-1]
    assert last["reason"] == "within_budget"
    assert last["cost_weight"] > 1e6, "at any price the cheapest"


async def test_a_guard_leaves_dear_llms_out_for_the_key_that_chose_them_too_often(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    guard = {"share_of_dearest": "50%", "min_requests": 2}
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "guard": guard}})
    mine = [(await asked(handler, a_key()))["model"] for _ in range(6)]
    assert mine == ["wizard"] * 2 + ["sprinter"] * 3 + ["wizard"]
    other = UserAPIKeyAuth(api_key="sk-of-somebody-else")
    assert (await asked(handler, other))["model"] == "wizard"
    reasons = [one["reason"] for one in logged(log_text, "routing.decided")]
    assert reasons == ["highest_utility"] * 2 + ["guarded"] * 3 + ["highest_utility"] * 2
    guarded = logged(log_text, "routing.decided")[2]
    assert {one["name"]: one["excluded"] for one in guarded["candidates"]}["wizard"] == "guarded"


async def test_forecast_cap_budget_and_record_use_the_price_of_the_tier_of_service(
    make_handler: Callable[..., ProxyHandler], proxy_server: ModuleType, records: Path, log_text: io.StringIO
) -> None:
    for row in proxy_server.llm_model_list:
        if row["model_name"] == "wizard":
            row["litellm_params"] |= {"input_cost_per_token_flex": 1e-6, "output_cost_per_token_flex": 1e-6}
    handler = make_handler(
        virtual_models={"auto": {"default": "sprinter", "max_cost_usd": 0.01, "budgets": [{"usd": 5_000.0}]}}
    )
    tiers = ("flex", "default", "priority")
    chosen = [(await routed(handler, litellm_call_id=one, service_tier=one))["model"] for one in tiers]
    assert chosen == ["wizard", "sprinter", "sprinter"], "the usual price is above the limit"
    (status,) = handler.container.budget_enforcer.status()
    forecasts = [event["expected_cost_usd"] for event in logged(log_text, "routing.decided")]
    assert forecasts[0] < 0.001
    assert status.committed_usd == pytest.approx(sum(forecasts), rel=1e-3)
    handler.container.close()
    assert [row["service_tier"] for row in kept_in(records, "requests")] == ["flex", None, "priority"]


async def test_budgets_are_told_with_what_is_left_whether_a_request_was_counted_or_not(
    make_handler: Callable[..., ProxyHandler],
) -> None:
    budgets = [{"usd": 100.0, "per": "month"}, {"usd": 1e-6, "per": "day", "scope": "key"}]
    idle = {"default": "sprinter", "budgets": [{"usd": 7.0, "per": "week"}]}
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "budgets": budgets}, "idle": idle})
    before = handler.container.budgets()
    assert {(one.virtual_model, one.per, one.spent_usd) for one in before} == {
        ("auto", "month", 0),
        ("idle", "week", 0),
    }
    key = UserAPIKeyAuth(api_key="sk-1", key_alias="mine")
    await asked(handler, key)
    first, *rest = handler.container.budgets()
    assert (first.scope, first.exhausted, first.usd) == ("key", True, 1e-6), "the one with the least left comes first"
    assert first.holder == key_hash_of(key_id_of(key))
    assert [(one.virtual_model, one.exhausted) for one in rest] == [("auto", False), ("idle", False)]
    assert rest[0].spent_usd == pytest.approx(first.spent_usd)
    assert rest[0].ends_at > datetime.now(UTC)
    handler.container.close()


async def test_a_tool_result_on_another_worker_finds_its_llm_before_the_second_is_over(
    make_handler: Callable[..., ProxyHandler],
) -> None:
    """Both share a folder, and the second has not looked into it since the session began."""
    begun, other = make_handler(), make_handler()
    named: dict[str, Any] = {"proxy_server_request": {"headers": {SESSION_HEADER: "talk"}}}
    in_a_call = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    assert (await routed(begun, **named))["model"] == "wizard"
    await begun.container.state.exchange()
    assert (await routed(other, messages=in_a_call, **named))["model"] == "wizard"
    elsewhere: dict[str, Any] = {"proxy_server_request": {"headers": {SESSION_HEADER: "another"}}}
    assert (await routed(other, messages=in_a_call, **elsewhere))["model"] == "sprinter"


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_stored_response_stays_with_its_llm_whoever_knows_of_it(
    make_handler: Callable[..., ProxyHandler],
    proxy_server: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    encrypted: bool,  # noqa: FBT001 - pytest gives parameters by name
) -> None:
    """LiteLLM writes the deployment into the response's id, and encrypts the id that it gives to the client."""
    monkeypatch.setattr(proxy_server, "master_key", "sk-1234", raising=False)
    for row in proxy_server.llm_model_list:
        row["model_info"]["id"] = f"id-of-{row['model_name']}"
    told = ResponsesAPIRequestUtils._build_responses_api_response_id("openai", "id-of-wizard", "chatcmpl-of-a-bridge")
    if encrypted:
        answer = ResponsesAPIResponse(id=told, created_at=0, output=[])
        ResponsesIDSecurity()._encrypt_response_id(answer, UserAPIKeyAuth(api_key="sk-1", user_id="me"))
        assert answer.id != told
        told = answer.id
    data = {"model": "auto", "input": "hello", "litellm_call_id": "1"}
    for previous, chosen in ((told, "wizard"), ("resp_unknown", "sprinter")):
        body = {**data, "previous_response_id": previous}
        assert (await make_handler().async_pre_call_hook(None, None, body, "aresponses"))["model"] == chosen
        assert body["previous_response_id"] == previous, "LiteLLM's own hook checks whose it is"


async def test_the_record_holds_what_the_client_waited_and_every_call_that_failed(
    make_handler: Callable[..., ProxyHandler], records: Path
) -> None:
    handler = make_handler()
    await routed(handler)
    now = datetime.now(UTC)
    call = {"model_group": "wizard", "model_id": "gone"}
    failed = {"litellm_call_id": "1", "standard_logging_object": call, "exception": ValueError()}
    for _ in range(2):
        await handler.async_log_failure_event(failed, None, now, now)
    nobody_left = RouterRateLimitError(model="novice", cooldown_time=60, enable_pre_call_checks=False, cooldown_list=[])
    await handler.async_log_failure_event({**failed, "exception": nobody_left}, None, now, now)
    await handler.async_log_failure_event({**failed, "litellm_call_id": "unheard of"}, None, now, now)
    answered = {"litellm_call_id": "1", "standard_logging_object": {"model_group": "sprinter", "id": "r"}}
    start, end = now + timedelta(seconds=5), now + timedelta(seconds=5.5)
    await handler.async_log_success_event(answered, None, start, end)
    handler.container.close()
    (row,) = kept_in(records, "requests")
    assert row["failed_attempts"] == ["wizard: ValueError", "wizard: ValueError", "novice: RouterRateLimitError"]
    assert row["latency_ms"] == 500
    assert row["total_ms"] == pytest.approx(5_500, abs=500), "the pauses and calls before count too"


async def test_each_key_has_its_own_budget(make_handler: Callable[..., ProxyHandler]) -> None:
    budgets = [{"usd": 5_000.0, "per": "month", "scope": "key"}]
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "budgets": budgets}})
    mine, yours = a_key(), UserAPIKeyAuth(api_key="sk-another")
    await asked(handler, mine, litellm_call_id="1")
    await billed(handler, "1", 6_000.0)
    assert (await asked(handler, mine, litellm_call_id="2"))["model"] == "sprinter"
    assert (await asked(handler, yours, litellm_call_id="3"))["model"] == "wizard"


async def test_what_is_billed_replaces_what_was_expected(make_handler: Callable[..., ProxyHandler]) -> None:
    budgets = [{"usd": 10.0, "per": "day"}]
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "budgets": budgets}})
    await routed(handler, litellm_call_id="1")
    await billed(handler, "1", 0.123)
    (status,) = handler.container.budget_enforcer.status()
    assert status.committed_usd == pytest.approx(0.123)
    assert status.in_flight_usd == pytest.approx(0.0)


def conversation(*turns: str) -> list[dict[str, str]]:
    """User and assistant in turn, beginning with the user."""
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": turn} for i, turn in enumerate(turns)]


async def test_a_near_tie_goes_to_the_usual_llm_in_the_shadow_too(
    make_handler: Callable[..., ProxyHandler], records: Path
) -> None:
    """The wizard is surer of both at once, by less than 0.6; on typical prompts the sprinter is a little better."""
    steady = {"default": "wizard", "cost_weight": 0, "near_tie_margin": 0.6}
    handler = make_handler(
        virtual_models={
            "auto": steady,
            "plain": {**steady, "near_tie_margin": 0},
            "floored": {
                "default": "wizard",
                "min_p_correct": 0.9,
                "near_tie_margin": 0.6,
                "shadow": {"cost_weight": 0},
            },
        }
    )
    for number, name in enumerate(("auto", "plain", "floored")):
        await routed(handler, model=name, messages=conversation("integral hello"), litellm_call_id=str(number))
    handler.container.close()
    steadied, plain, floored = sorted(kept_in(records), key=lambda record: record["request_id"])
    assert (steadied["chosen"], steadied["reason"], steadied["near_tie_margin"]) == ("sprinter", "near_tie", 0.6)
    usual = {c["name"]: c["usual_p_correct"] for c in steadied["candidates"]}
    assert usual["sprinter"] > usual["wizard"]
    assert (plain["chosen"], plain["reason"], plain["near_tie_margin"]) == ("wizard", "highest_utility", 0.0)
    assert (floored["chosen"], floored["shadow_chosen"]) == ("wizard", "sprinter")


async def test_a_request_with_its_own_objective_keeps_the_margin(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    section = {"default": "sprinter", "min_p_correct": 0.9, "near_tie_margin": 0.6}
    handler = make_handler(virtual_models={"auto": section})
    await routed(handler, messages=conversation("integral hello"), embedllm={"cost_weight": 0})
    assert logged(log_text, "routing.decided")[-1]["reason"] == "near_tie"
    await routed(handler, messages=conversation("integral hello"), embedllm={"within": 0.1})
    assert logged(log_text, "routing.decided")[-1]["reason"] == "cheapest_at_floor"


async def test_thompson_sampling_leaves_the_odds_of_every_candidate(
    make_handler: Callable[..., ProxyHandler], records: Path
) -> None:
    exploration = {"method": "thompson", "spread": 100, "max_loss": 1.0, "max_extra_usd": 1.0}
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "exploration": exploration}})
    chosen = {(await routed(handler, litellm_call_id=str(number)))["model"] for number in range(40)}
    assert chosen == {"wizard", "sprinter"}
    handler.container.close()
    for record in kept_in(records):
        odds = {c["name"]: c["propensity"] for c in record["candidates"]}
        assert sum(odds.values()) == pytest.approx(1.0)
        assert record["propensity"] == odds[record["chosen"]] > 0
        assert (record["exploration"], record["exploration_spread"]) == ("thompson", 100.0)


async def test_a_conversation_stays_on_its_llm_while_it_keeps_up(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    """The wizard began with mathematics; of the chat that follows the sprinter is as sure and 0.016 USD cheaper."""
    turns = ("integral", "42, and that was long enough a story to be taken for all there is to read", "hello " * 40)

    async def second_turn(margin: float, call_id: str) -> str:
        section = {"default": "sprinter", "cost_weight": 1, "sessions": {"margin": margin}}
        handler = make_handler(virtual_models={"auto": section})
        await routed(handler, messages=conversation(*turns[:1]), litellm_call_id=call_id)
        asked_again = await routed(handler, messages=conversation(*turns), litellm_call_id=f"{call_id}b")
        return str(asked_again["model"])

    assert await second_turn(0.5, "1") == "wizard"
    assert logged(log_text, "routing.decided")[-1]["reason"] == "session_kept"
    assert await second_turn(0.001, "2") == "sprinter"
    assert logged(log_text, "routing.decided")[-1]["reason"] == "highest_utility"


@pytest.mark.parametrize(("marks", "cached"), [(True, {"claude", "gpt"}), (False, {"gpt"})])
def test_where_a_provider_caches_what_is_marked_alone_nothing_else_is_cheaper(
    handler: ProxyHandler, cached: set[str], *, marks: bool
) -> None:
    candidates = [SimpleNamespace(name="claude", caches_marked=True), SimpleNamespace(name="gpt", caches_marked=False)]
    model: Any = SimpleNamespace(policy=SimpleNamespace(pool=SimpleNamespace(candidates=candidates)))
    session: Any = SimpleNamespace(cached_tokens=lambda _: {"claude": 2_000, "gpt": 2_000})
    assert handler._cached_tokens(Prompt("hi", 1, marks_cache=marks), model, session).keys() == cached


async def test_inside_a_tool_call_the_llm_never_changes(
    make_handler: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "cost_weight": 1}})
    began: list[dict[str, Any]] = [{"role": "user", "content": "integral"}]
    await routed(handler, messages=began, litellm_call_id="1")
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    inside = [
        *began,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]
    dear = {"cost_weight": 100_000}
    assert (await routed(handler, messages=inside, embedllm=dear, litellm_call_id="2"))["model"] == "wizard"
    assert logged(log_text, "routing.decided")[-1]["reason"] == "session_locked"
    free = [*inside, {"role": "assistant", "content": "done"}, {"role": "user", "content": "hello again"}]
    assert (await routed(handler, messages=free, embedllm=dear, litellm_call_id="3"))["model"] == "sprinter"


async def test_a_conversation_goes_on_with_who_really_answered(make_handler: Callable[..., ProxyHandler]) -> None:
    handler = make_handler(
        virtual_models={"auto": {"default": "sprinter", "cost_weight": 0, "sessions": {"margin": 1}}}
    )
    await routed(handler, messages=conversation("integral"), litellm_call_id="1")
    now = datetime.now(UTC)
    payload = {"model_group": "sprinter", "prompt_tokens": 3, "completion_tokens": 5, "response_cost": 0.1}
    await handler.async_log_success_event({"litellm_call_id": "1", "standard_logging_object": payload}, None, now, now)
    again = conversation("integral", "42", "integral")
    assert (await routed(handler, messages=again, litellm_call_id="2"))["model"] == "sprinter"


async def test_sessions_can_be_turned_off(make_handler: Callable[..., ProxyHandler]) -> None:
    off = {"enabled": False, "margin": 1}
    handler = make_handler(virtual_models={"auto": {"default": "sprinter", "cost_weight": 100_000, "sessions": off}})
    await routed(handler, messages=conversation("integral"), embedllm={"cost_weight": 0}, litellm_call_id="1")
    again = conversation("integral", "42", "integral")
    assert (await routed(handler, messages=again, litellm_call_id="2"))["model"] == "sprinter"


async def test_a_failure_without_litellm_s_logging_object_is_found_by_call_id_and_key(handler: ProxyHandler) -> None:
    """LiteLLM takes the object away before it reports a failure, and a call id may be another tenant's too."""
    ours, theirs = (UserAPIKeyAuth(api_key=f"sk-{name}", token=name) for name in ("ours", "theirs"))
    for key, word in ((ours, "integral"), (theirs, "hello")):
        logging_object = SimpleNamespace(model_call_details={})
        body = {"messages": [{"role": "user", "content": word}], "litellm_logging_obj": logging_object}
        data = {"model": "auto", "litellm_call_id": "same", **body}
        await handler.async_pre_call_hook(key, None, data, "acompletion")
    left = {"litellm_call_id": "same"}
    await handler.async_post_call_failure_hook(left, TimeoutError(), ours)
    headers = await handler.async_post_call_response_headers_hook(left, ours, None)
    assert headers is not None
    assert headers["x-embedllm-chosen"] == "wizard"
    assert handler.container.tracker.n_pending == 1, "the other tenant's request is still awaited"
    stranger = UserAPIKeyAuth(api_key="sk-none", token="none")
    assert await handler.async_post_call_response_headers_hook(left, stranger, None) is None
