"""The router beside its peers on data sets that none of them was trained on: each data set left out in turn.

    python benchmarks/bench_peers.py --data FOLDER... [--prompts 250] [--cache FOLDER]

All learn from the same prompts of the other data sets, without any question that is also in the one left out, and all
are told the same expected costs. Our decoder is the small one of `evaluate --leave-out`. A peer is its project's form
on all-MiniLM-L6-v2 vectors, not its code; only LiteLLM's two heuristics run as they are installed. Which LLM a cluster,
a topic or a tier goes to is decided by the training answers and the cost weight. Figures are of the LLMs with a list
price that answered the left-out set. Intervals resample prompts; those of the means over sets resample sets, too. Ends
with one JSON line.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from embedllm_router._stats import Estimate, estimate, resamples
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.data.folder import merge_folders
from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import leave_one_benchmark_out
from embedllm_router.evaluation.baselines import Baseline, Oracle, RandomChoice, group_means, repeat_means
from embedllm_router.evaluation.frontier import COST_WEIGHTS, Curve, Sweep, aiq, hull, price_answers, sweep
from embedllm_router.evaluation.inputs import Part, Pool, find_pools, llm_means
from embedllm_router.evaluation.learned_baselines import Clusters, MatrixFactorisation, knn
from embedllm_router.prediction.transformer_encoder import TransformerEncoder
from embedllm_router.training.fit.description import learned_llms
from embedllm_router.training.fit.distill import distilled_part
from embedllm_router.training.fit.encoding import DEFAULT_NGRAMS
from embedllm_router.training.fit.facts import find_llm_table, read_facts
from embedllm_router.training.fit.form import Recipe, chat_llms
from embedllm_router.training.fit.leave_out import LeaveOutOptions, LeftOutRun, leave_each_out, nested_constants
from embedllm_router.training.fit.leave_out_figures import predictions, usual_tokens
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.published import find_published, read_published, with_listed_prices

ENCODER: Final = "sentence-transformers/all-MiniLM-L6-v2"
D_MINILM: Final = 384
READ_CHARS: Final = 1000
"""About the 256 tokens that the encoder reads; peers let it cut the rest off, too."""
MIN_LABELS: Final = 30
UTILITY_WEIGHTS: Final = (0.0, 20.0, 500.0)
WEIGHTS: Final = np.union1d(COST_WEIGHTS, UTILITY_WEIGHTS)
OURS: Final = "this router"
FIXED: Final = "best fixed LLM"
HALF: Final = "accuracy at half cost"
METRICS: Final = ("AIQ", HALF, *(f"utility at {weight:g}" for weight in UTILITY_WEIGHTS))
Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


# Peers


class NearestPrompts:
    """Share of right answers to the 40 nearest prompts by cosine, per LLM: argrouter's form, and many routers'."""

    probabilistic: ClassVar[bool] = True

    def fit(self, train: Part) -> None:
        """Keeps the train part."""
        self._train = train

    def predict(self, test: Part) -> Matrix:
        """Means of neighbours, float32 (n_prompts, n_llms)."""
        known = self._train.matrix
        return knn(self._train.x, known.labels(), known.observed, llm_means(known), test.x)


class NearestUtterances:
    """semantic-router's form: the topic of the most similar utterances, and its LLM.

    A topic is a category of a data set, its training prompts are the utterances. Of the five most similar ones the
    topic with the highest mean similarity is taken, none below the threshold: then the LLM means answer. The numbers
    are that project's defaults for local encoders.
    """

    probabilistic: ClassVar[bool] = True
    _NEAREST: Final = 5
    _THRESHOLD: Final = 0.5
    _MEAN_LABELS: Final = 5.0

    def fit(self, train: Part) -> None:
        """Counts right answers by topic."""
        names = [f"{d}/{c}" for d, c in zip(train.matrix.datasets, train.matrix.categories, strict=True)]
        self._x = train.x
        self._topics = np.unique(names, return_inverse=True)[1]
        n_topics = int(self._topics.max()) + 1
        by_topic = group_means(self._topics, n_topics, train, self._MEAN_LABELS)
        self._means = np.vstack([by_topic, llm_means(train.matrix)])

    def predict(self, test: Part) -> Matrix:
        """The topic's means, float32 (n_prompts, n_llms)."""
        similarity = test.x @ self._x.T
        nearest = np.argpartition(-similarity, self._NEAREST, axis=1)[:, : self._NEAREST]
        rows = zip(similarity, nearest, strict=True)
        return self._means[[self._topic(row[near], self._topics[near]) for row, near in rows]]

    def _topic(self, similarity: Matrix, topics: NDArray[np.int64]) -> int:
        means = {int(topic): float(similarity[topics == topic].mean()) for topic in topics}
        best = max(means, key=means.__getitem__)
        return best if means[best] >= self._THRESHOLD else -1


class Tiers:
    """Share of right answers by the tier that a heuristic puts the prompt in.

    Args:
        tiers: Prompt → tier.
    """

    probabilistic: ClassVar[bool] = True
    _MEAN_LABELS: Final = 5.0
    _N_TIERS: Final = 4

    def __init__(self, tiers: Mapping[str, int]) -> None:
        self._tiers = tiers

    def fit(self, train: Part) -> None:
        """Counts right answers by tier."""
        self._means = group_means(self._of(train), self._N_TIERS, train, self._MEAN_LABELS)

    def predict(self, test: Part) -> Matrix:
        """The tier's means, float32 (n_prompts, n_llms)."""
        return self._means[self._of(test)]

    def _of(self, part: Part) -> NDArray[np.int64]:
        return np.array([self._tiers[prompt] for prompt in part.matrix.prompts], dtype=np.int64)


def litellm_tiers(prompts: Sequence[str]) -> dict[str, dict[str, int]]:
    """The tier of each prompt by both heuristics of the installed LiteLLM, which needs no network for them."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm.router import Router  # noqa: PLC0415 - as below
    from litellm.router_strategy.adaptive_router import classifier  # noqa: PLC0415 - seconds
    from litellm.router_strategy.complexity_router import complexity_router as installed  # noqa: PLC0415 - seconds
    from litellm.router_strategy.complexity_router import config, tier_predictor  # noqa: PLC0415 - as above

    order = [tier.value for tier in config.TIER_SEVERITY_ORDER]
    router = installed.ComplexityRouter("auto", Router(model_list=[]), {"tiers": dict.fromkeys(order, "any")})
    predictor = tier_predictor.TierSuccessPredictor(tier_predictor.resolve_tier_artifact("ultrafeedback"))
    return {
        "LiteLLM complexity": {p: order.index(str(router.classify(p)[0].value)) for p in prompts},
        "LiteLLM heuristic_v2": {
            p: predictor.predict(p, classifier.classify_prompt(p)).required_tier - 1 for p in prompts
        },
    }


def peers(tiers: Mapping[str, Mapping[str, int]], seed: int) -> dict[str, Baseline]:
    """All that learn from the train part or nothing, by name."""
    return {
        "kNN-40": NearestPrompts(),
        "semantic-router": NearestUtterances(),
        "UniRoute k-means": Clusters(seed=seed),
        "matrix factorisation": MatrixFactorisation(
            d_llm=128, epochs=20, learning_rate=3e-4, batch_pairs=256, seed=seed
        ),
        **{name: Tiers(of_prompts) for name, of_prompts in tiers.items()},
        "random": RandomChoice(seed),
        "oracle": Oracle(),
    }


# Data


def read_recipe(data: list[Path], sources: Path | None) -> Recipe:
    """How our decoders are trained, as `evaluate --leave-out` does it."""
    return Recipe(
        distilled_part(load_artifact(default_artifact_path())),
        read_facts(find_llm_table(data), sources=sources),
        read_published(find_published(data)),
        TrainingOptions(),
        128,
        tuple(DEFAULT_NGRAMS),
    )


def sampled(matrix: CorrectnessMatrix, most: int, seed: int) -> CorrectnessMatrix:
    """At most so many prompts of each data set."""
    rng, datasets = np.random.default_rng(seed), np.array(matrix.datasets)
    rows = [rng.permutation(np.flatnonzero(datasets == name))[:most] for name in np.unique(datasets)]
    return matrix.select_prompts(np.sort(np.concatenate(rows)))


def minilm(prompts: Sequence[str], cache: Path | None) -> Matrix:
    """Vectors of length 1, float32 (n_prompts, 384), from the cache where it has those of the same prompts."""
    digest = hashlib.sha256("\0".join(prompts).encode("utf-8", "replace")).hexdigest()
    file = cache / f"minilm-{digest[:16]}.npy" if cache else None
    if file and file.exists():
        found: Matrix = np.load(file)
        return found
    encoder = TransformerEncoder(ENCODER, device="cpu", threads=torch.get_num_threads())
    encoded = encoder.encode_all([prompt[:READ_CHARS] for prompt in prompts])
    x = np.stack([one.prompt_embedding[:D_MINILM] for one in encoded])
    if file:
        np.save(file, x)
    return x


# Figures


@dataclass(frozen=True, slots=True)
class Stage:
    """The pool of one left-out set.

    Attributes:
        name: The data set.
        train: The other sets, in the pool's columns.
        test: The pool's prompts, in its columns.
        cost: USD of each answer, float64 (n_prompts, n_llms).
        expected_cost: The same as known before the answer.
        ours: Our predictions, float64 (n_prompts, n_llms).
        means: What each LLM is expected to reach by other sets, float64 (n_llms,).
        own_knn: kNN-40 on the prompt embedding of this project, float64 (n_prompts, n_llms).
    """

    name: str
    train: Part
    test: Part
    cost: Floats
    expected_cost: Floats
    ours: Floats
    means: Floats
    own_knn: Floats

    def sweeps(self, others: Mapping[str, Baseline]) -> Iterator[tuple[str, Sweep]]:
        """Every router at every cost weight, by name."""
        labels = self.test.matrix.labels().astype(np.float64)
        fixed = np.broadcast_to(self.expected_cost.mean(axis=0), self.cost.shape)
        known = {OURS: self.ours, "kNN-40, our embedding": self.own_knn}
        for name, p in known.items():
            yield name, sweep(p, self.expected_cost, labels, self.cost, WEIGHTS)
        same = repeat_means(self.means.astype(np.float32), len(labels)).astype(np.float64)
        yield FIXED, sweep(same, fixed, labels, self.cost, WEIGHTS)
        for name, peer in others.items():
            peer.fit(self.train)
            p = peer.predict(self.test).astype(np.float64)
            yield name, sweep(p, self.expected_cost, labels, self.cost, WEIGHTS)


def stages(
    matrix: CorrectnessMatrix, x: Matrix, runs: Sequence[LeftOutRun], recipe: Recipe, min_prompts: int
) -> Iterator[Stage]:
    """The left-out sets with enough prompts and a pool of LLMs with prices."""
    broad = recipe.options.broad_weight
    constants = dict(zip((run.name for run in runs), nested_constants(runs, None, broad), strict=True))
    by_name = {run.name: run for run in runs}
    for split in leave_one_benchmark_out(matrix, groups=matrix.datasets):
        run = by_name.get(split.held_out)
        if run is None or len(split.test) < min_prompts:
            continue
        others = np.union1d(split.train, split.validation)
        few, learned = matrix.select_prompts(run.rows), matrix.select_prompts(others)
        llms = learned_llms(matrix, recipe.facts, recipe.known_llms(matrix.llm_ids))
        pool, cost, expected = _priced_pool(few, learned, llms, run, recipe)
        if pool is None:
            continue
        p = predictions(run, constants[run.name], broad)
        dense = {name: pool.block(_dense(few.observed.shape, run, values)) for name, values in p.items()}
        ids = [matrix.llm_ids[i] for i in pool.columns]
        yield Stage(
            name=run.name,
            train=Part(_columns(learned, ids, pool.columns), x[others]),
            test=Part(_columns(few.select_prompts(pool.rows), ids, pool.columns), x[run.rows][pool.rows]),
            cost=cost,
            expected_cost=expected,
            ours=dense["weights"],
            means=dense["means"][0],
            own_knn=dense["knn"],
        )


def _priced_pool(
    few: CorrectnessMatrix, learned: CorrectnessMatrix, llms: Sequence[LearnedLLM], run: LeftOutRun, recipe: Recipe
) -> tuple[Pool | None, Floats, Floats]:
    tokens = np.broadcast_to(usual_tokens(learned, recipe), few.observed.shape)
    costs = price_answers(few, llms, tokens)
    judged = np.isin(np.arange(len(llms)), run.left.llm)
    pools = find_pools(few, judged & costs.priced)
    if not pools:
        return None, costs.cost, costs.expected_cost
    return pools[0], pools[0].block(costs.cost), pools[0].block(costs.expected_cost)


def _dense(shape: tuple[int, ...], run: LeftOutRun, values: Floats) -> Floats:
    dense = np.zeros(shape)
    dense[run.left.prompt, run.left.llm] = values
    return dense


def _columns(matrix: CorrectnessMatrix, ids: Sequence[str], columns: NDArray[np.int64]) -> CorrectnessMatrix:
    """Some LLMs of a matrix, with all its prompts."""
    return replace(
        matrix,
        llm_ids=tuple(ids),
        correctness=matrix.correctness[:, columns],
        observed=matrix.observed[:, columns],
        output_tokens=matrix.output_tokens[:, columns],
        counted=matrix.counted[:, columns],
    )


def measure(found: Sweep, stage: Stage, counts: Floats) -> dict[str, Floats]:
    """Every metric in every resample, float64 (n_resamples,); the first is of the data as they are.

    Args:
        found: One router.
        stage: Where.
        counts: Weight of each prompt, float64 (n_resamples, n_prompts); rows sum to 1.
    """
    cost, right, llms = counts @ found.cost, counts @ found.correct, counts @ stage.cost
    half = llms[:, int(stage.means.argmax())] / 2
    reachable = half[0] >= llms[0].min()
    areas, at_half = np.empty(len(counts)), np.full(len(counts), np.nan)
    for i in range(len(counts)):
        vertices = hull(Curve.of(cost[i], right[i]))
        areas[i] = aiq(vertices, float(llms[i].min()), float(llms[i].max()))
        if reachable:
            at_half[i] = np.interp(half[i], vertices.cost, vertices.accuracy)
    places = np.searchsorted(WEIGHTS, UTILITY_WEIGHTS)
    utilities = [right[:, i] - WEIGHTS[i] * cost[:, i] for i in places]
    return dict(zip(METRICS, (areas, at_half, *utilities), strict=True))


def over_sets(samples: Floats, rng: np.random.Generator) -> Estimate:
    """Mean over sets where the metric is defined, with an interval for other sets and prompts.

    Args:
        samples: float64 (n_sets, n_resamples), the first of the data as they are.
        rng: Draws sets.
    """
    known = samples[np.isfinite(samples[:, 0])]
    n_sets, n_draws = known.shape
    drawn = rng.integers(0, n_sets, (n_draws - 1, n_sets))
    means = known[drawn, np.arange(1, n_draws)[:, None]].mean(axis=1)
    return estimate(float(known[:, 0].mean()), means, n_sets)


# The run


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data sets to leave out in turn")
    parser.add_argument("--sources", type=Path, help="published benchmarks with a set's questions, as for evaluate")
    parser.add_argument("--prompts", type=int, default=250, help="most prompts of a data set")
    parser.add_argument("--min-prompts", type=int, default=100, help="smaller data sets are learned from only")
    parser.add_argument("--cache", type=Path, help="keeps vectors and decoders, so that a run goes on there")
    parser.add_argument("--draws", type=int, default=400, help="bootstrap resamples")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--threads", type=int, default=1, help="threads of the encoder; decoders train on one")
    asked = parser.parse_args()
    started = time.perf_counter()
    torch.set_num_threads(asked.threads)
    if asked.cache:
        asked.cache.mkdir(parents=True, exist_ok=True)
    names, samples = run_all(asked)
    seconds = time.perf_counter() - started
    report(names, samples, asked.seed, seconds)


def run_all(asked: argparse.Namespace) -> tuple[list[tuple[str, int, int]], dict[str, list[dict[str, Floats]]]]:
    """Name, prompts and LLMs of each set, and by router its metrics there."""
    recipe = read_recipe(asked.data, asked.sources)
    matrix = chat_llms(merge_folders(asked.data, OnConflict.MEAN).matrix, recipe.facts, MIN_LABELS)
    recipe = replace(recipe, facts=with_listed_prices(recipe.facts, recipe.published, matrix.llm_ids))
    matrix = sampled(matrix, asked.prompts, asked.seed)
    x, tiers = minilm(matrix.prompts, asked.cache), litellm_tiers(matrix.prompts)
    _say(f"{len(matrix.prompts):,} prompts, {len(matrix.llm_ids)} LLMs, {matrix.n_labels:,} answers")
    torch.set_num_threads(1)
    options = LeaveOutOptions(max_prompts=asked.prompts, max_answers=sys.maxsize)
    runs = leave_each_out(matrix, recipe, options, cache=asked.cache, progress=_progress)
    found: list[tuple[str, int, int]] = []
    samples: dict[str, list[dict[str, Floats]]] = {}
    for number, stage in enumerate(stages(matrix, x, runs, recipe, asked.min_prompts)):
        n_prompts, n_llms = stage.cost.shape
        drawn = resamples(n_prompts, seeds=(asked.seed + number,), draws=asked.draws).astype(np.float64)
        counts = np.vstack([np.ones(n_prompts), drawn]) / n_prompts
        for name, one in stage.sweeps(peers(tiers, asked.seed)):
            samples.setdefault(name, []).append(measure(one, stage, counts))
        found.append((stage.name, n_prompts, n_llms))
        _say(f"{stage.name}: {n_prompts} prompts, {n_llms} LLMs")
    return found, samples


def _progress(head: str, done: int, planned: int, _loss: float) -> None:
    if head == "data sets left out":
        _say(f"{head}: {done} of {planned}")


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False)


def report(
    sets: Sequence[tuple[str, int, int]],
    samples: Mapping[str, Sequence[Mapping[str, Floats]]],
    seed: int,
    seconds: float,
) -> None:
    """Prints a table of each metric, one of the AIQ of each set, and the JSON line."""
    stacked = {
        name: {metric: np.stack([one[metric] for one in of_sets]) for metric in METRICS}
        for name, of_sets in samples.items()
    }
    console = Console(width=200)
    console.print(_means(stacked, seed))
    console.print(_by_set(sets, stacked))
    result = {
        "seconds": round(seconds),
        "sets": {
            name: {
                "prompts": n_prompts,
                "llms": n_llms,
                "routers": {router: _of_set(stacked, router, i) for router in stacked},
            }
            for i, (name, n_prompts, n_llms) in enumerate(sets)
        },
        "mean": {router: _mean(stacked, router, seed) for router in stacked},
    }
    print(json.dumps(result))


Stacked = Mapping[str, Mapping[str, Floats]]


def _gain(stacked: Stacked, router: str, metric: str) -> Floats:
    return stacked[OURS][metric] - stacked[router][metric]


def _mean(stacked: Stacked, router: str, seed: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for metric in METRICS:
        gain = over_sets(_gain(stacked, router, metric), np.random.default_rng(seed))
        found[metric] = {
            "value": _known(float(np.nanmean(stacked[router][metric][:, 0]))),
            "sets": gain.n,
            "ours_minus": [round(value, 5) for value in (gain.value, gain.low, gain.high)],
        }
    return found


def _of_set(stacked: Stacked, router: str, i: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for metric in METRICS:
        gain = _gain(stacked, router, metric)[i]
        of = estimate(float(gain[0]), gain[1:], len(gain))
        found[metric] = {
            "value": _known(float(stacked[router][metric][i, 0])),
            "ours_minus": [_known(value) for value in (of.value, of.low, of.high)],
        }
    return found


def _known(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def _means(stacked: Stacked, seed: int) -> Table:
    table = Table(title="mean over data sets; below it, this router less the peer [95 %, sets and prompts resampled]")
    table.add_column("router")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    table.add_column("AIQ surely\nbelow / above ours", justify="right")
    for router in stacked:
        cells = []
        for metric in METRICS:
            gain = over_sets(_gain(stacked, router, metric), np.random.default_rng(seed))
            value = float(np.nanmean(stacked[router][metric][:, 0]))
            below = "" if router == OURS else f"\n{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
            cells.append(f"{value:.4f}{below}")
        table.add_row(router, *cells, "" if router == OURS else _counts(stacked, router))
    return table


def _counts(stacked: Stacked, router: str) -> str:
    sure = [estimate(float(row[0]), row[1:], len(row)) for row in _gain(stacked, router, "AIQ")]
    return f"{sum(one.positive for one in sure)} / {sum(one.negative for one in sure)}"


def _by_set(sets: Sequence[tuple[str, int, int]], stacked: Stacked) -> Table:
    table = Table(title="AIQ of each left-out set")
    for head in ("data set", "prompts", "LLMs", *stacked):
        table.add_column(head, justify="left" if head == "data set" else "right")
    for i, (name, n_prompts, n_llms) in enumerate(sets):
        values = (f"{stacked[router]['AIQ'][i, 0]:.3f}" for router in stacked)
        table.add_row(name, str(n_prompts), str(n_llms), *values)
    return table


if __name__ == "__main__":
    main()
