"""Whole days of planted traffic end on target, and lose next to nothing against the best cost weight in hindsight."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from local_redis import local_redis
from memory import Memory
from simulated_day import MIDNIGHT, SHAPES, Day, best_constant, constant, days_of, greedy, paced_day, shape

from embedllm_router.config.process import LogSettings, StateSettings
from embedllm_router.routing.budget import Budget, Per, scopes_of
from embedllm_router.routing.decision import Objective
from embedllm_router.serving.budget_enforcer import Ledger
from embedllm_router.serving.state.opening import open_state
from embedllm_router.serving.state.shared import SharedState
from embedllm_router.telemetry.log import configure_logging

DAY_H = 24


def a_day(name: str, n: int, seed: int = 11) -> Day:
    """The first Monday."""
    return next(days_of(name, n, seed))


def knowing(name: str, n: int, budget: Budget, state: Memory | SharedState | None = None) -> Ledger:
    """A ledger that knows when requests usually come: a week of the shape without its bursts."""
    ledger, (scope,) = Ledger(state or Memory()), scopes_of([budget], "auto", None, None)
    usual = n * shape(name)
    first = int(MIDNIGHT // 3_600) - 7 * DAY_H
    ledger.teach(scope, {first + h: float(usual[h % DAY_H]) for h in range(7 * DAY_H)}, MIDNIGHT)
    return ledger


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("n", "share"), [(8_000, 0.1), (3_000, 0.03), (3_000, 0.5)])
def test_a_day_ends_within_three_percent_of_its_target(name: str, n: int, share: float) -> None:
    """The target is so far from what the cheapest would cost to what the best would; the burst is tenfold."""
    day = a_day(name, n)
    usd = day.budget(share)
    budget = Budget(usd)
    ended = paced_day(day, scopes_of([budget], "auto", None, None), [knowing(name, n, budget)])
    _, in_hindsight = best_constant(day, usd)
    naive, _ = greedy(day, usd)
    assert abs(ended.off(usd)) < 0.03
    assert ended.accuracy > in_hindsight - (0.02 if name == "burst" else 0.01)
    assert ended.accuracy > naive + 0.05
    assert ended.exhausted < 0.01 * n


def test_after_one_day_it_knows_the_hours_by_itself() -> None:
    days = days_of("office", 3_000, 5)
    first, second = next(days), next(days)
    usd = second.budget(0.1)
    ledger, scopes = Ledger(Memory()), scopes_of([Budget(usd)], "auto", None, None)
    assert -0.3 < paced_day(first, scopes, [ledger]).off(usd) < 0.03, "unused money at most: the evening was unknown"
    assert abs(paced_day(second, scopes, [ledger]).off(usd)) < 0.03


def test_a_month_ends_within_three_percent_of_its_target() -> None:
    days = [day for day, _ in zip(days_of("office", 150, 3), range(27), strict=False)]  # to the end of January
    low, high = sum(day.spend(day.cheapest) for day in days), sum(day.spend(day.best) for day in days)
    usd = low + 0.2 * (high - low)
    ledger, scopes = Ledger(Memory()), scopes_of([Budget(usd, Per.MONTH)], "auto", None, None)
    spent = sum(paced_day(day, scopes, [ledger]).spent_usd for day in days)
    assert abs(spent / usd - 1) < 0.03


def test_requests_that_become_five_times_as_dear_at_noon_do_not_break_it() -> None:
    day = a_day("flat", 4_000)
    late = day.at > MIDNIGHT + 43_200
    dear = np.where(late, 5.0, 1.0)[:, None]
    requests = day.requests
    shifted = Day(
        type(requests)(
            requests.p_correct,
            requests.output_tokens * dear,
            (requests.input_tokens * dear[:, 0]).astype(np.int64),
            requests.cost_usd * dear,
            requests.noise,
        ),
        day.at,
    )
    usd = shifted.budget(0.1)
    budget = Budget(usd)
    ended = paced_day(shifted, scopes_of([budget], "auto", None, None), [knowing("flat", 4_000, budget)])
    assert abs(ended.off(usd)) < 0.03
    assert ended.accuracy > best_constant(shifted, usd)[1] - 0.02


def test_more_than_enough_money_changes_nothing() -> None:
    day = a_day("flat", 1_000)
    budget = Budget(day.budget(3.0))
    ended = paced_day(day, scopes_of([budget], "auto", None, None), [knowing("flat", 1_000, budget)], Objective(20.0))
    assert ended.accuracy == pytest.approx(day.accuracy(constant(day, 20.0)), abs=1e-3)
    assert (ended.cost_weights == 0).all()


def test_less_than_the_cheapest_cost_takes_the_cheapest_from_the_start() -> None:
    day = a_day("flat", 1_000)
    budget = Budget(day.spend(day.cheapest) * 0.8)
    ended = paced_day(day, scopes_of([budget], "auto", None, None), [knowing("flat", 1_000, budget)])
    assert ended.spent_usd == pytest.approx(day.spend(day.cheapest), rel=0.05)
    assert ended.exhausted > 0


def test_a_floor_is_kept_as_far_as_the_money_goes() -> None:
    """τ alone would cost a multiple of the budget."""
    day = a_day("office", 3_000)
    usd = day.budget(0.05)
    budget = Budget(usd)
    objective = Objective(min_p_correct=0.9)
    scopes = scopes_of([budget], "auto", None, None)
    unbound = paced_day(day, (), [Ledger(Memory())], objective)
    ended = paced_day(day, scopes, [knowing("office", 3_000, budget)], objective)
    assert unbound.spent_usd > 2 * usd
    assert abs(ended.off(usd)) < 0.03
    assert ended.accuracy > greedy(day, usd)[0]


@pytest.mark.parametrize("killed", [False, True], ids=["redis lives", "redis is killed from ten to noon"])
def test_two_proxies_that_share_a_budget_through_redis_end_within_three_percent(
    tmp_path: Path, *, killed: bool
) -> None:
    """They exchange every five minutes of the simulated day; bursts and all."""
    n = 2_500
    day = a_day("burst", n)
    usd = day.budget(0.1)
    budget = Budget(usd)
    log = configure_logging(LogSettings(level="error"))
    with local_redis(tmp_path) as redis, asyncio.Runner() as runner:
        states = [open_state(StateSettings(), log, redis=redis.address, on_disk=False) for _ in range(2)]
        exchanged_at, down = MIDNIGHT, False

        def tick(_i: int, now: float) -> None:
            nonlocal exchanged_at, down
            hour = (now - MIDNIGHT) / 3_600
            if killed and not down and 10 <= hour < 12:
                redis.kill()
                down = True
            elif down and hour >= 12:
                redis.start()
                down = False
                runner.run(asyncio.sleep(1.1))  # the time after which it is tried again
            if now - exchanged_at >= 300 and not down:
                exchanged_at = now
                for state in states:
                    runner.run(state.exchange())
            elif down and now - exchanged_at >= 3_600:
                exchanged_at = now
                runner.run(states[0].exchange())

        try:
            ledgers = [knowing("burst", n, budget, state) for state in states]
            ended = paced_day(day, scopes_of([budget], "auto", None, None), ledgers, tick=tick)
            for state in (*states, *states):
                runner.run(state.exchange())
            committed = [ledger.status(float(day.at[-1]))[0].committed_usd for ledger in ledgers]
        finally:
            for state in states:
                runner.run(state.aclose())
    assert abs(ended.off(usd)) < 0.03
    assert committed == pytest.approx([ended.spent_usd] * 2, rel=1e-9), "both know the whole spend, to the cent"
