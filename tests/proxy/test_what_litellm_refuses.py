"""What LiteLLM's Router or a provider would refuse is no candidate, in a process with LiteLLM's own Router and keys."""

import asyncio
import copy
import io
import json
import warnings
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import litellm
import openai
import pytest
import yaml
from fastapi import HTTPException
from litellm import exceptions as errors
from litellm.proxy._types import ProxyException, UserAPIKeyAuth
from litellm.proxy.auth.auth_checks import can_key_call_resolved_model
from litellm.router import Router
from litellm.types.router import ModelInfo, RouterRateLimitError

from embedllm_router.config.settings import read_settings
from embedllm_router.proxy.container import Container, assemble
from embedllm_router.proxy.litellm_state import deployments, is_the_group_s_fault, over_budget
from embedllm_router.proxy.plugin import ProxyHandler

SHIPPED: Any = yaml.safe_load((Path(__file__).parents[2] / "proxy_config.yaml").read_text(encoding="utf-8"))
HELLO: Any = [{"role": "user", "content": "Say hello"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
SOUND: Any = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]


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
            listed = made.get_model_list()
        monkeypatch.setattr(proxy_server, "llm_router", made)
        monkeypatch.setattr(proxy_server, "llm_model_list", listed)
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


THINKERS: Any = [
    row("gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18"),
    row("gpt-4o", "openai/gpt-4o-2024-08-06"),
    row("haiku", "anthropic/claude-3-haiku-20240307"),
    row("sonnet", "anthropic/claude-sonnet-4-20250514"),
    row("o3-mini", "openai/o3-mini-2025-01-31"),
]
ENABLED = {"type": "enabled", "budget_tokens": 2000}
NO_REASONING = dict.fromkeys(["gpt-4o-mini", "gpt-4o", "haiku"], "no_reasoning_effort")
BOUNDS = {"num_retries": 0, "max_retries": 0, "api_key": "x", "api_base": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("call_type", "body", "expected"),
    [
        ("acompletion", {"reasoning_effort": "high"}, NO_REASONING),
        ("acompletion", {"reasoning_effort": None, "n": 1, "seed": None}, {}),
        ("acompletion", {"reasoning": {"effort": "high"}}, NO_REASONING),
        ("aresponses", {"reasoning": {"effort": "high"}, "input": "hello"}, NO_REASONING),
        ("aresponses", {"reasoning": {"effort": None, "summary": None}, "input": "hello"}, {}),
        ("anthropic_messages", {"thinking": ENABLED}, NO_REASONING),
        ("anthropic_messages", {"thinking": {"type": "disabled"}}, {}),
        (
            "acompletion",
            {"thinking": ENABLED},
            dict.fromkeys(["gpt-4o-mini", "gpt-4o", "haiku", "o3-mini"], "no_thinking"),
        ),
        ("acompletion", {"n": 2}, dict.fromkeys(["haiku", "sonnet"], "no_n")),
        ("atext_completion", {"n": 2, "prompt": "hello"}, dict.fromkeys(["haiku", "sonnet"], "no_n")),
        ("acompletion", {"seed": 7}, dict.fromkeys(["haiku", "sonnet"], "no_seed")),
        ("acompletion", {"logprobs": True}, dict.fromkeys(["haiku", "sonnet", "o3-mini"], "no_logprobs")),
        ("acompletion", {"top_p": 0.9}, {"o3-mini": "no_top_p"}),
    ],
)
async def test_an_llm_that_refuses_a_parameter_is_no_candidate(
    serving: Callable[..., ProxyHandler],
    log_text: io.StringIO,
    call_type: str,
    body: dict[str, Any],
    expected: dict[str, str],
) -> None:
    """By LiteLLM's lists, as `test_litellm_refuses_the_same` finds them at work."""
    assert await excluded(serving(THINKERS), log_text, call_type=call_type, **body) == expected


@pytest.mark.parametrize("body", [{"reasoning_effort": "high"}, {"thinking": ENABLED}, {"n": 2}, {"seed": 7}])
@pytest.mark.filterwarnings("ignore:Item:UserWarning")  # LiteLLM's own
async def test_litellm_refuses_the_same(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, body: dict[str, Any]
) -> None:
    no_candidates = await excluded(serving(THINKERS), log_text, **body)
    refused = set()
    for one in THINKERS:
        with pytest.raises(openai.APIError) as caught:
            await litellm.acompletion(**{**one["litellm_params"], **BOUNDS}, messages=HELLO, **body)
        if isinstance(caught.value, litellm.exceptions.UnsupportedParamsError):
            refused.add(one["model_name"])
    assert refused == set(no_candidates)


@pytest.mark.parametrize(
    "body",
    [
        {"drop_params": True},
        {"drop_params": "true"},
        {"additional_drop_params": ["reasoning_effort"]},
        {"allowed_openai_params": ["reasoning_effort"]},
    ],
)
async def test_a_parameter_that_litellm_leaves_out_excludes_nobody(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, body: dict[str, Any]
) -> None:
    handler = serving(THINKERS)
    assert await excluded(handler, log_text, reasoning_effort="high", **body) == {}


async def test_drop_params_of_the_proxy_and_of_a_deployment(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropping = row("gpt-4o", "openai/gpt-4o-2024-08-06", params={"drop_params": True})
    handler = serving([THINKERS[0], dropping, THINKERS[4]])
    assert await excluded(handler, log_text, reasoning_effort="high") == {"gpt-4o-mini": "no_reasoning_effort"}
    monkeypatch.setattr(litellm, "drop_params", True)
    assert await excluded(handler, log_text, reasoning_effort="high") == {}


def a_key(**more: Any) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(api_key="sk-made-up", **more)


async def test_a_paused_deployment_another_mode_and_a_wildcard_are_no_candidates(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    rows = [
        row("gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18"),
        row("paused", "openai/claude-sonnet-4-20250514", blocked=True),
        row("half-paused", "openai/gpt-4o-2024-08-06", blocked=True, supports_vision=False),
        row("half-paused", "openai/gpt-4o-2024-08-06"),
        row("batch-only", "azure/my-batch", mode="batch", base_model="gpt-4o-2024-08-06"),
        row("live", "azure/gpt-realtime", embedllm="gpt-4o-2024-08-06"),
        row("openai/*", "openai/*", embedllm="gpt-4o-2024-08-06"),
    ]
    picture: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    closed = {"paused": "blocked", "batch-only": "mode", "live": "mode", "openai/*": "wildcard"}
    assert await excluded(serving(rows), log_text, messages=picture) == closed


TAGGED: Any = [
    row("gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18", params={"tags": ["paid"]}),
    row("gpt-4o", "openai/gpt-4o-2024-08-06", params={"tags": ["paid", "default"]}),
    row("haiku", "openai/claude-3-haiku-20240307", params={"tags": ["free"]}),
    row("o3-mini", "openai/o3-mini-2025-01-31"),
]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"metadata": {"tags": ["free"]}}, {"gpt-4o-mini", "o3-mini"}),
        ({"litellm_metadata": {"tags": ["free"]}}, {"gpt-4o-mini", "o3-mini"}),
        ({"metadata": {"tags": ["paid", "x"]}}, {"haiku", "o3-mini"}),
        ({"metadata": {"tags": ["!free"]}}, {"haiku"}),
        ({"metadata": {}}, set()),
    ],
)
async def test_tags_choose_among_candidates_as_litellm_does(
    serving: Callable[..., ProxyHandler],
    log_text: io.StringIO,
    proxy_server: ModuleType,
    metadata: dict[str, Any],
    expected: set[str],
) -> None:
    handler = serving(TAGGED, router={"enable_tag_filtering": True})
    assert await excluded(handler, log_text, **copy.deepcopy(metadata)) == dict.fromkeys(expected, "tag")
    refused = set()
    for one in TAGGED:
        try:
            await proxy_server.llm_router.async_get_healthy_deployments(one["model_name"], copy.deepcopy(metadata))
        except ValueError:
            refused.add(one["model_name"])
    assert refused == expected


async def test_without_tag_filtering_tags_exclude_nobody(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    handler = serving(TAGGED)
    assert await excluded(handler, log_text, metadata={"tags": ["free"]}) == {}
    by_key = await excluded(handler, log_text, metadata={"tags": ["free"]}, enable_tag_filtering=True)
    assert by_key == dict.fromkeys(["gpt-4o-mini", "o3-mini"], "tag")


async def test_another_team_s_deployment_is_no_candidate(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    private = row(
        "model_name_team-a_5f0c",
        "openai/claude-sonnet-4-20250514",
        0.01,
        team_id="team-a",
        team_public_model_name="sonnet",
    )
    handler = serving([row("gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18"), private])
    other = {"model_name_team-a_5f0c": "team"}
    assert await excluded(handler, log_text, a_key(team_id="team-b")) == other
    assert await excluded(handler, log_text, a_key()) == other
    assert await excluded(handler, log_text, a_key(team_id="team-a")) == {}


async def refusing(said: str, ask: Callable[[str], Awaitable[object]], rows: list[dict[str, Any]]) -> set[str]:
    """The model groups that LiteLLM's Router itself refuses, and says why."""
    errors = {}
    for name in {one["model_name"] for one in rows}:
        try:
            await ask(name)
        except (ValueError, openai.APIError) as error:
            errors[name] = str(error).lower()
    assert all(said in error for error in errors.values()), errors
    return set(errors)


def windows(start_h: int, end_h: int, *teams: str) -> list[dict[str, Any]]:
    """A window of the day around now, in hours from now."""
    times = (datetime.now(UTC) + timedelta(hours=hours) for hours in (start_h, end_h))
    start, end = (time.strftime("%H:%M") for time in times)
    return [{"start": start, "end": end, "timezone": "UTC", "team_ids": list(teams)}]


async def test_what_other_teams_have_to_themselves_now_is_no_candidate(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, proxy_server: ModuleType
) -> None:
    if "access_windows" not in ModelInfo.model_fields:
        pytest.skip("this release has no access windows")
    rows = [
        row("gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18"),
        row("theirs", "openai/gpt-4o-2024-08-06", access_windows=windows(-2, 2, "them")),
        row("later", "openai/gpt-4o-2024-08-06", access_windows=windows(2, 4, "them")),
        row("half", "openai/gpt-4o-2024-08-06", access_windows=windows(-2, 2, "them")),
        row("half", "openai/gpt-4o-2024-08-06"),
    ]
    handler = serving(rows)
    for team in ("them", "us", None):
        metadata: Any = {"metadata": {"user_api_key_team_id": team}}
        router = proxy_server.llm_router
        refused = await refusing("reserved", lambda name: router.async_get_healthy_deployments(name, metadata), rows)  # noqa: B023 - called at once
        assert refused == ({"theirs"} if team != "them" else set())
        assert await excluded(handler, log_text, a_key(team_id=team)) == dict.fromkeys(refused, "reserved")


def with_budget(name: str, usd: float, provider: str = "openai") -> dict[str, Any]:
    return row(
        name, f"{provider}/gpt-4o-2024-08-06", params={"max_budget": usd, "budget_duration": "1d"}, id=f"{name}-1"
    )


async def test_what_is_over_its_budget_or_its_provider_s_is_told_by_litellm(
    serving: Callable[..., ProxyHandler], proxy_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "callbacks", [])
    twin = {**with_budget("twin", 1.0), "model_info": {"id": "twin-2"}}
    rows = [
        row("plain", "openai/gpt-4o-mini-2024-07-18", id="plain-1"),
        with_budget("metered", 1.0),
        with_budget("twin", 1.0),
        twin,
        row("hosted", "hosted_vllm/qwen3-8b", id="hosted-1"),
    ]
    serving(rows, router={"provider_budget_config": {"hosted_vllm": {"budget_limit": 2.0, "time_period": "7d"}}})
    await asyncio.sleep(0.01)  # LiteLLM opens its budgets in tasks
    spend = proxy_server.llm_router.router_budget_logger.dual_cache

    async def refused() -> set[str]:
        told = await over_budget(deployments())
        router = proxy_server.llm_router
        by_router = await refusing("budget", lambda name: router.async_get_available_deployment(name, {}, HELLO), rows)
        assert told == by_router
        return by_router

    assert await refused() == set()
    for key in ("deployment_spend:metered-1:1d", "deployment_spend:twin-1:1d", "provider_spend:hosted_vllm:7d"):
        await spend.async_set_cache(key, 3.0)
    assert await refused() == {"metered", "hosted"}
    await spend.async_set_cache("deployment_spend:twin-2:1d", 3.0)
    assert await refused() == {"metered", "hosted", "twin"}
    await spend.async_set_cache("deployment_spend:metered-1:1d", 0.0)
    assert await refused() == {"hosted", "twin"}


async def test_without_budgets_nothing_is_over_one(serving: Callable[..., ProxyHandler]) -> None:
    serving([row("plain", "openai/gpt-4o-mini-2024-07-18")])
    assert await over_budget(deployments()) == frozenset()


def failed(body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {"litellm_params": {"proxy_server_request": {"body": body or {}, "headers": headers or {}}}}


OF_AN_LLM: Any = {"llm_provider": "openai", "model": "m"}


def test_what_speaks_against_a_model_group() -> None:
    """By LiteLLM's own errors: what the client or LiteLLM itself did wrong does not."""
    slow = errors.Timeout("late", **OF_AN_LLM)
    broken = errors.InternalServerError("500", **OF_AN_LLM)
    refused = errors.APIConnectionError("none listens", **OF_AN_LLM)
    refused.__context__ = httpx.ConnectError("refused")
    against = [slow, broken, errors.RateLimitError("429", **OF_AN_LLM), refused]
    against.append(errors.ServiceUnavailableError("503", **OF_AN_LLM))
    assert [is_the_group_s_fault(failed(), error) for error in against] == [True] * 5
    own = [
        errors.BadRequestError("400", **OF_AN_LLM),
        errors.ContextWindowExceededError("400", **OF_AN_LLM),
        errors.AuthenticationError("401", **OF_AN_LLM),
        errors.APIConnectionError("'NoneType' has no attribute 'get'", **OF_AN_LLM),
        RouterRateLimitError("m", 5.0, True, ["a"]),  # noqa: FBT003 - LiteLLM's
        ValueError("no status"),
        None,
    ]
    assert [is_the_group_s_fault(failed(), error) for error in own] == [False] * 7
    by_client: Any = ({"body": {"timeout": 1}}, {"headers": {"x-litellm-timeout": "1"}})
    for said in by_client:
        assert not is_the_group_s_fault(failed(**said), slow)
        assert is_the_group_s_fault(failed(**said), broken)
    assert not is_the_group_s_fault(failed({"api_base": "http://mine"}), broken)


async def test_a_key_s_region_excludes_what_litellm_s_pre_call_checks_would(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    rows = [
        row("in-eu", "openai/claude-3-haiku-20240307", params={"region_name": "eu"}),
        row("in-us", "openai/gpt-4o-2024-08-06", params={"region_name": "us"}),
        row("nowhere", "openai/gpt-4o-mini-2024-07-18"),
    ]
    handler = serving(rows)
    assert await excluded(handler, log_text, allowed_model_region="eu") == dict.fromkeys(["in-us", "nowhere"], "region")
    assert await excluded(handler, log_text) == {}
    lax = serving(rows, router={"enable_pre_call_checks": False})
    assert await excluded(lax, log_text, allowed_model_region="eu") == {}


@pytest.mark.parametrize("candidates", [["gpt-5-nano"], ["model_name_team-a_5f0c"], ["gpt-4o-mini"]])
async def test_no_400_names_another_team_s_deployment(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, candidates: list[str]
) -> None:
    private = row("model_name_team-a_5f0c", "openai/claude-sonnet-4-20250514", team_id="team-a")
    handler = serving([row("gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18"), private])
    wish = {"candidates": candidates, "max_cost_usd": 0.0}
    with pytest.raises(HTTPException) as caught:
        await excluded(handler, log_text, a_key(team_id="team-b"), embedllm=wish)
    assert caught.value.status_code == 400
    assert "gpt-4o-mini" in str(caught.value.detail)
    assert str(caught.value.detail).count("team-a") == (candidates == ["model_name_team-a_5f0c"]), "but what it named"


ALIASED: Any = {"router": {"model_group_alias": {"auto": "gpt-4o-mini"}}}
OPEN: Any = [
    row("gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18", access_groups=["beta"]),
    row("gpt-4o", "openai/gpt-4o-2024-08-06"),
]


@pytest.mark.parametrize(
    "limits",
    [
        {"models": ["gpt-4o-mini"]},
        {"models": ["beta"]},
        {"models": ["gpt-4o-*"]},
        {"team_id": "t", "team_models": ["gpt-4o-mini"]},
        {"models": ["all-team-models"], "team_id": "t", "team_models": ["gpt-4o-mini"]},
    ],
)
async def test_a_key_for_an_alias_s_target_is_not_routed(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, proxy_server: ModuleType, limits: dict[str, Any]
) -> None:
    """LiteLLM lets it call the alias, and would not let it call the other candidates: its own refusal answers."""
    handler, key = serving(OPEN, **ALIASED), a_key(**limits)
    await litellm_checks(key, "auto", proxy_server)
    with pytest.raises(ProxyException) as caught:
        await excluded(handler, log_text, key)
    assert (caught.value.code, caught.value.param) == ("403", "model")


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"models": ["auto"]},
        {"models": ["gpt-4o-mini", "auto"], "team_id": "t"},
        {"models": ["*"]},
        {"models": ["all-proxy-models"]},
        {"team_id": "t", "team_models": ["auto"]},
    ],
)
async def test_a_key_for_the_virtual_model_s_own_name_is_routed(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, limits: dict[str, Any]
) -> None:
    assert await excluded(serving(OPEN, **ALIASED), log_text, a_key(**limits)) == {}


async def test_without_an_alias_litellm_s_own_check_is_enough(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    assert await excluded(serving(OPEN), log_text, a_key(models=["gpt-4o-mini"])) == {}


@pytest.mark.parametrize(
    "limits",
    [
        {"models": ["auto", "gpt-4o-mini"]},
        {"models": [], "team_id": "t", "team_models": ["auto", "gpt-4o-mini"]},
        {"models": ["auto", "gpt-4o-mini", "gpt-4o"], "team_id": "t", "team_models": ["auto", "gpt-4o-mini"]},
    ],
)
async def test_enforced_access_asks_for_the_team_too(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, limits: dict[str, Any]
) -> None:
    handler = serving(OPEN, access="enforce", **ALIASED)
    assert await excluded(handler, log_text, a_key(**limits)) == {"gpt-4o": "key_access"}


async def litellm_checks(key: UserAPIKeyAuth, name: str, proxy_server: ModuleType) -> None:
    """LiteLLM's own check of a name; it raises where it refuses."""
    await can_key_call_resolved_model(name, proxy_server.llm_model_list, key, proxy_server.llm_router)


AT_EFFORTS: Any = [
    row("gpt-4o", "openai/gpt-4o-2024-08-06"),
    row("thinker", "openai/gpt-5.4", embedllm_efforts=["low", "high"]),
    row("theirs", "openai/gpt-5.4", embedllm_efforts=["low", "high"], team_id="them"),
    row("haiku", "anthropic/claude-3-haiku-20240307", embedllm_efforts=["low"]),
]


async def test_what_is_refused_to_a_model_group_is_refused_at_every_effort(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    handler, key = serving(AT_EFFORTS), UserAPIKeyAuth(api_key="sk-x", team_id="us")
    standing = {"theirs:low": "team", "theirs:high": "team", "haiku:low": "no_reasoning_effort"}
    assert await excluded(handler, log_text, key) == standing
    only: Any = {"candidates": ["thinker"]}
    allowed = {"gpt-4o": "not_requested", "theirs:low": "not_requested", "theirs:high": "not_requested"}
    assert await excluded(handler, log_text, key, embedllm=only) == standing | allowed
    for named in ("theirs", "theirs:low"):
        with pytest.raises(HTTPException) as caught:
            await excluded(handler, log_text, key, embedllm={"candidates": [named]})
        assert "theirs:high" not in str(caught.value.detail)
        assert "unknown theirs" in str(caught.value.detail)


async def test_where_routing_fails_after_the_choice_the_default_is_asked_without_its_effort(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = serving(AT_EFFORTS, cost_weight=0)
    data: Any = {
        "model": "auto",
        "messages": HELLO,
        "litellm_call_id": "1",
        "embedllm": {"candidates": ["thinker:low"]},
    }
    sent = await handler.async_pre_call_hook(None, None, copy.deepcopy(data), "acompletion")
    assert (sent["model"], sent["reasoning_effort"]) == ("thinker", "low")

    def fails(*_: object, **__: object) -> None:
        raise OSError("planted")

    monkeypatch.setattr(handler.container.tracker, "decided", fails)
    sent = await handler.async_pre_call_hook(None, None, data, "acompletion")
    assert sent["model"] == "gpt-4o"
    assert "reasoning_effort" not in sent
    assert '"routing.failed_open"' in log_text.getvalue().splitlines()[-1]


async def test_an_effort_is_a_default_and_a_pool_of_a_wildcard(
    serving: Callable[..., ProxyHandler], log_text: io.StringIO
) -> None:
    rows = [row("thinker", "openai/gpt-5.4", embedllm_efforts=["none", "high"]), row("any/*", "openai/*")]
    rows[1]["model_info"] = {"embedllm_efforts": ["low"]}
    handler = serving(rows, candidates=["any/gpt-5:low", "any/gpt-4o-2024-08-06"], max_fallbacks=0)
    assert await excluded(handler, log_text) == {"any/gpt-4o-2024-08-06:low": "no_reasoning_effort"}
    event = json.loads(log_text.getvalue().splitlines()[-1])
    names = {one["name"] for one in event["candidates"]}
    assert names == {"any/gpt-5:low", "any/gpt-4o-2024-08-06:low", "thinker:none", "thinker:high"}
