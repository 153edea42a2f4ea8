"""How well data sets were predicted that were left out of training, and what routing by the predictions reaches.

To compare with: what each LLM is known to reach on other sets, with the uncertainty of a new set; the answers to the
most similar questions; and the one LLM that was best elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, paired_difference, ratio_of_sums, resamples, sigmoid
from embedllm_router.artifact.manifest import LeftOutSet
from embedllm_router.data.folder import merge_folders
from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import DataError
from embedllm_router.evaluation.frontier import Costs, choose, price_answers
from embedllm_router.evaluation.inputs import Pool, find_pools
from embedllm_router.evaluation.metrics import auc
from embedllm_router.training.fit.contradicted import trusted
from embedllm_router.training.fit.decoder import Progress
from embedllm_router.training.fit.description import learned_llms
from embedllm_router.training.fit.facts import UNRECORDED_TOKENS, log_output_tokens
from embedllm_router.training.fit.form import Recipe, chat_llms
from embedllm_router.training.fit.hedge import Answers, HedgeConstants, calibrate, hedged_logits
from embedllm_router.training.fit.leave_out import (
    LeaveOutOptions,
    LeftOutRun,
    found_constants,
    leave_each_out,
    nested_constants,
)
from embedllm_router.training.fit.published import with_listed_prices

__all__ = [
    "COST_WEIGHTS",
    "LeftOut",
    "PredictorFigures",
    "RoutedFigures",
    "SetFigures",
    "left_out_set",
    "measure_left_out",
    "measure_set",
    "predictions",
    "route_set",
    "usual_tokens",
]

_MIN_SETS: Final = 3
Floats = NDArray[np.float64]
Predictor = Literal["weights", "means", "knn"]


@dataclass(frozen=True, slots=True)
class PredictorFigures:
    """How one predictor did on one set; NaN where a figure is undefined.

    Attributes:
        log_loss: In nats.
        auc: Over all answers.
        auc_within: Among the answers of one LLM, averaged over the LLMs that were both right and wrong.
        rank_correlation: Of the LLMs' mean predictions with their shares of right answers (Spearman).
        mean_p: Mean prediction; the set's share of right answers is what it should be.
    """

    log_loss: float
    auc: float
    auc_within: float
    rank_correlation: float
    mean_p: float


@dataclass(frozen=True, slots=True)
class SetFigures:
    """How one left-out set was predicted.

    Attributes:
        name: The data set.
        n_prompts: Prompts.
        n_llms: LLMs.
        n_labels: Answers.
        right: Share of them that is right.
        predictors: By name: the weights, and what they are compared with.
        change: Log-loss of the weights less that of each other predictor, paired by prompt.
    """

    name: str
    n_prompts: int
    n_llms: int
    n_labels: int
    right: float
    predictors: Mapping[Predictor, PredictorFigures]
    change: Mapping[Predictor, Estimate]


def predictions(run: LeftOutRun, constants: HedgeConstants, broad_weight: float) -> dict[Predictor, Floats]:
    """Probability of each answer by every predictor, float64 (n_answers,).

    Args:
        run: One set.
        constants: Of the hedge; calibrated on the run's ordinary prompts.
        broad_weight: See `hedge.hedged_logits`.
    """
    usual = hedged_logits(run.ordinary, constants, broad_weight)
    calibration = calibrate(usual, run.ordinary.right)
    logits = calibration.offset + calibration.slope * hedged_logits(run.left, constants, broad_weight)
    return {"weights": sigmoid(logits), "means": run.means, "knn": run.knn}


def measure_set(run: LeftOutRun, constants: HedgeConstants, broad_weight: float) -> SetFigures:
    """Measures the predictions for one left-out set.

    Args:
        run: The set.
        constants: Of the hedge.
        broad_weight: See `hedge.hedged_logits`.
    """
    p, answers = predictions(run, constants, broad_weight), run.left
    losses = {name: _losses(values, answers.right) for name, values in p.items()}
    prompts, number = np.unique(answers.prompt, return_inverse=True)
    count = np.bincount(number).astype(np.float64)
    counts = resamples(len(prompts))
    change: dict[Predictor, Estimate] = {}
    for name in ("means", "knn"):
        gap = np.bincount(number, losses["weights"] - losses[name]).astype(np.float64)
        change[name] = ratio_of_sums(gap, count, counts)
    return SetFigures(
        name=run.name,
        n_prompts=len(prompts),
        n_llms=len(np.unique(answers.llm)),
        n_labels=len(answers),
        right=float(answers.right.mean()),
        predictors={name: _figures(values, losses[name], answers) for name, values in p.items()},
        change=change,
    )


def _losses(p: Floats, right: Floats) -> Floats:
    inside = np.clip(p, 1e-9, 1 - 1e-9)
    found: Floats = -np.log(np.where(right > 0, inside, 1 - inside))
    return found


def _figures(p: Floats, losses: Floats, answers: Answers) -> PredictorFigures:
    within, shares = [], []
    for llm in np.unique(answers.llm):
        mine = answers.llm == llm
        within.append(_auc(answers.right[mine], p[mine]))
        shares.append((float(p[mine].mean()), float(answers.right[mine].mean())))
    return PredictorFigures(
        log_loss=float(losses.mean()),
        auc=_auc(answers.right, p),
        auc_within=_mean_known(within),
        rank_correlation=_rank_correlation(np.array(shares)),
        mean_p=float(p.mean()),
    )


def _auc(right: Floats, p: Floats) -> float:
    return float(auc(right, p)) if 0 < right.mean() < 1 else float("nan")


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _rank_correlation(pairs: Floats) -> float:
    from scipy.stats import spearmanr  # noqa: PLC0415 - it takes a second to load

    if len(pairs) < 3 or np.ptp(pairs[:, 0]) == 0 or np.ptp(pairs[:, 1]) == 0:  # noqa: PLR2004 - two are always ±1
        return float("nan")
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


COST_WEIGHTS: Final = (0.0, 20.0, 500.0)
"""Accuracy per US dollar: the profiles quality, balanced and cheap."""


@dataclass(frozen=True, slots=True)
class RoutedFigures:
    """Routing on one left-out set at one cost weight.

    Attributes:
        cost_weight: Accuracy given up per US dollar.
        n_prompts: Prompts that every LLM of the pool was graded on.
        n_llms: LLMs of the pool; where cost counts, those with a list price.
        accuracy: Share of right answers by "weights", "means", "knn" and "best_fixed", the LLM of the highest expected
            utility elsewhere.
        cost_usd: Mean cost of an answer likewise; NaN where cost does not count and prices lack.
        gain: Accuracy of the weights less that of the best fixed LLM, paired by prompt.
    """

    cost_weight: float
    n_prompts: int
    n_llms: int
    accuracy: Mapping[str, float]
    cost_usd: Mapping[str, float]
    gain: Estimate


def route_set(
    run: LeftOutRun, p: Mapping[Predictor, Floats], matrix: CorrectnessMatrix, recipe: Recipe
) -> tuple[RoutedFigures, ...]:
    """Routes the prompts of one left-out set.

    Args:
        run: The set.
        p: See `predictions`.
        matrix: What the runs are of.
        recipe: For prices and lengths of answers.

    Returns:
        One for each of `COST_WEIGHTS`; fewer where no pool of two LLMs can be routed.
    """
    few = matrix.select_prompts(run.rows)
    others = np.setdiff1d(np.arange(len(matrix.prompts)), run.rows)
    tokens = usual_tokens(matrix.select_prompts(others), recipe)
    llms = learned_llms(matrix, recipe.facts, recipe.known_llms(matrix.llm_ids))
    costs = price_answers(few, llms, np.broadcast_to(tokens, few.observed.shape))
    judged = np.isin(np.arange(len(matrix.llm_ids)), run.left.llm)
    dense = {name: _dense(few.observed.shape, run.left, values) for name, values in p.items()}
    figures = []
    for weight in COST_WEIGHTS:
        pools = find_pools(few, judged & costs.priced if weight else judged)
        if pools:
            figures.append(_route_pool(pools[0], few, dense, costs, weight))
    return tuple(figures)


def usual_tokens(others: CorrectnessMatrix, recipe: Recipe) -> NDArray[np.float32]:
    """Geometric mean of the lengths of each LLM's answers to other sets, float32 (n_llms,).

    Args:
        others: Those sets.
        recipe: For how many tokens hidden reasoning takes.
    """
    logs = log_output_tokens(others, recipe.facts.reasoning_tokens)
    known = np.isfinite(logs)
    means = np.where(known, logs, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    usual: NDArray[np.float32] = np.where(known.any(axis=0), np.exp(means), UNRECORDED_TOKENS).astype(np.float32)
    return usual


def _dense(shape: tuple[int, ...], answers: Answers, values: Floats) -> NDArray[np.float32]:
    dense = np.zeros(shape, dtype=np.float32)
    dense[answers.prompt, answers.llm] = values
    return dense


def _route_pool(
    pool: Pool,
    matrix: CorrectnessMatrix,
    p: Mapping[Predictor, NDArray[np.float32]],
    costs: Costs,
    weight: float,
) -> RoutedFigures:
    labels, rows = pool.block(matrix.labels()), np.arange(len(pool.rows))
    expected, cost = pool.block(costs.expected_cost), pool.block(costs.cost)
    counted = expected if weight else np.zeros_like(expected)
    chosen = {str(name): choose(pool.block(values), counted, weight) for name, values in p.items()}
    fixed = int(np.argmax((pool.block(p["means"]) - weight * counted).mean(axis=0)))
    chosen["best_fixed"] = np.full(len(rows), fixed)
    right = {name: labels[rows, llms] for name, llms in chosen.items()}
    return RoutedFigures(
        cost_weight=weight,
        n_prompts=len(rows),
        n_llms=len(pool.columns),
        accuracy={name: float(values.mean()) for name, values in right.items()},
        cost_usd={name: float(cost[rows, llms].mean()) for name, llms in chosen.items()},
        gain=paired_difference(right["weights"], right["best_fixed"]),
    )


def left_out_set(run: LeftOutRun, constants: HedgeConstants, broad_weight: float, domain: str = "") -> LeftOutSet:
    """The figures of one set as the manifest holds them.

    Args:
        run: The set.
        constants: Found on the other sets.
        broad_weight: See `hedge.hedged_logits`.
        domain: What the set asks about.
    """
    found = measure_set(run, constants, broad_weight)
    mine, means, change = found.predictors["weights"], found.predictors["means"], found.change["means"]
    return LeftOutSet(
        name=found.name,
        domain=domain,
        n_prompts=found.n_prompts,
        n_llms=found.n_llms,
        n_labels=found.n_labels,
        log_loss=round(mine.log_loss, 4),
        means_log_loss=round(means.log_loss, 4),
        change_low=round(change.low, 4),
        change_high=round(change.high, 4),
        auc=_rounded(mine.auc),
        means_auc=_rounded(means.auc),
        auc_within=_rounded(mine.auc_within),
    )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """All sets left out in turn.

    Attributes:
        sets: Predictions for each, sorted by name.
        routed: Routing on each, by name; empty for a set without a pool of LLMs.
        constants: The hedge found on all sets together; the usual one where there are fewer than four.
        warnings: What a reader of the figures must know.
    """

    sets: tuple[SetFigures, ...]
    routed: Mapping[str, tuple[RoutedFigures, ...]]
    constants: HedgeConstants
    warnings: tuple[str, ...] = ()


def measure_left_out(  # noqa: PLR0913 - data, a recipe and where
    folders: Sequence[Path],
    recipe: Recipe,
    options: LeaveOutOptions,
    *,
    min_labels: int = 30,
    max_prompts: int | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> LeftOut:
    """Leaves out each of some data sets in turn and measures everything.

    Args:
        folders: At least three data sets.
        recipe: How prompts are encoded and a decoder is trained.
        options: How much smaller.
        min_labels: LLMs with fewer graded answers in all are left out.
        max_prompts: Most prompts that are taken of each data set; None takes all.
        cache: See `leave_each_out`.
        progress: Told about each set and its epochs.

    Raises:
        DataError: There are fewer than three data sets, or they cannot be used.
    """
    if len(folders) < _MIN_SETS:
        raise DataError(f"{len(folders)} data sets to leave out in turn, expected at least {_MIN_SETS}. Add --data.")
    torch.set_num_threads(1)  # the networks are small: a second thread gains little
    matrix = chat_llms(
        merge_folders(folders, OnConflict.MEAN, max_prompts=max_prompts).matrix, recipe.facts, min_labels
    )
    known = trusted(matrix, recipe.facts.sources, recipe.published, min_labels)
    matrix = known.matrix
    recipe = replace(recipe, facts=with_listed_prices(recipe.facts, recipe.published, matrix.llm_ids))
    runs = leave_each_out(matrix, recipe, options, cache=cache, progress=progress)
    if not runs:
        raise DataError("no LLM was graded on several of the data sets, so no set says anything of another. Add data.")
    weight = recipe.options.broad_weight
    pairs = list(zip(runs, nested_constants(runs, None, weight), strict=True))
    return LeftOut(
        sets=tuple(measure_set(run, own, weight) for run, own in pairs),
        routed={run.name: route_set(run, predictions(run, own, weight), matrix, recipe) for run, own in pairs},
        constants=found_constants(runs, weight),
        warnings=known.warnings,
    )


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
