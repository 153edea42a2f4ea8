"""What requests cost on average at each cost weight, learned from the requests themselves. Pure.

Every request is decided again at a ladder of cost weights: who is chosen at some cost weight lies on the upper convex
hull of value over cost, and the hull's slopes are the cost weights where the choice changes. The averages are the
spend side of the cost/gain frontier of the traffic seen lately; reading them backwards gives the cost weight whose
spend is a wanted one. This is the dual price of the sampled linear programme: Agrawal, Wang and Ye, "A dynamic
near-optimal algorithm for online linear programming", Operations Research 62(4), 2014.
"""

import math
from collections.abc import Sequence

import numpy as np

from embedllm_router.routing.pool import Floats

__all__ = ["LADDER", "MAX_COST_WEIGHT", "MIN_COST_WEIGHT", "SpendCurve", "spend_at_each"]

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
