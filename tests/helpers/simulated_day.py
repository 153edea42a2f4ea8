"""A day of planted traffic: requests whose probabilities and costs are known, at times of a known shape.

Eight LLMs from cheap to dear. A request has a difficulty and two lengths; an LLM's probability of a correct answer is
a logistic function of its ability less the difficulty, so who is worth its price differs from request to request. The
bill differs from the forecast by noise and by a factor.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.budget import Scope, paced
from embedllm_router.routing.decision import Objective, Request
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.serving.budget_enforcer import Hold, Ledger

__all__ = ["DAY_S", "SHAPES", "Day", "Ended", "Population", "constant", "days_of", "greedy", "paced_day", "shape"]

DAY_S = 86_400.0
MIDNIGHT = 1_767_571_200.0  # Monday, 5 January 2026, UTC
Floats = NDArray[np.float64]

PRICES = ((0.05, 0.2), (0.1, 0.4), (0.25, 1.0), (0.5, 2.0), (1.0, 4.0), (2.0, 8.0), (3.0, 15.0), (10.0, 40.0))
ABILITIES = (-0.6, 0.0, 0.5, 0.9, 1.2, 1.6, 2.0, 2.5)
VERBOSITY = (0.7, 0.8, 0.9, 1.0, 1.0, 1.2, 1.3, 2.5)
SHAPES = ("flat", "office", "burst")

POOL = CandidatePool(
    [Candidate(f"llm-{i}", f"llm-{i}", i, one / 1e6, other / 1e6) for i, (one, other) in enumerate(PRICES)]
)


@dataclass(frozen=True, slots=True)
class Population:
    """Requests. `p_correct`, `output_tokens`, `cost_usd` are (n, 8); `input_tokens` and `noise` (n,)."""

    p_correct: Floats
    output_tokens: Floats
    input_tokens: NDArray[np.int64]
    cost_usd: Floats
    noise: Floats

    @classmethod
    def planted(cls, n: int, seed: int, *, bias: float = 1.15) -> "Population":
        rng = np.random.default_rng(seed)
        difficulty = rng.normal(0.0, 1.6, (n, 1))
        own = rng.normal(0.0, 0.5, (n, len(PRICES)))
        input_tokens = np.exp(rng.normal(6.0, 1.0, n)).astype(np.int64) + 10
        output = np.exp(rng.normal(5.5, 0.8, (n, 1))) * np.array(VERBOSITY)
        prices = np.array(PRICES) / 1e6
        noise = bias * np.exp(rng.normal(-0.08, 0.4, n))
        return cls(
            1 / (1 + np.exp(difficulty - np.array(ABILITIES) - own)),
            output,
            input_tokens,
            input_tokens[:, None] * prices[:, 0] + output * prices[:, 1],
            noise,
        )

    def __len__(self) -> int:
        return len(self.noise)


@dataclass(frozen=True, slots=True)
class Day:
    """Requests and when they come, in rising order of seconds since the epoch."""

    requests: Population
    at: Floats

    def spend(self, chosen: NDArray[np.intp]) -> float:
        return float((self.requests.cost_usd[np.arange(len(self.at)), chosen] * self.requests.noise).sum())

    def accuracy(self, chosen: NDArray[np.intp]) -> float:
        return float(self.requests.p_correct[np.arange(len(self.at)), chosen].mean())

    @property
    def cheapest(self) -> NDArray[np.intp]:
        cheapest: NDArray[np.intp] = self.requests.cost_usd.argmin(axis=1)
        return cheapest

    @property
    def best(self) -> NDArray[np.intp]:
        best: NDArray[np.intp] = self.requests.p_correct.argmax(axis=1)
        return best

    def budget(self, share: float) -> float:
        """So far from what the cheapest cost to what the best cost."""
        low, high = self.spend(self.cheapest), self.spend(self.best)
        return low + share * (high - low)


def shape(name: str) -> Floats:
    """Requests per hour, (24,), as shares of a day; the burst itself is not usual and comes on top."""
    if name == "office":
        hours = np.arange(24)
        busy = np.where((hours >= 8) & (hours < 18), 1.0 - 0.06 * np.abs(hours - 13), 0.04)
        shares: Floats = busy / busy.sum()
        return shares
    return np.full(24, 1 / 24)


def days_of(name: str, n: int, seed: int) -> Iterator[Day]:
    """Day after day of about n requests; with "burst" one hour of the day brings ten times as many."""
    rng = np.random.default_rng([seed, 7])
    for number in range(1_000):
        hourly = rng.poisson(n * shape(name) * np.exp(rng.normal(0, 0.1)))
        times = [MIDNIGHT + number * DAY_S + (h + rng.random(k)) * 3_600 for h, k in enumerate(hourly)]
        if name == "burst":
            begins = rng.uniform(2, 21)
            times.append(MIDNIGHT + number * DAY_S + (begins + rng.random(9 * n // 24)) * 3_600)
        at = np.sort(np.concatenate(times))
        yield Day(Population.planted(len(at), seed * 1_000 + number), at)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a day ended."""

    spent_usd: float
    accuracy: float
    cost_weights: Floats
    exhausted: int

    def off(self, budget: float) -> float:
        """Relative distance from the budget."""
        return self.spent_usd / budget - 1


def paced_day(
    day: Day,
    scopes: Sequence[Scope],
    ledgers: Sequence[Ledger],
    objective: Objective = Objective(),  # noqa: B008 - frozen
    tick: Callable[[int, float], None] = lambda _i, _now: None,
) -> Ended:
    """Runs a day through the ledgers, request by request in turn, as the plugin would; bills come seconds later."""
    requests, n = day.requests, len(day.at)
    rng = np.random.default_rng(1)
    ends = day.at + rng.exponential(5.0, n)
    spent, right, exhausted, weights = 0.0, 0.0, 0, np.empty(n)
    open_bills: list[tuple[float, int, Ledger, Hold, float]] = []
    for i, now in enumerate(day.at.tolist()):
        tick(i, now)
        while open_bills and open_bills[0][0] <= now:
            end, _, ledger, hold, billed = heapq.heappop(open_bills)
            ledger.settle(hold, billed, end)
        ledger = ledgers[i % len(ledgers)]
        scores = Scores(requests.p_correct[i].astype(np.float32), requests.output_tokens[i].astype(np.float32))
        wanted = rank_candidates(POOL, scores, Request(objective, int(requests.input_tokens[i])))
        pace = ledger.pace(scopes, wanted, now)
        chosen = paced(wanted, pace).ranking[0]
        hold = ledger.reserve(scopes, float(wanted.cost_usd[chosen]), now)
        billed = float(requests.cost_usd[i, chosen] * requests.noise[i])
        heapq.heappush(open_bills, (float(ends[i]), i, ledger, hold, billed))
        spent, right = spent + billed, right + requests.p_correct[i, chosen]
        weights[i], exhausted = pace.cost_weight, exhausted + pace.exhausted
    for end, _, ledger, hold, billed in open_bills:
        ledger.settle(hold, billed, end)
    return Ended(spent, right / n, weights, exhausted)


def constant(day: Day, cost_weight: float) -> NDArray[np.intp]:
    """What one cost weight chooses all day."""
    chosen: NDArray[np.intp] = (day.requests.p_correct - cost_weight * day.requests.cost_usd).argmax(axis=1)
    return chosen


def best_constant(day: Day, budget: float) -> tuple[float, float]:
    """The constant cost weight that would have spent the budget, found in hindsight, and its accuracy."""
    low, high = 1e-3, 1e7
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if day.spend(constant(day, middle)) > budget else (low, middle)
    return high, day.accuracy(constant(day, high))


def greedy(day: Day, budget: float) -> tuple[float, float]:
    """The best until the money is out, then the cheapest: accuracy and spend."""
    cost = day.requests.cost_usd[np.arange(len(day.at)), day.best] * day.requests.noise
    chosen = np.where(np.cumsum(cost) <= budget, day.best, day.cheapest)
    return day.accuracy(chosen), day.spend(chosen)
