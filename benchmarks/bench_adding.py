"""What a few answers of a new LLM are worth: LLMs left out of training and added with the decoder frozen.

    python benchmarks/bench_adding.py --data FOLDER... [--every N] [--perturbed-copies N]

Every seventh LLM is taken out of the data before anything is learned. Each then joins with so many answers to training
prompts, drawn at random or chosen as `questions` chooses them, and is judged on all its answers to test prompts. Beside
it: its mean on those answers, weights that know nothing of it, and `--artifact`, which learned from all of its training
answers. Means over LLMs, and over six draws where there are at most 200 answers. Ends with one JSON line.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from embedllm_router._stats import sigmoid
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import split_by_stem
from embedllm_router.evaluation.metrics import auc, expected_calibration_error, log_loss
from embedllm_router.training.add_llm import Population, choose_questions, embed, newcomer
from embedllm_router.training.fit.distill import distill
from embedllm_router.training.fit.facts import Facts, find_llm_table, read_facts
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.recipe import learn, load_matrix

ANSWERS = (10, 20, 50, 100, 200, 500, 1_000)
DRAWS, DRAWN_UP_TO, CHOSEN_UP_TO, OPEN = 6, 200, 200, 1_000
Floats = NDArray[np.float64]
Figures = tuple[float, float, float, float]
"""Log-loss, AUC, ECE, and whether the credible interval of the mean holds the share of right answers, NaN without."""


@dataclass(frozen=True, slots=True)
class World:
    """What there is to learn from and to judge on.

    Attributes:
        matrix: All LLMs.
        train: Rows that may be asked.
        test: Rows to judge on.
        columns: Of every prompt, (n_prompts, d + 1).
        population: Of weights that never saw the LLMs left out.
    """

    matrix: CorrectnessMatrix
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    columns: Floats
    population: Population


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--artifact", type=Path, default=default_artifact_path())
    parser.add_argument("--every", type=int, default=7)
    parser.add_argument("--perturbed-copies", type=int, default=TrainingOptions().perturbed_copies)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    facts = read_facts(find_llm_table(asked.data))
    matrix, whole = load_matrix(asked.data, facts, min_labels=1000), load_artifact(asked.artifact)
    out = matrix.llm_ids[asked.every // 2 :: asked.every]
    options = TrainingOptions(perturbed_copies=asked.perturbed_copies)
    with TemporaryDirectory() as folder:
        without = learn_without(asked.data, out, facts, options, Path(folder))
    split = split_by_stem(matrix.prompts, seed=0)
    population = Population.of(without, "prompt")
    columns = population.columns(embed(without, matrix.prompts))
    report(World(matrix, split.train, split.test, columns, population), out, whole)


def learn_without(
    folders: Sequence[Path], out: Sequence[str], facts: Facts, options: TrainingOptions, scratch: Path
) -> Artifact:
    """Weights that never saw some LLMs."""
    for folder in folders:
        fewer = scratch / folder.name
        fewer.mkdir()
        (fewer / "items.parquet").symlink_to((folder / "items.parquet").resolve())
        results = pl.read_parquet(folder / "results.parquet").with_columns(pl.col("model").cast(pl.String))
        results.filter(~pl.col("model").is_in(out)).write_parquet(fewer / "results.parquet")
    data = [scratch / folder.name for folder in folders]
    learned = learn(data, scratch / "weights", encoder=distill(d_embedding=128), facts=facts, options=options)
    if learned is None:
        raise SystemExit("one process trains alone here")
    return learned.artifact


def report(world: World, out: Sequence[str], whole: Artifact) -> None:
    """Adds every LLM with every number of answers, and prints the means."""
    found: defaultdict[tuple[str, int], list[Figures]] = defaultdict(list)
    for llm in out:
        for key, figures in measure(world, llm, whole):
            found[key].append(figures)
        Console(stderr=True).print(llm)
    table = Table("known of it", "answers", "log-loss", "AUC", "ECE", "covered", title=f"{len(out)} LLMs added")
    result = []
    for (how, n), all_figures in found.items():
        loss, area, error, covered = np.mean(all_figures, axis=0).tolist()
        share = "" if np.isnan(covered) else f"{covered:.0%}"
        table.add_row(how, str(n or ""), f"{loss:.4f}", f"{area:.4f}", f"{error:.4f}", share)
        result.append({"how": how, "answers": n, "log_loss": loss, "auc": area, "ece": error, "covered": covered})
    Console().print(table)
    print(json.dumps({"llms": len(out), "rows": result}))


def measure(world: World, llm: str, whole: Artifact) -> Iterator[tuple[tuple[str, int], Figures]]:
    """All figures of one LLM."""
    column = world.matrix.llm_ids.index(llm)
    known, labels = world.matrix.observed[:, column], world.matrix.labels()[:, column].astype(np.float64)
    train, test = world.train[known[world.train]], world.test[known[world.test]]

    def judged(logit: Floats, covered: float = float("nan")) -> Figures:
        p = sigmoid(logit)
        return log_loss(labels[test], p), auc(labels[test], p), expected_calibration_error(labels[test], p), covered

    yield ("nothing", 0), judged(world.columns[test] @ world.population.mean)
    for n in ANSWERS:
        for draw in range(DRAWS if n <= DRAWN_UP_TO else 1):
            rng = np.random.default_rng((n, draw))
            open_ = rng.choice(train, min(max(OPEN, n), len(train)), replace=False)
            asked = {"its mean": open_[:n], "row, random answers": open_[:n]}
            if n <= CHOSEN_UP_TO:
                chosen = choose_questions(world.population, world.columns[open_], n)
                asked["row, chosen answers"] = open_[chosen]
            for how, rows in asked.items():
                if how == "its mean":
                    share = (labels[rows].sum() + 1) / (len(rows) + 2)
                    yield (how, n), judged(np.full(len(test), np.log(share / (1 - share))))
                    continue
                found = newcomer(world.population, world.columns[rows], labels[rows])
                _, low, high = found.mean_p(world.columns[test])
                covered = float(low <= labels[test].mean() <= high)
                yield (how, n), judged(world.columns[test] @ found.row, covered)
    yield ("all, by training", 0), judged(trained_logit(whole, world.matrix, llm, test))


def trained_logit(whole: Artifact, matrix: CorrectnessMatrix, llm: str, rows: NDArray[np.int64]) -> Floats:
    """What weights say that learned from all of an LLM's training answers."""
    population = Population.of(whole, "prompt")
    place = [one.id for one in whole.manifest.llms].index(llm)
    columns = population.decoder.columns(embed(whole, [matrix.prompts[i] for i in rows.tolist()])).astype(np.float64)
    logit: Floats = columns @ population.decoder.rows[place]
    return logit


if __name__ == "__main__":
    main()
