"""A client's wishes are taken as meant or refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.errors import RequestError
from embedllm_router.overrides import COST_WEIGHT_HEADER, read_overrides

NAMES = ("wizard", "sprinter")


def test_nothing_asked_leaves_everything() -> None:
    overrides = read_overrides({}, None, NAMES)
    assert (overrides.cost_weight, overrides.cost_weight_from, overrides.candidates) == (None, "config", None)


def test_header() -> None:
    overrides = read_overrides({COST_WEIGHT_HEADER: "2.5"}, None, NAMES)
    assert (overrides.cost_weight, overrides.cost_weight_from) == (2.5, "header")


def test_body_wins_over_header() -> None:
    overrides = read_overrides({COST_WEIGHT_HEADER: "2.5"}, {"cost_weight": 0}, NAMES)
    assert (overrides.cost_weight, overrides.cost_weight_from) == (0.0, "body")


def test_candidates() -> None:
    assert read_overrides({}, {"candidates": ["wizard"]}, NAMES).candidates == {"wizard"}


@pytest.mark.parametrize("text", ["", "abc", "-1", "nan", "inf", "1e999", "1,5"])
def test_a_bad_header_is_named(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_overrides({COST_WEIGHT_HEADER: text}, None, NAMES)
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
        ({"candidates": "wizard"}, "embedllm.candidates"),
        ({"candidates": []}, "embedllm.candidates"),
        ({"candidates": [1]}, "embedllm.candidates"),
        ({"candidates": ["gpt-5"]}, "embedllm.candidates"),
    ],
)
def test_a_bad_body_field_is_named(body: object, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_overrides({}, body, NAMES)
    assert caught.value.field == field
    assert field in str(caught.value)


@given(st.recursive(st.none() | st.floats() | st.text() | st.booleans(), st.lists, max_leaves=4))
def test_any_body_is_taken_or_refused(value: object) -> None:
    for body in (value, {"cost_weight": value}, {"candidates": value}):
        try:
            read_overrides({}, body, NAMES)
        except RequestError as error:
            assert error.field.startswith("embedllm")  # noqa: PT017 - either way of passing is checked
