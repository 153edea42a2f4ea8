"""The order of an evaluation: inputs, the artifact, every baseline, verdict, groups, guarantee, noise, probes.

Groups are categories and slices: by language, by whether the prompt is about code, by length. Languages come from
py3langid, which carries its own table, uses no network and has no randomness; the rest is read from the text.

`measure_spread` evaluates the same recipe trained from several seeds. A bootstrap says what other test prompts would
have changed; this says what other initial weights and batches would have.
"""

import functools
import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from threadpoolctl import threadpool_limits

from embedllm_router._stats import Estimate, paired_difference, ratio_of_sums, resamples
from embedllm_router.artifact.weights import Artifact, load_artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.baselines import UNTRAINED, BaselineOptions, make_baseline
from embedllm_router.evaluation.embeddings import accuracy_probes, label_probes
from embedllm_router.evaluation.frontier import price_answers
from embedllm_router.evaluation.guarantee import measure_guarantee
from embedllm_router.evaluation.inputs import Inputs, OnProgress, read_inputs
from embedllm_router.evaluation.metrics import correctness, correctness_intervals, log_losses, noise_ceiling
from embedllm_router.evaluation.result import (
    BaselineResult,
    Evaluation,
    GroupResult,
    RouterResult,
    judge,
    judge_data_sets,
)
from embedllm_router.evaluation.routing import Field, field_of, mean_cost_metrics, pareto_distances, route, sweep_pools

__all__ = [
    "LENGTHS",
    "UNDETERMINED",
    "EvaluationOptions",
    "content_of",
    "evaluate",
    "language_of",
    "length_of",
    "measure_spread",
    "seed_folders",
]

UNDETERMINED: Final = "undetermined"
"""The language of a text that tells too little, such as a sum."""

_SURE: Final = 0.5
_NO_LANGUAGE: Final = "zxx"  # ISO 639-2
_READ_CHARS: Final = 2_000
_HOLDS_CODE: Final = re.compile(
    r"\bdef \w+\(|^\s*from [\w.]+ import |^\s*import [\w.]+(?: as \w+)?;?\s*$|#include\s*[<\"]|^\s*assert \w+\(|"
    r"\bclass \w+(?:\([\w., ]*\))?:\s*$|\bclass \w+ ?\{|\bfunction \w*\([^)]*\) ?\{|\bSELECT\b.+\bFROM\b|"
    r"```(?:python|py|js|javascript|typescript|java|c|cpp|go|rust|sql|bash|sh|html)\b|(?:[;{}][ \t]*\n[^\n]*){2}[;{}]",
    re.MULTILINE,
)
_ASKS_FOR_CODE: Final = re.compile(
    r"\b(?:write|implement|create|complete) (?:\w+ ){0,3}(?:function|program|script|query|class|method)\b"
    r"|\bin (?:python|javascript|typescript|java|rust|golang|c\+\+|sql|bash)\b",
    re.IGNORECASE,
)
_SHORTER_THAN: Final = (200, 1_000, 4_000)
LENGTHS: Final = ("under 200 characters", "200 to 999", "1,000 to 3,999", "4,000 or more")
"""The classes of length, the shortest first."""


def language_of(prompt: str) -> str:
    """The ISO 639 code of a text's language, judged by its start; `UNDETERMINED` below an even chance."""
    code, probability = _identifier().classify(prompt[:_READ_CHARS])
    return str(code) if probability >= _SURE and code != _NO_LANGUAGE else UNDETERMINED


def content_of(prompt: str) -> str:
    """`code` if a text holds some, `asks for code` if it wants some and holds none, else `prose`."""
    if _HOLDS_CODE.search(prompt):
        return "code"
    return "asks for code" if _ASKS_FOR_CODE.search(prompt) else "prose"


def length_of(prompt: str) -> str:
    """The class of a text's number of characters."""
    return LENGTHS[sum(len(prompt) >= limit for limit in _SHORTER_THAN)]


SLICES: Final[dict[str, Callable[[str], str]]] = {"language": language_of, "content": content_of, "length": length_of}
"""The ways to slice, each from a prompt to the name of its slice."""


def slice_names(prompts: Sequence[str], kind: str) -> NDArray[np.str_]:
    """The slice of every prompt, (n_prompts,), by one of `SLICES`."""
    return np.array([SLICES[kind](prompt) for prompt in prompts])


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def measure_groups(
    names: NDArray[np.str_],
    test: CorrectnessMatrix,
    field: Field,
    router: RouterResult,
    baselines: Mapping[str, BaselineResult],
) -> dict[str, GroupResult]:
    """Measures every group.

    Args:
        names: Each test prompt's group, (n_prompts,).
        test: Labels.
        field: The pools that `router` was routed in.
        router: The artifact on the whole test part.
        baselines: The baselines on it.

    Returns:
        Figures by group, in the order of its first prompt.
    """
    routed_rows = np.concatenate([arena.pool.rows for arena in field.all_llms] or [np.zeros(0, dtype=np.int64)])
    labels, found = test.labels(), {}
    for name in dict.fromkeys(names.tolist()):
        rows = names == name
        among = rows[routed_rows]
        losses = {
            other: correctness(labels[rows], b.result.p[rows], test.observed[rows]).log_loss
            for other, b in baselines.items()
            if b.result.correctness is not None
        }
        routed = router.routed
        found[name] = GroupResult(
            n_prompts=int(rows.sum()),
            correctness=correctness(labels[rows], router.p[rows], test.observed[rows]),
            routing_accuracy=float(routed.correct[among].mean()) if routed and among.any() else math.nan,
            best_single_accuracy=float(routed.best_single[among].mean()) if routed and among.any() else math.nan,
            n_routed=int(among.sum()),
            baseline_log_loss=losses,
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What is chosen of an evaluation.

    Attributes:
        split: "test" for the part training set aside, "all" for data the artifact has never seen.
        baselines: Names out of `baselines.BASELINES`.
        seed: Of baselines.
        mf_epochs: Epochs of the paper's matrix factorisation.
        keep_in: Folder where a sentence transformer's embeddings are kept and found again; None keeps none.
    """

    split: Literal["test", "all"] = "test"
    baselines: Sequence[str] = ()
    seed: int = 0
    mf_epochs: int = 50
    keep_in: Path | None = None


def evaluate(
    artifact: Artifact, folders: Sequence[Path], options: EvaluationOptions, on_progress: OnProgress = lambda *_: None
) -> Evaluation:
    """Measures an artifact on data, beside baselines.

    Args:
        artifact: What is evaluated; it is not refitted.
        folders: Data sets.
        options: How.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The findings.

    Raises:
        DataError: The data cannot be used.
        ConfigError: The test part cannot be rebuilt.
    """
    names = [name for name in options.baselines if options.split == "test" or name in UNTRAINED]
    learns = bool(set(names) - UNTRAINED - {"best_single"})
    inputs = read_inputs(
        artifact, folders, split=options.split, train_x=learns, keep_in=options.keep_in, on_progress=on_progress
    )
    test, llms = inputs.test.matrix, artifact.manifest.llms
    costs = price_answers(test, llms, inputs.predictions.output_tokens)
    fallback = np.array([llm.mean_correctness for llm in llms])
    field = field_of(test, costs, inputs.train.matrix if inputs.train else None, fallback)
    router = measure(test, inputs.predictions.p_correct, field, probabilistic=True)
    settings = BaselineOptions(seed=options.seed, mf_epochs=options.mf_epochs, on_progress=on_progress)
    baselines = {name: _run_baseline(name, inputs, field, router, settings) for name in names}
    router, baselines = _with_pareto_distances(router, baselines)
    measured = test.observed.any(axis=0)
    on_progress("bootstrap", 0, 1)
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
        data_sets=judge_data_sets(field, inputs.predictions.p_correct, [llm.id for llm in llms]),
        baselines=baselines,
        not_run={n: "needs training data, and --split all has none" for n in options.baselines if n not in names},
        categories=measure_groups(test.category_names(), test, field, router, baselines),
        slices={kind: _slice(kind, test, field, router, baselines) for kind in SLICES},
        guarantee=measure_guarantee(test, inputs.predictions, llms),
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
    settings.on_progress(name, 0, 1)
    started = time.perf_counter()
    baseline = make_baseline(name, settings)
    with threadpool_limits(1, user_api="blas"):  # beside another busy process a second thread doubles the time
        if inputs.train is not None:
            baseline.fit(inputs.train)
        p = baseline.predict(inputs.test)
    seconds = time.perf_counter() - started
    settings.on_progress(name, 1, 1)
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


_OWN: Final = ("seed", "epochs_run")
"""What of a training's settings may differ between seeds of one recipe."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure over all seeds.

    Attributes:
        mean: Its mean.
        sd: Its standard deviation between seeds, of the sample (n - 1).
        values: One per seed.
    """

    mean: float
    sd: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """What several seeds of one recipe have in common, and how far they lie apart.

    Attributes:
        artifacts: Their ids.
        seeds: Likewise.
        n_prompts: Test prompts, the same for all.
        figures: log_loss, auc, ece, and where the data have pools of LLMs routing_accuracy and, where they have prices,
            cost_save.
    """

    artifacts: tuple[str, ...]
    seeds: tuple[int, ...]
    n_prompts: int
    figures: Mapping[str, Figure]


def seed_folders(folder: Path) -> tuple[Path, ...]:
    """The weights folders seed-0, seed-1, … that `train --seeds` wrote into a folder, in order; none elsewhere."""
    found = [place for place in folder.glob("seed-*") if place.name.removeprefix("seed-").isdigit()]
    return tuple(sorted(found, key=lambda place: int(place.name.removeprefix("seed-"))))


def measure_spread(
    folders: Sequence[Path], data: Sequence[Path], options: EvaluationOptions, on_progress: OnProgress = lambda *_: None
) -> Spread:
    """Evaluates every seed on the same prompts.

    Args:
        folders: Weights folders of one recipe, at least two.
        data: As for `evaluate`.
        options: As for `evaluate`; baselines are left out, since seeds do not change them.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The spread.

    Raises:
        ConfigError: They are not seeds of one recipe, or their test part cannot be rebuilt.
        ArtifactError: A folder cannot be loaded.
        DataError: The data cannot be used.
    """
    artifacts = [load_artifact(folder) for folder in folders]
    seeds = tuple(int(a.manifest.training.get("seed") or 0) for a in artifacts)
    _check_one_recipe(artifacts, seeds)
    found = []
    for number, artifact in enumerate(artifacts):
        on_progress("seeds", number, len(artifacts))
        found.append(evaluate(artifact, data, replace(options, baselines=()), on_progress))
    on_progress("seeds", len(artifacts), len(artifacts))
    figures = {name: tuple(read(one) for one in found) for name, read in _FIGURES.items() if read(found[0]) is not None}
    return Spread(
        artifacts=tuple(a.id for a in artifacts),
        seeds=seeds,
        n_prompts=len(found[0].inputs.test.matrix.prompts),
        figures={name: _figure([v for v in values if v is not None]) for name, values in figures.items()},
    )


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.fmean(values), statistics.stdev(values), tuple(values))


def _check_one_recipe(artifacts: Sequence[Artifact], seeds: Sequence[int]) -> None:
    if len(artifacts) < 2 or len(set(seeds)) < len(seeds):  # noqa: PLR2004 - one has no spread
        raise ConfigError(f"a spread needs at least two artifacts of different seeds, found seeds {list(seeds)}.")
    recipes = [
        {name: value for name, value in a.manifest.training.items() if name not in _OWN}
        | {"llms": len(a.manifest.llms), "data": str([(d.name, d.n_labels) for d in a.manifest.data])}
        for a in artifacts
    ]
    for recipe, seed in zip(recipes, seeds, strict=True):
        differing = sorted(n for n in recipe.keys() | recipes[0].keys() if recipe.get(n) != recipes[0].get(n))
        if differing:
            raise ConfigError(
                f"seeds {seeds[0]} and {seed} are not of one recipe: {differing} differ. Train all with one command, "
                "`embedllm-router train --seeds N`."
            )


def _correctness(name: str) -> Callable[[Evaluation], float | None]:
    return lambda e: float(getattr(e.router.correctness, name)) if e.router.correctness else None


_FIGURES: Final[Mapping[str, Callable[[Evaluation], float | None]]] = {
    "log_loss": _correctness("log_loss"),
    "auc": _correctness("auc"),
    "ece": _correctness("ece"),
    "routing_accuracy": lambda e: float(e.router.routed.correct.mean()) if e.router.routed else None,
    "cost_save": lambda e: e.router.cost.cost_save if e.router.cost else None,
}
