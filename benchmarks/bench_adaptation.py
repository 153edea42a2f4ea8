"""How far 30, 200 and 1,000 verdicts take weights on traffic of a kind that they never saw: log-loss, set by set.

    python benchmarks/bench_adaptation.py --data FOLDER... [--draws 3] [--prompts 2000] [--sets NAME...]
    python benchmarks/bench_adaptation.py --data FOLDER... [--draws 3] [--prompts 2000] --virtual-models NAME NAME

Each data set is left out in turn: a decoder is trained on the others, without the questions that also stand in it, at
the size of `LeaveOutOptions`. Half of the set's prompts (by stem) are a user's traffic and give verdicts, so many pairs
of prompt and LLM drawn evenly; log-loss is on the other half. Beside the adapted weights stand, of the same verdicts:

- means: what each LLM reaches on other sets (set-adjusted), with a shift of all and of each LLM fitted to the verdicts;
- kNN: these means, and the residuals of the nearest prompts with verdicts, on the features that adaptation reads;
- regression: these means, with offsets and a ridge on the same features.

With `--virtual-models A B`, both sets are left out at once, and each is the traffic of a virtual model of its own, with
half of the verdicts. Log-loss on each is by weights as they are; by what the verdicts of both taught, as `learn` does;
by that with shifts of its own fitted on top; by an update in which verdicts of the other virtual model count a tenth;
by its own verdicts alone; and by that of the second and fourth which predicts its own verdicts better, held out in
turn.

Constants of the hedge, and the neighbours and ridge of the baselines, are those that are best on the other sets. Ends
with one JSON line.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.neighbors import NearestNeighbors

from embedllm_router._stats import Examples, fit_logistic, logit, losses, sigmoid
from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import GroupSplit, Split, leave_one_benchmark_out, split_by_stem
from embedllm_router.training.fit.ability import count_cells
from embedllm_router.training.fit.distill import distilled_part
from embedllm_router.training.fit.encoding import DEFAULT_NGRAMS, encode_prompts
from embedllm_router.training.fit.facts import find_llm_table, read_facts
from embedllm_router.training.fit.form import Form, Recipe, train_form
from embedllm_router.training.fit.hedge import USUAL_CONSTANTS, Answers, HedgeConstants, hedged_logits
from embedllm_router.training.fit.leave_out import (
    LeaveOutOptions,
    LeftOutRun,
    nested_constants,
    set_adjusted_means,
)
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.published import find_published, read_published
from embedllm_router.training.fit.recipe import load_matrix
from embedllm_router.training.update import answers as update
from embedllm_router.training.update.adaptation import Directions, Freedom, adapt
from embedllm_router.training.update.fit import hashed, learn_update

VERDICTS = (30, 200, 1_000)
FEWEST_PROMPTS, FEWEST_LABELS = 100, 30
OWN_SD = 0.5
"""Standard deviation of an LLM's own shift on a set, in logits."""
NEIGHBOURS, RIDGES = (5, 10, 20, 40), (0.5, 2.0, 8.0, 32.0)
TINY = 1e-4
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeftOut:
    """A set, and what a decoder that never saw it says of each of its prompts and LLMs.

    Attributes:
        run: Its graded answers, and ordinary ones of the other sets.
        every: The same of all pairs, graded or not.
        shape: Prompts and LLMs.
        inputs: Of difficulty, float32 (n_prompts, n_inputs).
        widths: Of the blocks of these.
        stem_half: bool (n_prompts,), who gives verdicts.
        means: Log-odds of each LLM on an average set, (n_llms,).
        set_sd: How much sets differ, in logits.
        rows: Its prompts in all data.
    """

    run: LeftOutRun
    every: Answers
    shape: tuple[int, int]
    inputs: NDArray[np.float32]
    widths: tuple[int, ...]
    stem_half: NDArray[np.bool_]
    means: Floats
    set_sd: float
    rows: NDArray[np.int64]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--sets", nargs="*", default=None)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=LeaveOutOptions().max_prompts, help="of each set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--virtual-models", nargs=2, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    facts, published = read_facts(find_llm_table(asked.data)), read_published(find_published(asked.data))
    options = replace(LeaveOutOptions(), max_prompts=asked.prompts)
    encoder = distilled_part(load_artifact(default_artifact_path()))
    recipe = Recipe(encoder, facts, published, options.reduced(TrainingOptions()), 128, tuple(DEFAULT_NGRAMS))
    matrix = load_matrix(asked.data, facts, min_labels=FEWEST_LABELS)
    if asked.virtual_models:
        show_models(measured_models(matrix, recipe, options, asked.virtual_models, asked.draws))
        return
    left = list(_left_out(matrix, recipe, options, asked.sets))
    weight = recipe.options.broad_weight
    measured = {
        one.run.name: measured_set(one, constants, weight, asked.draws)
        for one, constants in zip(left, nested_constants([one.run for one in left], broad_weight=weight), strict=True)
    }
    show(measured)


def _left_out(
    matrix: CorrectnessMatrix, recipe: Recipe, options: LeaveOutOptions, only: Sequence[str] | None
) -> Iterator[LeftOut]:
    for split in leave_one_benchmark_out(matrix, groups=matrix.datasets, seed=options.seed):
        if len(split.test) >= FEWEST_PROMPTS and (only is None or split.held_out in only):
            Console(stderr=True).print("without", split.held_out)
            yield left_out(matrix, split, recipe, options)


def left_out(matrix: CorrectnessMatrix, split: GroupSplit, recipe: Recipe, options: LeaveOutOptions) -> LeftOut:
    """Trains without a set, and reads it."""
    rng, names = np.random.default_rng(options.seed), np.array(matrix.datasets)
    train, held = _capped(split.train, names, options.max_prompts, rng), split.validation
    held = _capped(held, names, options.max_held_out, rng)
    test = np.sort(rng.permutation(split.test)[: options.max_prompts])
    few = matrix.select_prompts(np.concatenate([train, held, test]))
    ends = np.cumsum([0, len(train), len(held), len(test)]).tolist()
    parts = Split(*(np.arange(a, b) for a, b in pairwise(ends)))
    made = recipe.encoder_for([few.prompts[i] for i in parts.train])
    x = encode_prompts(made.encoder, few.prompts)
    llms = recipe.known_llms(few.llm_ids, without=[split.held_out])
    data = recipe.learning_data(few, x, parts, made)
    form = train_form(data, few, llms, made.broad, recipe.options, with_lengths=False)
    judged = matrix.observed[split.train].sum(axis=0) >= FEWEST_LABELS
    sets = np.unique(matrix.datasets, return_inverse=True)[1]
    cells = count_cells(matrix.labels()[split.train], matrix.observed[split.train], sets[split.train])
    means, set_sd = set_adjusted_means(cells)
    widths = tuple(stop - start for start, stop in made.broad.ranges)
    return replace(_read(form, few, parts, x, judged, split.held_out, widths, (means, set_sd)), rows=test)


def _read(  # noqa: PLR0913, PLR0917 - a trained form, and all that is read by it
    form: Form,
    few: CorrectnessMatrix,
    parts: Split,
    x: NDArray[np.float32],
    judged: NDArray[np.bool_],
    name: str,
    widths: tuple[int, ...],
    means: tuple[Floats, float],
) -> LeftOut:
    rows, held, labels = parts.test, parts.validation, few.labels()
    left = form.answers(x[rows], labels[rows], few.observed[rows] & judged)
    nothing = np.zeros(len(left))
    ordinary = form.answers(x[held], labels[held], few.observed[held])
    halves = split_by_stem([few.prompts[i] for i in rows], seed=0, shares=(0.5, 0.25, 0.25))
    half = np.zeros(len(rows), dtype=bool)
    half[halves.train] = True
    return LeftOut(
        run=LeftOutRun(name, rows, left, nothing, nothing, ordinary),
        every=form.answers(x[rows], labels[rows], np.ones((len(rows), labels.shape[1]), dtype=bool)),
        shape=(len(rows), labels.shape[1]),
        inputs=form.parts.inputs(x[rows])[:, form.parts.columns],
        widths=widths,
        stem_half=half,
        means=means[0],
        set_sd=means[1],
        rows=rows,
    )


def _capped(rows: NDArray[np.int64], names: NDArray[np.str_], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    drawn = [rng.permutation(rows[names[rows] == name])[:most] for name in np.unique(names[rows])]
    return np.sort(np.concatenate(drawn))


Measured = dict[str, dict[str, float]]
"""Number of verdicts ("0" for none) → method, with its constant where it has one → log-loss."""


def measured_set(one: LeftOut, constants: HedgeConstants, broad_weight: float, draws: int) -> Measured:
    """Log-loss of every method on the half that gave no verdicts, mean over draws."""
    said = _as_update(one, constants, broad_weight)
    gives = one.stem_half[one.run.left.prompt]
    mine, judge = said.select(gives), said.select(~gives)
    base = one.means[said.llm]
    found: Measured = {
        "0": {
            "weights": float(losses(judge.logit, judge.score).mean()),
            "means": float(losses(_integrated(base[~gives], one.set_sd), judge.score).mean()),
        }
    }
    for n in VERDICTS:
        drawn = [_drawn(mine, base[gives], judge, base[~gives], n, seed, one.set_sd) for seed in range(draws)]
        found[str(n)] = {name: float(np.mean([draw[name] for draw in drawn])) for name in drawn[0]}
    return found


MODEL_VERDICTS = (200, 600, 2_000)
OF_OTHERS = 0.1
"""How often a verdict of the other virtual model counts."""
ON_TOP = Freedom("virtual model", common=0.7, llm=0.3)
FOLDS = 5


def measured_models(
    matrix: CorrectnessMatrix, recipe: Recipe, options: LeaveOutOptions, names: Sequence[str], draws: int
) -> Measured:
    """Log-loss of two virtual models, each with half of the verdicts, mean over draws."""
    datasets = np.array(matrix.datasets)
    groups = np.where(np.isin(datasets, names), "both", datasets)
    splits = leave_one_benchmark_out(matrix, groups=groups.tolist(), seed=options.seed)
    one = left_out(matrix, next(split for split in splits if split.held_out == "both"), recipe, options)
    said = _as_update(one, USUAL_CONSTANTS, recipe.options.broad_weight)
    prompt = one.run.left.prompt
    model, gives = datasets[one.rows][prompt], one.stem_half[prompt]
    found: Measured = {}
    for n in MODEL_VERDICTS:
        drawn = [_of_models(said, model, gives, names, n, seed) for seed in range(draws)]
        found[str(n)] = {name: float(np.mean([draw[name] for draw in drawn])) for name in drawn[0]}
    return found


def _of_models(  # noqa: PLR0913, PLR0917 - answers, whose they are, and a draw
    said: update.Answers, model: NDArray[np.str_], gives: NDArray[np.bool_], names: Sequence[str], n: int, seed: int
) -> dict[str, float]:
    rng, told = np.random.default_rng(seed), np.zeros(len(said), dtype=bool)
    for name in names:
        told[rng.permutation(np.flatnonzero(gives & (model == name)))[: n // 2]] = True
    found = dict[str, float]()
    for name in names:
        mine = model[told] == name
        ways = _ways(said.select(told), mine, said.select(~gives & (model == name)))
        found |= {f"{name}: {way}": loss for way, loss in ways.items()}
    return found


def _ways(told: update.Answers, mine: NDArray[np.bool_], judge: update.Answers) -> dict[str, float]:
    """Log-loss on answers of one virtual model."""
    shared = learn_update(told)
    after = replace(told, logit=shared.logit(told)).select(mine)
    then = replace(judge, logit=shared.logit(judge))
    own = learn_update(_leaning(told, mine))
    ways = {
        "as they are": judge.logit,
        "shared": then.logit,
        "shifts on top": adapt(after, (ON_TOP,)).adapted(then).logit,
        "others a tenth": own.logit(judge),
        "alone": learn_update(told.select(mine)).logit(judge),
    }
    ways["chosen"] = ways["others a tenth" if _leans_better(told, mine) else "shared"]
    return {way: _loss(logits, judge) for way, logits in ways.items()}


def _leaning(told: update.Answers, mine: NDArray[np.bool_]) -> update.Answers:
    return replace(told, weight=np.where(mine, told.weight, OF_OTHERS * told.weight))


def _leans_better(told: update.Answers, mine: NDArray[np.bool_]) -> bool:
    """Whether its own verdicts, held out in turn, are predicted better where those of others count less."""
    folds = np.array([int(FOLDS * hashed(key)) for key in told.key])
    gain = 0.0
    for fold in range(FOLDS):
        rest, out = folds != fold, (folds == fold) & mine
        if not out.any():
            continue
        judge, learned = told.select(out), told.select(rest)
        shared, own = (learn_update(one).logit(judge) for one in (learned, _leaning(learned, mine[rest])))
        gain += float((losses(shared, judge.score) - losses(own, judge.score)).sum())
    return gain > 0


def show_models(measured: Measured) -> None:
    """The table, and one JSON line."""
    table = Table("log-loss", *(f"{n} verdicts" for n in measured), title="two virtual models")
    for name in next(iter(measured.values())):
        table.add_row(name, *(f"{found[name]:.4f}" for found in measured.values()))
    Console(width=160).print(table)
    print(json.dumps({n: {name: round(v, 4) for name, v in found.items()} for n, found in measured.items()}))


def _as_update(one: LeftOut, constants: HedgeConstants, broad_weight: float) -> update.Answers:
    """What `learn` makes of a log: the decoder's logit of each answer, and what may change of it."""
    left, every = one.run.left, one.every
    logits = hedged_logits(every, constants, broad_weight)
    counts = hedged_logits(replace(every, difficulty=every.difficulty + 1.0), constants, broad_weight) - logits
    grid = logits.reshape(one.shape)
    typical = grid.mean(axis=1)[left.prompt]
    shared = one.inputs * counts.reshape(one.shape)[:, :1].astype(np.float32)
    n = len(left)
    return update.Answers(
        llm=left.llm.astype(np.intp),
        score=left.right,
        weight=np.ones(n),
        logit=grid[left.prompt, left.llm],
        own=grid[left.prompt, left.llm],
        columns=np.ones((n, 1), dtype=np.float32),
        typical=typical,
        own_typical=typical,
        shared=shared[left.prompt],
        shared_widths=one.widths,
        hedged=True,
        key=tuple(map(str, left.prompt.tolist())),
        verdicts=((),) * n,
    )


def _integrated(log_odds: Floats, sd: float) -> Floats:
    """Log-odds of the mean probability of a set that nobody has seen."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    shares = sigmoid(log_odds[:, None] + sd * nodes) @ (weights / weights.sum())
    return logit(np.clip(shares, TINY, 1 - TINY))


def _drawn(  # noqa: PLR0913, PLR0917 - two parts, each with what the means say of it
    mine: update.Answers, base: Floats, judge: update.Answers, judge_base: Floats, n: int, seed: int, set_sd: float
) -> dict[str, float]:
    rows = np.zeros(len(mine), dtype=bool)
    rows[np.random.default_rng(seed).permutation(len(mine))[:n]] = True
    told, base = mine.select(rows), base[rows]
    found = {"weights": _loss(adapt(told).adapted(judge).logit, judge)}
    shifted = _shifts(told, base, set_sd)
    mean_told, mean_judge = base + shifted(told.llm), judge_base + shifted(judge.llm)
    found["means"] = _loss(mean_judge, judge)
    kinds = Directions.of(told.shared, told.shared_widths)
    near, far = kinds.of_prompts(told.shared), kinds.of_prompts(judge.shared)
    for k in NEIGHBOURS:
        found[f"kNN {k}"] = _loss(_neighbours(near, told.score, mean_told, far, mean_judge, k), judge)
    for ridge in RIDGES:
        fit = _regression(told, base, near, ridge, set_sd)
        found[f"regression {ridge:g}"] = _loss(judge_base + fit(judge.llm, far), judge)
    return found


def _loss(logits: Floats, judge: update.Answers) -> float:
    return float(losses(logits, judge.score).mean())


def _shifts(told: update.Answers, base: Floats, set_sd: float) -> Callable[[NDArray[np.intp]], Floats]:
    fit = _regression(told, base, np.zeros((len(told), 0)), 1.0, set_sd)
    return lambda llm: fit(llm, np.zeros((len(llm), 0)))


def _regression(
    told: update.Answers, base: Floats, features: Floats, ridge: float, set_sd: float
) -> Callable[[NDArray[np.intp], Floats], Floats]:
    llms = np.unique(told.llm)

    def columns(llm: NDArray[np.intp], phi: Floats) -> Floats:
        of_llm = llm[:, None] == llms[None, :]
        return np.concatenate([np.ones((len(llm), 1)), of_llm.astype(np.float64), phi], axis=1)

    own = np.full(len(llms), OWN_SD**-2)
    precision = np.concatenate([[set_sd**-2], own, np.full(features.shape[1], ridge)])
    theta, _ = fit_logistic(Examples(columns(told.llm, features), base, told.score, np.ones(len(told))), precision)
    return lambda llm, phi: columns(llm, phi) @ theta


def _neighbours(  # noqa: PLR0913, PLR0917 - two parts and a number
    near: Floats, score: Floats, mean_told: Floats, far: Floats, mean_judge: Floats, k: int
) -> Floats:
    index = NearestNeighbors(n_neighbors=min(k, len(near)), metric="cosine", algorithm="brute").fit(near)
    found = index.kneighbors(far, return_distance=False)
    residual = (score - sigmoid(mean_told))[found].sum(axis=1) / (found.shape[1] + 5)
    return logit(np.clip(sigmoid(mean_judge) + residual, 0.02, 0.98))


def show(measured: dict[str, Measured]) -> None:
    """The table, set by set, and one JSON line."""
    methods = ("means", "kNN", "regression", "weights")
    columns = ["0", *map(str, VERDICTS)]
    table = Table("set", *(f"{n} verdicts" for n in columns), title="log-loss: means / kNN / regression / adapted")
    cells = {name: {n: _chosen(measured, name, n) for n in columns} for name in measured}
    for name, found in cells.items():
        table.add_row(name, *(_cell(found[n], methods) for n in columns))
    average = {
        n: {m: float(np.mean([cells[s][n][m] for s in cells])) for m in cells[next(iter(cells))][n]} for n in columns
    }
    table.add_row("mean", *(_cell(average[n], methods) for n in columns))
    Console(width=160).print(table)
    ratio = {n: round(found["weights"] / found["means"], 4) for n, found in average.items()}
    rounded = {n: {m: round(v, 4) for m, v in found.items()} for n, found in average.items()}
    print(json.dumps({"sets": len(measured), "log_loss": rounded, "relative_to_means": ratio}))


def _cell(found: dict[str, float], methods: Sequence[str]) -> str:
    return " / ".join(f"{found[method]:.3f}" for method in methods if method in found)


def _chosen(measured: dict[str, Measured], name: str, n: str) -> dict[str, float]:
    """One set's figures; a baseline's constant is the best one on the other sets."""
    mine = measured[name][n]
    others = [found[n] for other, found in measured.items() if other != name] or [mine]
    found = {method: value for method, value in mine.items() if " " not in method}
    for method in ("kNN", "regression"):
        ways = [way for way in mine if way.startswith(f"{method} ")]
        if ways:
            found[method] = mine[min(ways, key=lambda way: sum(other[way] for other in others))]
    return found


if __name__ == "__main__":
    main()
