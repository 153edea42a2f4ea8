"""The order of events of an evaluation: inputs, the artifact, every baseline, verdict, groups, contract, noise, probes.

Each step is another file's. It knows nothing of files to write.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from embedllm_router.artifact.weights import Artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.baselines import UNTRAINED, BaselineOptions, make_baseline
from embedllm_router.evaluation.frontier_evaluation_costs import price_answers
from embedllm_router.evaluation.guarantee import measure_contract
from embedllm_router.evaluation.inputs import Inputs, read_inputs
from embedllm_router.evaluation.metrics import log_losses
from embedllm_router.evaluation.metrics_evaluation_correctness import correctness, correctness_intervals
from embedllm_router.evaluation.metrics_evaluation_noise import noise_ceiling
from embedllm_router.evaluation.probes import accuracy_probes, label_probes
from embedllm_router.evaluation.result import BaselineResult, Evaluation, GroupResult, RouterResult
from embedllm_router.evaluation.result_evaluation_verdict import judge
from embedllm_router.evaluation.routing import Field, field_of, mean_cost_metrics, pareto_distances, route, sweep_pools
from embedllm_router.evaluation.run_evaluation_groups import measure_groups
from embedllm_router.evaluation.run_evaluation_slices import LENGTHS, SLICES, slice_names
from embedllm_router.stats_evaluation_bootstrap import Estimate, paired_difference, ratio_of_sums, resamples

__all__ = ["EvaluationOptions", "Told", "evaluate"]

Told = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What an evaluation can be told.

    Attributes:
        split: "test" for the part training set aside, "all" for data the artifact has never seen.
        baselines: Names out of `baselines.BASELINES`.
        seed: Of baselines.
        mf_epochs: Epochs of the paper's matrix factorisation.
    """

    split: Literal["test", "all"] = "test"
    baselines: Sequence[str] = ()
    seed: int = 0
    mf_epochs: int = 50


def evaluate(
    artifact: Artifact, folders: Sequence[Path], options: EvaluationOptions, told: Told = lambda *_: None
) -> Evaluation:
    """Measures an artifact on data, beside baselines.

    Args:
        artifact: What is evaluated; it is not refitted.
        folders: Data sets.
        options: How.
        told: Hears of progress.

    Returns:
        The findings.

    Raises:
        DataError: The data cannot be used.
        ConfigError: The test part cannot be rebuilt.
    """
    names = [name for name in options.baselines if options.split == "test" or name in UNTRAINED]
    learns = bool(set(names) - UNTRAINED - {"best_single"})
    inputs = read_inputs(artifact, folders, split=options.split, train_x=learns, told=told)
    test, llms = inputs.test.matrix, artifact.manifest.llms
    costs = price_answers(test, llms, inputs.predictions.output_tokens)
    fallback = np.array([llm.mean_correctness for llm in llms])
    field = field_of(test, costs, inputs.train.matrix if inputs.train else None, fallback)
    router = measure(test, inputs.predictions.p_correct, field, probabilistic=True)
    settings = BaselineOptions(seed=options.seed, mf_epochs=options.mf_epochs, told=told)
    baselines = {name: _run_baseline(name, inputs, field, router, settings) for name in names}
    router, baselines = _with_pareto_distances(router, baselines)
    measured = test.observed.any(axis=0)
    told("bootstrap", 0, 1)
    return Evaluation(
        artifact=artifact,
        inputs=inputs,
        split=options.split,
        seed=options.seed,
        mf_epochs=options.mf_epochs,
        n_llms=int(measured.sum()),
        n_unpriced=int((measured & ~costs.priced).sum()),
        recorded_tokens=costs.recorded,
        router=router,
        intervals=correctness_intervals(test.labels(), router.p, test.observed),
        verdict=judge(router.routed, router.costs) if router.routed else None,
        baselines=baselines,
        not_run={n: "needs training data, and --split all has none" for n in options.baselines if n not in names},
        categories=measure_groups(test.category_names(), test, field, router, baselines),
        slices={kind: _slice(kind, test, field, router, baselines) for kind in SLICES},
        contract=measure_contract(test, inputs.predictions, llms),
        noise=noise_ceiling(inputs.everything),
        accuracy_probes=accuracy_probes(artifact, inputs.everything),
        label_probes=label_probes(artifact, options.seed),
    )


def measure(test: CorrectnessMatrix, p: NDArray[np.float32], field: Field, *, probabilistic: bool) -> RouterResult:
    """All figures of one set of scores but its distance to the frontier, which needs the others.

    Args:
        test: Labels.
        p: Scores, float32 (n_prompts, n_llms).
        field: The pools.
        probabilistic: Whether the scores are probabilities.

    Returns:
        The figures.
    """
    costs = sweep_pools(field.priced, p)
    n_priced = sum(len(arena.labels) for arena in field.priced)
    spent = sum(float(result.sweep.cost[:, 0].sum()) for result in costs)
    return RouterResult(
        p=p,
        correctness=correctness(test.labels(), p, test.observed) if probabilistic else None,
        routed=route(field.all_llms, p) if field.all_llms else None,
        costs=costs,
        cost=mean_cost_metrics(costs) if costs else None,
        pareto_distance=math.nan,
        mean_cost_usd=spent / n_priced if n_priced else math.nan,
    )


def _run_baseline(
    name: str, inputs: Inputs, field: Field, router: RouterResult, settings: BaselineOptions
) -> BaselineResult:
    settings.told(name, 0, 1)
    started = time.perf_counter()
    baseline = make_baseline(name, settings)
    with threadpool_limits(1, user_api="blas"):  # beside another busy process a second thread doubles the time
        if inputs.train is not None:
            baseline.fit(inputs.train)
        p = baseline.predict(inputs.test)
    seconds = time.perf_counter() - started
    settings.told(name, 1, 1)
    result = measure(inputs.test.matrix, p, field, probabilistic=baseline.probabilistic)
    difference = None
    if router.routed and result.routed:
        difference = paired_difference(router.routed.correct, result.routed.correct)
    return BaselineResult(result, _log_loss_difference(inputs.test.matrix, router, result), difference, seconds)


def _log_loss_difference(test: CorrectnessMatrix, router: RouterResult, other: RouterResult) -> Estimate | None:
    if other.correctness is None:
        return None
    labels = test.labels()
    gap = np.where(test.observed, log_losses(labels, router.p) - log_losses(labels, other.p), 0.0).sum(axis=1)
    return ratio_of_sums(gap, test.observed.sum(axis=1).astype(np.float64), resamples(len(labels)))


def _with_pareto_distances(
    router: RouterResult, baselines: Mapping[str, BaselineResult]
) -> tuple[RouterResult, dict[str, BaselineResult]]:
    """Distances to the frontier of the artifact, the baselines that see no labels, and the LLMs."""
    if not router.costs:
        return router, dict(baselines)
    rivals = {name: b for name, b in baselines.items() if not name.endswith("oracle")}
    distances = pareto_distances([router.costs, *(b.result.costs for b in rivals.values())])
    placed = {
        name: replace(b, result=replace(b.result, pareto_distance=distance))
        for (name, b), distance in zip(rivals.items(), distances[1:], strict=True)
    }
    return replace(router, pareto_distance=distances[0]), {**baselines, **placed}


def _slice(
    kind: str, test: CorrectnessMatrix, field: Field, router: RouterResult, baselines: Mapping[str, BaselineResult]
) -> dict[str, GroupResult]:
    """The slices of one kind: lengths from short to long, others from the commonest to the rarest."""
    found = measure_groups(slice_names(test.prompts, kind), test, field, router, baselines)
    by_size = sorted(found, key=lambda name: (-found[name].n_prompts, name))
    return {name: found[name] for name in (*LENGTHS, *by_size) if name in found}
