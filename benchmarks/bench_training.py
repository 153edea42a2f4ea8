"""How long training takes and how much memory it needs, on generated data or on your own.

    python benchmarks/bench_training.py --case mf-paper [--epochs 50] [--threads 2]
    python benchmarks/bench_training.py --case wide [--epochs 1]
    python benchmarks/bench_training.py --case default --data DIR... [--epochs 16]

`mf-paper` is the paper's decoder at the paper's size: 29,000 prompts of 768 numbers, 112 LLMs, every pair graded.
`wide` is the default decoder on 100,000 prompts and 1,000 LLMs. `default` is the whole of `train` on data folders.
Each ends with one JSON line; `cpu_seconds` is of the whole process, and tells a slow run from a busy machine. Log-loss
is of the validation part; the generated answers have a known best value.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from embedllm_router._stats import sigmoid
from embedllm_router.data.split import Split
from embedllm_router.training.fit.decoder import LearningData
from embedllm_router.training.fit.options import TrainingOptions, paper_options, plain_options
from embedllm_router.training.fit.training import train_decoder

RANK = 8
"""Of the generated logits: how many skills there are."""
SHAPES = {"mf-paper": (29_000, 112, 768), "wide": (100_000, 1_000, 384)}
BLOCK = 4_096


def generated(n_prompts: int, n_llms: int, d_prompt: int, seed: int = 0) -> tuple[LearningData, float]:
    """Answers of random skills to unit-length prompts, and the log-loss of their true probabilities."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_prompts, d_prompt), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    skills = 2 * rng.standard_normal((RANK, n_llms), dtype=np.float32)
    needs = rng.standard_normal((d_prompt, RANK), dtype=np.float32) / RANK**0.5
    labels = np.empty((n_prompts, n_llms), dtype=np.uint8)
    entropy = 0.0
    for start in range(0, n_prompts, BLOCK):
        p = sigmoid(x[start : start + BLOCK] @ needs @ skills)
        labels[start : start + BLOCK] = rng.random(p.shape, dtype=np.float32) < p
        entropy -= float((p * np.log(p + 1e-9) + (1 - p) * np.log(1 - p + 1e-9)).sum(dtype=np.float64))
    rows = np.arange(n_prompts)
    cut = n_prompts * 9 // 10
    data = LearningData(
        x=x,
        labels=labels,
        observed=np.ones(labels.shape, dtype=np.bool_),
        log_tokens=np.full(labels.shape, np.nan, dtype=np.float32),
        thinking=np.zeros(n_llms, dtype=np.bool_),
        categories=rows % 10,
        split=Split(rows[:cut], rows[cut:], rows[:0]),
    )
    return data, entropy / labels.size


def time_generated(case: str, epochs: int | None) -> dict[str, float]:
    """Trains on generated data."""
    data, best = generated(*SHAPES[case])
    paper = paper_options()
    options = paper if case == "mf-paper" else replace(plain_options(), members=1)
    options = replace(options, max_epochs=epochs or (50 if case == "mf-paper" else 1))
    started = time.perf_counter()
    trained = train_decoder(data, options, lambda head, n, of, loss: print(f"{head} {n}/{of} {loss:.4f}", flush=True))
    taken = time.perf_counter() - started
    losses = [record.validation_loss for record in trained.history if record.head.startswith("correctness")]
    n_prompts, n_llms, d_prompt = SHAPES[case]
    return {
        "n_prompts": n_prompts,
        "n_llms": n_llms,
        "d_prompt": d_prompt,
        "epochs": len(losses),
        "seconds": round(taken, 1),
        "log_loss": round(min(losses), 4),
        "log_loss_of_the_truth": round(best, 4),
    }


def time_default(folders: list[Path], epochs: int | None) -> dict[str, float]:
    """Distils, trains and measures, as `embedllm-router train` does."""
    from embedllm_router.training.fit.distill import distill  # noqa: PLC0415 - only this case needs it
    from embedllm_router.training.fit.facts import find_llm_table, read_facts  # noqa: PLC0415 - only this case needs it
    from embedllm_router.training.fit.recipe import learn  # noqa: PLC0415 - only this case needs it

    options = TrainingOptions() if epochs is None else replace(TrainingOptions(), max_epochs=epochs)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        learned = learn(folders, out, encoder=distill(), facts=read_facts(find_llm_table(folders)), options=options)
    taken = time.perf_counter() - started
    assert learned is not None  # this process is the main one
    return {"epochs": options.max_epochs, "seconds": round(taken, 1), "log_loss": round(learned.metrics["log_loss"], 4)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*SHAPES, "default"], required=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.case == "default":
        result = time_default(given.data, given.epochs)
    else:
        result = time_generated(given.case, given.epochs)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result |= {"cpu_seconds": round(time.process_time(), 1), "threads": given.threads, "peak_rss_gb": round(peak_gb, 2)}
    print(json.dumps({"case": given.case, **result}))


if __name__ == "__main__":
    main()
