"""Spend targets: what a budget is, what requests cost at each cost weight, and a decision under a budget or a guard.

Under a budget a cost weight may rise and a floor may give way, never the other way round.

What requests cost on average at each cost weight is learned from the requests themselves. Every request is decided
again at a ladder of cost weights: who is chosen at some cost weight lies on the upper convex hull of value over cost,
and the hull's slopes are the cost weights where the choice changes. The averages are the spend side of the cost/gain
frontier of the traffic seen lately; reading them backwards gives the cost weight whose spend is a wanted one. This is
the dual price of the sampled linear programme: Agrawal, Wang and Ye, "A dynamic near-optimal algorithm for online
linear programming", Operations Research 62(4), 2014.

A guard bounds how often one caller's requests go to dear candidates, so that text which makes every request look hard
does not make every request dear.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from embedllm_router.routing.decision import Decision, Reason
from embedllm_router.routing.pool import Exclusion, Floats

__all__ = [
    "LADDER",
    "MAX_COST_WEIGHT",
    "MIN_COST_WEIGHT",
    "NO_PACE",
    "UTC",
    "Budget",
    "Guard",
    "Guarded",
    "Pace",
    "Per",
    "Period",
    "Scope",
    "SpendCurve",
    "Whose",
    "is_dear",
    "paced",
    "period_of",
    "scopes_of",
    "spend_at_each",
    "spend_of",
    "without_dear",
]

_DIGEST_BYTES = 10
UTC = "UTC"
"""Time zone of a budget that names none."""


class Per(StrEnum):
    """The time a budget is for."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Whose(StrEnum):
    """Who shares a budget."""

    VIRTUAL_MODEL = "virtual_model"
    KEY = "key"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Budget:
    """A spend target of one virtual model.

    Attributes:
        usd: What may be spent in each period, in USD; above 0.
        per: The period.
        scope: Who shares it: everybody who asks for the virtual model, or each API key or team for itself.
        timezone: In which zone its days begin, by its IANA name such as "Europe/Berlin".
    """

    usd: float
    per: Per = Per.DAY
    scope: Whose = Whose.VIRTUAL_MODEL
    timezone: str = UTC


@dataclass(frozen=True, slots=True)
class Scope:
    """One budget as it applies to one holder.

    Attributes:
        budget: The budget.
        virtual_model: Whose budget it is.
        holder: The API key's or team's id; None when everybody shares it. It is never stored as it is.
    """

    budget: Budget
    virtual_model: str
    holder: str | None = None

    @property
    def key(self) -> str:
        """Name under which it is counted; tells nothing of the holder."""
        return f"{self.budget.scope}:{self.budget.per}:{_digest(self.virtual_model, self.holder)}"


def _digest(virtual_model: str, holder: str | None) -> str:
    named = f"{virtual_model}\0{holder or ''}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(named, digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class Guard:
    """How often the requests of one API key may go to dear candidates of a virtual model.

    Attributes:
        share: The largest share of them, in [0, 1].
        window_s: Over how many seconds they are counted.
        min_requests: Requests in that time below which nothing is bounded.
        times_median: Dear is what costs more than so many times the median of the candidates, for the same request.
    """

    share: float
    window_s: float
    min_requests: int
    times_median: float


@dataclass(frozen=True, slots=True)
class Guarded:
    """A guard as it applies to one API key.

    Attributes:
        guard: The guard.
        virtual_model: Whose guard it is.
        holder: The key's id; None for all requests without one, together. It is never stored as it is.
    """

    guard: Guard
    virtual_model: str
    holder: str | None

    @property
    def key(self) -> str:
        """Name under which it is counted; tells nothing of the holder."""
        return f"{self.guard.window_s:g}:{_digest(self.virtual_model, self.holder)}"


@dataclass(frozen=True, slots=True)
class Period:
    """One day, week or month.

    Attributes:
        name: Such as "2026-01-31", "2026-W05" (ISO 8601) or "2026-01".
        start: Its first moment, in seconds since the epoch.
        end: The first moment after it, likewise.
    """

    name: str
    start: float
    end: float


def scopes_of(budgets: Iterable[Budget], virtual_model: str, key: str | None, team: str | None) -> tuple[Scope, ...]:
    """The budgets that count a request; those of a key or team only where the request has one.

    Args:
        budgets: Of the virtual model.
        virtual_model: Its name.
        key: Id of the API key; None without one.
        team: Id of its team; None without one.
    """
    holders = {Whose.VIRTUAL_MODEL: None, Whose.KEY: key, Whose.TEAM: team}
    applying = (b for b in budgets if b.scope is Whose.VIRTUAL_MODEL or holders[b.scope] is not None)
    return tuple(Scope(budget, virtual_model, holders[budget.scope]) for budget in applying)


def period_of(per: Per, now: float, timezone: str = UTC) -> Period:
    """The day, week or month that a moment lies in.

    A day goes from midnight to midnight of the zone: where clocks are put forward or back it has 23 or 25 hours. A week
    begins on Monday.

    Args:
        per: Day, week or month.
        now: Seconds since the epoch.
        timezone: IANA name of the zone.
    """
    zone = ZoneInfo(timezone)
    return _period_on(per, datetime.fromtimestamp(now, zone).date(), zone)


@lru_cache(maxsize=256)
def _period_on(per: Per, day: date, zone: ZoneInfo) -> Period:
    if per is Per.DAY:
        name, first, after = f"{day:%Y-%m-%d}", day, day + timedelta(days=1)
    elif per is Per.WEEK:
        year, week, weekday = day.isocalendar()
        first = day - timedelta(days=weekday - 1)
        name, after = f"{year}-W{week:02d}", first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        name, after = f"{first:%Y-%m}", (first + timedelta(days=32)).replace(day=1)
    return Period(name, _midnight(first, zone), _midnight(after, zone))


def _midnight(day: date, zone: ZoneInfo) -> float:
    """The first moment of a day, in seconds since the epoch; where it has no midnight, what follows the gap."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


MIN_COST_WEIGHT = 0.01
"""A dollar below which nobody's accuracy is weighed: a cost weight this low chooses as 0 does."""
MAX_COST_WEIGHT = 1e9
"""The cost weight that chooses the cheapest."""

LADDER: Floats = np.concatenate(([0.0], np.geomspace(MIN_COST_WEIGHT, 1e7, 64), [MAX_COST_WEIGHT]))
"""The cost weights requests are decided again at, (66,)."""

_MEMORY = 1_000  # requests over which the average is taken, the recent ones weighing more
_LOG_LADDER = np.log(np.concatenate(([MIN_COST_WEIGHT / 2], LADDER[1:])))


def spend_at_each(value: Floats, cost_usd: Floats, base: float, at_floor: float | None) -> Floats:
    """What one request costs at each cost weight of the ladder.

    Args:
        value: (n_candidates,), what each that can be chosen is worth before its cost, such as p_correct.
        cost_usd: (n_candidates,), their expected cost in USD.
        base: The request's own cost weight, which the budget may raise and never lower.
        at_floor: Cost of the choice of an objective with a floor, which the budget may only make cheaper; None for an
            objective without one.

    Returns:
        USD, (66,), never rising.
    """
    costs, slopes = _hull(value, cost_usd)
    weights = LADDER if base <= 0 else np.maximum(LADDER, base)
    spend: Floats = costs[np.searchsorted(-slopes, -weights)]  # how many steps up are worth more than the cost weight
    return spend if at_floor is None else np.minimum(spend, at_floor)


def _hull(value: Floats, cost_usd: Floats) -> tuple[Floats, Floats]:
    """Costs of the candidates that some cost weight chooses, rising, and the value per USD of each step up, falling."""
    cheap_first = np.lexsort((-value, cost_usd))
    values = value[cheap_first]
    gains = np.flatnonzero(values[1:] > np.maximum.accumulate(values)[:-1]) + 1
    efficient = cheap_first[np.concatenate(([0], gains))]
    hull: list[tuple[float, float]] = []
    slopes: list[float] = []
    for cost, worth in zip(cost_usd[efficient].tolist(), value[efficient].tolist(), strict=True):
        while hull and (slope := (worth - hull[-1][1]) / (cost - hull[-1][0])) >= (slopes[-1] if slopes else math.inf):
            hull.pop()
            slopes.pop()
        if hull:
            slopes.append(slope)
        hull.append((cost, worth))
    return np.array([cost for cost, _ in hull]), np.array(slopes)


class SpendCurve:
    """Average spend of a request by cost weight.

    Args:
        spend: (66,), what was learned before; None for nothing.
        n: Over how many requests.
    """

    def __init__(self, spend: Sequence[float] | Floats | None = None, n: int = 0) -> None:
        self.n = n if spend is not None else 0
        self.spend: Floats = np.zeros(len(LADDER)) if spend is None else np.array(spend, dtype=np.float64)

    def learn(self, spend: Floats) -> None:
        """Takes one request up, as `spend_at_each` gives it."""
        self.n = min(self.n + 1, _MEMORY)
        self.spend += (spend - self.spend) / self.n

    def mixed_with(self, other: "SpendCurve", n: int) -> "SpendCurve":
        """This curve with so many requests' worth of another: for a scope that has seen few itself."""
        weight = min(other.n, n)
        if weight == 0:
            return self
        both = self.n + weight
        return SpendCurve((self.n * self.spend + weight * other.spend) / both, both)

    def at(self, cost_weight: float) -> float:
        """Average spend at a cost weight, in USD; between the steps of the ladder linear in its logarithm."""
        return float(np.interp(math.log(max(cost_weight, MIN_COST_WEIGHT / 2)), _LOG_LADDER, self.spend))

    def cost_weight_for(self, usd: float) -> float:
        """The lowest cost weight at which a request costs so much on average.

        Args:
            usd: What a request may cost on average.

        Returns:
            In [0, MAX_COST_WEIGHT]: 0 when nothing must be saved, the highest when even the cheapest cost more.
        """
        if self.spend[0] <= usd:
            return 0.0
        if self.spend[-1] >= usd:
            return MAX_COST_WEIGHT
        step = int(np.searchsorted(-self.spend, -usd))  # the first that is cheap enough
        dear, cheap = float(self.spend[step - 1]), float(self.spend[step])
        share = (dear - usd) / (dear - cheap)
        return math.exp(_LOG_LADDER[step - 1] + share * (_LOG_LADDER[step] - _LOG_LADDER[step - 1]))


@dataclass(frozen=True, slots=True)
class Pace:
    """What budgets ask of a request.

    Attributes:
        cost_weight: The lowest cost weight that keeps all of them, in [0, 1e9].
        exhausted: Whether one of them has nothing left, so that the cheapest answers.
        budget: Whose budget asks for it, such as "team"; None when none asks for anything.
        left_usd: What is left of that one; None likewise.
        dear_above: Multiple of the median cost above which candidates are left out, since the caller chose such too
            often; None leaves out none.
    """

    cost_weight: float = 0.0
    exhausted: bool = False
    budget: str | None = None
    left_usd: float | None = None
    dear_above: float | None = None


NO_PACE = Pace()
"""Neither a budget nor a guard asks for anything."""


def is_dear(decision: Decision, times_median: float) -> NDArray[np.bool_]:
    """Which candidates are dear for a request, (n_candidates,).

    Args:
        decision: What was weighed. Candidates that a guard left out count as if they could be chosen.
        times_median: Dear is what costs more than so many times the median; of an even number the lower of the middle
            two, so that of two candidates one can be dear. At least 1.
    """
    able = (decision.exclusions == 0) | (decision.exclusions == Exclusion.GUARDED.code)
    costs = np.sort(decision.cost_usd[able])
    most = times_median * float(costs[(len(costs) - 1) // 2]) if len(costs) else 0.0
    dear: NDArray[np.bool_] = able & (np.nan_to_num(decision.cost_usd) > most)
    return dear


def without_dear(wanted: Decision, times_median: float, keep: int | None = None) -> Decision:
    """A decision among the candidates that are not dear.

    Args:
        wanted: The decision by the objective alone.
        times_median: As for `is_dear`.
        keep: Index of a candidate that stays whatever it costs; None for none.

    Returns:
        The same decision where none of them is ranked.
    """
    dear = is_dear(wanted, times_median)
    left_out = [i for i in wanted.ranking if dear[i] and i != keep]
    if not left_out:
        return wanted
    exclusions = wanted.exclusions.copy()
    exclusions[left_out] = Exclusion.GUARDED.code
    ranking = tuple(i for i in wanted.ranking if i not in set(left_out))
    same = ranking[0] == wanted.ranking[0]
    return replace(
        wanted,
        exclusions=exclusions,
        ranking=ranking,
        floor_met=_floor_met(wanted, ranking[0]),
        instead=wanted.instead if same else Reason.GUARDED,
    )


def paced(wanted: Decision, pace: Pace) -> Decision:
    """Decides again under a budget.

    Args:
        wanted: The decision by the objective alone.
        pace: What the budgets ask.

    Returns:
        The same decision where it costs no more than they allow; else one that ranks by utility at their cost weight.
        With a floor in the objective the floor holds as long as its choice is no dearer than that.
    """
    objective = wanted.request.objective
    if not wanted.ranking or pace.cost_weight <= objective.cost_weight:
        return wanted
    utility = wanted.utility - (pace.cost_weight - objective.cost_weight) * wanted.cost_usd
    ranked = np.array(wanted.ranking)
    best_first = np.lexsort((wanted.cost_usd[ranked], -utility[ranked]))
    ranking = tuple(ranked[best_first].tolist())
    if _has_floor(wanted) and wanted.cost_usd[wanted.ranking[0]] <= wanted.cost_usd[ranking[0]]:
        return wanted
    request = replace(wanted.request, objective=replace(objective, cost_weight=pace.cost_weight))
    return replace(wanted, request=request, utility=utility, ranking=ranking, floor_met=_floor_met(wanted, ranking[0]))


def spend_of(wanted: Decision) -> Floats:
    """What a request costs at each cost weight of the ladder, (66,); `wanted` has a ranking that is not empty."""
    objective, usable = wanted.request.objective, np.array(wanted.ranking)
    cost = wanted.cost_usd[usable]
    value = wanted.utility[usable] + objective.cost_weight * cost
    at_floor = float(wanted.cost_usd[wanted.ranking[0]]) if _has_floor(wanted) else None
    return spend_at_each(value, cost, objective.cost_weight, at_floor)


def _has_floor(decision: Decision) -> bool:
    objective = decision.request.objective
    return objective.min_p_correct is not None or objective.max_accuracy_drop is not None


def _floor_met(wanted: Decision, first: int) -> bool | None:
    objective = wanted.request.objective
    if not _has_floor(wanted):
        return None
    floor = objective.min_p_correct
    if objective.max_accuracy_drop is not None:
        floor = float(max(wanted.p_correct[i] for i in wanted.ranking)) - objective.max_accuracy_drop
    assert floor is not None
    return bool(wanted.p_correct[first] >= floor)
