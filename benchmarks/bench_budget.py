"""How close to its target a day of planted traffic ends, what that costs in accuracy, and how long a request takes.

    python benchmarks/bench_budget.py [--requests N] [--seed N]

Three shapes of traffic: flat, office hours, and one hour of ten times as many requests, at targets between what the
cheapest and what the best LLMs would cost. Beside the controller: the best constant cost weight, found in hindsight;
adaptive pacing by mirror descent alone (Balseiro and Gur, 2019), told how many requests will come; and the best LLM
until the money is out. The controller's first day knows nothing of the shape, the measured one follows two others.
Prints tables and ends with one JSON line.
"""

import argparse
import json
import math
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.budget import Budget, Pace, paced, scopes_of
from embedllm_router.routing.decision import Objective, Request
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.serving.budget_enforcer import Ledger
from embedllm_router.serving.state.shared import ReplicaState, SharedState

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from simulated_day import SHAPES, Day, best_constant, days_of, greedy, paced_day

TARGETS = (0.03, 0.1, 0.3, 0.6)
"""So far from what the cheapest would cost to what the best would."""
LEARNING_DAYS = 2


def mirror_descent(day: Day, usd: float) -> tuple[float, float]:
    """Accuracy and spend of a cost weight that moves by each request's cost against the average target."""
    requests, n = day.requests, len(day.at)
    target, rate = usd / n, 1 / math.sqrt(n)
    weight, left, right = 1.0, usd, 0.0
    for i in range(n):
        worth = requests.p_correct[i] - weight * requests.cost_usd[i]
        chosen = int(worth.argmax()) if left > 0 else int(requests.cost_usd[i].argmin())
        billed = float(requests.cost_usd[i, chosen] * requests.noise[i])
        left, right = left - billed, right + float(requests.p_correct[i, chosen])
        weight *= math.exp(max(-0.25, min(rate * (billed / target - 1), 0.25)))
    return right / n, usd - left


def measure(name: str, share: float, n: int, seed: int) -> dict[str, float]:
    """One shape and target."""
    days = list(islice(days_of(name, n, seed), LEARNING_DAYS + 1))
    day = days[-1]
    usd = day.budget(share)
    ledger = Ledger(SharedState(ReplicaState.new()))
    scopes = scopes_of([Budget(usd)], "auto", None, None)
    first, *_, ended = [paced_day(one, scopes, [ledger]) for one in days]
    _, hindsight = best_constant(day, usd)
    until_out, _ = greedy(day, usd)
    descent, descent_usd = mirror_descent(day, usd)
    return {
        "requests": len(day.at),
        "target_usd": usd,
        "off": ended.off(usd),
        "off_first_day": first.off(usd),
        "accuracy": ended.accuracy,
        "regret": hindsight - ended.accuracy,
        "gain_over_until_out": ended.accuracy - until_out,
        "gain_over_mirror_descent": ended.accuracy - descent,
        "mirror_descent_off": descent_usd / usd - 1,
        "exhausted": ended.exhausted,
    }


def timings(n_candidates: int, rounds: int = 2_000) -> dict[str, float]:
    """Microseconds of CPU each step takes, the median of batches."""
    rng = np.random.default_rng(0)
    prices = np.geomspace(1e-8, 1e-4, n_candidates)
    pool = CandidatePool([Candidate(f"{i}", f"{i}", i, one, 4 * one) for i, one in enumerate(prices.tolist())])
    scores = Scores(
        np.clip(np.linspace(0.3, 0.9, n_candidates) + rng.normal(0, 0.1, n_candidates), 0, 1).astype(np.float32),
        np.full(n_candidates, 300, np.float32),
    )
    wanted = rank_candidates(pool, scores, Request(Objective(), 500))
    scopes = scopes_of([Budget(1.0)], "auto", None, None)
    ledger = Ledger(SharedState(ReplicaState.new()))
    now = time.time()
    took: dict[str, list[int]] = {step: [] for step in ("pace", "paced", "reserve", "settle")}
    for i in range(rounds):
        marks = [time.process_time_ns()]
        pace = ledger.pace(scopes, wanted, now + i)
        marks.append(time.process_time_ns())
        decision = paced(wanted, Pace(50.0) if pace.cost_weight == 0 else pace)
        marks.append(time.process_time_ns())
        hold = ledger.reserve(scopes, float(decision.cost_usd[decision.ranking[0]]), now + i)
        marks.append(time.process_time_ns())
        ledger.settle(hold, 1e-5, now + i)
        marks.append(time.process_time_ns())
        for step, one in zip(took, np.diff(marks).tolist(), strict=True):
            took[step].append(one)
    return {step: round(float(np.median(one)) / 1e3, 1) for step, one in took.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    columns = ("off target", "its first day", "accuracy", "regret, points", "over until-out", "over mirror descent")
    table = Table("shape", "target USD", *columns, "that one off target", title="a day under a budget")
    results = {}
    for name in SHAPES:
        for share in TARGETS:
            found = results[f"{name}-{share}"] = measure(name, share, options.requests, options.seed)
            table.add_row(
                f"{name}, {found['requests']:.0f}",
                f"{found['target_usd']:.2f}",
                f"{found['off']:+.2%}",
                f"{found['off_first_day']:+.1%}",
                f"{found['accuracy']:.4f}",
                f"{100 * found['regret']:.2f}",
                f"{100 * found['gain_over_until_out']:+.1f}",
                f"{100 * found['gain_over_mirror_descent']:+.2f}",
                f"{found['mirror_descent_off']:+.1%}",
            )
    console = Console(width=140)
    console.print(table)
    times = {n: timings(n) for n in (8, 100)}
    steps = Table("candidates", *(f"{step} µs" for step in times[8]), title="CPU time of one request")
    for n, took in times.items():
        steps.add_row(str(n), *(f"{one:.1f}" for one in took.values()))
    console.print(steps)
    worst = {
        "worst_off": max(abs(one["off"]) for one in results.values()),
        "worst_regret": max(one["regret"] for one in results.values()),
        "requests": options.requests,
        "pace_us_100": times[100]["pace"],
        "all_us_100": round(sum(times[100].values()), 1),
    }
    print(json.dumps({key: round(value, 5) for key, value in worst.items()}))


if __name__ == "__main__":
    main()
