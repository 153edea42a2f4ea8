"""Accounts: what is charged, corrected and left; the cost weight's bounds; periods, holders, restarts."""

import math
import random
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import Memory

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.budget import MAX_COST_WEIGHT, Budget, Pace, Per, Scope, Whose, paced, period_of, scopes_of
from embedllm_router.routing.decision import Decision, Objective, Request
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.serving.budget_enforcer import STEP, STEP_PER_PERIOD, Ledger, stepped
from embedllm_router.serving.state.shared import ReplicaState, SteadyClock

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
HOUR_S = 3_600.0
BUDGET = Budget(10.0)

_rows = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(1, 1e5, width=32), st.floats(0, 1e-3)), min_size=1, max_size=10
)
_objectives = st.one_of(
    st.floats(0, 1e3).map(Objective),
    st.floats(0, 1).map(lambda tau: Objective(min_p_correct=tau)),
    st.floats(0, 1).map(lambda d: Objective(max_accuracy_drop=d)),
)


def wish(rows: list[tuple[float, float, float]], objective: Objective | None = None) -> Decision:
    """A decision among candidates of (p_correct, tokens, price per token)."""
    pool = CandidatePool([Candidate(f"c{i}", f"llm{i}", i, 0.0, row[2]) for i, row in enumerate(rows)])
    p_correct, tokens = (np.array([row[i] for row in rows], dtype=np.float32) for i in range(2))
    scores = Scores(p_correct, tokens)
    return rank_candidates(pool, scores, Request(objective or Objective(), 0))


LADDER_OF_THREE = [(0.5, 100.0, 1e-6), (0.7, 100.0, 1e-5), (0.9, 100.0, 1e-4)]
"""Costs of 0.0001, 0.001 and 0.01 USD."""


def ledger_after(n: int, budget: Budget = BUDGET, state: Memory | None = None, start: float = NOON) -> Ledger:
    """A ledger that has seen n requests, one a second, and their bills."""
    ledger = Ledger(state or Memory())
    scopes = scopes_of([budget], "auto", None, None)
    for i in range(n):
        wanted = wish(LADDER_OF_THREE)
        pace = ledger.pace(scopes, wanted, start + i)
        cost = float(wanted.cost_usd[paced(wanted, pace).ranking[0]])
        ledger.settle(ledger.reserve(scopes, cost, start + i), cost, start + i)
    return ledger


def test_without_budgets_nothing_is_asked_and_nothing_counted() -> None:
    state = Memory()
    ledger = Ledger(state)
    assert ledger.pace((), wish(LADDER_OF_THREE), NOON) == Pace()
    ledger.settle(ledger.reserve((), 1.0, NOON), 2.0, NOON)
    assert (state.sums, ledger.status(NOON)) == ({}, [])


def test_a_request_in_flight_is_charged_at_once_and_corrected_by_its_bill() -> None:
    ledger, scopes = Ledger(Memory()), scopes_of([BUDGET], "auto", None, None)
    one, two = ledger.reserve(scopes, 0.5, NOON), ledger.reserve(scopes, 0.25, NOON)
    (status,) = ledger.status(NOON)
    assert (status.committed_usd, status.in_flight_usd) == (0.75, 0.75)
    ledger.settle(one, 0.125, NOON)
    ledger.settle(one, 7.0, NOON)
    ledger.settle(two, None, NOON)
    (status,) = ledger.status(NOON)
    assert status.committed_usd == pytest.approx(0.375), "a bill counts once; an unknown bill is the expected one"
    assert status.in_flight_usd == 0.0


def test_a_request_that_failed_costs_nothing() -> None:
    ledger, scopes = Ledger(Memory()), scopes_of([BUDGET], "auto", None, None)
    ledger.settle(ledger.reserve(scopes, 0.5, NOON), 0.0, NOON)
    assert ledger.status(NOON)[0].committed_usd == 0.0


@given(
    steps=st.lists(st.tuples(st.floats(0, 5), st.none() | st.floats(0, 20)), max_size=30),
    delays=st.randoms(use_true_random=False),
)
def test_committed_spend_is_the_bills_and_what_is_in_flight_and_never_negative(
    steps: list[tuple[float, float | None]], delays: random.Random
) -> None:
    ledger, scopes = Ledger(Memory()), scopes_of([BUDGET], "auto", None, None)
    holds = [(ledger.reserve(scopes, expected, NOON), billed) for expected, billed in steps]
    delays.shuffle(holds)
    billed_usd, charged_usd = 0.0, sum(hold.charges[0][1] for hold, _ in holds)
    for hold, billed in holds:
        ledger.settle(hold, billed, NOON)
        charged_usd -= hold.charges[0][1]
        billed_usd += hold.charges[0][1] if billed is None else billed
        (status,) = ledger.status(NOON)
        assert status.committed_usd == pytest.approx(billed_usd + charged_usd, abs=1e-9)
        assert status.committed_usd >= 0.0
        assert status.in_flight_usd >= 0.0


def test_forecasts_that_are_too_low_are_charged_higher_in_time() -> None:
    ledger, scopes = Ledger(Memory()), scopes_of([Budget(1e6)], "auto", None, None)
    for _ in range(500):
        ledger.settle(ledger.reserve(scopes, 1.0, NOON), 1.5, NOON)
    before = ledger.status(NOON)[0].committed_usd
    ledger.reserve(scopes, 1.0, NOON)
    assert ledger.status(NOON)[0].committed_usd - before == pytest.approx(1.5, rel=0.05)


def test_an_exhausted_budget_takes_the_cheapest_that_can_be_chosen_and_says_so() -> None:
    ledger, scopes = Ledger(Memory()), scopes_of([BUDGET], "auto", None, None)
    ledger.settle(ledger.reserve(scopes, 1.0, NOON), 11.0, NOON)
    wanted = wish(LADDER_OF_THREE)
    pace = ledger.pace(scopes, wanted, NOON)
    assert (pace.exhausted, pace.cost_weight, pace.budget) == (True, MAX_COST_WEIGHT, "virtual_model")
    assert pace.left_usd == pytest.approx(-1.0)
    decision = paced(wanted, pace)
    assert decision.pool.names[decision.ranking[0]] == "c0"
    assert decision.request.objective.cost_weight == MAX_COST_WEIGHT
    assert ledger.status(NOON)[0].exhausted


def test_a_new_period_begins_with_all_the_money_and_no_memory_of_the_old_cost_weight() -> None:
    ledger, scopes = Ledger(Memory()), scopes_of([BUDGET], "auto", None, None)
    late = datetime(2026, 1, 5, 23, 59, tzinfo=UTC).timestamp()
    open_hold = ledger.reserve(scopes, 9.0, late)
    ledger.settle(ledger.reserve(scopes, 1.0, late), 5.0, late)
    assert ledger.pace(scopes, wish(LADDER_OF_THREE), late).exhausted
    next_day = late + 120
    pace = ledger.pace(scopes, wish(LADDER_OF_THREE), next_day)
    assert not pace.exhausted
    assert pace.cost_weight < 1e6
    ledger.settle(open_hold, 8.0, next_day)
    assert ledger.status(next_day)[0].committed_usd == 0.0, "yesterday's bill is yesterday's"


@given(current=st.floats(0, 1e9), wanted=st.floats(0, 1e9), most=st.floats(1e-3, 30))
def test_a_step_is_bounded_goes_towards_the_aim_and_stays_in_range(current: float, wanted: float, most: float) -> None:
    moved = stepped(current, wanted, most)
    assert 0.0 <= moved <= MAX_COST_WEIGHT * (1 + 1e-9)
    low, high = sorted((max(current, 0.01), max(wanted, 0.01)))
    assert moved == wanted or low * (1 - 1e-9) <= moved <= high * (1 + 1e-9)
    assert abs(math.log(max(moved, 0.01) / max(current, 0.01))) <= most * (1 + 1e-9)


@given(current=st.floats(0, 1e9), one=st.floats(0, 1e9), other=st.floats(0, 1e9))
def test_a_step_towards_more_never_lands_lower(current: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert stepped(current, low, STEP) <= stepped(current, high, STEP) * (1 + 1e-12)


@settings(max_examples=30)
@given(spent=st.floats(0, 12), more=st.floats(0, 5))
def test_the_more_is_spent_the_higher_the_cost_weight(spent: float, more: float) -> None:
    weights = []
    for usd in (spent, spent + more):
        ledger, scopes = ledger_after(20), scopes_of([BUDGET], "auto", None, None)
        ledger.settle(ledger.reserve(scopes, 0.001, NOON + 20), usd, NOON + 20)
        weights.append(ledger.cost_weight(scopes[0], 0.0, NOON + 6 * HOUR_S))
    assert weights[0] <= weights[1] * (1 + 1e-9)


@given(usd=st.floats(0.01, 100), factor=st.floats(1, 10))
def test_a_larger_budget_never_asks_for_a_higher_cost_weight(usd: float, factor: float) -> None:
    small, large = (
        ledger_after(1, Budget(one)).cost_weight(Scope(Budget(one), "auto"), 0.0, NOON) for one in (usd, usd * factor)
    )
    assert large <= small


@settings(max_examples=20)
@given(base=st.floats(0, 1e4))
def test_a_budget_raises_a_cost_weight_and_never_lowers_it(base: float) -> None:
    ledger, scope = ledger_after(50, Budget(0.05)), Scope(Budget(0.05), "auto")
    asked = ledger.cost_weight(scope, 0.0, NOON + 50)
    assert asked > 0
    assert ledger.cost_weight(scope, base, NOON + 50) == max(base, asked)


def test_from_one_request_to_the_next_the_cost_weight_moves_at_most_a_step() -> None:
    ledger, scopes = ledger_after(50, Budget(1_000.0)), scopes_of([Budget(1_000.0)], "auto", None, None)
    weight = ledger.cost_weight(scopes[0], 0.0, NOON + 50)
    assert weight == 0.0
    ledger.settle(ledger.reserve(scopes, 1.0, NOON + 50), 999.0, NOON + 50)
    seen = [ledger.cost_weight(scopes[0], 0.0, NOON + 51 + i) for i in range(100)]
    most = STEP + STEP_PER_PERIOD * 1 / 86_400
    steps = np.diff(np.log(np.maximum([0.01, *seen], 0.01)))
    assert seen[-1] > 1.0
    assert steps.max() == pytest.approx(most, rel=0.01)


def test_the_first_request_ever_is_paced_by_what_it_would_cost_itself() -> None:
    ledger, scopes = Ledger(Memory()), scopes_of([Budget(0.5)], "auto", None, None)
    pace = ledger.pace(scopes, wish(LADDER_OF_THREE), NOON)
    assert pace.cost_weight > 0, "at the best's 0.01 USD half a dollar would last for 50 requests"


def test_a_restart_goes_on_with_what_was_spent_and_learned() -> None:
    state = Memory()
    budget = Budget(1.0)
    before = ledger_after(600, budget, state)
    scope = Scope(budget, "auto")
    after = Ledger(state)
    assert after.status(NOON) == []
    weight = after.cost_weight(scope, 0.0, NOON + 601)
    assert after.status(NOON + 601)[0].committed_usd == before.status(NOON + 601)[0].committed_usd > 0
    assert weight > 0
    assert len(state.texts) == 1


@pytest.mark.parametrize("per", list(Per))
def test_a_clock_that_ran_ahead_and_is_set_back_counts_in_the_right_period_again(per: Per) -> None:
    budget, scopes = Budget(10.0, per), scopes_of([Budget(10.0, per)], "auto", None, None)
    ledger = ledger_after(20, budget)
    (before,) = ledger.status(NOON + 20)
    for now in (NOON + 40 * 86_400, NOON + 60):
        ledger.pace(scopes, wish(LADDER_OF_THREE), now)
        ledger.settle(ledger.reserve(scopes, 0.5, now), 0.5, now)
    (after,) = ledger.status(NOON + 61)
    assert after.period == before.period
    assert after.committed_usd == pytest.approx(before.committed_usd + 0.5)
    assert after.forecast_usd is not None
    assert math.isfinite(after.forecast_usd)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format":1,"spend":[],"n":1,"rate":[],"seen":[]}'])
def test_what_was_learned_and_cannot_be_read_is_learned_anew(text: str) -> None:
    state = Memory()
    scope = Scope(BUDGET, "auto")
    state.texts[f"learned:{scope.key}"] = text
    assert Ledger(state).cost_weight(scope, 3.0, NOON) == 3.0


def test_every_holder_has_a_budget_of_its_own_and_the_strictest_asks() -> None:
    budgets = [Budget(1_000.0), Budget(1.0, scope=Whose.KEY), Budget(10.0, Per.MONTH, Whose.TEAM)]
    ledger = Ledger(Memory())
    rich, poor = (scopes_of(budgets, "auto", key, "team-1") for key in ("key-1", "key-2"))
    ledger.settle(ledger.reserve(poor, 1.0, NOON), 2.0, NOON)
    wanted = wish(LADDER_OF_THREE)
    asked = ledger.pace(poor, wanted, NOON)
    assert (asked.exhausted, asked.budget, asked.left_usd) == (True, "key", -1.0)
    assert not ledger.pace(rich, wanted, NOON).exhausted
    assert sorted(one.committed_usd for one in ledger.status(NOON)) == [0.0, 2.0, 2.0, 2.0]


def test_a_request_without_key_or_team_counts_for_no_budget_of_theirs() -> None:
    budgets = [Budget(1.0, scope=Whose.KEY), Budget(1.0, scope=Whose.TEAM), Budget(1.0)]
    assert [s.budget.scope for s in scopes_of(budgets, "auto", None, None)] == [Whose.VIRTUAL_MODEL]
    assert [s.holder for s in scopes_of(budgets, "auto", "k", "t")] == ["k", "t", None]


def test_what_is_stored_names_no_holder() -> None:
    state = Memory()
    ledger, scopes = Ledger(state), scopes_of([Budget(1.0, scope=Whose.KEY)], "auto", "sk-very-secret", None)
    for i in range(3):
        ledger.pace(scopes, wish(LADDER_OF_THREE), NOON + 400 * i)
        ledger.reserve(scopes, 0.1, NOON + 400 * i)
    assert state.texts
    assert "secret" not in repr((state.sums, state.texts))


def test_a_new_amount_applies_at_once_to_what_was_spent_already() -> None:
    ledger, state = Ledger(Memory()), scopes_of([Budget(1.0)], "auto", None, None)
    ledger.settle(ledger.reserve(state, 1.0, NOON), 2.0, NOON)
    assert ledger.pace(state, wish(LADDER_OF_THREE), NOON).exhausted
    assert not ledger.pace(scopes_of([Budget(5.0)], "auto", None, None), wish(LADDER_OF_THREE), NOON).exhausted


def test_a_key_that_is_new_starts_with_what_its_virtual_model_has_learned() -> None:
    """Its one request so far left no choice, so that alone it would know of nothing to save."""
    budgets = [Budget(1e6), Budget(0.2, scope=Whose.KEY)]
    no_choice, weights = wish([(0.9, 1.0, 1e-6)]), []
    for n_others in (0, 300):
        ledger = Ledger(Memory())
        for i in range(n_others):
            ledger.pace(scopes_of(budgets, "auto", "old", None), wish([(0.5, 1.0, 1e-6), (0.9, 1.0, 1e-3)]), NOON + i)
        new = scopes_of(budgets, "auto", "new", None)[1]
        weights.append(ledger.pace((new,), no_choice, NOON + 300).cost_weight)
    assert weights[0] == 0.0
    assert weights[1] == pytest.approx(400, rel=0.5), "0.4 of accuracy for 0.001 USD is where the choice changes"


def test_the_forecast_says_what_the_day_will_have_cost() -> None:
    ledger = ledger_after(2_000, Budget(1e6))
    (status,) = ledger.status(NOON + 2_000)
    assert status.cost_weight == 0.0
    assert status.forecast_usd == pytest.approx(0.01 * 12 * 3_600, rel=0.05), "a request a second, the best every time"


def test_status_before_any_request_of_the_period_knows_no_cost_weight() -> None:
    ledger = ledger_after(5)
    (status,) = ledger.status(NOON + 86_400)
    assert (status.period, status.cost_weight, status.forecast_usd, status.committed_usd) == (
        "2026-01-06", None, None, 0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("per", "at", "name", "days"),
    [
        (Per.DAY, datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "2026-03-29", 1),
        (Per.MONTH, datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), "2026-12", 31),
        (Per.MONTH, datetime(2028, 2, 29, tzinfo=UTC), "2028-02", 29),
        (Per.WEEK, datetime(2026, 1, 4, 23, 59, tzinfo=UTC), "2026-W01", 7),
        (Per.WEEK, datetime(2027, 1, 3, tzinfo=UTC), "2026-W53", 7),
    ],
)
def test_periods_are_days_weeks_and_months_of_utc_by_default(per: Per, at: datetime, name: str, days: int) -> None:
    period = period_of(per, at.timestamp())
    assert period.name == name
    assert period.end - period.start == days * 86_400
    assert period.start <= at.timestamp() < period.end
    assert period_of(per, period.end).start == period.end


@pytest.mark.parametrize(
    ("per", "zone", "at", "name", "hours"),
    [
        (Per.DAY, "Europe/Berlin", "2026-03-28T23:30Z", "2026-03-29", 23),  # clocks are put forward
        (Per.DAY, "Europe/Berlin", "2026-10-25T22:59Z", "2026-10-25", 25),  # and back
        (Per.DAY, "Europe/Berlin", "2026-10-25T23:00Z", "2026-10-26", 24),
        (Per.WEEK, "Europe/Berlin", "2026-03-29T21:59Z", "2026-W13", 7 * 24 - 1),
        (Per.MONTH, "Europe/Berlin", "2026-09-30T22:00Z", "2026-10", 31 * 24 + 1),
        (Per.DAY, "Asia/Kolkata", "2026-01-04T18:30Z", "2026-01-05", 24),  # half an hour from every hour of UTC
        (Per.DAY, "America/Los_Angeles", "2026-01-01T07:59Z", "2025-12-31", 24),
        (Per.DAY, "Africa/Cairo", "2026-04-23T22:00Z", "2026-04-24", 23),  # has no midnight
        (Per.DAY, "America/Havana", "2026-11-01T04:30Z", "2026-11-01", 25),  # has two
    ],
)
def test_days_begin_at_midnight_of_the_budget_s_zone(per: Per, zone: str, at: str, name: str, hours: int) -> None:
    now = datetime.fromisoformat(at).timestamp()
    period = period_of(per, now, zone)
    assert (period.name, (period.end - period.start) / HOUR_S) == (name, hours)
    assert period.start <= now < period.end
    assert period_of(per, period.start, zone) == period_of(per, period.end - 1, zone) == period


@given(
    now=st.integers(946_684_800, 2_000_000_000),
    per=st.sampled_from(Per),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "Africa/Cairo", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu"]
    ),
)
def test_every_moment_is_in_one_period_and_periods_leave_no_gap(now: int, per: Per, zone: str) -> None:
    period = period_of(per, now, zone)
    assert period.start <= now < period.end
    after = period_of(per, period.end, zone)
    assert after.start == period.end
    assert after.name > period.name


def test_another_zone_changes_the_day_and_neither_forgets_nor_doubles_what_was_spent() -> None:
    state = Memory()
    for zone in ("UTC", "Europe/Berlin"):
        ledger, scopes = Ledger(state), scopes_of([Budget(10.0, timezone=zone)], "auto", None, None)
        ledger.pace(scopes, wish(LADDER_OF_THREE), NOON)
        ledger.settle(ledger.reserve(scopes, 1.0, NOON), 1.0, NOON)
    (status,) = ledger.status(NOON)
    assert (status.period, status.committed_usd) == ("2026-01-05", 2.0)
    midnight_in_berlin = NOON + 11 * HOUR_S
    assert [one.period for one in ledger.status(midnight_in_berlin - 1)] == ["2026-01-05"]
    assert [one.period for one in ledger.status(midnight_in_berlin)] == ["2026-01-06"]


def test_a_clock_that_leaps_for_a_moment_moves_no_spend_and_one_that_was_set_is_believed() -> None:
    wall, steady = [NOON], [100.0]
    clock = SteadyClock(lambda: wall[0], lambda: steady[0])

    def after(seconds: float, *, set_by: float = 0.0) -> float:
        steady[0] += seconds
        wall[0] += seconds + set_by
        return clock() - NOON

    assert after(60.0) == 60.0
    assert after(60.0, set_by=-30.0) == 90.0, "a small step is a correction"
    assert after(60.0, set_by=40 * 86_400) == 150.0
    assert after(500.0) == 650.0
    assert after(60.0, set_by=-40 * 86_400) == 710.0, "it was wrong, and nobody noticed"
    assert after(60.0, set_by=-86_400) == 770.0
    assert after(600.0) == 600.0 + 770.0 - 86_400, "it has lasted"


def test_a_sum_outlives_a_clock_that_ran_ahead_for_a_moment() -> None:
    wall, steady = [NOON], [0.0]
    replica = ReplicaState.new(clock=SteadyClock(lambda: wall[0], lambda: steady[0]))
    replica.counters.add("spend", 2.0, 3 * 86_400)
    wall[0] += 365 * 86_400
    replica.prune()
    wall[0] -= 365 * 86_400
    assert replica.counters.total("spend") == 2.0


@given(rows=_rows, objective=_objectives, low=st.floats(0, 1e4), more=st.floats(0, 1e6))
def test_a_paced_decision_is_never_dearer_than_what_was_wanted_nor_than_under_a_looser_budget(
    rows: list[tuple[float, float, float]], objective: Objective, low: float, more: float
) -> None:
    wanted = wish(rows, objective)
    loose, strict = (paced(wanted, Pace(weight)) for weight in (low, low + more))
    costs = [float(d.cost_usd[d.ranking[0]]) for d in (wanted, loose, strict)]
    assert costs[1] <= costs[0] * (1 + 1e-9)
    assert costs[2] <= costs[1] * (1 + 1e-9)
    assert set(loose.ranking) == set(strict.ranking) == set(wanted.ranking)


@given(rows=_rows, base=st.floats(0, 1e3), asked=st.floats(0, 1e4))
def test_without_a_floor_it_is_the_decision_at_the_budgets_cost_weight(
    rows: list[tuple[float, float, float]], base: float, asked: float
) -> None:
    decision = paced(wish(rows, Objective(base)), Pace(asked))
    plain = wish(rows, Objective(max(base, asked)))
    assert plain.utility[decision.ranking[0]] == pytest.approx(plain.utility[plain.ranking[0]], abs=1e-6)
    assert np.allclose(decision.utility, plain.utility)
    assert decision.request == plain.request


def test_a_floor_gives_way_only_to_what_is_cheaper_and_the_decision_says_whether_it_is_met() -> None:
    wanted = wish(LADDER_OF_THREE, Objective(min_p_correct=0.85))
    kept, broken = paced(wanted, Pace(1.0)), paced(wanted, Pace(1e6))
    assert (wanted.ranking[0], kept.ranking[0], kept.floor_met) == (2, 2, True)
    assert (broken.ranking[0], broken.floor_met) == (0, False)
    within = paced(wish(LADDER_OF_THREE, Objective(max_accuracy_drop=0.25)), Pace(1e6))
    assert (within.ranking[0], within.floor_met) == (0, False)


def test_nobody_left_stays_nobody_left() -> None:
    nobody = wish(LADDER_OF_THREE, Objective(max_cost_usd=1e-9))
    assert paced(nobody, Pace(5.0, exhausted=True)).ranking == ()
    assert Ledger(Memory()).pace(scopes_of([BUDGET], "auto", None, None), nobody, NOON) == Pace()
