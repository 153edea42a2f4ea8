"""How hard a prompt is for every LLM alike, linear in the prompt's embedding; fitted in closed form.

What a prompt adds to every LLM's log-odds is first estimated prompt by prompt from its answers, then regressed on the
embedding by a ridge. A data set's own level of difficulty is a random intercept, since another set will have another:
within a set, prompts teach how difficulty varies; between sets, each counts as a few prompts. Large sets count less
than their size, by `_BALANCE`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import sigmoid

__all__ = ["Difficulty", "LabelledPrompts", "fit_difficulty", "prompt_targets"]

_VARIANCE: Final = 1.2  # of what prompts of one set add to the log-odds
_SET_VARIANCE: Final = 1.0
_USUAL_INFORMATION: Final = 0.16  # p·(1-p) of a usual answer
_BALANCE: Final = 0.6  # a set of total weight W counts W^0.4
_BETWEEN: Final = 3.0  # weight of a set's mean, in prompts
_RIDGE: Final = 5.0
_MIN_WEIGHT: Final = 5.0  # a set of less tells nothing within
_MIN_INFORMATION: Final = 0.05
_SET_STEPS, _PROMPT_STEPS, _MAX_STEP = 15, 6, 1.0
_MIN_FEW: Final = 1e-3
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelledPrompts:
    """What prompts of the training part taught.

    Attributes:
        labels: (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        sets: Number of each prompt's data set, int64 (n_prompts,), from 0.
    """

    labels: NDArray[np.generic]
    observed: NDArray[np.bool_]
    sets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Difficulty:
    """`D(x) = weight · x + bias`, in log-odds; positive where prompts are easy.

    Attributes:
        weight: float64 (n_columns,).
        bias: Of the mean over data sets, so that D is 0 on average.
    """

    weight: Floats
    bias: float

    def of(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """D of each prompt.

        Args:
            x: Standardised columns, float32 (n_prompts, n_columns).

        Returns:
            float32 (n_prompts,).
        """
        found: NDArray[np.float32] = x @ self.weight.astype(np.float32) + np.float32(self.bias)
        return found


def prompt_targets(prompts: LabelledPrompts, ability: Floats) -> tuple[Floats, Floats]:
    """What each prompt adds to every LLM's log-odds, beyond ability and data set, and what each set adds.

    A prompt's estimate is one Newton step from the mode of its posterior, so that it is not shrunk twice.

    Args:
        prompts: Answers.
        ability: Log-odds of each LLM, float64 (n_llms,).

    Returns:
        Of prompts, float64 (n_prompts,), and of sets, float64 (n_sets,).
    """
    row, llm = np.nonzero(prompts.observed)
    right, of_set = prompts.labels[row, llm].astype(np.float64), prompts.sets[row]
    base, n_sets, n_prompts = ability[llm], int(prompts.sets.max()) + 1, len(prompts.sets)
    sets, rows = np.zeros(n_sets), np.zeros(n_prompts)
    for _ in range(_SET_STEPS):
        p = sigmoid(base + sets[of_set])
        surplus = np.bincount(of_set, right - p, n_sets) - sets / _SET_VARIANCE
        sets += surplus / (np.bincount(of_set, p * (1 - p), n_sets) + 1 / _SET_VARIANCE)
    base = base + sets[of_set]
    for _ in range(_PROMPT_STEPS):
        p = sigmoid(base + rows[row])
        surplus = np.bincount(row, right - p, n_prompts) - rows / _VARIANCE
        step = surplus / (np.bincount(row, p * (1 - p), n_prompts) + 1 / _VARIANCE)
        rows += np.clip(step, -_MAX_STEP, _MAX_STEP)
    p = sigmoid(base + rows[row])
    information = np.maximum(np.bincount(row, p * (1 - p), n_prompts), _MIN_INFORMATION)
    return rows + np.bincount(row, right - p, n_prompts) / information, sets


def fit_difficulty(
    prompts: LabelledPrompts, ability: Floats, x: NDArray[np.float32], column_weights: NDArray[np.float32]
) -> Difficulty:
    """Fits difficulty.

    Args:
        prompts: The training part's answers.
        ability: Log-odds of each LLM, float64 (n_llms,).
        x: The training part's standardised columns, float32 (n_prompts, n_columns).
        column_weights: What a column is multiplied by before the ridge treats all alike, float32 (n_columns,).

    Returns:
        The fit.
    """
    targets, sets = prompt_targets(prompts, ability)
    n_labels = prompts.observed.sum(axis=1)
    weight = 1 / (_VARIANCE + 1 / np.maximum(_USUAL_INFORMATION * n_labels, _MIN_FEW))
    weight[n_labels == 0] = 0
    moments = [
        _moments(x[mine] * column_weights, targets[mine] + sets[number], weight[mine])
        for number in np.unique(prompts.sets)
        if weight[mine := prompts.sets == number].sum() > 0
    ]
    beta, centre = _solve(moments)
    return Difficulty(beta * column_weights, -float(centre @ beta))


@dataclass(frozen=True, slots=True)
class _Moments:
    """Of one data set: total weight, means of x and of the target, and scatter around them."""

    weight: float
    x: Floats
    target: float
    scatter: Floats
    cross: Floats


def _moments(x: NDArray[np.float32], target: Floats, weight: Floats) -> _Moments:
    total = float(weight.sum())
    mean, level = (weight @ x) / total, float(weight @ target) / total
    inner = x - mean
    weighted = inner * weight[:, None]
    return _Moments(total, mean, level, weighted.T @ inner, weighted.T @ (target - level))


def _solve(sets: list[_Moments]) -> tuple[Floats, Floats]:
    """Coefficients, and the mean x over sets at which D is 0."""
    shares = np.array([one.weight**-_BALANCE * min(_BETWEEN, one.weight) for one in sets])
    means, levels = np.array([one.x for one in sets]), np.array([one.target for one in sets])
    centre, level = shares @ means / shares.sum(), float(shares @ levels / shares.sum())
    apart = means - centre
    left = (apart * shares[:, None]).T @ apart
    right = apart.T @ (shares * (levels - level))
    for one in sets:
        if one.weight >= _MIN_WEIGHT:
            left += one.weight**-_BALANCE * one.scatter
            right += one.weight**-_BALANCE * one.cross
    left[np.diag_indices_from(left)] += _RIDGE
    return np.linalg.solve(left, right), centre
