"""The three questions that the overview opens with: planted answers, and a plain loop as second computation."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from day import Day
from pages import VIRTUAL_MODELS, make_budgets
from recorded import USD, make_record
from traffic import write_lines

from embedllm_router._stats import Estimate, wilson
from embedllm_router.analysis.advice import Advice, Saving, advise, answers, saving_in
from embedllm_router.analysis.plan.figures import MIN_BILLED
from embedllm_router.analysis.quality import Hold, Holds, Quality, holds
from embedllm_router.analysis.saved import Saved, saved
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.analysis.tradeoff import setting_as_yaml
from embedllm_router.analysis.verdict.recorded import RecordsVerdict, read_newest, verdict_on
from embedllm_router.config.settings import RouterSettings
from embedllm_router.records.reader.source import Filters, RecordSource, open_source
from embedllm_router.records.schema import FeedbackRecord, RequestRecord

EVERYTHING = RecordQuery(Span.ALL)
NOTHING = RecordsVerdict(None, "Not known: no answer has feedback.")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[object]:
    opened: list[RecordSource] = []

    def write(requests: list[RequestRecord], feedback: list[FeedbackRecord] | None = None) -> RecordSource:
        folder = tmp_path / str(len(opened))
        write_lines(folder, requests, feedback or [])
        opened.append(open_source(folder))
        return opened[-1]

    yield write
    for one in opened:
        one.close()


def with_baseline(n: int, **changes: object) -> RequestRecord:
    """The sprinter answers chat for a little; the baseline is the wizard, who is dear."""
    return make_record(
        n, topic="chat", baseline="wizard", baseline_p_correct=0.95, baseline_cost_usd=USD["wizard"], **changes
    )


def counted(day: Day) -> list[RequestRecord]:
    """Those that did not fail, with both forecasts; where routing failed open there is none."""
    return [
        r
        for r in day.requests
        if r.status != "failure" and r.baseline_cost_usd is not None and r.expected_cost_usd is not None
    ]


def test_savings_are_those_of_a_plain_loop(source: RecordSource, day: Day) -> None:
    found = saved(source, EVERYTHING)
    mine = counted(day)
    own = [r for r in mine if r.served == r.baseline and r.billed_cost_usd is not None]
    assert len(own) >= MIN_BILLED
    ratio = sum(r.billed_cost_usd or 0 for r in own) / sum(r.baseline_cost_usd or 0 for r in own)
    spent = other = 0.0
    for r in mine:
        spent += r.billed_cost_usd if r.billed_cost_usd is not None else r.expected_cost_usd or 0
        if r.billed_cost_usd is None:
            other += r.baseline_cost_usd or 0
        elif r.served == r.baseline:
            other += r.billed_cost_usd
        else:
            other += ratio * (r.baseline_cost_usd or 0)
    assert found.usd is not None
    assert found.share is not None
    assert (found.baselines, found.n, found.ratio_of) == (("gpt-4o",), len(mine), "baseline")
    assert found.n_billed == sum(r.billed_cost_usd is not None for r in mine)
    answered = [r for r in day.requests if r.status != "failure" and r.expected_cost_usd is not None]
    assert found.n_without == len(answered) - len(mine)
    assert found.ratio == pytest.approx(ratio)
    assert (found.spent_usd, found.baseline_usd) == (pytest.approx(spent), pytest.approx(other))
    assert found.usd.value == pytest.approx(other - spent)
    assert found.share.value == pytest.approx(1 - spent / other)
    assert found.usd.low < found.usd.value < found.usd.high


def test_the_interval_of_savings_is_that_of_single_requests_resampled(source: RecordSource, day: Day) -> None:
    """A second bootstrap, over requests rather than groups of them."""
    found = saved(source, EVERYTHING).usd
    assert found is not None
    mine = counted(day)
    billed = np.array([np.nan if r.billed_cost_usd is None else r.billed_cost_usd for r in mine])
    own = np.array([r.served == r.baseline for r in mine]) & np.isfinite(billed)
    usd = np.array([r.baseline_cost_usd for r in mine], dtype=float)
    spent = np.where(np.isfinite(billed), billed, [r.expected_cost_usd or 0.0 for r in mine])
    rng, drawn = np.random.default_rng(1), []
    for _ in range(600):
        i = rng.integers(0, len(mine), len(mine))
        ratio = billed[i][own[i]].sum() / usd[i][own[i]].sum()
        other = np.where(own[i], billed[i], np.where(np.isfinite(billed[i]), ratio * usd[i], usd[i]))
        drawn.append(float((other - spent[i]).sum()))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.3)
    assert found.low == pytest.approx(low, abs=0.25 * (high - low))


def test_bills_count_before_forecasts(plant: object) -> None:
    """Forty bills of twice the forecast: the baseline would have been billed twice its forecast, too."""
    billed = [with_baseline(n, billed_cost_usd=2 * USD["sprinter"]) for n in range(40)]
    rest = [with_baseline(n + 40, billed_cost_usd=None, status="unknown", served=None) for n in range(10)]
    failed = [with_baseline(n + 50, billed_cost_usd=None, status="failure", served=None) for n in range(5)]
    without = [make_record(60)]
    found = saved(plant([*billed, *rest, *failed, *without]), EVERYTHING)  # type: ignore[operator]  # a function
    assert (found.n, found.n_billed, found.n_without, found.ratio_of) == (50, 40, 1, "all")
    assert found.ratio == pytest.approx(sum([2 * USD["sprinter"]] * 40 + [USD["wizard"] * 0.9]) / (
        USD["sprinter"] * 40 + USD["wizard"]
    ))  # fmt: skip
    assert found.ratio is not None
    assert found.spent_usd == pytest.approx(90 * USD["sprinter"])
    assert found.baseline_usd == pytest.approx((40 * found.ratio + 10) * USD["wizard"])


def test_where_the_baseline_itself_answered_nothing_was_saved(plant: object) -> None:
    own = {"chosen": "wizard", "served": "wizard", "expected_cost_usd": USD["wizard"]}
    found = saved(plant([with_baseline(n, billed_cost_usd=0.01 * n, **own) for n in range(1, 50)]), EVERYTHING)  # type: ignore[operator]  # a function
    assert found.usd is not None
    assert (found.usd.value, found.usd.low, found.usd.high, found.usd.n) == (0.0, 0.0, 0.0, 49)


def test_without_a_baseline_there_is_nothing_to_save_against(plant: object, nothing: RecordSource) -> None:
    found = saved(plant([make_record(n) for n in range(3)]), EVERYTHING)  # type: ignore[operator]  # a function
    assert found == Saved((), 0, 0, 3, 0.0, 0.0, None, None, None, None)
    assert saved(nothing, EVERYTHING).usd is None


@pytest.mark.parametrize(
    ("p_correct", "right", "expected"),
    [
        (0.8, 80, Holds.HOLD),
        (0.95, 80, Holds.TOO_HIGH),
        (0.6, 80, Holds.TOO_LOW),
    ],
)
def test_predictions_break_both_ways(p_correct: float, right: int, expected: Holds) -> None:
    assert holds(p_correct, wilson(right / 100, 100)) is expected
    assert holds(p_correct, wilson(right / 100, 29)) is Holds.UNKNOWN


@pytest.mark.parametrize(
    ("n_right", "predicted", "held", "predictions", "rule"),
    [
        (57, 0.95, Hold.AS_PREDICTED, Holds.HOLD, "use_one"),
        (40, 0.95, Hold.NO, Holds.TOO_HIGH, "calibration"),
        (57, 0.60, Hold.AS_PREDICTED, Holds.TOO_LOW, "calibration"),
    ],
)
def test_quality_is_read_off_feedback(  # noqa: PLR0913, PLR0917 - what is planted, and what must come of it
    plant: object, n_right: int, predicted: float, held: Hold, predictions: Holds, rule: str
) -> None:
    """The sprinter answers every chat; 60 of 300 have feedback."""
    requests = [make_record(n, topic="chat", served_p_correct=predicted) for n in range(300)]
    feedback = [
        FeedbackRecord(at=r.at + timedelta(seconds=5), request_id=r.request_id, score=float(n < n_right), source="user")
        for n, r in enumerate(requests[:60])
    ]
    found = answers(plant(requests, feedback), EVERYTHING)  # type: ignore[operator]  # a function
    quality = found.quality
    assert (quality.held, quality.predictions, quality.n) == (held, predictions, 60)
    assert quality.score == wilson(n_right / 60, 60)
    assert quality.p_correct == pytest.approx(predicted)
    assert f"{n_right / 60:.1%} of 60 judged answers were right" in quality.sentence
    assert "set baseline" in (quality.lacking or "")
    assert found.advice.rule == rule


def test_too_little_feedback_says_what_is_lacking(plant: object) -> None:
    requests = [make_record(n) for n in range(40)]
    said = [FeedbackRecord(at=requests[0].at, request_id="request-0", score=1.0, source="user")]
    none = answers(plant(requests), EVERYTHING)  # type: ignore[operator]  # a function
    one = answers(plant(requests, said), EVERYTHING)  # type: ignore[operator]  # a function
    assert none.quality.sentence == "Not known: no answer has feedback."
    assert one.quality.sentence == "Not known: 1 answer has feedback."
    assert "At least 30 judged answers" in (one.quality.lacking or "")
    assert {none.advice.rule, one.advice.rule} == {"feedback"}


def test_a_cost_weight_is_advised_that_keeps_the_baseline_for_less(plant: object) -> None:
    """All go to the wizard at λ 0; half are chats that the sprinter answers as well, for nearly nothing."""
    two_days = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=7.2 * n) for n in range(401)]
    requests = [
        replace(
            make_record(n, topic="maths" if n % 2 else "chat", cost_weight=0.0),
            at=at,
            chosen="wizard",
            served="wizard",
            billed_cost_usd=USD["wizard"],
            expected_cost_usd=USD["wizard"],
        )
        for n, at in enumerate(two_days)
    ]
    source = plant(requests)  # type: ignore[operator]  # a function
    newest = read_newest(source, Filters())
    assert (newest.first, newest.last) == (two_days[0].replace(tzinfo=None), two_days[-1].replace(tzinfo=None))
    found = saving_in(newest.recorded, None)
    assert found is not None
    assert found.virtual_model == "auto"
    assert found.accuracy_now == pytest.approx(0.95)
    assert found.accuracy == pytest.approx(0.95)
    assert found.share.value == pytest.approx(-0.5 * (1 - USD["sprinter"] / USD["wizard"]), abs=0.01)
    assert found.usd_per_month is None
    assert saving_in(replace(newest.recorded, requests=newest.recorded.requests[:199]), None) is None


def test_of_several_things_the_first_is_advised() -> None:
    """Each taken away in turn, the next comes up."""
    spent = replace(make_budgets()[0], exhausted=True)
    broken = Quality(Hold.NO, "No", None, 90, wilson(0.5, 90), 0.9, Holds.TOO_HIGH, None)
    unknown = Quality(Hold.UNKNOWN, "Not known", "feedback", 0, None, None, Holds.UNKNOWN, None)
    fine = replace(broken, held=Hold.AS_PREDICTED, predictions=Holds.HOLD)
    saving = Saving(26.0, "auto", 0.8, 0.85, "gpt-4o", Estimate(-0.3, -0.35, -0.25, 500), Estimate(-92, -100, -85, 500))
    ladder = [
        (advise(broken, NOTHING, saving, [spent], 500), "budget", "health"),
        (advise(broken, NOTHING, saving, make_budgets(), 500), "calibration", "calibration"),
        (advise(unknown, NOTHING, saving, [], 500), "feedback", "calibration"),
        (advise(fine, NOTHING, saving, [], 500), "cost_weight", "tradeoff"),
        (advise(fine, NOTHING, None, [], 500), "nothing", "verdict"),
    ]
    for advice, rule, page in ladder:
        assert (advice.rule, advice.page) == (rule, page)
    assert ladder[0][0].sentence.startswith("The budget of auto ($500.00 a month) is spent: the cheapest LLM answers")
    assert ladder[3][0] == Advice(
        "cost_weight",
        "Set cost_weight 26 in auto: expected to be as accurate as gpt-4o is (0.800; now 0.850), for 30% less "
        "[25%, 35%], about $92.00 a month.",
        "tradeoff",
        26.0,
    )


def test_an_idle_llm_is_advised_against_and_exploration_where_the_verdict_needs_it(source: RecordSource) -> None:
    fine = Quality(Hold.AS_PREDICTED, "As predicted", None, 90, wilson(0.5, 90), 0.5, Holds.HOLD, None)
    found = verdict_on(read_newest(source, Filters()).recorded)
    assert found.verdict is not None
    busy = [replace(one, role="earns its place") for one in found.verdict.llms]
    idle = [*busy[:-2], replace(busy[-2], role="never chosen"), replace(busy[-1], role="dispensable")]
    of_busy, of_idle = (RecordsVerdict(replace(found.verdict, llms=tuple(one)), "") for one in (busy, idle))
    few, pool = advise(fine, of_idle, None, [], 199), advise(fine, of_idle, None, [], 200)
    assert pool.sentence == (
        f"Take {idle[-2].llm} out of candidates: no cost weight from 0 to 10,000 chooses it; "
        f"look at {idle[-1].llm} after it."
    )
    assert {few.rule, advise(fine, of_busy, None, [], 500).rule} == {"exploration"}
    assert "Set exploration: {epsilon: 0.1" in few.sentence


def test_the_answers_of_a_day_agree_with_its_pages(source: RecordSource, day: Day) -> None:
    found = answers(source, EVERYTHING)
    scores = day.scores()
    expected = wilson(sum(scores.values()) / len(scores), len(scores))
    assert found.quality.score is not None
    assert (found.quality.score.low, found.quality.score.high) == (
        pytest.approx(expected.low),
        pytest.approx(expected.high),
    )
    assert "Whether gpt-4o would have been right more often is not known" in (found.quality.lacking or "")


@pytest.mark.parametrize("name", list(VIRTUAL_MODELS))
def test_the_setting_that_is_copied_loads_as_it_was_but_for_the_cost_weight(name: str) -> None:
    text = setting_as_yaml(name, VIRTUAL_MODELS[name], 37.5)
    loaded = loaded_settings(text).virtual_models
    assert list(loaded) == [name]
    was = VIRTUAL_MODELS[name].model_dump(exclude={"profile", "cost_weight"})
    assert loaded[name].model_dump(exclude={"profile", "cost_weight"}) == was
    assert (loaded[name].cost_weight, loaded[name].profile) == (37.5, None)
    assert loaded[name].objective.cost_weight == 37.5


def loaded_settings(text: str) -> RouterSettings:
    import yaml  # noqa: PLC0415 - for this alone

    return RouterSettings(**yaml.safe_load(text)["callback_settings"]["embedllm_router"])
