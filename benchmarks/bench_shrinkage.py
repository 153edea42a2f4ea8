"""Forms of shrinkage on sets that the weights never saw: log-loss, and AUC within an LLM.

    python benchmarks/bench_shrinkage.py --data DIR [--artifact DIR] [--prompts N]

DIR holds data sets as folders, and `sets.csv` with each set's `label_threshold`. Sets that the weights learned from are
left out, and of each other set the LLMs that the weights know are scored. Ends with one JSON line.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from embedllm_router import Router
from embedllm_router._stats import logit, sigmoid
from embedllm_router.evaluation.metrics import auc
from embedllm_router.prediction.scorer import Scorer

Floats = NDArray[np.float64]
FORMS = {
    "LLM averages": (0.0, 0.0, False),
    "as predicted": (1.0, 1.0, False),
    "half of all": (0.5, 0.5, True),
    "3/4 difficulty, 1/4 differences": (0.75, 0.25, True),
}
"""Share of difficulty and of differences that is kept, and whether all of it shrinks as not knowing the set demands."""


def labels(folder: Path, threshold: float, llms: dict[str, int], n: int) -> tuple[list[str], Floats]:
    """Prompts, and the labels (n_prompts, n_llms) of known LLMs, NaN where unobserved."""
    items = pl.read_parquet(folder / "items.parquet", columns=["item_id", "prompt"])
    items = items.sample(min(n, len(items)), seed=0)
    row = {item: i for i, item in enumerate(items["item_id"])}
    results = pl.read_parquet(folder / "results.parquet", columns=["item_id", "model", "score"]).drop_nulls()
    found = np.full((len(row), len(llms)), np.nan)
    for item, llm, score in results.iter_rows():
        if item in row and llm in llms:
            found[row[item], llms[llm]] = score >= threshold
    return items["prompt"].to_list(), found


def within_llm(label: Floats, p: Floats) -> float:
    """Mean over LLMs of the AUC over prompts; NaN where no LLM has both answers five times."""
    values = []
    for column in range(label.shape[1]):
        seen = np.isfinite(label[:, column])
        right = int(np.nansum(label[:, column]))
        if min(right, int(seen.sum()) - right) >= 5:  # noqa: PLR2004 - fewer say nothing
            values.append(auc(label[seen, column], p[seen, column]))
    return float(np.mean(values)) if values else float("nan")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--artifact", type=Path, default=None)
    parser.add_argument("--prompts", type=int, default=1_500)
    options = parser.parse_args()
    router = Router.load(options.artifact)
    manifest = router.artifact.manifest
    if manifest.novelty is None:
        raise SystemExit("the weights measured no OOD scores: embedllm-router landmarks adds them")
    if manifest.hedge is not None:
        raise SystemExit("the weights have a hedge, and these forms of shrinkage are for weights without one")
    learned = {source.name for source in manifest.data}
    llms = {llm.id: i for i, llm in enumerate(manifest.llms)}
    right = np.array([llm.mean_correctness * llm.n_labels for llm in manifest.llms])
    average = logit((right + 1) / (np.array([llm.n_labels for llm in manifest.llms]) + 2))
    bare = Scorer(router.artifact.decoder)
    table = Table("set", "prompts", "LLMs", *FORMS, title="log-loss / AUC within an LLM")
    losses: dict[str, list[float]] = {name: [] for name in FORMS}
    sets = pl.read_csv(options.data / "sets.csv")
    for name, threshold in sets.select("set", "label_threshold").iter_rows():
        if name in learned or not (options.data / name / "items.parquet").is_file():
            continue
        prompts, label = labels(options.data / name, threshold, llms, options.prompts)
        known = np.isfinite(label)
        if known.sum() < 100:  # noqa: PLR2004 - too few to compare
            continue
        scored = [bare.score(router.encode(t).prompt_embedding if t.strip() else None).p_correct for t in prompts]
        logits = logit(np.clip(np.array(scored, dtype=np.float64), 1e-6, 1 - 1e-6))
        deviation = logits - average
        difficulty = deviation.mean(axis=1, keepdims=True)
        cells = []
        for form, (of_difficulty, of_differences, shrinks) in FORMS.items():
            kept = average + of_difficulty * difficulty + of_differences * (deviation - difficulty)
            p = np.clip(sigmoid(kept * (manifest.novelty.shrinkage if shrinks else 1.0)), 1e-6, 1 - 1e-6)
            loss = float(-(label * np.log(p) + (1 - label) * np.log(1 - p))[known].mean())
            losses[form].append(loss)
            cells.append(f"{loss:.3f} / {within_llm(label, p):.3f}")
        table.add_row(name, str(len(prompts)), str(int(known.any(axis=0).sum())), *cells)
    means = {form: round(float(np.mean(found)), 4) for form, found in losses.items()}
    table.add_row("mean", "", "", *(f"{loss:.4f}" for loss in means.values()))
    Console(width=140).print(table)
    print(json.dumps({"log_loss": means, "sets": len(next(iter(losses.values())))}))


if __name__ == "__main__":
    main()
