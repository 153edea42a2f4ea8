"""From decision to record: everything that was weighed is kept, once, and nothing of the prompt unless asked."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from planted import SPRINTER, WIZARD

from embedllm_router import Router
from embedllm_router.config.process import LogSettings
from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.proxy.shadow import ShadowRunner
from embedllm_router.records.schema import RequestRecord
from embedllm_router.routing.pipeline import NO_STATE, Policy
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.prompt import Prompt, read_body
from embedllm_router.serving.arms import Arm, VirtualModel
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome, RequestContext
from embedllm_router.telemetry.events import response_headers
from embedllm_router.telemetry.log import configure_logging
from embedllm_router.telemetry.tracing import Tracer
from embedllm_router.telemetry.tracker import Keep, RequestTracker

AT = datetime(2026, 1, 1, tzinfo=UTC)
PROMPT = "integral hunter2"


class Watched:
    """A tracker, the records it made and the events it logged."""

    def __init__(self, router: Router, **keep: bool) -> None:
        self.router, self.records, self.log = router, list[RequestRecord](), io.StringIO()
        self.bills: list[float | None] = []
        log = configure_logging(LogSettings(), self.log)
        kept = Keep(lambda text: f"hash of {len(text)}", **keep)
        self.shadows = ShadowRunner(log)
        self.tracker = RequestTracker(log, [self.records.append], kept, tracer=Tracer())

    def arm(self, name: str, objective: Objective) -> Arm:
        return _arm(self.router, name, objective)

    def decide(  # noqa: PLR0913 - what a request may be
        self,
        request_id: str = "1",
        *,
        shadow: Objective | None = None,
        objective_from: str = "config",
        prompt: str | Prompt = PROMPT,
        private: bool = False,
        baseline: str | None = None,
    ) -> None:
        live = self.arm("live", Objective(1.0))
        routing = self.router.route(prompt, objective=live.objective, pool=live.virtual_model.pool)
        started = time.perf_counter()
        context = RequestContext(request_id, "auto", "acompletion", AT, started, key_alias="team-a", private=private)
        beside = None
        if shadow:
            beside = self.shadows.decide(self.arm("shadow", shadow), live, routing, NO_STATE, objective_from, None)
        self.tracker.decided(
            context,
            routing,
            objective_from=objective_from,
            baseline=baseline,
            shadow=beside,
            on_end=lambda _, bill: self.bills.append(bill),
        )

    def end(self, request_id: str = "1", **outcome: object) -> RequestRecord:
        fields = {"served": WIZARD, "status": "success", "input_tokens": 5, "output_tokens": 7, "cost_usd": 0.1}
        self.tracker.ended(request_id, Outcome(**{**fields, **outcome}))  # type: ignore[arg-type]
        return self.records[-1]


def _arm(router: Router, name: str, objective: Objective) -> Arm:
    settings = VirtualModelSettings(default=SPRINTER)
    model = VirtualModel("auto", settings, Policy(router.pool()), settings.rules, settings.requests.allowed, ())
    return Arm(name, router, model, objective)


@pytest.fixture
def watched(router: Router) -> Iterator[Watched]:
    one = Watched(router)
    yield one
    one.tracker.close()
    one.shadows.close()


def test_a_record_holds_the_whole_decision_and_its_outcome(watched: Watched) -> None:
    watched.decide()
    record = watched.end(latency_ms=12.5, response_id="chatcmpl-1")
    assert (record.at, record.request_id, record.key_alias) == (AT, "1", "team-a")
    assert (record.chosen, record.llm, record.reason) == (WIZARD, WIZARD, "highest_utility")
    assert record.p_correct == pytest.approx(1 / (1 + np.exp(-3)))
    assert record.expected_cost_usd == pytest.approx(4 * 10e-6 + 400 * 40e-6)
    assert record.p_correct is not None
    assert record.expected_cost_usd is not None
    assert record.utility == pytest.approx(record.p_correct - record.expected_cost_usd)
    assert [c.name for c in record.candidates] == [WIZARD, SPRINTER, "novice-1.5b"]
    assert record.candidates[-1].excluded == "price_unknown"
    assert (record.likeliest, record.cheapest) == (WIZARD, SPRINTER)
    assert (record.status, record.served, record.fallback) == ("success", WIZARD, False)
    assert (record.billed_cost_usd, record.billed_output_tokens, record.latency_ms) == (0.1, 7, 12.5)
    assert record.served_p_correct == record.p_correct
    assert record.artifact == watched.router.artifact.id
    assert record.encoder == watched.router.encoder_id
    assert record.propensity == 1.0


@pytest.mark.parametrize(("baseline", "kept"), [(SPRINTER, SPRINTER), ("novice-1.5b", None), ("absent", None)])
def test_the_baseline_is_recorded_where_it_could_have_been_chosen(
    watched: Watched, baseline: str, kept: str | None
) -> None:
    watched.decide(baseline=baseline)
    record = watched.end()
    assert record.baseline == kept
    same = next((c for c in record.candidates if c.name == kept), None)
    assert record.baseline_p_correct == (same and same.p_correct)
    assert record.baseline_cost_usd == (same and same.cost_usd)


def test_a_fallback_is_recorded_with_its_own_probability(watched: Watched) -> None:
    watched.decide()
    record = watched.end(served=SPRINTER)
    assert (record.chosen, record.served, record.fallback) == (WIZARD, SPRINTER, True)
    assert record.served_p_correct == pytest.approx(1 / (1 + np.exp(3)))


def test_nothing_of_the_prompt_is_kept_unless_asked(watched: Watched) -> None:
    watched.decide()
    record = watched.end()
    assert (record.prompt, record.embedding) == (None, None)
    assert record.prompt_hash == f"hash of {len(PROMPT)}"
    assert record.prompt_chars == len(PROMPT)
    assert "hunter2" not in watched.log.getvalue() + repr(record)


def test_text_and_embedding_are_kept_when_asked(router: Router) -> None:
    watched = Watched(router, text=True, embedding=True)
    watched.decide()
    record = watched.end()
    assert record.prompt == PROMPT
    assert record.embedding is not None
    kept = np.frombuffer(base64.b64decode(record.embedding), dtype="<f2")
    np.testing.assert_allclose(kept, router.encode(PROMPT).prompt_embedding, rtol=1e-3)


def test_of_a_private_request_nothing_of_the_prompt_is_kept(router: Router) -> None:
    watched = Watched(router, text=True, embedding=True)
    watched.decide(private=True)
    record = watched.end()
    assert (record.prompt, record.prompt_hash, record.embedding) == (None, None, None)
    assert (record.chosen, record.billed_cost_usd) == (WIZARD, 0.1)


def test_an_outcome_is_recorded_once(watched: Watched) -> None:
    watched.decide()
    watched.tracker.ended("1", Outcome(None, "failure", error="Timeout"), headers_follow=True)
    assert watched.tracker.find("1") is not None, "the error's headers are still to be written"
    watched.end()
    watched.end("never seen")
    assert [r.status for r in watched.records] == ["failure"]
    assert watched.tracker.n_pending == 0


def test_a_request_that_failed_open_is_recorded_without_a_decision(watched: Watched) -> None:
    context = RequestContext("1", "auto", "acompletion", AT, time.perf_counter())
    watched.tracker.failed_open(context, "sprinter", "KeyError")
    record = watched.end(served="sprinter")
    assert (record.reason, record.failed_open, record.chosen) == ("failed_open", "KeyError", "sprinter")
    assert (record.p_correct, record.candidates, record.artifact) == (None, (), None)


def test_requests_whose_outcome_never_comes_are_recorded_as_such(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedllm_router.telemetry.tracker._MAX_PENDING", 2)
    for request_id in "abc":
        watched.decide(request_id)
    assert [(r.request_id, r.status) for r in watched.records] == [("a", "unknown")]
    watched.tracker.close()
    assert [r.request_id for r in watched.records] == ["a", "b", "c"]


def test_requests_are_given_up_after_an_hour(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.decide("old")
    now = time.monotonic()
    monkeypatch.setattr("embedllm_router.telemetry.tracker.time.monotonic", lambda: now + 3_601)
    watched.decide("new")
    assert [r.request_id for r in watched.records] == ["old"]


def test_an_id_that_comes_twice_makes_two_records(watched: Watched) -> None:
    watched.decide("same")
    watched.decide("same")
    assert watched.tracker.n_pending == 1
    watched.end("same")
    assert [r.status for r in watched.records] == ["unknown", "success"]
    assert watched.tracker.n_pending == 0


def test_a_decision_that_could_not_be_told_makes_one_record(watched: Watched) -> None:
    watched.decide("1")
    context = RequestContext("1", "auto", "acompletion", AT, time.perf_counter())
    watched.tracker.failed_open(context, "sprinter", "OSError")
    watched.end("1", served="sprinter")
    assert [r.reason for r in watched.records] == ["failed_open"]
    assert watched.tracker.n_pending == 0


def test_a_shadow_decides_for_the_record_only(watched: Watched) -> None:
    watched.decide(shadow=Objective(10_000.0))
    _wait_for_shadow(watched)
    record = watched.end()
    assert (record.chosen, record.shadow_chosen) == (WIZARD, SPRINTER)
    assert record.shadow_artifact == watched.router.artifact.id
    assert record.shadow_p_correct == pytest.approx(1 / (1 + np.exp(3)))
    assert record.shadow_cost_usd == pytest.approx(4 * 0.2e-6 + 100 * 0.6e-6)


def test_an_answer_quicker_than_the_shadow_waits_for_it_to_be_recorded(watched: Watched) -> None:
    watched.decide()
    assert watched.shadows._thread is None
    held = threading.Event()
    watched.shadows._thread = ThreadPoolExecutor(1)
    watched.shadows._thread.submit(held.wait, 10)
    watched.decide("2", shadow=Objective(10_000.0))
    watched.tracker.ended("2", Outcome(WIZARD, "success"))
    assert watched.records == []
    held.set()
    _wait_for_shadow(watched)
    assert [(r.request_id, r.shadow_chosen) for r in watched.records] == [("2", SPRINTER)]


def test_a_shadow_follows_the_client_s_own_objective(watched: Watched) -> None:
    watched.decide(shadow=Objective(10_000.0), objective_from="body")
    _wait_for_shadow(watched)
    assert watched.end().shadow_chosen == WIZARD


def test_a_shadow_that_fails_is_reported_and_hurts_nobody(
    watched: Watched, artifact_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Router.load(artifact_dir)
    monkeypatch.setattr(broken, "scorer", None)
    monkeypatch.setattr(Watched, "arm", lambda self, *of: _arm(broken if of[0] == "shadow" else self.router, *of))
    watched.decide(shadow=Objective(1.0))
    _wait_for_shadow(watched)
    assert watched.end().shadow_chosen is None
    events = [json.loads(line) for line in watched.log.getvalue().splitlines()]
    assert [e["reason"] for e in events if e["event"] == "routing.shadow_failed"] == ["AttributeError"]


def _wait_for_shadow(watched: Watched) -> None:
    shadows = watched.shadows._thread
    assert shadows is not None
    shadows.submit(lambda: None).result(timeout=10)


def test_the_bill_is_told_once_whatever_the_outcome(watched: Watched) -> None:
    for request_id in ("answered", "failed", "lost"):
        watched.decide(request_id)
    watched.end("answered")
    watched.tracker.ended("failed", Outcome(None, "failure", error="Timeout"), headers_follow=True)
    watched.end("failed")
    watched.tracker.close()
    assert watched.bills == [0.1, 0.0, None]


@pytest.mark.parametrize(("n", "seen"), [(1, True), (2, False)])
def test_several_answers_at_once_say_nothing_of_the_length_of_one(watched: Watched, n: int, *, seen: bool) -> None:
    watched.decide(prompt=read_body({"prompt": PROMPT, "n": n}))
    watched.tracker.ended("1", Outcome(WIZARD, "success", output_tokens=5_000, latency_ms=10.0))
    assert (watched.tracker.statistics.length_factor(WIZARD) != 1.0) is seen
    assert watched.tracker.statistics.latency_s(WIZARD) == 0.01


def test_a_name_no_header_can_hold_is_percent_coded() -> None:
    """LiteLLM would answer a 500 in place of an answer that is paid for."""
    context = RequestContext("1", "авто\r\n", "acompletion", AT, 0.0)
    headers = response_headers(DecisionRecord(context, "gpt-4o mini (eu)", 1.0), "groß")
    assert headers["x-embedllm-virtual-model"] == "%D0%B0%D0%B2%D1%82%D0%BE%0D%0A"
    assert headers["x-embedllm-chosen"] == "gpt-4o mini (eu)"
    assert headers["x-embedllm-served"] == "gro%C3%9F"
