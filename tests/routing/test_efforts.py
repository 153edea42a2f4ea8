"""A model group at several reasoning efforts: which rows, lengths and names its candidates have."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from embedllm_router.errors import RequestError
from embedllm_router.routing.decision import Conditions, Objective, Reason
from embedllm_router.routing.deployments import ModelGroup, by_candidate, read_model_groups, through_wildcards
from embedllm_router.routing.overrides import Allowed, combine, read_override
from embedllm_router.routing.pipeline import Policy, RequestState
from embedllm_router.routing.pool import NO_RULES, CandidatePool, Exclusion
from embedllm_router.routing.prompt import THINKING_BUDGETS, Bond, read_body
from embedllm_router.routing.relatives import _LOGIT_PER_LOG_TOKENS, expect_ungraded
from embedllm_router.routing.router import Router
from embedllm_router.routing.session import PinnedSession

ALL = ["none", "minimal", "low", "medium", "high", "xhigh"]


@pytest.fixture(scope="module")
def shipped() -> Router:
    return Router.load()


def row(name: str, model: str, efforts: object, **info: object) -> dict[str, Any]:
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5}
    return {
        "model_name": name,
        "litellm_params": {"model": model, **price},
        "model_info": {"embedllm_efforts": efforts, **info},
    }


def at_efforts(router: Router, *rows: dict[str, Any]) -> tuple[dict[str, ModelGroup], Router]:
    groups, extended = expect_ungraded(read_model_groups(rows, {}, router.catalog), router)
    return by_candidate(groups), extended


def test_each_effort_is_the_variant_that_the_weights_know_or_its_nearest(shipped: Router) -> None:
    found, _ = at_efforts(shipped, row("g", "openai/gpt-5.4", ALL))
    assert list(found) == [f"g:{effort}" for effort in ALL]
    known = {name: (one.candidate.llm, one.candidate.known_by, one.like) for name, one in found.items()}
    assert known["g:none"] == ("gpt-5.4", "labels", None)
    assert known["g:medium"] == ("gpt-5.4:medium", "labels", None)
    assert known["g:low"] == ("gpt-5.4:low", "like", "gpt-5.4:medium")
    assert {(one.candidate.group, one.candidate.effort) for one in found.values()} == {("g", e) for e in ALL}


def test_an_llm_that_reasons_unless_told_otherwise_is_known_at_medium_and_not_without(shipped: Router) -> None:
    found, extended = at_efforts(shipped, row("g", "openai/gpt-5-2025-08-07", ["none", "medium", "high"]))
    assert found["g:medium"].candidate.llm == "gpt-5-2025-08-07"
    assert found["g:high"].candidate.llm == "gpt-5-2025-08-07:high"
    without = found["g:none"].candidate
    assert without.known_by == "family"
    assert not extended.artifact.manifest.llms[without.row or 0].thinking


def test_less_effort_is_shorter_and_less_often_right(shipped: Router) -> None:
    found, extended = at_efforts(shipped, row("g", "openai/gpt-5.1", ["none", "minimal", "low", "medium"]))
    rows = [one.candidate.row or 0 for one in found.values()]
    for column in (extended.average.output_tokens, extended.average.p_correct):
        assert all(a < b for a, b in itertools.pairwise(column[rows].tolist()))


def test_what_reasoning_gains_is_what_the_shipped_weights_say(shipped: Router) -> None:
    """Over the LLMs known both without and with reasoning: log-odds gained per e-fold of tokens."""
    catalog, average = shipped.catalog, shipped.average
    rows = {
        (catalog.base_of(llm.id), name.effort): i
        for i, (llm, name) in enumerate(zip(catalog.llms, catalog.names, strict=True))
    }
    logit = np.log(average.p_correct / (1 - average.p_correct))
    pairs = [(rows[base, None], row) for (base, effort), row in rows.items() if effort and (base, None) in rows]
    pairs = [(a, b) for a, b in pairs if catalog.llms[b].thinking and not catalog.llms[a].thinking]
    gains = [(logit[b] - logit[a]) / np.log(average.output_tokens[b] / average.output_tokens[a]) for a, b in pairs]
    assert len(gains) == 34
    assert np.median(gains) == pytest.approx(_LOGIT_PER_LOG_TOKENS, abs=0.03)
    assert np.quantile(gains, [0.25, 0.75]) == pytest.approx([0.29, 0.51], abs=0.03)


def test_an_unknown_llm_is_expected_to_reason_or_not_as_its_effort_says(shipped: Router) -> None:
    found, extended = at_efforts(shipped, row("g", "openai/gpt-9", ["none", "low", "medium"]))
    llms = [extended.artifact.manifest.llms[one.candidate.row or 0] for one in found.values()]
    assert [one.id for one in llms] == ["gpt-9:none", "gpt-9:low", "gpt-9:medium"]
    assert [one.thinking for one in llms] == [False, True, True]


def test_a_group_of_two_llms_is_the_worst_of_them_at_each_effort(shipped: Router) -> None:
    found, _ = at_efforts(shipped, row("g", "openai/gpt-5.4", ["high"]), row("g", "openai/gpt-5.4-nano", ["high"]))
    assert found["g:high"].candidate.llm == "gpt-5.4-nano-2026-03-17:high"


@pytest.mark.parametrize(
    ("rows", "candidates", "said"),
    [
        ([row("g", "openai/gpt-5.4", ["low", "hihg"])], ["g:low"], "hihg"),
        ([row("g", "openai/gpt-5.4", "low")], ["g:low"], None),
        ([row("g", "openai/gpt-5.4", ["low"]), row("g:low", "openai/gpt-4o", None)], ["g", "g:low"], "g:low already"),
        ([row("g", "openai/gpt-5.4", ["low", "high"]), row("g", "azure/gpt-5.4", ["low"])], ["g:low"], "high"),
    ],
)
def test_efforts_that_cannot_be_used_are_named(
    shipped: Router, rows: list[dict[str, Any]], candidates: list[str], said: str | None
) -> None:
    groups = read_model_groups(rows, {}, shipped.catalog)
    assert list(by_candidate(groups)) == candidates
    found = [one.found for group in groups.values() for one in group.complaints]
    assert found == [] if said is None else said in found[0]


def test_a_wildcard_serves_a_name_at_an_effort() -> None:
    rows = [
        {"model_name": "openai/*", "litellm_params": {"model": "openai/*"}, "model_info": {"embedllm_efforts": ALL}}
    ]
    made = through_wildcards(rows, ["openai/gpt-5.4:low", "openai/gpt-5.4:high", "openai/gpt-5.4:free"])
    assert [one["model_name"] for one in made] == ["openai/gpt-5.4", "openai/gpt-5.4:free"]


def test_a_model_group_stands_for_all_its_efforts_in_lists() -> None:
    names, at = ["g:low", "g:high", "plain"], {"g": ("g:low", "g:high")}
    team, body = (read_override(source, {"candidates": its}) for source, its in (("team", ["g"]), ("body", ["g:high"])))
    assert combine(Objective(), NO_RULES, [team, body], Allowed(), names, at).candidates == {"g:high"}
    with pytest.raises(RequestError, match="unknown g:none"):
        combine(Objective(), NO_RULES, [read_override("body", {"candidates": ["g:none"]})], Allowed(), names, at)


BODIES: list[tuple[str, Mapping[str, object], frozenset[str] | None]] = [
    ("acompletion", {}, None),
    ("acompletion", {"reasoning_effort": "High"}, frozenset({"high"})),
    ("acompletion", {"reasoning_effort": {"effort": "low", "summary": "auto"}}, frozenset({"low"})),
    ("acompletion", {"thinking": {"type": "adaptive"}}, frozenset({"high"})),
    ("aresponses", {"reasoning": {"summary": "auto"}}, None),
    ("aresponses", {"reasoning": {"effort": "minimal"}}, frozenset({"minimal"})),
    ("anthropic_messages", {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, frozenset({"none"})),
    ("anthropic_messages", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, frozenset({"low"})),
    ("anthropic_messages", {"thinking": {"type": "enabled", "budget_tokens": 3_000}}, frozenset({"medium"})),
    ("anthropic_messages", {"thinking": {"type": "enabled", "budget_tokens": 5}}, frozenset({"minimal"})),
    ("anthropic_messages", {"max_tokens": 2_049}, frozenset({"none", "low", "medium"})),
    ("anthropic_messages", {"max_tokens": 9_000}, frozenset({"none", "low", "medium", "high"})),
    ("atext_completion", {}, frozenset({"none"})),
]


@pytest.mark.parametrize(("call_type", "body", "efforts"), BODIES)
def test_the_efforts_that_a_request_leaves_open(
    call_type: str, body: Mapping[str, object], efforts: frozenset[str] | None
) -> None:
    assert read_body({"messages": [], **body}, call_type=call_type).efforts == efforts


def test_budgets_are_litellm_s_own_and_read_back_as_the_same_effort() -> None:
    from litellm import constants  # noqa: PLC0415 - slow
    from litellm.litellm_core_utils.reasoning_effort_utils import reasoning_effort_from_thinking_budget  # noqa: PLC0415

    for effort, budget in THINKING_BUDGETS.items():
        assert getattr(constants, f"DEFAULT_REASONING_EFFORT_{effort.upper()}_THINKING_BUDGET") == budget
        assert reasoning_effort_from_thinking_budget(budget) == effort


def routed(shipped: Router, state: RequestState = RequestState(), **conditions: Any) -> Any:  # noqa: B008 - frozen
    found, extended = at_efforts(shipped, row("g", "openai/gpt-5.1", ["none", "high"]), row("o", "openai/gpt-4o", None))
    pool = CandidatePool([one.candidate for one in found.values()])
    policy = Policy(pool, default="o")
    return extended.route("What is 2 + 2?", policy=policy, conditions=Conditions(**conditions), state=state).decision


def test_what_bars_a_model_group_bars_it_at_every_effort(shipped: Router) -> None:
    decision = routed(shipped, barred={"g": Exclusion.COOLED_DOWN})
    assert decision.excluded == (Exclusion.COOLED_DOWN, Exclusion.COOLED_DOWN, None)
    assert decision.answered_by("g") == "g"
    assert str(routed(shipped).answered_by("g")).startswith("g:")


def test_a_session_keeps_its_effort_and_a_bound_one_at_least_its_llm(shipped: Router) -> None:
    best = routed(shipped).chosen.name
    for pinned in {"g:none", "g:high", "o"} - {best}:
        bound = RequestState(session=PinnedSession(pinned, bond=Bond.TOOL_CALL))
        decision = routed(shipped, bound)
        assert (decision.chosen.name, decision.reason) == (pinned, Reason.SESSION_LOCKED)
    gone = RequestState(session=PinnedSession("g:none", bond=Bond.TOOL_CALL))
    assert routed(shipped, gone, only={"g:high", "o"}).chosen.name == "g:high"
