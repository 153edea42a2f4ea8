"""Where rules bind a request, no fallback of whatever shape gets past them; where none do, nothing is touched."""

from typing import Any

import pytest

from embedllm_router.artifact.catalog import Match
from embedllm_router.errors import RequestError
from embedllm_router.proxy.request_context import Eligibility, bind_fallbacks, drop_fallbacks
from embedllm_router.routing.deployments import ModelGroup
from embedllm_router.routing.pool import NO_RULES, Candidate, Exclusion, Rules


def group(name: str, region: str) -> ModelGroup:
    candidate = Candidate(name, name, 0, 0.0, 0.0, regions=frozenset({region}))
    return ModelGroup(candidate, Match(name, name, "exact"), declared=False)


GROUPS = {name: group(name, region) for name, region in (("berlin", "eu"), ("paris", "eu"), ("austin", "us"))}
EUROPE = Eligibility(Rules(allow_regions=frozenset({"eu"})), {}, GROUPS)
ANYWHERE = Eligibility(NO_RULES, {}, GROUPS)
KINDS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def bound(ruling: Eligibility, *next_best: str, **body: Any) -> dict[str, Any]:
    bind_fallbacks(body, next_best, ruling)
    return body


def test_without_rules_the_next_best_stand_unless_the_client_names_others() -> None:
    assert bound(ANYWHERE, "paris") == {"fallbacks": ["paris"]}
    assert bound(ANYWHERE, "paris", fallbacks=["austin"]) == {"fallbacks": ["austin"]}
    assert bound(ANYWHERE, "paris", fallbacks=[]) == {"fallbacks": []}
    assert bound(ANYWHERE, "paris", fallbacks=None) == {"fallbacks": ["paris"]}
    assert bound(ANYWHERE) == {}


def test_under_rules_no_configured_fallback_of_any_kind_is_left_to_litellm() -> None:
    assert bound(EUROPE) == {kind: [] for kind in KINDS}
    assert bound(EUROPE, "paris") == {"fallbacks": ["paris"], **{kind: [] for kind in KINDS[1:]}}


def test_where_no_other_could_go_on_litellm_s_configured_fallbacks_are_kept_out_too() -> None:
    body: dict[str, Any] = {}
    bind_fallbacks(body, None, ANYWHERE)
    assert body == {kind: [] for kind in KINDS}
    body = {"fallbacks": ["austin"]}
    bind_fallbacks(body, None, ANYWHERE)
    assert body["fallbacks"] == ["austin"], "the client knows best"


@pytest.mark.parametrize("kind", [*KINDS, "context_window_fallback_dict"])
@pytest.mark.parametrize(
    "named",
    [
        ["austin"],
        ["paris", "austin"],
        ["unheard-of"],
        "austin",
        [{"model": "austin", "messages": []}],
        [{"model": "paris", "fallbacks": ["austin"]}],
        [{"berlin": ["austin"]}],
        [{"*": ["paris", "austin"]}],
        [5],
        [None],
        [[[[[["paris"]]]]]],
    ],
)
def test_a_client_s_fallback_that_may_not_answer_is_a_400_that_names_the_field(kind: str, named: object) -> None:
    with pytest.raises(RequestError) as caught:
        bound(EUROPE, "paris", **{kind: named})
    assert caught.value.field == kind


@pytest.mark.parametrize("named", [["paris"], [{"model": "paris", "messages": []}], [{"berlin": ["paris"]}]])
def test_a_client_s_fallback_that_may_answer_stands(named: object) -> None:
    assert bound(EUROPE, "berlin", fallbacks=named)["fallbacks"] == named


def test_a_group_the_key_may_not_call_is_no_fallback() -> None:
    narrow = Eligibility(NO_RULES, {"austin": Exclusion.KEY_ACCESS}, GROUPS)
    assert bound(narrow, "paris", fallbacks=["berlin"])["fallbacks"] == ["berlin"]
    with pytest.raises(RequestError):
        bound(narrow, fallbacks=["austin"])


def test_while_it_is_not_known_what_a_key_may_call_nobody_may_answer() -> None:
    assert Eligibility(NO_RULES, None, GROUPS).against("paris") is Exclusion.KEY_ACCESS


def test_dropping_leaves_none_of_any_kind() -> None:
    body: dict[str, Any] = {"fallbacks": ["austin"], "context_window_fallback_dict": {"a": "b"}, "model": "x"}
    drop_fallbacks(body)
    assert body == {"model": "x", **{kind: [] for kind in KINDS}}
