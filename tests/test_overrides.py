"""A client's wishes are taken as meant or refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.errors import RequestError
from embedllm_router.overrides import COST_WEIGHT_HEADER, Overrides, read_overrides
from embedllm_router.policy import Objective

NAMES = ("wizard", "sprinter")
CONFIGURED = Objective(7.0, max_cost_usd=0.5)


def read(headers: dict[str, str], field: object) -> Overrides:
    return read_overrides(headers, field, NAMES, CONFIGURED)


def test_nothing_asked_leaves_everything() -> None:
    assert read({}, None) == Overrides(CONFIGURED, "config", None)


def test_header() -> None:
    assert read({COST_WEIGHT_HEADER: "2.5"}, None) == Overrides(Objective(2.5, max_cost_usd=0.5), "header")


def test_body_wins_over_header() -> None:
    assert read({COST_WEIGHT_HEADER: "2.5"}, {"cost_weight": 0}) == Overrides(Objective(0.0, max_cost_usd=0.5), "body")


@pytest.mark.parametrize(
    ("body", "objective"),
    [
        ({"profile": "cheap"}, Objective(500.0, max_cost_usd=0.5)),
        ({"min_p_correct": 0.9}, Objective(min_p_correct=0.9, max_cost_usd=0.5)),
        ({"within": 0.02}, Objective(within=0.02, max_cost_usd=0.5)),
        ({"max_cost_usd": 0.01}, Objective(7.0, max_cost_usd=0.01)),
        ({"within": 0, "max_cost_usd": 1}, Objective(within=0.0, max_cost_usd=1.0)),
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
    ],
)
def test_a_bad_body_field_is_named(body: object, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        read({}, body)
    assert caught.value.field == field
    assert field in str(caught.value)


@given(st.recursive(st.none() | st.floats() | st.text() | st.booleans(), st.lists, max_leaves=4))
def test_any_body_is_taken_or_refused(value: object) -> None:
    for body in (value, *({name: value} for name in ("cost_weight", "profile", "within", "candidates"))):
        try:
            read({}, body)
        except RequestError as error:
            assert error.field.startswith("embedllm")  # noqa: PT017 - either way of passing is checked
