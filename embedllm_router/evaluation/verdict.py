"""Should you route at all? Routing against one fixed LLM on the same requests, as a decision rather than a figure.

Routing can pay in two ways. It may be better: its utility, accuracy less cost weight times cost, is higher. Or it may
be cheaper: it costs less, and loses at most a margin of accuracy. One LLM for everything is the answer where both are
ruled out. Everything else is not shown yet, and then the paired variance says how many more answers would tell.

All intervals are paired: the same request is answered both ways, and requests are resampled. Routing that does not pay
is said to be better, or cheaper at one setting, with a probability of at most 2.5 % each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, Resampling
from embedllm_router.evaluation.frontier import choose, sweep

__all__ = [
    "LITTLE",
    "MARGIN",
    "MIN_REQUESTS",
    "MIN_SAVING",
    "RANGE",
    "Answer",
    "Answered",
    "Comparison",
    "Fixed",
    "Graded",
    "Judgement",
    "LlmUse",
    "PoolVerdict",
    "compare",
    "compare_choices",
    "folds",
    "headline",
    "judge",
    "judge_choices",
    "judge_pool",
    "n_words",
    "pick_fixed",
    "requests_to_tell",
    "sentences",
    "uses_of",
]

MARGIN: Final = 0.02
"""Accuracy that may be lost where routing is cheaper, and utility below which a gain is not worth having."""
MIN_SAVING: Final = 0.05
"""Share of the fixed LLM's cost below which a saving is not worth having."""
LITTLE: Final = 0.01
"""Utility a request that is little enough to do without."""
MIN_REQUESTS: Final = 30
"""With fewer requests nothing is said."""
MOST: Final = 1_000_000
"""More answers than this are said to be out of reach."""

_Z: Final = NormalDist().inv_cdf(0.975)
_FOLDS: Final = 10
Floats = NDArray[np.float64]


class Answer(StrEnum):
    """Whether to route."""

    PAYS = "routing pays"
    NOT_SHOWN = "not shown yet"
    USE_ONE = "use one LLM"


@dataclass(frozen=True, slots=True)
class Answered:
    """One way of answering requests; each array is float64 (n,).

    Attributes:
        correct: Verdict on each answer, or an unbiased estimate of it; in [0, 1] on average.
        cost: USD of each answer; NaN everywhere where costs are unknown.
    """

    correct: Floats
    cost: Floats

    def select(self, rows: NDArray[np.generic]) -> "Answered":
        """Some of the requests."""
        return Answered(self.correct[rows], self.cost[rows])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Routing minus the fixed LLM, on the same requests. Costs are of a request, in USD; NaN without prices.

    Attributes:
        n: Requests.
        accuracy: Of routing, in [0, 1].
        fixed_accuracy: Of the fixed LLM, in [0, 1].
        cost_usd: Of routing.
        fixed_cost_usd: Of the fixed LLM.
        accuracy_change: Routing minus fixed.
        cost_change_usd: Likewise.
        cost_change_share: The same as a share of the fixed LLM's cost.
        utility_change: Of accuracy less cost weight times cost.
        ever_gains: Whether routing was more right than the fixed LLM on any request.
    """

    n: int
    accuracy: float
    fixed_accuracy: float
    cost_usd: float
    fixed_cost_usd: float
    accuracy_change: Estimate
    cost_change_usd: Estimate
    cost_change_share: Estimate
    utility_change: Estimate
    ever_gains: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer, and what it rests on.

    Attributes:
        answer: One of three.
        better: Whether routing has the higher utility, possibly by the margin or more.
        cheaper: Whether it costs less at one of the settings, by `MIN_SAVING` or more as estimated, and loses at most
            the margin of accuracy there.
        n_more: Requests with a verdict that are lacking, if the estimates hold; None where the answer is known, or no
            number below a million would tell.
        for_accuracy: Routing as it is set for accuracy, or by the given cost weight.
        for_savings: Routing as it is set to save; the same object where one setting was judged.
    """

    answer: Answer
    better: bool
    cheaper: bool
    n_more: int | None
    for_accuracy: Comparison
    for_savings: Comparison


def compare(
    routed: Answered,
    fixed: Answered,
    cost_weight: Floats | float = 0.0,
    *,
    differ: bool = True,
    stands_for: float = 1.0,
) -> Comparison:
    """Compares routing with a fixed LLM.

    Args:
        routed: Routing, on at least one request.
        fixed: The fixed LLM, on the same requests.
        cost_weight: λ of every request, or one for all, in accuracy per USD; at least 0.
        differ: Whether routing chose another LLM than the fixed one for any request; else the difference is 0 for sure.
        stands_for: How many requests one answer that was observed stands for, where it is a sample of them.

    Returns:
        The differences, with paired intervals.
    """
    n = len(routed.correct)
    drawn = Resampling(n)
    gained = routed.correct - fixed.correct
    seldom = stands_for**2 if differ else 0.0
    priced = bool(np.isfinite(routed.cost).all() and np.isfinite(fixed.cost).all())
    more = routed.cost - fixed.cost if priced else np.full(n, np.nan)
    utility = gained - np.where(np.asarray(cost_weight) > 0, cost_weight * more, 0.0)
    unknown = Estimate(np.nan, np.nan, np.nan, n)
    return Comparison(
        n=n,
        accuracy=float(routed.correct.mean()),
        fixed_accuracy=float(fixed.correct.mean()),
        cost_usd=float(routed.cost.mean()),
        fixed_cost_usd=float(fixed.cost.mean()),
        accuracy_change=_widened(drawn.ratio(gained), gained, seldom),
        cost_change_usd=drawn.ratio(more) if priced else unknown,
        cost_change_share=drawn.ratio(more, fixed.cost) if priced and fixed.cost.sum() > 0 else unknown,
        utility_change=_widened(drawn.ratio(utility), utility, seldom) if np.isfinite(utility).all() else unknown,
        ever_gains=bool((gained > 0).any()),
    )


def _widened(found: Estimate, values: Floats, unseen: float) -> Estimate:
    """At least as wide as Agresti and Min's interval (2005) of a paired difference.

    The bootstrap takes what never differed yet as never differing; this adds `unseen` to the squared differences: 1 for
    one more answer that differs, the square of its weight for one of a sample.
    """
    n = len(values) + 2
    mean = float(values.sum()) / n
    half = _Z * math.sqrt(max((float((values**2).sum()) + unseen) / n - mean**2, 0.0) / n)
    return Estimate(found.value, min(found.low, mean - half), max(found.high, mean + half), found.n)


def judge(for_accuracy: Comparison, for_savings: Comparison | None = None, *, margin: float = MARGIN) -> Judgement:
    """Decides.

    Args:
        for_accuracy: Routing where it is set for utility.
        for_savings: Routing where it is set to save; None where the first is both.
        margin: Accuracy that may be lost where routing is cheaper, and the least gain worth having; above 0.

    Returns:
        The judgement.
    """
    saving = for_savings or for_accuracy
    settings = (for_accuracy,) if for_savings is None else (for_accuracy, for_savings)
    better = for_accuracy.utility_change.low > 0 and for_accuracy.utility_change.high >= margin
    cheaper = any(_cheaper(one, margin) for one in settings)
    answer = Answer.NOT_SHOWN
    if better or cheaper:
        answer = Answer.PAYS
    elif _only_costs(for_accuracy, saving) or (
        for_accuracy.utility_change.high < margin and all(_no_cheaper(one, margin) for one in settings)
    ):
        answer = Answer.USE_ONE
    n_more = _n_more(for_accuracy.utility_change, settings, margin) if answer is Answer.NOT_SHOWN else None
    return Judgement(answer, better, cheaper, n_more, for_accuracy, saving)


def _cheaper(one: Comparison, margin: float) -> bool:
    change = one.cost_change_share
    return change.high < 0 and change.value <= -MIN_SAVING and one.accuracy_change.low > -margin


def _only_costs(*settings: Comparison) -> bool:
    """Whether routing costs more for sure and never gained: no cost weight makes that worth more answers."""
    spent = [one.cost_change_usd for one in settings]
    idle = all(one.n >= MIN_REQUESTS and not one.ever_gains for one in settings)
    return idle and all(one.low >= 0 for one in spent) and any(one.low > 0 for one in spent)


def _no_cheaper(one: Comparison, margin: float) -> bool:
    return not one.cost_change_share.low < -MIN_SAVING or one.accuracy_change.high < -margin


def _n_more(gain: Estimate, settings: Sequence[Comparison], margin: float) -> int | None:
    """The fewest requests with which one of the answers would be reached, if the estimates hold."""
    better, no_better = _n_until(gain, 0.0, above=True), _n_until(gain, margin, above=False)
    cheaper, no_cheaper = [], []
    for one in settings:
        change, kept = one.cost_change_share, one.accuracy_change
        until_less = _n_until(change, 0.0, above=False) if change.value <= -MIN_SAVING else math.inf
        cheaper.append(max(until_less, _n_until(kept, -margin, above=True)))
        no_cheaper.append(min(_n_until(change, -MIN_SAVING, above=True), _n_until(kept, -margin, above=False)))
    needed = min(better, *cheaper, max(no_better, *no_cheaper))
    more = math.ceil(needed) - gain.n if math.isfinite(needed) else MOST
    return max(more, 1) if more < MOST else None


def _n_until(found: Estimate, bound: float, *, above: bool) -> float:
    """At how many requests the interval would lie on one side of a bound; infinity where the estimate does not."""
    if math.isnan(found.value):
        return 0.0 if above and bound < 0 else math.inf  # without prices there is no saving, to show or to rule out
    distance = found.value - bound if above else bound - found.value
    if distance <= 0:
        return math.inf
    half = (found.high - found.low) / 2
    return float(found.n * (half / distance) ** 2)


def folds(n: int, seed: int = 0) -> NDArray[np.intp]:
    """Ten parts of n requests, in each of which an LLM is judged that was picked on the others; intp (n,)."""
    return (np.random.default_rng(seed).permutation(n) % _FOLDS).astype(np.intp)


@dataclass(frozen=True, slots=True)
class Fixed:
    """The best fixed LLM, picked without hindsight.

    Attributes:
        column: Best on all requests: the one to name.
        picked: intp (n,), column that was picked for each request on other requests.
        agreement: Share of the requests for which that is the named one, in [0, 1].
    """

    column: int
    picked: NDArray[np.intp]

    @property
    def agreement(self) -> float:
        """How often the pick on other requests is the named one."""
        return float((self.picked == self.column).mean())


def pick_fixed(utility: Floats, cost: Floats, seed: int = 0) -> Fixed:
    """Picks the best fixed LLM, for every tenth of the requests on the other nine.

    Args:
        utility: float64 (n, n_llms).
        cost: float64 (n, n_llms), which settles equals; NaN where unknown.
        seed: Decides the parts.

    Returns:
        The LLM of the highest mean utility.
    """
    part = folds(len(utility), seed)
    picked = np.zeros(len(utility), dtype=np.intp)
    for one in np.unique(part).tolist():
        others = part != one
        rows = others if others.any() else np.ones_like(others)
        picked[part == one] = _best(utility[rows], cost[rows])
    return Fixed(_best(utility, cost), picked)


def _best(utility: Floats, cost: Floats) -> int:
    mean, price = utility.mean(axis=0), np.nan_to_num(cost.mean(axis=0), nan=np.inf)
    return int(np.lexsort((price, -mean))[0])


@dataclass(frozen=True, slots=True)
class Graded:
    """Requests that every LLM answered; each array is float64 (n, n_llms).

    Attributes:
        labels: Verdicts, 0 or 1.
        cost: USD of each answer; NaN where an LLM has no price.
        p_correct: Predicted probabilities.
        expected_cost: USD as known before the answer.
    """

    labels: Floats
    cost: Floats
    p_correct: Floats
    expected_cost: Floats

    @property
    def priced(self) -> bool:
        """Whether every LLM has a price."""
        return bool(np.isfinite(self.cost).all() and np.isfinite(self.expected_cost).all())

    def select(self, rows: NDArray[np.generic]) -> "Graded":
        """Some of the requests."""
        return Graded(self.labels[rows], self.cost[rows], self.p_correct[rows], self.expected_cost[rows])

    def answered(self, chosen: NDArray[np.integer]) -> Answered:
        """What comes of some choices, intp (n,)."""
        rows = np.arange(len(chosen))
        return Answered(self.labels[rows, chosen], self.cost[rows, chosen])

    def utility(self, cost_weight: float) -> Floats:
        """Accuracy less cost weight times cost; at 0 costs do not count, known or not."""
        return self.labels - cost_weight * self.cost if cost_weight else self.labels


@dataclass(frozen=True, slots=True)
class PoolVerdict:
    """Whether routing pays among LLMs that all answered the same requests.

    Attributes:
        judgement: The answer.
        fixed: What routing was compared with.
        chosen: intp (n,), columns that routing chose, set for accuracy or by the given objective.
        saving: intp (n,), columns that it chose, set to save; the same where one setting was judged.
        saving_weight: The cost weight that saves, the median of those picked; None without one.
    """

    judgement: Judgement
    fixed: Fixed
    chosen: NDArray[np.intp]
    saving: NDArray[np.intp]
    saving_weight: float | None


def judge_pool(graded: Graded, *, margin: float = MARGIN) -> PoolVerdict:
    """Judges routing set for accuracy, and set to save: at the lowest cost that keeps the fixed LLM's accuracy.

    Neither the fixed LLM nor the cost weight that saves is picked on the requests they are judged on.

    Args:
        graded: At least two LLMs and two requests.
        margin: As for `judge`.

    Returns:
        The verdict; without prices, of accuracy alone.
    """
    fixed = pick_fixed(graded.labels, graded.cost)
    chosen = choose(graded.p_correct, np.nan_to_num(graded.expected_cost), 0.0).astype(np.intp)
    for_accuracy = compare_choices(graded, chosen, fixed.picked)
    if not graded.priced:
        return PoolVerdict(judge(for_accuracy, margin=margin), fixed, chosen, chosen, None)
    saving, weight = _cross_picked(graded, fixed)
    for_savings = compare_choices(graded, saving, fixed.picked)
    return PoolVerdict(judge(for_accuracy, for_savings, margin=margin), fixed, chosen, saving, weight)


def judge_choices(
    graded: Graded, chosen: NDArray[np.intp], cost_weight: float = 0.0, *, margin: float = MARGIN
) -> PoolVerdict:
    """Judges given choices, such as a configuration's.

    Args:
        graded: At least two LLMs and two requests.
        chosen: intp (n,), columns.
        cost_weight: λ by which the best fixed LLM is picked, and accuracy and cost are weighed.
        margin: As for `judge`.

    Returns:
        The verdict.
    """
    fixed = pick_fixed(graded.utility(cost_weight), graded.cost)
    found = judge(compare_choices(graded, chosen, fixed.picked, cost_weight), margin=margin)
    return PoolVerdict(found, fixed, chosen, chosen, None)


def compare_choices(
    graded: Graded, chosen: NDArray[np.intp], fixed: NDArray[np.intp], cost_weight: float = 0.0
) -> Comparison:
    """Compares two ways of choosing, intp (n,) each."""
    differ = bool((chosen != fixed).any())
    return compare(graded.answered(chosen), graded.answered(fixed), cost_weight, differ=differ)


def _cross_picked(graded: Graded, fixed: Fixed) -> tuple[NDArray[np.intp], float]:
    """For each part of the requests, the cheapest cost weight that was as accurate as the fixed LLM on the others."""
    swept = sweep(graded.p_correct, graded.expected_cost, graded.labels, graded.cost)
    part, saving = folds(len(graded.labels)), np.zeros(len(graded.labels), dtype=np.intp)
    weights = []
    for one in np.unique(part).tolist():
        here = part == one
        others = ~here if not here.all() else here
        target = float(graded.labels[others, int(fixed.picked[here][0])].mean())
        accuracy, cost = swept.correct[others].mean(axis=0), swept.cost[others].mean(axis=0)
        reached = np.flatnonzero(accuracy >= target)
        at = int(reached[cost[reached].argmin()]) if len(reached) else int(accuracy.argmax())
        saving[here] = swept.chosen[here, at]
        weights.append(float(swept.weights[at]))
    return saving, float(np.median(weights))


@dataclass(frozen=True, slots=True)
class LlmUse:
    """What one LLM is for.

    Attributes:
        llm: Its name.
        accuracy: Of its own answers, in [0, 1].
        cost_usd: Of a request; NaN without a price.
        chosen_at_most: Largest share of the requests that it gets at any cost weight of the range, in [0, 1].
        cost_weight: Where it gets that share; None where it is never chosen.
        lost_without: Utility that a request loses there without it, by the verdicts.
        role: "never chosen", "never right", "earns its place" where something is lost without it for sure,
            "dispensable" where less than `LITTLE` is lost for sure, else "not shown".
    """

    llm: str
    accuracy: float
    cost_usd: float
    chosen_at_most: float
    cost_weight: float | None
    lost_without: Estimate
    role: str


RANGE: Final[Floats] = np.concatenate([[0.0], np.logspace(-1, 4, 26)])
"""Cost weights at which an LLM may earn its place; the profile `cheap` is 500."""


def uses_of(graded: Graded, names: Sequence[str]) -> tuple[LlmUse, ...]:
    """What each LLM of a pool is for; the one chosen most often first.

    Args:
        graded: At least two LLMs.
        names: Of the LLMs.

    Returns:
        One each. Without prices only a cost weight of 0 counts.
    """
    weights = RANGE if graded.priced else RANGE[:1]
    expected = np.nan_to_num(graded.expected_cost)
    chosen = np.stack([choose(graded.p_correct, expected, float(w)) for w in weights], axis=1)
    found = [_use(graded, names, column, weights, chosen) for column in range(len(names))]
    return tuple(sorted(found, key=lambda one: -one.chosen_at_most))


def _use(graded: Graded, names: Sequence[str], column: int, weights: Floats, chosen: NDArray[np.int64]) -> LlmUse:
    shares = (chosen == column).mean(axis=0)
    most = int(shares.argmax())
    weight, lost = float(weights[most]), Estimate(0.0, 0.0, 0.0, len(chosen))
    if shares[most] > 0:
        left = np.arange(len(names)) != column
        instead = np.flatnonzero(left)[
            choose(graded.p_correct[:, left], np.nan_to_num(graded.expected_cost[:, left]), weight)
        ]
        lost = compare_choices(graded, chosen[:, most].astype(np.intp), instead.astype(np.intp), weight).utility_change
    return LlmUse(
        llm=names[column],
        accuracy=float(graded.labels[:, column].mean()),
        cost_usd=float(graded.cost[:, column].mean()),
        chosen_at_most=float(shares[most]),
        cost_weight=weight if shares[most] > 0 else None,
        lost_without=lost,
        role=_role(float(shares[most]), float(graded.labels[:, column].max()), lost),
    )


def _role(share: float, best_answer: float, lost: Estimate) -> str:
    if not share:
        return "never chosen"
    if best_answer <= 0:
        return "never right"  # a low price alone is no place: saying nothing costs less
    if lost.low > 0:
        return "earns its place"
    return "dispensable" if lost.high < LITTLE else "not shown"


def requests_to_tell(difference: float, residual: Floats, propensity: float) -> int | None:
    """Requests with feedback that would show a difference, were other LLMs tried at random with this propensity.

    Args:
        difference: The difference in accuracy to be shown.
        residual: float64 (n,), p(1 - p) of the request's answers; 0 where both ways choose the same LLM.
        propensity: Of the LLM that is compared, in (0, 1).

    Returns:
        None where it is a million or more.
    """
    variance = float((residual * (1 / propensity + 1 / (1 - propensity))).mean())
    needed = variance * (_Z / difference) ** 2 if difference else math.inf
    return math.ceil(needed) if needed < MOST else None


def n_words(n: int | None) -> str:
    """A number of answers, in words that claim no more digits than it has."""
    if n is None:
        return "more than a million more answers needed"
    digits = 10 ** max(len(str(n)) - 2, 0)
    return f"about {math.ceil(n / digits) * digits:,} more answers needed"


def headline(found: Judgement, fixed: str) -> str:
    """The answer as one sentence."""
    if found.answer is Answer.PAYS:
        how = " and ".join(word for word, said in (("better", found.better), ("cheaper", found.cheaper)) if said)
        return f"Routing pays: it is {how} than {fixed} for everything."
    if found.answer is Answer.USE_ONE:
        if _only_costs(found.for_accuracy, found.for_savings):
            n = found.for_accuracy.n
            return f"Use {fixed} for everything: routing costs more, and was never more right in {n:,} requests."
        return f"Use {fixed} for everything: routing is neither better nor cheaper by an amount worth having."
    return f"Not shown yet: {n_words(found.n_more)}, if the differences stay as they are."


def sentences(found: Judgement, fixed: str) -> tuple[str, ...]:
    """The figures behind the answer, a sentence for each setting that was judged."""
    if found.for_savings is found.for_accuracy:
        return (f"Routing as it is set: {_against(found.for_accuracy, fixed)}",)
    return (
        f"Set for accuracy (cost weight 0): {_against(found.for_accuracy, fixed)}",
        f"Set to save at the accuracy of {fixed}: {_against(found.for_savings, fixed)}",
    )


def _against(one: Comparison, fixed: str) -> str:
    gain, saved = one.accuracy_change, one.cost_change_share
    said = (
        f"{one.accuracy:.1%} right against {one.fixed_accuracy:.1%} of {fixed}, {gain.value * 100:+.1f} points "
        f"[{gain.low * 100:+.1f}, {gain.high * 100:+.1f}]"
    )
    if math.isnan(saved.value):
        return f"{said}; costs are not known."
    return f"{said}; costs {saved.value:+.0%} [{saved.low:+.0%}, {saved.high:+.0%}] ({one.n:,} requests)."
