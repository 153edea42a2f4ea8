"""One order of events: the same request, settings and state give the same choice wherever it is decided."""

import io
import warnings
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litellm.proxy._types import UserAPIKeyAuth
from proxied import deployment

from embedllm_router import Router
from embedllm_router.analysis.replay.batch import CandidateBatch, choose
from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.config.settings import read_settings
from embedllm_router.proxy.container import assemble
from embedllm_router.proxy.plugin import ProxyHandler
from embedllm_router.records.schema import RequestRecord
from embedllm_router.routing.decision import Conditions, Reason, Request
from embedllm_router.routing.pipeline import NO_STATE, Embedded, Policy, RequestState, Routing, decide
from embedllm_router.routing.prompt import read_body
from embedllm_router.routing.router import NEAR_TIE_MARGIN
from embedllm_router.telemetry.decision_record import Outcome, to_record

LLMS = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "claude-sonnet-4-20250514", "o3-mini", "llama-3.1-8b-instruct")
PRICES = ((0.15, 0.6), (2.5, 10.0), (3.0, 15.0), (1.1, 4.4), (0.05, 0.08))
ROWS = [deployment(llm, llm, price, id=llm) for llm, price in zip(LLMS, PRICES, strict=True)]
WORDS = ("prime", "poem", "integral", "SELECT", "why", "capital", "def f(x):", "statute", "42", "translate", "\n\n")

prompts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
aims = st.one_of(
    st.floats(0, 2_000).map(lambda weight: {"cost_weight": weight}),
    st.floats(0, 1).map(lambda floor: {"min_p_correct": floor}),
    st.floats(0, 0.5).map(lambda drop: {"max_accuracy_drop": drop}),
)
explorations = st.sampled_from([{}, {"epsilon": 0.5, "max_loss": 1.0, "max_extra_usd": 1.0}, {"method": "thompson"}])
virtual_models = st.builds(
    lambda aim, exploration, margin, ood, budget, candidates, session: {
        "default": LLMS[1],
        **aim,
        "near_tie_margin": margin,
        "max_ood_score": ood,
        "exploration": exploration,
        "budgets": [{"usd": budget}] if budget else [],
        "candidates": candidates,
        "sessions": {"enabled": session},
        "shadow": aim or {"cost_weight": 0},
    },
    aim=aims,
    exploration=explorations,
    margin=st.sampled_from([0.0, 0.005, 0.2]),
    ood=st.none() | st.floats(0, 1),
    budget=st.none() | st.sampled_from([1e-6, 0.01, 100.0]),
    candidates=st.none() | st.lists(st.sampled_from(LLMS), min_size=1, max_size=4, unique=True),
    session=st.booleans(),
)


@cache
def shipped() -> Router:
    return Router(load_artifact(default_artifact_path()))


@pytest.fixture
def proxy_server(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own, on import
        module = import_module("litellm.proxy.proxy_server")
    monkeypatch.setattr(module, "llm_model_list", ROWS)
    return module


class Watched:
    """The hook of a real plugin, with every decision of its live arm, its seed and its record."""

    def __init__(self, section: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Router, "load", classmethod(lambda *_: shipped()))  # loading takes longer than the test
        monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(folder / "records"))
        monkeypatch.setenv("EMBEDLLM_ROUTER_STATE__PATH", str(folder / "state"))
        self.container = assemble(read_settings({"virtual_models": {"auto": section}}), log_to=io.StringIO())
        self.handler = ProxyHandler(self.container)
        self.records: list[RequestRecord] = []
        self.container.tracker._sinks = (self.records.append,)
        self.decided: list[tuple[Routing, Policy, RequestState]] = []
        monkeypatch.setattr("embedllm_router.proxy.plugin.decide", self._decide)

    def _decide(  # noqa: PLR0913, PLR0917 - as `decide` has it
        self,
        predictor: Router,
        prompt: Any,
        request: Request,
        policy: Policy,
        state: RequestState,
        embedded: Embedded | None,
    ) -> Routing:
        routing = decide(predictor, prompt, request, policy, state, embedded)
        self.decided.append((routing, policy, state))
        return routing

    async def ask(self, number: int, messages: list[dict[str, str]]) -> dict[str, Any]:
        data = {"model": "auto", "messages": messages, "litellm_call_id": str(number), "metadata": {}}
        return await self.handler.async_pre_call_hook(UserAPIKeyAuth(api_key="sk-1"), None, data, "acompletion")

    def shadow_of(self, number: int) -> str | None:
        """Ends a request and waits for what the shadow decided."""
        thread = self.container.shadows._thread
        if thread is not None:
            thread.submit(lambda: None).result(timeout=20)
        self.container.tracker.ended(str(number), Outcome(LLMS[0], "success"))
        return self.records[-1].shadow_chosen


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(section=virtual_models, asked=st.lists(prompts, min_size=1, max_size=3))
@pytest.mark.usefixtures("proxy_server")
def test_hook_shadow_router_and_replay_choose_alike(
    section: dict[str, Any],
    asked: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A chain of turns: budgets are spent, sessions pinned and callers drift on the way."""
    import asyncio  # noqa: PLC0415 - hypothesis drives the test, a loop of its own each example

    async def run(watched: Watched) -> None:
        messages: list[dict[str, str]] = []
        for number, prompt in enumerate(asked):
            messages += [{"role": "user", "content": prompt}]
            data = await watched.ask(number, messages)
            routing, policy, state = watched.decided[-1]
            assert data["model"] == policy.pool.names[routing.decision.ranking[0]]
            assert_same_everywhere(routing, policy, state)
            assert watched.shadow_of(number) == data["model"], "a shadow with the live objective and weights"
            assert_replayed(routing, data["model"], policy, state)
            messages += [{"role": "assistant", "content": "yes"}]

    with pytest.MonkeyPatch.context() as patches:
        watched = Watched(section, tmp_path_factory.mktemp("pipeline"), patches)
        try:
            asyncio.run(run(watched))
        finally:
            watched.container.close()


def assert_same_everywhere(routing: Routing, policy: Policy, state: RequestState) -> None:
    """`Router.route` in plain Python, with the state the hook had."""
    pace = routing.pace
    again = shipped().route(
        routing.prompt,
        objective=routing.request.objective,
        policy=policy,
        conditions=routing.request.conditions,
        state=replace(state, pace=lambda _: pace),
    )
    assert again.decision.ranking == routing.decision.ranking
    assert again.decision.reason == routing.decision.reason
    np.testing.assert_array_equal(again.decision.p_correct, routing.decision.p_correct)
    assert again.decision.propensity == routing.decision.propensity


OUTSIDE_REPLAY = {Reason.SESSION_KEPT, Reason.SESSION_LOCKED, Reason.EXPLORED, Reason.OUT_OF_DISTRIBUTION}


def assert_replayed(routing: Routing, chosen: str, policy: Policy, state: RequestState) -> None:
    """What a replay would choose from the recorded numbers, but for what depends on more than the request.

    Where a floor or a drop gave way to a budget, records hold the floor or drop, and a replay keeps it.
    """
    if routing.decision.reason in OUTSIDE_REPLAY or routing.decision.explored is not None:
        return
    record = to_record(a_record(routing, chosen), Outcome(chosen, "success"))
    objective = routing.decision.request.objective
    batch = CandidateBatch.from_records([(record.candidates, objective.cost_weight)])
    aims_at_accuracy = objective.min_p_correct is not None or objective.max_accuracy_drop is not None
    if routing.decision.reason is Reason.WITHIN_BUDGET and aims_at_accuracy:
        alone = decide(shipped(), routing.prompt, routing.request, policy, replace(state, pace=None, session=None))
        chosen = policy.pool.names[alone.decision.ranking[0]]
    assert batch.names[choose(batch, objective)[0]] == chosen


def a_record(routing: Routing, chosen: str) -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415 - used here alone

    from embedllm_router.telemetry.decision_record import DecisionRecord, RequestContext  # noqa: PLC0415 - likewise

    context = RequestContext("1", "auto", "acompletion", datetime.now(UTC), 0.0)
    return DecisionRecord(context, chosen, 1.0, decision=routing.decision, timing=routing.timing_ms)


@given(prompts, st.sampled_from([0.0, 20.0, 500.0]))
def test_plain_python_breaks_near_ties_as_the_proxy_does_by_default(prompt: str, cost_weight: float) -> None:
    router = shipped()
    pool = router.pool(LLMS)
    default = read_settings({"virtual_models": {"auto": {"default": "x", "cost_weight": cost_weight}}})
    objective = default.virtual_models["auto"].objective
    assert objective.near_tie_margin == NEAR_TIE_MARGIN
    read = read_body({"prompt": prompt})
    request = Request(objective, read.input_tokens, None, read.needs, Conditions())
    proxied = decide(router, read, request, Policy(pool), NO_STATE)
    plain = router.route(prompt, cost_weight=cost_weight, pool=pool)
    assert plain.decision.ranking == proxied.decision.ranking


def test_near_ties_are_broken_somewhere_in_these_prompts() -> None:
    """Else the test above proves nothing."""
    router = shipped()
    route = partial(router.route, cost_weight=20.0, pool=router.pool(LLMS))
    reasons = {route(f"{one} {other}").decision.reason for one in WORDS for other in WORDS}
    assert {Reason.NEAR_TIE, Reason.HIGHEST_UTILITY} <= reasons
