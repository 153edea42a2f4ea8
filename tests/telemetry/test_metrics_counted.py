"""What is counted, against sums made naively from the same planted records."""

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import structlog
from monitored import NOT_LOADED, STATUS, eventful, sampled, total
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from recorded import START, USD, make_record, make_records

from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.telemetry.metrics import NoMetrics, open_metrics
from embedllm_router.telemetry.prometheus import PrometheusMetrics
from embedllm_router.telemetry.status import Status

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def scraped(metrics: PrometheusMetrics) -> Samples:
    return sampled(metrics.scrape().body.decode())


def counted(records: list[RequestRecord], status: Status = STATUS) -> Samples:
    metrics = PrometheusMetrics(lambda: status, CollectorRegistry())
    for record in records:
        metrics.observe(record)
    return scraped(metrics)


def feedback(request_id: str, score: float, source: str = "user") -> FeedbackRecord:
    return FeedbackRecord(at=START, request_id=request_id, score=score, source=source)


@pytest.fixture(scope="module")
def records() -> list[RequestRecord]:
    return eventful()


@pytest.fixture(scope="module")
def samples(records: list[RequestRecord]) -> Samples:
    return counted(records)


def test_every_request_is_counted_once_by_choice_and_once_by_outcome(
    records: list[RequestRecord], samples: Samples
) -> None:
    choices = Counter((r.virtual_model, r.chosen, r.reason, r.arm) for r in records)
    for (model, llm, reason, arm), n in choices.items():
        labels = {"virtual_model": model, "llm": llm, "reason": reason, "arm": arm}
        assert total(samples, "embedllm_decisions_total", **labels) == n
    assert total(samples, "embedllm_decisions_total") == len(records)
    outcomes = Counter((r.served or "none", r.status) for r in records)
    for (llm, status), n in outcomes.items():
        assert total(samples, "embedllm_outcomes_total", llm=llm, status=status) == n
    assert total(samples, "embedllm_outcomes_total") == len(records)


def test_what_went_wrong_is_counted_by_its_cause(records: list[RequestRecord], samples: Samples) -> None:
    failed_open = sum(r.failed_open == "ArtifactError" for r in records)
    assert failed_open == total(samples, "embedllm_failed_open_total", cause="ArtifactError") > 0
    fallbacks = Counter((r.chosen, r.served) for r in records if r.fallback)
    assert fallbacks
    for (chosen, served), n in fallbacks.items():
        assert total(samples, "embedllm_fallbacks_total", chosen=chosen, served=str(served)) == n
    assert total(samples, "embedllm_floor_unmet_total") == 1
    assert total(samples, "embedllm_shadow_decisions_total", agrees="yes") == 1
    assert total(samples, "embedllm_shadow_decisions_total", agrees="no") == 1


def test_forecast_and_bill_are_summed_over_the_same_answers(records: list[RequestRecord], samples: Samples) -> None:
    """A fallback is held against the forecast for the one that answered; an answer without forecast against none."""
    billed = [r for r in records if r.billed_cost_usd is not None]
    forecast = [r for r in billed if r.p_correct is not None]
    expected = sum(USD[str(r.served)] for r in forecast)
    assert total(samples, "embedllm_expected_cost_usd_total") == pytest.approx(expected)
    bill = sum(r.billed_cost_usd or 0 for r in forecast)
    assert total(samples, "embedllm_billed_cost_usd_total", forecast="yes") == pytest.approx(bill)
    rest = sum(r.billed_cost_usd or 0 for r in billed if r.p_correct is None)
    assert total(samples, "embedllm_billed_cost_usd_total", forecast="no") == pytest.approx(rest)
    assert rest > 0
    assert total(samples, "embedllm_request_cost_usd_count", kind="billed") == len(billed)


def test_saving_and_regret_follow_from_the_sums(records: list[RequestRecord], samples: Samples) -> None:
    decided = [r for r in records if r.p_correct is not None]
    chosen, likeliest = (sum(getattr(r, name) for r in decided) for name in ("p_correct", "likeliest_p_correct"))
    assert total(samples, "embedllm_p_correct_sum") == pytest.approx(chosen)
    assert total(samples, "embedllm_regret_sum") == pytest.approx(likeliest - chosen)
    cheapest = sum(r.cheapest_p_correct or 0 for r in decided)
    assert total(samples, "embedllm_cheapest_p_correct_total") == pytest.approx(cheapest)
    for name in ("likeliest", "cheapest"):
        spent = sum(getattr(r, f"{name}_cost_usd") for r in decided)
        assert total(samples, f"embedllm_{name}_cost_usd_total") == pytest.approx(spent)
    own = sum(r.expected_cost_usd or 0 for r in decided)
    assert total(samples, "embedllm_request_cost_usd_sum", kind="expected") == pytest.approx(own)


def test_a_canary_is_told_from_the_live_lane(samples: Samples) -> None:
    assert total(samples, "embedllm_decisions_total", arm="canary", llm="sprinter") == 1
    assert total(samples, "embedllm_p_correct_sum", arm="canary") == pytest.approx(0.95)


def test_times_are_counted_in_seconds(records: list[RequestRecord], samples: Samples) -> None:
    assert total(samples, "embedllm_route_seconds_sum") == pytest.approx(sum(r.route_ms for r in records) / 1e3)
    timed = sum(r.encode_ms is not None for r in records)
    assert total(samples, "embedllm_step_seconds_count", step="encode") == timed
    assert total(samples, "embedllm_step_seconds_sum", step="score") == pytest.approx(timed * 1e-4)
    latency = sum(r.latency_ms or 0 for r in records) / 1e3
    assert total(samples, "embedllm_latency_seconds_sum") == pytest.approx(latency)


def test_buckets_hold_what_belongs_in_them() -> None:
    samples = counted([make_record(topic="chat"), make_record(topic="maths", p_correct=0.5)])
    below = {le: total(samples, "embedllm_p_correct_bucket", le=le) for le in ("0.4", "0.5", "0.9", "0.95", "1.0")}
    assert below == {"0.4": 0, "0.5": 1, "0.9": 1, "0.95": 2, "1.0": 2}


def test_the_status_is_read_at_every_scrape() -> None:
    now = [replace(NOT_LOADED, left_alone={})]
    metrics = PrometheusMetrics(lambda: now[0], CollectorRegistry())
    before = scraped(metrics)
    assert total(before, "embedllm_ready") == 0
    assert total(before, "embedllm_artifact_info", artifact="none") == 1
    assert "embedllm_llm_left_alone" not in before
    assert "embedllm_last_reload_success" not in before
    now[0] = replace(STATUS, left_alone={"wizard": "resting"})
    after = scraped(metrics)
    assert after["embedllm_llm_left_alone"] == {frozenset({("llm", "wizard"), ("reason", "resting")}): 1.0}
    assert after["embedllm_artifact_info"] == {
        frozenset(
            {("artifact", "0123456789ab"), ("created", "2026-01-01"), ("version", "9.9.9"), ("store", "files")}
        ): 1.0
    }
    values = {name: total(after, f"embedllm_{name}") for name in ("ready", "generation", "last_reload_success")}
    assert values == {"ready": 1, "generation": 3, "last_reload_success": 1}
    kinds = {"written_records_total": 100, "dropped_records_total": 2, "failed_writes_total": 1}
    for name, value in {**kinds, "queued_records": 7, "lag_seconds": 0.5}.items():
        assert total(after, f"embedllm_store_{name}") == value


def test_a_label_is_never_what_the_configuration_does_not_hold(records: list[RequestRecord]) -> None:
    secret = "sk-secret-and-endless-"
    strange = [
        make_record(i, virtual_model=f"{secret}{i}", chosen=f"{secret}{i}", served=f"{secret}{i}", key_alias=secret)
        for i in range(200)
    ]
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    for record in [*records, *strange]:
        metrics.observe(record)
    for i in range(200):
        metrics.rejected(f"{secret}{i}", f"embedllm.{secret}{i}")
        metrics.feedback(feedback(f"{secret}{i}", 1.0, source=f"{secret}{i}"))
    text = metrics.scrape().body.decode()
    assert secret not in text
    samples = sampled(text)
    assert total(samples, "embedllm_decisions_total", virtual_model="other", llm="other") == 200
    assert total(samples, "embedllm_rejected_total", virtual_model="other", field="other") == 200
    assert len(text.splitlines()) < 1_000


def test_error_classes_are_bounded() -> None:
    samples = counted([make_record(i, failed_open=f"Error{i}") for i in range(100)])
    assert len(samples["embedllm_failed_open_total"]) == 31
    assert total(samples, "embedllm_failed_open_total", cause="other") == 70


def test_names_that_the_configuration_gains_are_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [replace(STATUS, virtual_models=())]
    clock = [1000.0]
    monkeypatch.setattr("embedllm_router.telemetry.prometheus.time.monotonic", lambda: clock[0])
    metrics = PrometheusMetrics(lambda: now[0], CollectorRegistry())
    metrics.observe(make_record())
    now[0] = STATUS
    metrics.observe(make_record())
    assert total(scraped(metrics), "embedllm_decisions_total", virtual_model="other", llm="other") == 2
    clock[0] += 6
    metrics.observe(make_record())
    assert total(scraped(metrics), "embedllm_decisions_total", virtual_model="auto", llm="wizard") == 1


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -1.0])
def test_a_number_that_is_none_does_not_spoil_a_counter(nonsense: float) -> None:
    spoilt = make_record(1, billed_cost_usd=nonsense, likeliest_cost_usd=nonsense, expected_cost_usd=nonsense)
    samples = counted([make_record(0), spoilt])
    assert total(samples, "embedllm_billed_cost_usd_total") == pytest.approx(0.016 * 0.9)
    assert total(samples, "embedllm_likeliest_cost_usd_total") == pytest.approx(0.016)


def test_feedback_is_held_against_what_was_predicted() -> None:
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    metrics.observe(make_record(1, topic="chat"))
    metrics.observe(make_record(2, topic="maths"))
    metrics.feedback(feedback("request-1", 1.0))
    metrics.feedback(feedback("chatcmpl-2", 0.0, source="judge:gpt-4o"))
    metrics.feedback(feedback("request-3", 1.0, source="import"))
    samples = scraped(metrics)
    assert total(samples, "embedllm_judged_answers_total", virtual_model="auto") == 2
    assert total(samples, "embedllm_judged_score_total") == 1
    assert total(samples, "embedllm_judged_p_correct_total") == pytest.approx(1.9)
    assert total(samples, "embedllm_feedback_total", source="judge", known="yes") == 1
    assert total(samples, "embedllm_feedback_total", source="import", known="no") == 1


def test_what_is_remembered_for_feedback_is_bounded() -> None:
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    for i in range(10_001):
        metrics.observe(make_record(i))
    metrics.feedback(feedback("request-0", 1.0))
    metrics.feedback(feedback("request-10000", 1.0))
    samples = scraped(metrics)
    assert total(samples, "embedllm_feedback_total", known="no") == total(samples, "embedllm_judged_answers_total") == 1


def test_reloads_and_refusals_are_counted() -> None:
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    assert total(scraped(metrics), "embedllm_reloads_total", result="failed") == 0
    metrics.reloaded(ok=False)
    metrics.reloaded(ok=True)
    metrics.rejected("auto", "embedllm.cost_weight")
    metrics.rejected("auto", "x-embedllm-cost-weight")
    samples = scraped(metrics)
    assert total(samples, "embedllm_reloads_total", result="failed") == 1
    assert total(samples, "embedllm_reloads_total", result="ok") == 1
    assert total(samples, "embedllm_rejected_total", field="embedllm.cost_weight") == 1
    assert total(samples, "embedllm_rejected_total", field="x-embedllm-cost-weight") == 1


def test_a_second_one_in_the_same_registry_goes_on_counting_and_shows_its_own_status() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(lambda: NOT_LOADED, registry).observe(make_record(1))
    second = PrometheusMetrics(lambda: STATUS, registry)
    second.observe(make_record(2))
    samples = scraped(second)
    assert total(samples, "embedllm_decisions_total") == 2
    assert total(samples, "embedllm_ready") == 1


def test_the_registry_that_the_host_serves_shows_the_same_series() -> None:
    registry = CollectorRegistry(auto_describe=True)
    metrics = PrometheusMetrics(lambda: STATUS, registry)
    for record in make_records(50):
        metrics.observe(record)
    assert sampled(generate_latest(registry).decode()) == scraped(metrics)


def test_a_scrape_may_ask_for_openmetrics() -> None:
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    metrics.observe(make_record())
    written = metrics.scrape("application/openmetrics-text; version=1.0.0")
    assert written.content_type.startswith("application/openmetrics-text")
    families = openmetrics.text_string_to_metric_families(written.body.decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"embedllm_decisions", "embedllm_store_lag_seconds", "embedllm_artifact_info"} <= names


def test_off_by_setting_counts_nothing() -> None:
    metrics = open_metrics(lambda: STATUS, structlog.get_logger(), enabled=False)
    assert isinstance(metrics, NoMetrics)
    metrics.observe(make_record())
    metrics.rejected("auto", "embedllm")
    metrics.reloaded(ok=True)
    metrics.feedback(feedback("request-1", 1.0))
    assert metrics.scrape() is None


def test_a_missing_library_is_one_warning() -> None:
    code = """
import sys
sys.modules["prometheus_client"] = None
import structlog
from embedllm_router.telemetry.metrics import open_metrics
print(type(open_metrics(lambda: None, structlog.get_logger())).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    warning, answer = done.stdout.splitlines()
    assert "routing.metrics_off" in warning
    assert "prometheus_client" in warning
    assert answer == "NoMetrics"


def test_a_store_that_is_off_is_said_so() -> None:
    samples = counted([], replace(STATUS, store=StoreHealth()))
    assert total(samples, "embedllm_artifact_info", store="off") == 1


def test_savings_are_counted_against_the_baseline_where_it_could_have_answered() -> None:
    used = {"baseline": "wizard", "baseline_p_correct": 0.95, "baseline_cost_usd": USD["wizard"]}
    with_one = [replace(make_record(0, topic="chat"), **used), replace(make_record(1), **used)]  # type: ignore[arg-type]
    samples = counted([*with_one, make_record(2)])
    assert total(samples, "embedllm_baseline_cost_usd_total") == pytest.approx(2 * USD["wizard"])
    assert total(samples, "embedllm_baseline_p_correct_total") == pytest.approx(2 * 0.95)
    assert total(samples, "embedllm_baseline_routed_cost_usd_total") == pytest.approx(USD["wizard"] + USD["sprinter"])
    assert total(samples, "embedllm_baseline_routed_p_correct_total") == pytest.approx(2 * 0.95)
