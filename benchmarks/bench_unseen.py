"""What predictions are worth on a benchmark that was never seen: each data set left out in turn.

    python benchmarks/bench_unseen.py --data FOLDER... [--members N] [--perturbed-copies N]

A network learns from the other data sets, without any question that is also in the one left out; its encoder's tables,
landmarks and novelty are fitted without it, too. Then the left-out prompts arrive in random order as one caller's
traffic, as a proxy would see them. Log-loss of LLMs with at least 500 training labels; the validation part of the data
sets that were learned shows what hedging costs ordinary traffic, once in random order and once category by category.
Ends with one JSON line.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import GroupSplit, Split, leave_one_benchmark_out
from embedllm_router.evaluation.inputs import llm_means
from embedllm_router.evaluation.metrics import log_loss
from embedllm_router.prediction.ood_score import Landmarks, OodScorer
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.serving.caller_drift import CallerDrift
from embedllm_router.training.fit.distill import TokenTable, distill
from embedllm_router.training.fit.encoding import DEFAULT_NGRAMS, encode_copies, encode_prompts, prepare_encoder
from embedllm_router.training.fit.facts import Facts, find_llm_table, read_facts
from embedllm_router.training.fit.landmarks import find_landmarks, measure_ood
from embedllm_router.training.fit.options import TrainingOptions, plain_options
from embedllm_router.training.fit.recipe import learning_data, load_matrix
from embedllm_router.training.fit.training import train_decoder

MIN_LABELS = 500
COLUMNS = 128
Floats = NDArray[np.float32]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--perturbed-copies", type=int, default=TrainingOptions().perturbed_copies)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    facts = read_facts(find_llm_table(asked.data))
    matrix = load_matrix(asked.data, facts, min_labels=1000)
    options = replace(plain_options(), members=asked.members, perturbed_copies=asked.perturbed_copies)
    teacher = distill(d_embedding=COLUMNS)
    names = ("labels", "means", "network", "hedged", "hedge", "ordinary", "ordinary hedged", "by category")
    table, result = Table("left out", *names), {}
    for split in leave_one_benchmark_out(matrix):
        figures = measure(matrix, split, teacher, facts, options)
        result[split.held_out] = dict(zip(names, figures, strict=True))
        table.add_row(split.held_out, *(f"{value:.4g}" for value in figures))
        Console(stderr=True).print(split.held_out, *figures)
    Console().print(table)
    print(json.dumps(result))


def measure(
    matrix: CorrectnessMatrix, split: GroupSplit, teacher: TokenTable, facts: Facts, options: TrainingOptions
) -> tuple[float, ...]:
    """Trains without a data set; the table's figures of it."""
    enough = matrix.observed[split.train].sum(axis=0) >= MIN_LABELS
    matrix = replace(matrix, observed=matrix.observed & enough)
    prompts = [matrix.prompts[i] for i in split.train]
    made = prepare_encoder(teacher, prompts, n_columns=COLUMNS, ngrams=DEFAULT_NGRAMS)
    x = encode_prompts(made.encoder, matrix.prompts)
    parts = Split(split.train, split.validation, split.test)
    copies = encode_copies(made.encoder, prompts, options.perturbed_copies, seed=options.seed)
    data = replace(learning_data(matrix, x, parts, facts), copies=copies)
    decoder = train_decoder(data, options).decoder.tensors()
    train = matrix.select_prompts(split.train)
    found = find_landmarks(train, x[split.train], decoder)
    landmarks = Landmarks(found.known, found.tensors, decoder)
    novelty = OodScorer(landmarks, measure_ood(landmarks, train, x[split.validation]), known_llms(train))
    scorer = Scorer(decoder, novelty)
    rng, means = np.random.default_rng(0), llm_means(train)

    def loss(p: Floats, rows: NDArray[np.int64]) -> float:
        known = matrix.observed[rows]
        return log_loss(matrix.labels()[rows][known], p[known])

    test, ordinary = rng.permutation(split.test), rng.permutation(split.validation)
    by_category = ordinary[np.argsort(matrix.category_names()[ordinary], kind="stable")]
    hedged, strength = arrive(scorer, x[test])
    return (
        int(matrix.observed[test].sum()),
        loss(np.tile(means.astype(np.float32), (len(test), 1)), test),
        loss(bare(decoder, x[test]), test),
        loss(hedged, test),
        strength,
        loss(bare(decoder, x[ordinary]), ordinary),
        loss(arrive(scorer, x[ordinary])[0], ordinary),
        loss(arrive(scorer, x[by_category])[0], by_category),
    )


def arrive(scorer: Scorer, x: Floats) -> tuple[Floats, float]:
    """Predictions of prompts that come one after the other from one caller, and the mean strength of hedging."""
    traffic, p, strengths = CallerDrift(), [], []
    for row in x:
        scores = scorer.score(row, traffic.shrinkage(""))
        traffic.add("", scores.shrinkage.ood_score or 0.0)
        p.append(scores.p_correct)
        strengths.append(scores.shrinkage.strength)
    return np.stack(p), float(np.mean(strengths))


def bare(decoder: dict[str, NDArray[np.generic]], x: Iterable[Floats]) -> Floats:
    """Predictions that nothing hedges."""
    scorer = Scorer(decoder)
    return np.stack([scorer.score(row).p_correct for row in x])


def known_llms(train: CorrectnessMatrix) -> list[LearnedLLM]:
    """What an artifact would say of each LLM."""
    n_labels, means = train.observed.sum(axis=0).tolist(), llm_means(train).tolist()
    return [
        LearnedLLM(id=llm, vendor="unknown", thinking=False, n_labels=max(n, 1), mean_correctness=mean)
        for llm, n, mean in zip(train.llm_ids, n_labels, means, strict=True)
    ]


if __name__ == "__main__":
    main()
