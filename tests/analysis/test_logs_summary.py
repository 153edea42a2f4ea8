"""The summary is what a plain loop over the records gives, on either back end, whole or sampled."""

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import fmean, median

import numpy as np
import orjson
import pytest
from log_files import write_log
from reading import Record, Sources, flat, write
from recorded import USD, make_feedback, make_record, make_records
from rich.console import Console

from embedllm_router.analysis import summary as sampling
from embedllm_router.analysis.summary import Summary, summarize
from embedllm_router.analysis.topics import OTHER, topic_of
from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.cli.log_views import summary_blocks
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.records.schema import FeedbackRecord, RequestRecord

RECORDS = make_records(1500, seed=5)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    folder = tmp_path_factory.mktemp("summary") / "records"
    write(folder, [*RECORDS, *make_feedback(RECORDS)])
    source = open_source(folder)
    summary = summarize(source)
    source.close()
    return summary


def known(records: Iterable[RequestRecord]) -> list[RequestRecord]:
    return [r for r in records if r.failed_open is None]


def usd(values: Iterable[float | None]) -> float:
    return sum(value or 0.0 for value in values)


def test_requests_are_counted(planted: Summary) -> None:
    outcomes = planted.outcomes
    assert planted.n == len(RECORDS)
    assert planted.first == RECORDS[0].at.replace(tzinfo=None)
    assert planted.last == RECORDS[-1].at.replace(tzinfo=None)
    assert outcomes.success.n == sum(r.status == "success" for r in RECORDS)
    assert outcomes.failure.n == sum(r.status == "failure" for r in RECORDS)
    assert outcomes.unknown.n == 0
    assert outcomes.fallback.n == sum(r.fallback for r in RECORDS)
    assert outcomes.fallback.of == sum(r.served is not None for r in RECORDS)
    assert outcomes.failed_open.n == sum(r.failed_open is not None for r in RECORDS)
    assert {reason: count.n for reason, count in planted.reasons.items()} == Counter(r.reason for r in RECORDS)


def test_every_topic_has_its_part(planted: Summary) -> None:
    assert sum(one.n for one in planted.topics) == len(RECORDS)
    for one in planted.topics:
        mine = [r for r in RECORDS if topic_of(r.category) == one.topic]
        p = [r.p_correct for r in mine if r.p_correct is not None]
        assert (one.n, one.share) == (len(mine), pytest.approx(len(mine) / len(RECORDS)))
        assert one.p_correct == (pytest.approx(fmean(p)) if p else None)
        costs = (r.expected_cost_usd if r.billed_cost_usd is None else r.billed_cost_usd for r in mine)
        assert one.cost_usd == pytest.approx(usd(costs))
        assert one.llm_share == max(Counter(r.chosen for r in mine).values()) / len(mine)


@pytest.mark.parametrize(
    ("category", "topic"),
    [
        ("mmlu_pro/law", "law"),
        ("mmlu_helm_redux/college_mathematics", "mathematics"),
        ("zeroeval/gsm", "arithmetic"),
        ("ulab_llmrouter/human_eval", "code"),
        ("scale_sql/sql/sql_understanding/execution_accuracy", "SQL"),
        ("medagents/medicine/mmlu-pro", "medicine"),
        ("hellobench/summarization", "writing"),
        ("reasoning_gym/games/countdown", "puzzles and logic"),
        ("arena_bench_v1/arena-bench-v1", "chat"),
        ("mine/complaints", "other"),
        (None, "other"),
    ],
)
def test_categories_of_many_data_sets_are_united_in_plain_words(category: str | None, topic: str) -> None:
    assert topic_of(category) == topic


def test_the_shipped_categories_have_a_topic() -> None:
    landmarks = load_artifact(default_artifact_path()).manifest.landmarks
    assert {topic_of(one.name) for one in landmarks} - {OTHER}
    assert [one.name for one in landmarks if topic_of(one.name) == OTHER] == []


def test_every_llm_has_its_part(planted: Summary) -> None:
    for one in planted.llms:
        mine = [r for r in RECORDS if r.chosen == one.llm]
        answered = [r for r in RECORDS if r.served == one.llm]
        assert (one.chosen.n, one.served.n) == (len(mine), len(answered))
        assert one.billed_usd == pytest.approx(usd(r.billed_cost_usd for r in answered))
        p = [r.p_correct for r in mine if r.p_correct is not None]
        assert one.p_correct == (pytest.approx(fmean(p)) if p else None)
    assert {one.llm for one in planted.llms} == {"wizard", "sprinter", "novice"}


def test_spend_is_compared_with_other_ways_on_the_same_requests(planted: Summary) -> None:
    spend, compared = planted.spend, known(RECORDS)
    ways: dict[str, tuple[list[float], list[float]]] = {
        "likeliest": ([r.likeliest_cost_usd or 0 for r in compared], [r.likeliest_p_correct or 0 for r in compared]),
        "cheapest": ([r.cheapest_cost_usd or 0 for r in compared], [r.cheapest_p_correct or 0 for r in compared]),
        "best_single": ([USD["wizard"]] * len(compared), [0.95] * len(compared)),
    }
    assert spend.billed_usd == pytest.approx(usd(r.billed_cost_usd for r in RECORDS))
    assert spend.expected_usd == pytest.approx(usd(r.expected_cost_usd for r in compared))
    assert spend.n_compared == len(compared)
    assert [way.name for way in spend.alternatives] == list(ways)
    for way in spend.alternatives:
        cost, p = ways[way.name]
        assert way.cost_usd == pytest.approx(fmean(cost))
        assert way.p_correct == pytest.approx(fmean(p))
        assert way.saved_usd.value == pytest.approx(sum(cost) - spend.expected_usd)
        assert way.saved_share.value == pytest.approx(1 - spend.expected_usd / sum(cost))
        assert way.p_correct_gained.value == pytest.approx(fmean(r.p_correct or 0 for r in compared) - fmean(p))
        assert way.n == way.n_meant == len(compared)
        assert way.saved_usd.low <= way.saved_usd.value <= way.saved_usd.high
    assert spend.alternatives[2].llm == "wizard"


def test_an_interval_is_as_wide_as_theory_says(planted: Summary) -> None:
    """The mean of n differences has a standard error of their deviation over √n."""
    differences = np.array([USD["wizard"] - (r.expected_cost_usd or 0) for r in known(RECORDS)])
    expected = 2 * 1.96 * differences.std() * np.sqrt(len(differences))
    saved = planted.spend.alternatives[2].saved_usd
    assert saved.high - saved.low == pytest.approx(expected, rel=0.25)


def test_forecasts_are_compared_where_the_chosen_one_answered(planted: Summary) -> None:
    """Planted bills are 0.9 of the forecast unless another LLM answered or nobody did."""
    forecast = planted.forecast
    mine = [r for r in known(RECORDS) if r.served == r.chosen]
    assert forecast.n == len(mine)
    assert forecast.ratio.value == pytest.approx(0.9)
    assert forecast.ratio.low == pytest.approx(0.9)
    assert forecast.median_error == pytest.approx(0.1 / 0.9)
    assert {one.llm: one.n for one in forecast.by_llm} == Counter(r.chosen for r in mine)
    assert all(one.ratio == pytest.approx(0.9) for one in forecast.by_llm)


def test_times_are_percentiles(planted: Summary) -> None:
    route = np.array([r.route_ms for r in RECORDS])
    assert planted.route_ms.p95 == pytest.approx(float(np.quantile(route, 0.95)))
    assert planted.latency_ms.p50 == pytest.approx(median(r.latency_ms or 0 for r in RECORDS))
    assert planted.latency_ms.n == len(RECORDS)


def test_calibration_is_that_of_the_llm_that_answered(planted: Summary) -> None:
    by_id = {r.request_id: r for r in RECORDS}
    pairs = [(by_id[f.request_id].served_p_correct or 0, f.score) for f in make_feedback(RECORDS)]
    found = planted.calibration
    assert found is not None
    assert (found.n, found.n_by_source) == (len(pairs), {"user": len(pairs)})
    assert found.brier.value == pytest.approx(fmean((p - score) ** 2 for p, score in pairs))
    assert found.score.value == pytest.approx(fmean(score for _, score in pairs))
    bins: dict[int, list[tuple[float, float]]] = {}
    for p, score in pairs:
        bins.setdefault(min(int(p * 10), 9), []).append((p, score))
    assert [(one.low, one.n) for one in found.bins] == [(i / 10, len(bins[i])) for i in sorted(bins)]
    gaps = [abs(sum(p - score for p, score in members)) for members in bins.values()]
    assert found.ece.value == pytest.approx(sum(gaps) / len(pairs))
    for one, i in zip(found.bins, sorted(bins), strict=True):
        assert one.score.value == pytest.approx(fmean(score for _, score in bins[i]))
        assert one.score.low <= one.p_correct <= one.score.high, "verdicts were drawn from the predictions"


def test_few_verdicts_make_a_wide_interval(recorded: Sources) -> None:
    """Wilson's interval of nothing right in three is known: up to 0.5615."""
    records = [make_record(n) for n in range(3)]
    verdicts = [FeedbackRecord(at=r.at, request_id=r.request_id, score=0.0, source="user") for r in records]
    found = summarize(recorded([*records, *verdicts])).calibration
    assert found is not None
    (one,) = found.bins
    assert (one.score.value, one.score.low) == (0.0, 0.0)
    assert one.score.high == pytest.approx(0.5615, abs=1e-4)


def test_the_newest_verdict_of_a_source_counts_however_the_request_is_named(recorded: Sources) -> None:
    request = make_record(1)  # served_p_correct 0.95

    def said(minute: int, request_id: str, score: float, source: str = "user") -> FeedbackRecord:
        return FeedbackRecord(
            at=request.at + timedelta(minutes=minute), request_id=request_id, score=score, source=source
        )

    by_id, by_response = request.request_id, request.response_id or ""
    verdicts = [said(3, by_id, 0.0), said(1, by_response, 1.0), said(2, by_id, 1.0), said(4, by_response, 1.0, "judge")]
    stray = said(5, "somebody-else", 0.0)
    found = summarize(recorded([request, make_record(2), *verdicts, stray])).calibration
    assert found is not None
    assert found.n == 1
    assert found.n_by_source == {"user": 1, "judge": 1}
    assert found.score.value == 0.5
    assert found.brier.value == pytest.approx(0.45**2)


def test_both_back_ends_give_one_summary(recorded: Sources, planted: Summary) -> None:
    summary = summarize(recorded([*RECORDS, *make_feedback(RECORDS)]))
    assert flat(replace(summary, where="")) == pytest.approx(flat(replace(planted, where="")), nan_ok=True)


def test_filters_apply_to_every_figure(recorded: Sources) -> None:
    filters = Filters(key_alias="team-b", status="success")
    summary = summarize(recorded([*RECORDS, *make_feedback(RECORDS)]), filters)
    mine = [r for r in RECORDS if r.key_alias == "team-b" and r.status == "success"]
    given = {f.request_id for f in make_feedback(RECORDS)}
    assert summary.filters == {"key_alias": "team-b", "status": "success"}
    assert summary.n == len(mine)
    assert summary.spend.n_compared == len(known(mine))
    assert {way.n for way in summary.spend.alternatives} == {len(known(mine))}
    assert summary.route_ms.n == len(mine)
    assert summary.calibration is not None
    assert summary.calibration.n == sum(r.request_id in given for r in mine)


def test_a_large_log_is_sampled_and_says_so(
    recorded: Sources, planted: Summary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "N_SAMPLED", 400)
    summary = summarize(recorded([*RECORDS, *make_feedback(RECORDS)]))
    whole, part = planted.spend.alternatives[2], summary.spend.alternatives[2]
    assert (part.llm, part.n_meant) == (whole.llm, whole.n)
    assert 250 < part.n < 550
    assert 300 < summary.route_ms.n < 500
    assert part.saved_usd.low < whole.saved_usd.value < part.saved_usd.high
    assert part.saved_usd.high - part.saved_usd.low > whole.saved_usd.high - whole.saved_usd.low
    assert part.p_correct == pytest.approx(0.95)
    same = [flat(found.spend.alternatives[:2]) for found in (summary, planted)]
    assert same[0] == pytest.approx(same[1]), "they count every request"


def test_the_best_single_llm_must_be_able_to_take_half_of_the_requests(recorded: Sources) -> None:
    """A specialist that is likelier but mostly excluded is not the one to send everything to."""
    wizard, novice, sprinter, stranger = make_record(0).candidates
    specialist = replace(wizard, name="specialist", p_correct=1.0)
    unable = replace(specialist, excluded="context_window")
    able = [make_record(i, candidates=(wizard, novice, sprinter, stranger, specialist)) for i in range(3)]
    rest = [make_record(i, candidates=(wizard, novice, sprinter, stranger, unable)) for i in range(3, 10)]
    best = summarize(recorded([*able, *rest])).spend.alternatives[2]
    assert (best.llm, best.n) == ("wizard", 10)


def test_nothing_recorded_is_a_summary_of_nothing(recorded: Sources) -> None:
    summary = summarize(recorded([make_record(0)]), Filters(llm="nobody"))
    assert (summary.n, summary.llms, summary.spend.alternatives, summary.calibration) == (0, (), (), None)
    assert summary.outcomes.success.share is None
    assert orjson.loads(orjson.dumps(summary))["forecast"]["median_error"] is None


def test_only_failures_leave_nothing_to_compare(recorded: Sources) -> None:
    records: list[Record] = [r for r in make_records(600) if r.failed_open is not None]
    summary = summarize(recorded(records))
    assert summary.n == len(records) > 0
    assert summary.spend.alternatives == ()
    assert summary.outcomes.failed_open.share == 1.0


def test_savings_are_counted_against_the_baseline_over_the_requests_it_could_have_taken(tmp_path: Path) -> None:
    used = {"baseline": "wizard", "baseline_p_correct": 0.95, "baseline_cost_usd": USD["wizard"]}
    records = [make_record(i, topic="chat" if i % 2 else "maths", **(used if i < 30 else {})) for i in range(40)]
    with_log = open_source(write_log(tmp_path / "log", records))
    try:
        found = summarize(with_log)
    finally:
        with_log.close()
    way = found.spend.alternatives[0]
    assert (way.name, way.llm, way.n) == ("baseline", "wizard", 30)
    assert way.saved_usd.value == pytest.approx(15 * (USD["wizard"] - USD["sprinter"]))
    assert way.p_correct_gained.value == pytest.approx(0.0)
    assert found.verdict == "Not known: no answer has feedback."
    console = Console(file=io.StringIO(), width=200)
    console.print(*summary_blocks(found))
    assert "always wizard, the baseline, for 30 requests" in console.file.getvalue()  # type: ignore[attr-defined]
