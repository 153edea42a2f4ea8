"""What a plan shall reach, read from the command line, and the step that reaches it. Pure."""

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.plan.switches import Steps
from embedllm_router.errors import ConfigError

__all__ = ["DAYS_PER_MONTH", "Goal", "Pick", "Setting", "just_beyond", "pick", "read_goal"]

DAYS_PER_MONTH: Final = 365 / 12
"""A month is this long: the mean of a year's."""

Setting = Literal["cost_weight", "min_p_correct"]

_BUDGET = re.compile(r"\$?\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(?:USD|usd|\$)?\s*/\s*(day|month)")
_DIGITS: Final = 4  # of a setting that people shall paste; its step counts where so few are too coarse
_BEYOND: Final = 1.05  # a setting past the last switch point, which has no end
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Goal:
    """A mean probability of a correct answer to reach at the least cost, or a spend to keep to at the best accuracy.

    Attributes:
        accuracy: Target of the mean over requests, in [0, 1]; None for a budget.
        usd: Budget in USD, above 0; None for an accuracy.
        per: The budget's period; None for an accuracy.
    """

    accuracy: float | None = None
    usd: float | None = None
    per: Literal["day", "month"] | None = None

    @property
    def usd_per_month(self) -> float:
        """The budget of a month; infinite for an accuracy."""
        if self.usd is None:
            return math.inf
        return self.usd * (DAYS_PER_MONTH if self.per == "day" else 1.0)

    def met(self, accuracy: Floats | float, usd_per_month: Floats | float) -> NDArray[np.bool_]:
        """Whether so much accuracy at such a cost meets the goal, up to the rounding of sums."""
        if self.accuracy is not None:
            return np.asarray(accuracy) >= self.accuracy - 1e-12
        return np.asarray(usd_per_month) <= self.usd_per_month * (1 + 1e-12)


@dataclass(frozen=True, slots=True)
class Pick:
    """The step that serves a goal best.

    Attributes:
        step: Its number.
        feasible: Whether it meets the goal; otherwise it is as near as any.
        setting: A number of few digits that does the same or, where the goal is met, nearly so and on the safe side.
        exact: A number well inside the step.
    """

    step: int
    feasible: bool
    setting: float
    exact: float


def read_goal(target_accuracy: float | None, budget: str | None) -> Goal:
    """Reads what the command line asks for.

    Raises:
        ConfigError: Neither or both are given, or one makes no sense.
    """
    if (target_accuracy is None) == (budget is None):
        raise ConfigError("give one of --target-accuracy, such as 0.9, and --budget, such as 500/month.")
    if target_accuracy is not None:
        if not 0 < target_accuracy <= 1:
            raise ConfigError(f"--target-accuracy must be above 0 and at most 1, found {target_accuracy}.")
        return Goal(accuracy=target_accuracy)
    read = _BUDGET.fullmatch((budget or "").strip())
    if read is None or not 0 < float(read[1]) < math.inf:
        raise ConfigError(f"--budget takes USD per day or month, such as 500/month or 20/day; found {budget!r}.")
    return Goal(usd=float(read[1]), per="day" if read[2] == "day" else "month")


def pick(goal: Goal, setting: Setting, steps: Steps, accuracy: Floats, usd_per_month: Floats) -> Pick:
    """Searches all steps for the best one: exact, whatever the shapes of the two curves.

    Args:
        goal: What to reach.
        setting: Whose steps they are.
        steps: At least one.
        accuracy: float64 (n_steps,), mean over all requests.
        usd_per_month: float64 (n_steps,).

    Returns:
        For an accuracy the cheapest step that reaches it, else the most accurate one. For a budget the most accurate
        step within it, else the cheapest one.
    """
    met = goal.met(accuracy, usd_per_month)
    feasible = bool(met.any())
    wants_accuracy = (goal.accuracy is None) == feasible
    keys = (usd_per_month, -accuracy) if wants_accuracy else (-accuracy, usd_per_month)
    step = int(np.lexsort((*keys, ~met))[0] if feasible else np.lexsort(keys)[0])
    rises = (setting == "cost_weight") == (goal.accuracy is None)  # whether a larger value is on the safe side
    short = _short(steps, step, rises=rises) if step or feasible else 0.0
    return Pick(step, feasible, short, _inside(steps, step, setting))


def _inside(steps: Steps, step: int, setting: Setting) -> float:
    start, end = float(steps.at[step]), steps.end(step)
    if not step and setting == "cost_weight":
        return 0.0
    if math.isinf(end):
        return (start + 1) / 2 if setting == "min_p_correct" else start * _BEYOND
    return (start + end) / 2


def _short(steps: Steps, step: int, *, rises: bool) -> float:
    """A few digits just inside the end of the step that the goal lies at, rounded away from that end."""
    start, end = float(steps.at[step]), steps.end(step)
    return just_beyond(start, 1) if rises or math.isinf(end) else just_beyond(end, -1)


def just_beyond(value: float, direction: Literal[1, -1]) -> float:
    """The nearest number of a few digits strictly above (1) or below (-1) a positive one; 0 stays 0."""
    if value <= 0:
        return 0.0
    exponent = math.floor(math.log10(value)) - _DIGITS + 1
    count = round(value / 10.0**exponent)
    near = (float(f"{count + i * direction}e{exponent}") for i in (-1, 0, 1))
    return next(one for one in near if (one - value) * direction > 0)
