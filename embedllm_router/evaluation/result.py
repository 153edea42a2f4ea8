"""What an evaluation found, as frozen values, and its verdict: does routing pay?

The verdict compares a router with always choosing the best single LLM, with intervals, and once with an operating point
that was not picked on the prompts it is judged on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import DRAWS, SEEDS, Estimate, estimate, paired_difference, resamples
from embedllm_router.artifact.manifest import GuaranteeRow
from embedllm_router.artifact.weights import Artifact
from embedllm_router.evaluation.embeddings import AccuracyProbe, LabelProbe
from embedllm_router.evaluation.frontier import CostMetrics, Curve, cost_save
from embedllm_router.evaluation.inputs import Inputs
from embedllm_router.evaluation.metrics import Correctness, CorrectnessIntervals, NoiseCeiling
from embedllm_router.evaluation.routing import Arena, CostResult, Field, RoutedPrompts
from embedllm_router.evaluation.verdict import Graded, PoolVerdict, headline, judge_pool, sentences

__all__ = [
    "BaselineResult",
    "DatasetVerdict",
    "Evaluation",
    "GroupResult",
    "RouterResult",
    "graded_pool",
    "judge",
    "judge_data_sets",
]

Floats = NDArray[np.float64]
_FOLDS: Final = 2
_REPEATS: Final = 20


@dataclass(frozen=True, slots=True)
class HeldOutSaving:
    """The cost weight is picked on half the prompts, judged on the other half, and the other way round.

    Attributes:
        saved: Share of the best single LLM's cost that was saved; may be negative.
        accuracy_difference: Accuracy of the router minus that of the best single LLM at that weight.
    """

    saved: float
    accuracy_difference: Estimate


@dataclass(frozen=True, slots=True)
class Verdict:
    """Routing against the best single LLM of each pool.

    Attributes:
        gain: Accuracy of routing without regard to cost, minus that of the best single LLM.
        cost_save: Share of its cost saved at its accuracy, operating point picked in hindsight; None without prices.
        held_out: The same with the operating point picked on other prompts; None without prices.
    """

    gain: Estimate
    cost_save: Estimate | None
    held_out: HeldOutSaving | None

    def sentences(self) -> tuple[str, ...]:
        """The verdict in words, for people."""
        said = [f"{self._accuracy()} ({_points(self.gain)} points, 95 % interval, n = {self.gain.n} prompts)."]
        if self.cost_save is None or self.held_out is None:
            return (*said, "Cost could not be judged: fewer than two LLMs of a data set have a list price.")
        save, held = self.cost_save, self.held_out
        word = "saves money" if save.low > 0 else "is not shown to save money"
        said.append(
            f"At the accuracy of the best single LLM routing {word}: {save.value:.1%} of its cost "
            f"[{save.low:.1%}, {save.high:.1%}], the operating point picked in hindsight."
        )
        said.append(
            f"With the operating point picked on other prompts: {held.saved:.1%} saved at "
            f"{_points(held.accuracy_difference)} points of accuracy."
        )
        return tuple(said)

    def _accuracy(self) -> str:
        if self.gain.positive:
            return "Routing is more accurate than the best single LLM"
        if self.gain.negative:
            return "Routing is less accurate than the best single LLM"
        return "Routing is not shown to be more accurate than the best single LLM"


def judge(routed: RoutedPrompts, results: Sequence[CostResult]) -> Verdict:
    """Compares a router with the best single LLM of each pool.

    Args:
        routed: Choices without regard to cost.
        results: Sweeps over cost weights; may be empty.

    Returns:
        The verdict.
    """
    gain = paired_difference(routed.correct, routed.best_single)
    if not results:
        return Verdict(gain, None, None)
    return Verdict(gain, _cost_save(results), _held_out(results))


def _cost_save(results: Sequence[CostResult]) -> Estimate:
    sizes = np.array([len(r.arena.labels) for r in results], dtype=np.float64)
    values = np.array([r.metrics.cost_save for r in results])
    samples = np.stack([_resampled_savings(r) for r in results])
    share = sizes / sizes.sum()
    return estimate(float(values @ share), share @ samples, int(sizes.sum()))


def _resampled_savings(result: CostResult) -> Floats:
    n = len(result.arena.labels)
    counts = resamples(n, draws=DRAWS // len(SEEDS)).astype(np.float64) / n
    accuracy, cost = counts @ result.sweep.correct, counts @ result.sweep.cost
    best_accuracy = counts @ result.arena.labels[:, result.arena.best]
    best_cost = counts @ result.arena.cost[:, result.arena.best]
    draws = zip(cost, accuracy, best_accuracy.tolist(), best_cost.tolist(), strict=True)
    return np.array([cost_save(Curve.of(c, a), best_a, best_c) for c, a, best_a, best_c in draws])


def _held_out(results: Sequence[CostResult]) -> HeldOutSaving:
    rng = np.random.default_rng(SEEDS[0])
    correct, best = [], []
    saved, n_prompts = 0.0, 0
    for result in results:
        right, spent = _cross_picked(result, rng)
        reference = result.arena.reference
        best_cost = float(reference.cost[reference.best])
        n = len(right)
        saved += n * (1.0 - float(spent.mean()) / best_cost if best_cost > 0 else 0.0)
        n_prompts += n
        correct.append(right)
        best.append(result.arena.labels[:, result.arena.best])
    return HeldOutSaving(saved / n_prompts, paired_difference(np.concatenate(correct), np.concatenate(best)))


def _cross_picked(result: CostResult, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Per prompt, mean verdict and cost when λ was picked on the other half, over several random halvings."""
    n, best = len(result.arena.labels), result.arena.labels[:, result.arena.best]
    best_cost = result.arena.cost[:, result.arena.best]
    right, spent = np.zeros(n), np.zeros(n)
    for _ in range(_REPEATS):
        fold = rng.permutation(n) % _FOLDS
        for part in range(_FOLDS):
            here, there = fold == part, fold != part
            pick = _pick(result, there, float(best[there].mean())) if there.any() else None
            right[here] += best[here] if pick is None else result.sweep.correct[here, pick]
            spent[here] += best_cost[here] if pick is None else result.sweep.cost[here, pick]
    return right / _REPEATS, spent / _REPEATS


def _pick(result: CostResult, rows: NDArray[np.bool_], target: float) -> int | None:
    """The cheapest cost weight whose accuracy on some prompts reaches a target; None stands for the best single LLM."""
    accuracy, cost = result.sweep.correct[rows].mean(axis=0), result.sweep.cost[rows].mean(axis=0)
    reached = np.flatnonzero(accuracy >= target)
    return int(reached[cost[reached].argmin()]) if len(reached) else None


def _points(difference: Estimate) -> str:
    return f"{difference.value * 100:+.2f} [{difference.low * 100:+.2f}, {difference.high * 100:+.2f}]"


@dataclass(frozen=True, slots=True)
class DatasetVerdict:
    """Whether to route the prompts of one data set.

    Attributes:
        dataset: Its name.
        fixed: The best single LLM, picked on other prompts than it is judged on.
        verdict: The answer.
    """

    dataset: str
    fixed: str
    verdict: PoolVerdict

    @property
    def headline(self) -> str:
        """The answer as one sentence."""
        return f"{self.dataset}: {headline(self.verdict.judgement, self.fixed)}"

    def sentences(self) -> tuple[str, ...]:
        """The figures behind it."""
        return sentences(self.verdict.judgement, self.fixed)


def graded_pool(arena: Arena, p: NDArray[np.float32]) -> Graded:
    """A pool as the verdict reads it.

    Args:
        arena: The pool.
        p: Scores, float32 (n_prompts, n_llms), of the whole test part.
    """
    return Graded(arena.labels, arena.cost, arena.pool.block(p), arena.expected_cost)


def judge_data_sets(field: Field, p: NDArray[np.float32], llm_ids: Sequence[str]) -> tuple[DatasetVerdict, ...]:
    """Says of each data set whether routing pays, among LLMs with a price where two have one.

    Args:
        field: The pools.
        p: Scores, float32 (n_prompts, n_llms), of the whole test part.
        llm_ids: Ids of the LLMs, in the order of the columns.
    """
    pools = {arena.pool.dataset: arena for arena in (*field.all_llms, *field.priced)}
    found = []
    for name, arena in pools.items():
        if len(arena.labels) >= _FOLDS:
            verdict = judge_pool(graded_pool(arena, p))
            found.append(DatasetVerdict(name, llm_ids[arena.pool.columns[verdict.fixed.column]], verdict))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class RouterResult:
    """The artifact or a baseline on the test part.

    Attributes:
        p: Its scores, float32 (n_prompts, n_llms).
        correctness: None when the scores are no probabilities.
        routed: Its choices without regard to cost; None without pools.
        costs: Its sweeps over cost weights, one per priced pool.
        cost: Their means over pools; None without priced pools.
        pareto_distance: To the frontier of everyone evaluated; NaN without priced pools.
        mean_cost_usd: Per prompt of priced pools, without regard to cost; NaN without priced pools.
    """

    p: NDArray[np.float32]
    correctness: Correctness | None
    routed: RoutedPrompts | None
    costs: tuple[CostResult, ...]
    cost: CostMetrics | None
    pareto_distance: float
    mean_cost_usd: float


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """A baseline set against the artifact.

    Attributes:
        result: Its figures.
        log_loss_difference: The artifact's log-loss minus the baseline's, paired; None when not comparable.
        accuracy_difference: The artifact's routing accuracy minus the baseline's, paired; None without pools.
        seconds: To fit and predict.
    """

    result: RouterResult
    log_loss_difference: Estimate | None
    accuracy_difference: Estimate | None
    seconds: float


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Some of the test prompts: one category of one data set, or one slice.

    Attributes:
        n_prompts: Test prompts.
        correctness: The artifact's.
        routing_accuracy: Of its choices among prompts in a pool; NaN without one.
        best_single_accuracy: Of the data set's best single LLM on the same prompts.
        n_routed: Prompts in a pool.
        baseline_log_loss: By baseline.
    """

    n_prompts: int
    correctness: Correctness
    routing_accuracy: float
    best_single_accuracy: float
    n_routed: int
    baseline_log_loss: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was found.

    Attributes:
        artifact: What was evaluated.
        inputs: On what.
        split: "test" or "all".
        seed: Of baselines; bootstraps always use the same five.
        mf_epochs: Epochs the paper's matrix factorisation was given.
        n_llms: The artifact's LLMs with at least one measured label.
        n_unpriced: Of those, how many have no list price and so no part in cost figures.
        recorded_tokens: Share of priced labels whose output tokens were recorded rather than predicted.
        router: The artifact's figures.
        intervals: Of its correctness metrics.
        verdict: Against the best single LLM; None without pools.
        data_sets: Whether to route, by data set.
        baselines: By name.
        not_run: Baselines that were asked for and not run, with the reason.
        categories: By "data set/category".
        slices: By kind of slice ("language", "content", "length"), then by slice.
        guarantee: How often promises were kept on the prompts measured.
        noise: Floors from repeated questions.
        accuracy_probes: Benchmark accuracy from embeddings.
        label_probes: Properties of LLMs from embeddings.
    """

    artifact: Artifact
    inputs: Inputs
    split: str
    seed: int
    mf_epochs: int
    n_llms: int
    n_unpriced: int
    recorded_tokens: float
    router: RouterResult
    intervals: CorrectnessIntervals
    verdict: Verdict | None
    data_sets: tuple[DatasetVerdict, ...]
    baselines: Mapping[str, BaselineResult]
    not_run: Mapping[str, str]
    categories: Mapping[str, GroupResult]
    slices: Mapping[str, Mapping[str, GroupResult]]
    guarantee: tuple[GuaranteeRow, ...]
    noise: tuple[NoiseCeiling, ...]
    accuracy_probes: tuple[AccuracyProbe, ...]
    label_probes: tuple[LabelProbe, ...]
