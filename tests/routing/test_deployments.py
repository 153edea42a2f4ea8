"""model_list rows become candidates with the right LLM and the right price, or with none."""

import itertools
from collections.abc import Mapping

import litellm
import numpy as np
import pytest
from planted import SPRINTER, WIZARD

from embedllm_router import Router
from embedllm_router.routing.deployments import (
    UNKNOWN_PLACE,
    ModelGroup,
    Row,
    group_of_deployment,
    read_model_groups,
    through_wildcards,
)
from embedllm_router.routing.pool import CandidatePool, Capability, PriceTier, ServicePrices

PRICES: Mapping[str, Mapping[str, object]] = {
    "wizard-2025-01-01": {
        "litellm_provider": "acme",
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 2e-6,
        "max_input_tokens": 9000,
    },
    "openai/blind": {
        "litellm_provider": "openai",
        "supports_function_calling": True,
        "supports_response_schema": False,
    },
    "openai/half-priced": {"litellm_provider": "openai", "input_cost_per_token": 1e-6},
    "openai/added": {},
    "openai/wizard-2025-01-01": {},
    "added": {"supports_vision": True, "supports_audio_input": None},
    "openai/filled": {"litellm_provider": "openai", "supports_vision": True, "supports_audio_input": None},
}


def one(router: Router, *rows: Mapping[str, object]) -> ModelGroup:
    groups = read_model_groups(rows, PRICES, router.catalog)
    assert len(groups) == 1
    return next(iter(groups.values()))


def row(model: str, name: str = "group", params: object = None, info: object = None) -> dict[str, object]:
    extra = params if isinstance(params, dict) else {}
    return {"model_name": name, "litellm_params": {"model": model, **extra}, "model_info": info or {}}


def test_prices_of_tiers_are_read(router: Router) -> None:
    """As LiteLLM's map holds dashscope's: no plain price, and a range of input tokens for each."""
    entry = {
        "litellm_provider": "dashscope",
        "tiered_pricing": [
            {"range": [0, 256_000.0], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07},
            {"range": [256_000.0, 1_000_000.0], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06},
        ],
    }
    rows = [row("dashscope/qwen-flash", info={"embedllm": WIZARD})]
    one = read_model_groups(rows, {"dashscope/qwen-flash": entry}, router.catalog)["group"].candidate
    assert (one.input_usd_per_token, one.output_usd_per_token) == (5e-08, 4e-07)
    assert one.tiers == (PriceTier(256_000, 2.5e-07, 2e-06),)
    useless: list[object] = [5, [5], [{"range": []}], [{"range": ["x"]}], [{"range": [0], "input_cost_per_token": "x"}]]
    for broken in useless:
        bad = read_model_groups(rows, {"dashscope/qwen-flash": {**entry, "tiered_pricing": broken}}, router.catalog)
        assert bad["group"].candidate.input_usd_per_token is None


def test_a_tier_of_service_has_prices_of_its_own_and_else_the_usual_ones(router: Router) -> None:
    entry = {
        "litellm_provider": "acme",
        "input_cost_per_token": 4e-6,
        "output_cost_per_token": 8e-6,
        "cache_read_input_token_cost": 1e-6,
        "input_cost_per_token_above_200k_tokens": 6e-6,
        "output_cost_per_token_above_200k_tokens": 9e-6,
        "input_cost_per_token_flex": 2e-6,
        "output_cost_per_token_flex": 3e-6,
        "cache_read_input_token_cost_flex": 5e-7,
        "input_cost_per_token_priority": 9e-6,
        "input_cost_per_token_above_200k_tokens_priority": 1e-5,
    }
    rows = [row("acme/wizard", info={"embedllm": WIZARD})]
    group = read_model_groups(rows, {"acme/wizard": entry}, router.catalog)["group"].candidate
    tier = (PriceTier(200_000, 6e-6, 9e-6),)
    assert group.services == (
        ServicePrices("flex", 2e-6, 3e-6, 5e-7, tier),
        ServicePrices("priority", 9e-6, 8e-6, 1e-6, (PriceTier(200_000, 1e-5, 9e-6),)),
    )
    assert (group.input_usd_per_token, group.output_usd_per_token, group.tiers) == (4e-6, 8e-6, tier)
    pool, answers = CandidatePool([group]), np.array([100.0])
    costs = [float(pool.expected_cost(1_000, answers, {}, asked)[0]) for asked in ("", "flex", "priority", "balanced")]
    assert costs == pytest.approx([0.0048, 0.0023, 0.0098, 0.0048])
    assert pool.cost_usd("group", 1_000, 100, "flex") == pytest.approx(0.0023)
    set_to_flex = [row("acme/wizard", params={"service_tier": "flex"}, info={"embedllm": WIZARD})]
    usual = read_model_groups(set_to_flex, {"acme/wizard": entry}, router.catalog)["group"].candidate
    assert (usual.input_usd_per_token, usual.output_usd_per_token) == (2e-6, 3e-6)


def test_tiers_of_service_cost_what_litellm_bills(router: Router) -> None:
    """Of every tenth LLM that has such prices, at two lengths; of Fireworks LiteLLM bills none of its own prices."""
    names = [
        name
        for name, entry in litellm.model_cost.items()
        if entry.get("mode") in {"chat", "responses"}
        and any(field.endswith(("_flex", "_priority")) for field in entry)
        and entry["litellm_provider"] != "fireworks_ai"
    ]
    compared = 0
    for name in names[::10]:
        rows = [row(name, info={"embedllm": WIZARD})]
        pool = CandidatePool([read_model_groups(rows, litellm.model_cost, router.catalog)["group"].candidate])
        for tier, n_tokens in itertools.product(("", "flex", "priority"), (1_000, 300_000)):
            billed = litellm.cost_per_token(
                model=name,
                prompt_tokens=n_tokens,
                completion_tokens=500,
                service_tier=tier or None,
                custom_llm_provider=litellm.model_cost[name]["litellm_provider"],
            )
            assert pool.cost_usd("group", n_tokens, 500, tier) == pytest.approx(sum(billed)), (name, tier, n_tokens)
            compared += 1
    assert compared > 50


@pytest.mark.parametrize(
    ("said", "price"), [("3e-6", 3e-6), ("0", 0.0), ("-1", None), ("nan", None), ("inf", None), ("free", None)]
)
def test_a_price_may_be_a_text(router: Router, said: str, price: float | None) -> None:
    for place in ("params", "info"):
        rows = row("openai/half", **{place: {"input_cost_per_token": said, "output_cost_per_token": said}})  # type: ignore[arg-type]
        assert one(router, rows).candidate.input_usd_per_token == price


def test_llm_and_price_by_name(router: Router) -> None:
    group = one(router, row("openai/wizard-2025-01-01"))
    assert group.candidate.llm == WIZARD
    assert (group.candidate.input_usd_per_token, group.candidate.output_usd_per_token) == (1e-6, 2e-6)
    assert group.candidate.max_input_tokens == 9000
    assert not group.declared


def test_declared_llm_wins_over_the_name(router: Router) -> None:
    group = one(router, row("openai/wizard-2025-01-01", info={"embedllm": "sprinter-7b-instruct"}))
    assert group.candidate.llm == SPRINTER
    assert group.declared


def test_a_declared_llm_that_is_unknown_is_not_replaced_by_a_guess(router: Router) -> None:
    group = one(router, row("openai/wizard-2025-01-01", info={"embedllm": "wizzard"}))
    assert group.candidate.llm is None
    assert group.match.nearest[0] == WIZARD


def test_base_model_names_an_azure_deployment(router: Router) -> None:
    group = one(router, row("azure/my-deployment", info={"base_model": "wizard-2025-01-01"}))
    assert group.candidate.llm == WIZARD
    assert group.candidate.input_usd_per_token == 1e-6


def test_the_row_s_own_price_wins_over_the_map(router: Router) -> None:
    own = {"input_cost_per_token": 5e-6, "output_cost_per_token": 6e-6}
    candidate = one(router, row("openai/wizard-2025-01-01", params=own)).candidate
    assert (candidate.input_usd_per_token, candidate.output_usd_per_token) == (5e-6, 6e-6)


@pytest.mark.parametrize("model", ["openai/nobody-knows", "openai/half-priced"])
def test_a_price_nobody_states_is_unknown(router: Router, model: str) -> None:
    assert one(router, row(model)).candidate.output_usd_per_token is None


def test_a_stated_zero_is_free(router: Router) -> None:
    own = {"input_cost_per_token": 0, "output_cost_per_token": 0.0}
    candidate = one(router, row("openai/x", params=own)).candidate
    assert (candidate.input_usd_per_token, candidate.output_usd_per_token) == (0.0, 0.0)


@pytest.mark.parametrize("bad", ["free", -1.0, True, None])
def test_a_price_that_is_no_price_is_unknown(router: Router, bad: object) -> None:
    own = {"input_cost_per_token": bad, "output_cost_per_token": bad}
    assert one(router, row("openai/x", params=own)).candidate.input_usd_per_token is None


def test_a_group_costs_what_its_dearest_deployment_costs(router: Router) -> None:
    dear = {"input_cost_per_token": 5e-6, "output_cost_per_token": 1e-6}
    group = one(router, row("openai/wizard-2025-01-01"), row("azure/wizard-2025-01-01", params=dear))
    assert (group.candidate.input_usd_per_token, group.candidate.output_usd_per_token) == (5e-6, 2e-6)


def test_one_unpriced_deployment_leaves_the_group_unpriced(router: Router) -> None:
    group = one(router, row("openai/wizard-2025-01-01"), row("azure/mystery"))
    assert group.candidate.input_usd_per_token is None


@pytest.mark.parametrize("broken", [{}, {"model_name": "x"}, {"model_name": "x", "litellm_params": None}])
def test_a_broken_row_is_an_unknown_candidate(router: Router, broken: dict[str, object]) -> None:
    assert one(router, broken).candidate.llm is None


def test_groups_by_deployment_id() -> None:
    rows = [row("a", "one", info={"id": "1"}), row("b", "two", info={"id": "2"})]
    assert group_of_deployment(rows) == {"1": "one", "2": "two"}


def test_what_the_map_denies_is_lacking(router: Router) -> None:
    """A known LLM lacks what its entry leaves out; only a denied JSON schema counts, since few entries say."""
    assert one(router, row("openai/blind")).candidate.lacks == {
        Capability.VISION,
        Capability.AUDIO,
        Capability.PDF,
        Capability.JSON_SCHEMA,
    }
    assert Capability.JSON_SCHEMA not in one(router, row("openai/wizard-2025-01-01")).candidate.lacks


def test_what_nobody_knows_excludes_nobody(router: Router) -> None:
    assert one(router, row("openai/nobody-knows")).candidate.lacks == frozenset()


def test_the_row_s_own_word_on_a_capability_wins(router: Router) -> None:
    sees = one(router, row("openai/blind", info={"supports_vision": True}))
    assert Capability.VISION not in sees.candidate.lacks
    blind = one(router, row("openai/nobody-knows", info={"supports_vision": False}))
    assert blind.candidate.lacks == {Capability.VISION}


def test_where_a_deployment_runs_and_what_it_is_labelled(router: Router) -> None:
    rows: list[Row] = [
        {
            "model_name": "one",
            "litellm_params": {"model": "bedrock/wizard-2025-01-01", "aws_region_name": "EU-Central-1"},
            "model_info": {"embedllm_labels": ["zdr", "audited"]},
        },
        {
            "model_name": "one",
            "litellm_params": {"model": "wizard-2025-01-01", "custom_llm_provider": "openai"},
            "model_info": {"embedllm_labels": ["zdr"], "region": "us"},
        },
        {"model_name": "two", "litellm_params": {"model": "mapped"}, "model_info": {}},
        {"model_name": "three", "litellm_params": {"model": "nowhere"}},
    ]
    groups = read_model_groups(rows, {"mapped": {"litellm_provider": "anthropic"}}, router.catalog)
    one, two, three = (groups[name].candidate for name in ("one", "two", "three"))
    assert one.providers == {"bedrock", "openai"}
    assert one.regions == {"eu-central-1", "us"}
    assert one.labels == {"zdr"}, "only what every deployment has"
    assert (two.providers, two.regions) == ({"anthropic"}, {UNKNOWN_PLACE})
    assert (three.providers, three.labels) == ({UNKNOWN_PLACE}, frozenset())


@pytest.mark.parametrize(
    ("model", "marked"),
    [
        ("anthropic/claude-sonnet-4", True),
        ("bedrock/eu.anthropic.claude-sonnet-4-v1:0", True),
        ("openai/gpt-4o", False),
    ],
)
def test_claude_caches_what_is_marked_alone(router: Router, model: str, *, marked: bool) -> None:
    row: dict[str, object] = {"model_name": "one", "litellm_params": {"model": model}}
    assert read_model_groups([row], {}, router.catalog)["one"].candidate.caches_marked == marked


@pytest.mark.parametrize(
    ("params", "region"),
    [
        ({"model": "bedrock/global.anthropic.claude-sonnet-4-20250514-v1:0"}, UNKNOWN_PLACE),
        ({"model": "bedrock/eu.anthropic.claude-sonnet-4-20250514-v1:0"}, "eu"),
        ({"model": "us.amazon.nova-pro-v1:0", "custom_llm_provider": "bedrock"}, "us"),
        ({"model": "bedrock/converse/apac.amazon.nova-pro-v1:0"}, "apac"),
        ({"model": "bedrock/arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-sonnet-4-v1:0"}, "eu"),
        ({"model": "bedrock/arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc"}, UNKNOWN_PLACE),
        ({"model": "bedrock/anthropic.claude-sonnet-4-20250514-v1:0"}, "eu-west-1"),
        ({"model": "vertex_ai/gemini-2.5-pro", "vertex_location": "global"}, UNKNOWN_PLACE),
    ],
)
def test_what_may_answer_from_elsewhere_has_not_the_region_it_is_called_in(
    router: Router, params: dict[str, object], region: str
) -> None:
    """A rule that allows one region would otherwise send prompts out of it."""
    stated = {"aws_region_name": "eu-west-1", **params} if "vertex_location" not in params else params
    row: dict[str, object] = {"model_name": "one", "litellm_params": stated}
    assert read_model_groups([row], {}, router.catalog)["one"].candidate.regions == {region}
    row["model_info"] = {"region": "EU-West-1"}
    assert read_model_groups([row], {}, router.catalog)["one"].candidate.regions == {"eu-west-1"}


def test_prices_of_long_requests_cached_tokens_and_requests(router: Router) -> None:
    prices = {
        "long": {
            "input_cost_per_token": 1e-6,
            "output_cost_per_token": 2e-6,
            "input_cost_per_token_above_200k_tokens": 2e-6,
            "output_cost_per_token_above_200k_tokens": 3e-6,
            "cache_read_input_token_cost": 1e-7,
        }
    }
    rows: list[Row] = [
        {"model_name": "g", "litellm_params": {"model": "long"}, "model_info": {"usd_per_request": 0.001}},
        {
            "model_name": "g",
            "litellm_params": {"model": "flat", "input_cost_per_token": 1.5e-6, "output_cost_per_token": 4e-6},
            "model_info": {"cache_read_input_token_cost": 5e-7},
        },
    ]
    one = read_model_groups(rows, prices, router.catalog)["g"].candidate
    assert one.tiers == (PriceTier(200_000, 2e-6, 4e-6),), "each the dearest deployment's at that length"
    assert one.cached_usd_per_token == 5e-7
    assert one.usd_per_request == 0.001
    alone = read_model_groups(rows[1:], prices, router.catalog)["g"].candidate
    assert (alone.tiers, alone.usd_per_request) == ((), 0.0)


def test_an_entry_that_the_router_added_says_nothing_of_what_is_lacking(router: Router) -> None:
    assert one(router, row("openai/added")).candidate.lacks == frozenset()
    assert one(router, row("openai/wizard-2025-01-01")).candidate.max_input_tokens == 9000, "an empty entry hides none"


def test_a_flag_filled_with_none_is_left_out(router: Router) -> None:
    lacks = one(router, row("openai/filled")).candidate.lacks
    assert lacks == {Capability.AUDIO, Capability.PDF, Capability.TOOLS}


def wildcard(pattern: str, model: str, deployment: str) -> Row:
    return {"model_name": pattern, "litellm_params": {"model": model, "timeout": 5}, "model_info": {"id": deployment}}


def test_names_are_served_through_the_wildcard_that_litellm_would_take() -> None:
    rows = [
        wildcard("*", "openai/*", "any"),
        wildcard("openai/*", "openai/*", "all"),
        wildcard("openai/gpt-4*", "azure/gpt-4*", "azure"),
        wildcard("eu/*/chat", "vertex_ai/*", "vertex"),
        {"model_name": "plain", "litellm_params": {"model": "openai/gpt-4o"}, "model_info": {}},
    ]
    names = ["openai/o1", "openai/gpt-4o", "eu/gemini/chat", "plain", "openai/o1"]
    made = through_wildcards(rows, names)
    found = {str(row["model_name"]): row["litellm_params"] for row in made}
    assert found == {
        "openai/o1": {"model": "openai/o1", "timeout": 5},
        "openai/gpt-4o": {"model": "azure/gpt-4o", "timeout": 5},
        "eu/gemini/chat": {"model": "vertex_ai/gemini", "timeout": 5},
    }
    assert all("id" not in row["model_info"] for row in made)  # type: ignore[operator]  # a mapping
    assert not {"any", "all", "azure", "vertex"} & group_of_deployment([*rows, *made]).keys()
    assert through_wildcards(rows[4:], names) == []
