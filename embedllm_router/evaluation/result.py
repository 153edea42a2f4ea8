"""What an evaluation found, as frozen values. It knows nothing of how they are printed or plotted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import ContractRow
from embedllm_router.artifact.weights import Artifact
from embedllm_router.evaluation.frontier_evaluation_cost_metrics import CostMetrics
from embedllm_router.evaluation.inputs import Inputs
from embedllm_router.evaluation.metrics_evaluation_correctness import Correctness, CorrectnessIntervals
from embedllm_router.evaluation.metrics_evaluation_noise import NoiseCeiling
from embedllm_router.evaluation.probes import AccuracyProbe, LabelProbe
from embedllm_router.evaluation.result_evaluation_verdict import Verdict
from embedllm_router.evaluation.routing import CostResult, RoutedPrompts
from embedllm_router.stats_evaluation_bootstrap import Estimate

__all__ = ["BaselineResult", "Evaluation", "GroupResult", "RouterResult"]


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
        baselines: By name.
        not_run: Baselines that were asked for and not run, with the reason.
        categories: By "data set/category".
        slices: By kind of slice ("language", "content", "length"), then by slice.
        contract: How often promises were kept on the prompts measured.
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
    baselines: Mapping[str, BaselineResult]
    not_run: Mapping[str, str]
    categories: Mapping[str, GroupResult]
    slices: Mapping[str, Mapping[str, GroupResult]]
    contract: tuple[ContractRow, ...]
    noise: tuple[NoiseCeiling, ...]
    accuracy_probes: tuple[AccuracyProbe, ...]
    label_probes: tuple[LabelProbe, ...]
