"""Plans: the setting found is the best there is, and what it says of itself is what comes of it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from recorded import make_record

from embedllm_router.analysis.plan.goal import read_goal
from embedllm_router.analysis.plan.plan import make_plan
from embedllm_router.analysis.plan.result import Outcome, Plan
from embedllm_router.analysis.plan.traffic import Traffic, read_traffic
from embedllm_router.artifact.manifest import GuaranteeRow
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.reader.recorded import Wanted, read_recorded
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.records.schema import CandidateRecord, FeedbackRecord, RequestRecord
from embedllm_router.routing.policy import Objective, rank

NAMES = ("dear", "middling", "cheap")
PER_MONTH = 1_000.0


def request(number: int, rng: random.Random, **changes: object) -> RequestRecord:
    """A request decided at λ = 20 among three LLMs whose p and cost are drawn, the dear one usually the best."""
    weighed = [
        CandidateRecord(name, name, p, 100.0, usd, p - 20 * usd, None)
        for name, p, usd in (
            ("dear", rng.uniform(0.8, 1.0), rng.uniform(0.01, 0.03)),
            ("middling", rng.uniform(0.5, 0.95), rng.uniform(0.002, 0.006)),
            ("cheap", rng.uniform(0.1, 0.9), rng.uniform(0.0001, 0.0005)),
        )
    ]
    ranked = sorted(weighed, key=lambda c: -(c.utility or 0.0))
    first = ranked[0]
    record = make_record(number, chosen=first.name, served=first.name, candidates=tuple(ranked))
    figures = {"p_correct": first.p_correct, "served_p_correct": first.p_correct, "expected_cost_usd": first.cost_usd}
    return replace(record, billed_cost_usd=first.cost_usd, **figures, **changes)  # type: ignore[arg-type]  # its fields


def traffic_of(
    folder: Path,
    records: Sequence[RequestRecord],
    feedback: Sequence[FeedbackRecord] = (),
    *,
    per_month: float | None = PER_MONTH,
) -> Traffic:
    folder.mkdir(exist_ok=True)
    for kind, rows in (("requests", records), ("feedback", feedback)):
        lines = b"\n".join(orjson.dumps(row) for row in rows)
        (folder / f"{kind}-20260101T000000000000Z-1-00000000.jsonl").write_bytes(lines + b"\n" if rows else b"")
    with_log = open_source(folder)
    try:
        recorded = read_recorded(with_log, Wanted(filters=Filters(), limit=10_000, with_text=False, sources=None))
    finally:
        with_log.close()
    return read_traffic(recorded, weights=None, per_month=per_month)


@pytest.fixture(scope="module")
def records() -> list[RequestRecord]:
    rng = random.Random(0)
    return [request(number, rng) for number in range(120)]


@pytest.fixture
def traffic(records: list[RequestRecord], tmp_path: Path) -> Traffic:
    return traffic_of(tmp_path / "records", records)


def naive(records: Sequence[RequestRecord], objective: Objective) -> tuple[float, float]:
    """Mean p_correct and a month's cost when every request is ranked by itself."""
    p_sum = usd_sum = 0.0
    for record in records:
        p = np.array([c.p_correct for c in record.candidates], dtype=np.float64)
        usd = np.array([c.cost_usd for c in record.candidates], dtype=np.float64)
        first = int(rank(objective, p, usd, np.ones(len(p), dtype=bool))[0][0])
        p_sum, usd_sum = p_sum + p[first], usd_sum + usd[first]
    return p_sum / len(records), usd_sum / len(records) * PER_MONTH


def objective_of(outcome: Outcome) -> Objective:
    assert outcome.value is not None
    if outcome.setting == "cost_weight":
        return Objective(outcome.value)
    return Objective(min_p_correct=outcome.value)


def every_setting() -> list[Objective]:
    weights = [Objective(float(x)) for x in [0.0, *np.geomspace(0.1, 1e5, 600)]]
    return [*weights, *(Objective(min_p_correct=float(x)) for x in np.linspace(0, 1, 400))]


@pytest.mark.parametrize("target", [0.6, 0.75, 0.85, 0.9])
def test_a_target_is_met_and_no_other_setting_meets_it_cheaper(
    traffic: Traffic, records: list[RequestRecord], target: float
) -> None:
    best = make_plan(traffic, read_goal(target, None)).best
    accuracy, usd = naive(records, objective_of(best))
    assert best.feasible
    assert accuracy >= target
    assert (best.accuracy.value, best.usd_per_month.value) == (pytest.approx(accuracy), pytest.approx(usd))
    others = [naive(records, objective) for objective in every_setting()]
    assert usd <= min(cost for p, cost in others if p >= target) * 1.01, "one request of 120 may round"


@pytest.mark.parametrize("budget", [0.5, 2.0, 5.0, 12.0])
def test_a_budget_is_kept_and_no_other_setting_is_more_accurate_within_it(
    traffic: Traffic, records: list[RequestRecord], budget: float
) -> None:
    best = make_plan(traffic, read_goal(None, f"{budget}/month")).best
    accuracy, usd = naive(records, objective_of(best))
    assert best.feasible
    assert usd <= budget
    others = [naive(records, objective) for objective in every_setting()]
    assert accuracy >= max(p for p, cost in others if cost <= budget) - 0.005


def test_what_cannot_be_is_said_and_the_nearest_is_shown(traffic: Traffic, records: list[RequestRecord]) -> None:
    too_good = make_plan(traffic, read_goal(0.999, None)).best
    assert not too_good.feasible
    assert too_good.accuracy.value == pytest.approx(naive(records, Objective(0.0))[0])
    too_cheap = make_plan(traffic, read_goal(None, "0.001/month")).best
    assert not too_cheap.feasible
    assert too_cheap.usd_per_month.value == pytest.approx(naive(records, Objective(1e9))[1])


def test_intervals_hold_the_figure_and_changes_are_against_what_was_recorded(traffic: Traffic) -> None:
    plan = make_plan(traffic, read_goal(0.75, None))
    for one in (plan.best.accuracy, plan.best.usd_per_month, plan.recorded.accuracy):
        assert one.low <= one.value <= one.high
    change = plan.best.usd_per_month.value - plan.recorded.usd_per_month.value
    assert plan.best.usd_per_month_change.value == pytest.approx(change)
    assert sum(share.requests for share in plan.best.mix) == pytest.approx(1.0)


def test_a_bill_above_the_forecast_makes_the_plan_dearer(records: list[RequestRecord], tmp_path: Path) -> None:
    double = [replace(r, billed_cost_usd=2 * (r.billed_cost_usd or 0.0)) for r in records]
    once, twice = (
        make_plan(traffic_of(tmp_path / name, some), read_goal(0.75, None)).best.usd_per_month.value
        for name, some in (("once", records), ("twice", double))
    )
    assert twice == pytest.approx(2 * once)


def test_requests_whose_client_chose_keep_their_objective(records: list[RequestRecord], tmp_path: Path) -> None:
    fixed = [replace(r, objective_from="body") if i % 2 else r for i, r in enumerate(records)]
    plan = make_plan(traffic_of(tmp_path / "fixed", fixed), read_goal(None, "0.001/month"))
    assert plan.n_fixed == 60
    kept, free = naive(records[1::2], Objective(20.0))[1], naive(records[::2], Objective(1e9))[1]
    assert plan.best.usd_per_month.value == pytest.approx((kept + free) / 2)


def test_the_log_s_own_rate_makes_a_month(records: list[RequestRecord], tmp_path: Path) -> None:
    spread = [replace(r, at=records[0].at + timedelta(hours=i)) for i, r in enumerate(records)]
    assert traffic_of(tmp_path / "spread", spread, per_month=None).rate.per_month == pytest.approx(730)
    with pytest.raises(ConfigError, match="--requests-per-month"):
        traffic_of(tmp_path / "one", records[:1], per_month=None)
    with pytest.raises(DataError, match="no requests to plan with"):
        traffic_of(tmp_path / "none", [])


def test_feedback_is_set_beside_what_was_predicted(records: list[RequestRecord], tmp_path: Path) -> None:
    wrong = [FeedbackRecord(at=r.at, request_id=r.request_id, score=0.0, source="user") for r in records[:50]]
    plan = make_plan(traffic_of(tmp_path / "judged", records, wrong), read_goal(0.75, None))
    assert plan.observed is not None
    assert (plan.observed.n, plan.observed.observed) == (50, 0.0)
    assert plan.observed.difference.negative
    assert any("less often right than predicted" in note for note in plan.notes)


def test_the_contract_shifts_the_accuracy_by_what_held_out_answers_fell_short(traffic: Traffic) -> None:
    row = GuaranteeRow(
        promise="cost_weight", data=None, value=20.0, n_labels=1000, n_prompts=1000, predicted=0.8, correct=0.77,
        low=0.75, high=0.79, at_least=0.755,
    )  # fmt: skip
    best = make_plan(traffic, read_goal(0.75, None), (row,), known=True).best
    assert best.held_out is not None
    assert best.held_out.accuracy.value == pytest.approx(best.accuracy.value - 0.03)
    assert best.held_out.accuracy.low < best.accuracy.low - 0.03 + 1e-9, "both uncertainties count"


def test_the_snippet_is_what_the_configuration_takes(traffic: Traffic) -> None:
    plan: Plan = make_plan(traffic, read_goal(None, "5/month"))
    models = yaml.safe_load(plan.yaml)["callback_settings"]["embedllm_router"]["virtual_models"]
    assert models == {"auto": {plan.best.setting: plan.best.value}}


@pytest.mark.parametrize(
    ("target", "budget", "said"),
    [
        (None, None, "give one of"),
        (0.9, "5/day", "give one of"),
        (1.5, None, "at most 1"),
        (None, "5", "500/month or 20/day"),
        (None, "-5/day", "500/month or 20/day"),
        (None, "5/year", "500/month or 20/day"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(target: float | None, budget: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_goal(target, budget)


def test_the_command_prints_the_plan(
    records: list[RequestRecord], tmp_path: Path, run_command: Callable[..., str]
) -> None:
    traffic_of(tmp_path / "records", records)
    options = ["plan", "--from", str(tmp_path / "records"), "--requests-per-month", "1000"]
    told = run_command(*options, "--target-accuracy", "0.8")
    assert "it can be met" in told
    assert "what is possible" in told
    found = orjson.loads(run_command(*options, "--budget", "5/month", "--json"))
    assert found["best"]["feasible"]
    assert found["best"]["usd_per_month"]["value"] <= 5
    assert "give one of --target-accuracy" in run_command(*options, code=2)


ONE_BEATS_ROUTING = (
    {"dear": (0.37, 0.03), "middling": (0.76, 0.01), "cheap": (0.72, 0.001)},
    {"dear": (0.91, 0.03), "middling": (0.48, 0.01), "cheap": (0.47, 0.001)},
)
"""Two kinds of request among which neither a cost weight nor a floor spends 0.01 USD a request as well as one LLM."""


def of_kind(number: int, **changes: object) -> RequestRecord:
    figures = ONE_BEATS_ROUTING[number % 2]
    weighed = tuple(CandidateRecord(n, n, p, 100.0, usd, p - 20 * usd, None) for n, (p, usd) in figures.items())
    record = make_record(number, chosen="dear", served="dear", candidates=weighed, billed_cost_usd=None)
    return replace(record, p_correct=figures["dear"][0], expected_cost_usd=0.03, **changes)  # type: ignore[arg-type]


def test_one_llm_that_is_better_than_any_setting_is_said_first(tmp_path: Path, run_command: Callable[..., str]) -> None:
    made = make_plan(traffic_of(tmp_path / "log", [of_kind(i) for i in range(40)]), read_goal(None, "10/month"))
    assert made.single is not None
    assert made.single.name == "middling"
    assert made.single.outcome.feasible
    assert made.single.outcome.accuracy.value > made.best.accuracy.value
    said = run_command("plan", "--from", str(tmp_path / "log"), "--budget", "10/month", "--requests-per-month", "1000")
    assert said.index("always middling, without routing, meets the goal") < said.index("\nset ")


def test_one_llm_counts_where_requests_have_objectives_of_their_own(
    records: list[RequestRecord], tmp_path: Path, run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the requests keep what their clients' cost weight chose; the dear LLM for all is right more often."""
    fixed = [replace(r, objective_from="body") if i % 2 else r for i, r in enumerate(records)]
    made = make_plan(traffic_of(tmp_path / "log", fixed), read_goal(None, "500/month"))
    assert made.single is not None
    assert made.single.name == "dear"
    assert made.single.everyone
    config = tmp_path / "config.yaml"
    config.write_text(f"""
model_list: []
litellm_settings: {{callbacks: embedllm_router.proxy_handler}}
callback_settings:
  embedllm_router: {{store: {{path: {tmp_path / "log"}}}, virtual_models: {{auto: {{default: dear}}}}}}
""")
    monkeypatch.delenv("EMBEDLLM_ROUTER_STORE__PATH", raising=False)
    said = run_command("plan", "--config", str(config), "--budget", "500/month", "--requests-per-month", "1000")
    assert said.index("always dear, also where requests have objectives of their own") < said.index("\nset ")
    assert made.single.outcome.accuracy.value > made.best.accuracy.value


def test_no_single_llm_is_offered_where_a_setting_is_as_good(traffic: Traffic) -> None:
    assert make_plan(traffic, read_goal(0.85, None)).single is None


def test_an_unmet_goal_has_no_yaml(traffic: Traffic, tmp_path: Path, run_command: Callable[..., str]) -> None:
    made = make_plan(traffic, read_goal(None, "0.0001/month"))
    assert not made.best.feasible
    assert not made.yaml
    said = run_command(
        "plan", "--from", str(tmp_path / "records"), "--budget", "0.0001/month", "--requests-per-month", "1000"
    )
    assert "virtual_models" not in said
    assert "no setting meets it" in said
    assert "nearest is cost_weight" in said


def test_the_baseline_is_set_beside_the_plan(traffic: Traffic, records: list[RequestRecord]) -> None:
    made = make_plan(traffic, read_goal(0.85, None), baseline="dear")
    assert made.baseline is not None
    assert made.baseline.could_take == 1.0
    usd = [c.cost_usd for r in records for c in r.candidates if c.name == "dear" and c.cost_usd is not None]
    assert made.baseline.outcome.usd_per_month.value == pytest.approx(float(np.mean(usd)) * PER_MONTH)
    with pytest.raises(ConfigError, match=r"the baseline 'deer' was no candidate.*Did you mean 'dear'"):
        make_plan(traffic, read_goal(0.85, None), baseline="deer")


def test_requests_with_an_objective_of_their_own_are_counted_apart(tmp_path: Path) -> None:
    own = [of_kind(i, objective_from="header" if i < 10 else "config") for i in range(40)]
    made = make_plan(traffic_of(tmp_path / "log", own), read_goal(None, "30/month"))
    assert made.apart is not None
    assert made.apart.n == made.n_fixed == 10
    assert made.apart.accuracy.value == pytest.approx((0.72 + 0.47) / 2, abs=0.2)
    assert 0 < made.apart.usd_per_month.value < made.best.usd_per_month.value
    assert make_plan(traffic_of(tmp_path / "all", [of_kind(i) for i in range(4)]), read_goal(0.5, None)).apart is None


def test_less_than_a_day_of_records_tells_no_month(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"3 requests within 23.0 hours .* Give --requests-per-month"):
        traffic_of(tmp_path / "short", _within(23), per_month=None)
    assert traffic_of(tmp_path / "long", _within(24), per_month=None).rate.per_month == pytest.approx(2 * 365 / 12)


def _within(hours: float) -> list[RequestRecord]:
    start = of_kind(0).at
    return [replace(of_kind(i), at=start + timedelta(hours=hours * i / 2)) for i in range(3)]
