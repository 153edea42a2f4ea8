"""A client's wishes are taken as meant or refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.errors import RequestError
from embedllm_router.routing.overrides import (
    COST_WEIGHT_HEADER,
    Allowed,
    Overrides,
    combine,
    header_override,
    read_override,
)
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import NO_RULES, Rules

NAMES = ("wizard", "sprinter")
CONFIGURED = Objective(7.0, max_cost_usd=0.5)
EVERYTHING = Allowed()


def read(headers: dict[str, str], field: object) -> Overrides:
    return combine(CONFIGURED, NO_RULES, [header_override(headers), read_override("body", field)], Allowed(), NAMES)


def test_nothing_asked_leaves_everything() -> None:
    assert read({}, None) == Overrides(CONFIGURED, "config", None)


def test_header() -> None:
    assert read({COST_WEIGHT_HEADER: "2.5"}, None) == Overrides(
        Objective(2.5, max_cost_usd=0.5), "header", by_client=True
    )


def test_body_wins_over_header() -> None:
    assert read({COST_WEIGHT_HEADER: "2.5"}, {"cost_weight": 0}) == Overrides(
        Objective(0.0, max_cost_usd=0.5), "body", by_client=True
    )


@pytest.mark.parametrize(
    ("body", "objective"),
    [
        ({"profile": "cheap"}, Objective(500.0, max_cost_usd=0.5)),
        ({"min_p_correct": 0.9}, Objective(min_p_correct=0.9, max_cost_usd=0.5)),
        ({"within": 0.02}, Objective(max_accuracy_drop=0.02, max_cost_usd=0.5)),
        ({"max_cost_usd": 0.01}, Objective(7.0, max_cost_usd=0.01)),
        ({"within": 0, "max_cost_usd": 1}, Objective(max_accuracy_drop=0.0, max_cost_usd=1.0)),
        ({"cost_weight": None, "within": None}, CONFIGURED),
    ],
)
def test_aims(body: dict[str, object], objective: Objective) -> None:
    """An aim replaces the configured one; the limit on cost stays unless it is set itself."""
    assert read({}, body).objective == objective


def test_candidates() -> None:
    assert read({}, {"candidates": ["wizard"]}).candidates == {"wizard"}


@pytest.mark.parametrize("text", ["", "abc", "-1", "nan", "inf", "1e999", "1,5"])
def test_a_bad_header_is_named(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read({COST_WEIGHT_HEADER: text}, None)
    assert caught.value.field == COST_WEIGHT_HEADER


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("cheap", "embedllm"),
        ([1], "embedllm"),
        ({"cost_wieght": 1}, "embedllm.cost_wieght"),
        ({"cost_weight": "1"}, "embedllm.cost_weight"),
        ({"cost_weight": True}, "embedllm.cost_weight"),
        ({"cost_weight": -0.1}, "embedllm.cost_weight"),
        ({"cost_weight": float("nan")}, "embedllm.cost_weight"),
        ({"cost_weight": 10**400}, "embedllm.cost_weight"),
        ({"max_cost_usd": -(10**400)}, "embedllm.max_cost_usd"),
        ({"profile": "luxury"}, "embedllm.profile"),
        ({"profile": ["cheap"]}, "embedllm.profile"),
        ({"min_p_correct": 1.1}, "embedllm.min_p_correct"),
        ({"within": -0.1}, "embedllm.within"),
        ({"max_cost_usd": "1"}, "embedllm.max_cost_usd"),
        ({"cost_weight": 1, "within": 0.1}, "embedllm.within"),
        ({"candidates": "wizard"}, "embedllm.candidates"),
        ({"candidates": []}, "embedllm.candidates"),
        ({"candidates": [1]}, "embedllm.candidates"),
        ({"candidates": ["gpt-5"]}, "embedllm.candidates"),
        ({"candidates": ["wizard"] * 257}, "embedllm.candidates"),
        ({"labels": ["x" * 257]}, "embedllm.labels"),
        ({"providers": {"deny": [str(i) for i in range(257)]}}, "embedllm.providers.deny"),
    ],
)
def test_a_bad_body_field_is_named(body: object, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        read({}, body)
    assert caught.value.field == field
    assert field in str(caught.value)


def test_what_a_client_sends_by_mistake_is_not_repeated_at_length() -> None:
    for body in ({"my secret prompt": 1}, {"x" * 41: 1}, {"profile": "my secret prompt"}):
        with pytest.raises(RequestError) as caught:
            read({}, body)
        assert "secret" not in str(caught.value)
        assert "xx" not in caught.value.field
    with pytest.raises(RequestError) as caught:
        read({COST_WEIGHT_HEADER: "secret"}, None)
    assert "secret" not in str(caught.value)


@given(st.recursive(st.none() | st.floats() | st.text() | st.booleans() | st.integers(), st.lists, max_leaves=4))
def test_any_body_is_taken_or_refused(value: object) -> None:
    for body in (value, *({name: value} for name in ("cost_weight", "profile", "within", "candidates"))):
        try:
            read({}, body)
        except RequestError as error:
            assert error.field.startswith("embedllm")  # noqa: PT017 - either way of passing is checked


def layered(
    *,
    team: object = None,
    key: object = None,
    body: object = None,
    allowed: Allowed = EVERYTHING,
    rules: Rules = NO_RULES,
) -> Overrides:
    wishes = [read_override("team", team), read_override("key", key), read_override("body", body)]
    return combine(CONFIGURED, rules, wishes, allowed, NAMES)


def test_the_nearest_to_the_request_says_what_is_best() -> None:
    assert layered(team={"cost_weight": 1}).objective.cost_weight == 1.0
    assert layered(team={"cost_weight": 1}, key={"cost_weight": 2}).objective.cost_weight == 2.0
    nearest = layered(team={"cost_weight": 1}, key={"cost_weight": 2}, body={"within": 0.1})
    assert (nearest.objective.max_accuracy_drop, nearest.objective_from) == (0.1, "body")
    assert layered(team={"cost_weight": 1}).objective_from == "team"
    assert not layered(team={"cost_weight": 1}, key={"within": 0.2}).by_client


@pytest.mark.parametrize(
    ("team", "key", "body", "limit"),
    [
        (None, None, 2.0, 2.0),
        (None, 0.1, None, 0.1),
        (None, 0.1, 2.0, 0.1),
        (0.05, 0.1, 2.0, 0.05),
        (0.05, 0.1, 0.01, 0.01),
    ],
)
def test_what_a_key_or_team_may_spend_is_a_ceiling(
    team: float | None, key: float | None, body: float | None, limit: float
) -> None:
    said = [None if usd is None else {"max_cost_usd": usd} for usd in (team, key, body)]
    assert layered(team=said[0], key=said[1], body=said[2]).objective.max_cost_usd == limit


def test_rules_add_up_and_are_never_loosened() -> None:
    combined = layered(
        rules=Rules(allow_regions=frozenset({"eu", "us"})),
        team={"providers": {"deny": ["Bedrock"]}},
        key={"regions": ["EU"]},
        body={"regions": {"allow": ["us", "eu"]}, "labels": ["zero-retention"]},
    ).rules
    assert combined == Rules(
        deny_providers=frozenset({"bedrock"}),
        allow_regions=frozenset({"eu"}),
        require_labels=frozenset({"zero-retention"}),
    )


def test_candidates_of_key_and_request_are_those_both_allow() -> None:
    both = layered(key={"candidates": ["wizard", "from elsewhere"]}, body={"candidates": ["wizard", "sprinter"]})
    assert both.candidates == {"wizard"}


@pytest.mark.parametrize(
    ("allowed", "body", "field"),
    [
        (Allowed(names=("within",)), {"cost_weight": 1}, "embedllm.cost_weight"),
        (Allowed(names=()), {"candidates": ["wizard"]}, "embedllm.candidates"),
        (Allowed(min_cost_weight=5.0), {"cost_weight": 1}, "embedllm.cost_weight"),
        (Allowed(min_cost_weight=5.0), {"profile": "quality"}, "embedllm.cost_weight"),
        (Allowed(max_cost_usd=0.1), {"max_cost_usd": 0.2}, "embedllm.max_cost_usd"),
    ],
)
def test_what_a_request_may_set_is_limited(allowed: Allowed, body: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        layered(body=body, allowed=allowed)
    assert caught.value.field == field
    layered(key=body, allowed=allowed)  # the limits are for requests, not for the operator's keys


@pytest.mark.parametrize(
    ("source", "field", "named"),
    [
        ("key", {"cost_weight": "much"}, "key.embedllm.cost_weight"),
        ("team", {"speed": 1}, "team.embedllm.speed"),
        ("body", {"providers": "openai"}, "embedllm.providers"),
        ("body", {"regions": {"only": ["eu"]}}, "embedllm.regions"),
        ("body", {"regions": {"allow": []}}, "embedllm.regions.allow"),
        ("body", {"labels": [1]}, "embedllm.labels"),
        ("body", {"latency_weight": -1}, "embedllm.latency_weight"),
    ],
)
def test_a_bad_value_is_named_with_its_source(source: str, field: object, named: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_override(source, field)
    assert caught.value.field == named


def test_a_latency_weight_joins_any_aim() -> None:
    aim = layered(key={"latency_weight": 0.01}, body={"cost_weight": 3}).objective
    assert (aim.cost_weight, aim.latency_weight) == (3.0, 0.01)
