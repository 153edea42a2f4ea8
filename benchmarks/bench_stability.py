"""How often a change that leaves a prompt's meaning changes who answers it.

    python benchmarks/bench_stability.py --data DIR... [--prompts N]

Prompts of data folders (items.parquet), as many from each, are routed among the LLMs of the shipped configuration at
their list prices, as they are and with typos, other white space, case, punctuation or politeness. Ends with JSON.
"""

import argparse
import json
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from embedllm_router import Router
from embedllm_router.evaluation.stability import measure_flips
from embedllm_router.policy import Objective

LLMS = ["gpt-4o-mini", "gpt-4o", "claude-3-5-haiku", "claude-sonnet-4", "gemini-3.1-pro", "o3-mini", "deepseek-r1-0120"]
WEIGHTS = {"quality": 0.0, "balanced": 20.0, "cheap": 500.0}


def sample(folders: list[Path], n: int) -> list[str]:
    """So many prompts, as many from each folder, always the same."""
    each = -(-n // len(folders))
    texts = [pl.read_parquet(folder / "items.parquet")["prompt"].sample(each, seed=0).to_list() for folder in folders]
    return [text for some in texts for text in some][:n]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--prompts", type=int, default=1_000)
    options = parser.parse_args()
    router = Router.load()
    pool = router.pool([*LLMS, "llama-3.1-8b-instruct"])
    prompts = sample(options.data, options.prompts)
    table = Table("change", *(f"{name}, λ {weight:g}: flips" for name, weight in WEIGHTS.items()), "utility lost")
    flips = {name: measure_flips(router, pool, Objective(weight), prompts) for name, weight in WEIGHTS.items()}
    for row, rows in enumerate(zip(*flips.values(), strict=True)):
        balanced = flips["balanced"][row]
        table.add_row(rows[0].change, *(f"{one.rate:.1%}" for one in rows), f"{balanced.lost:.4f}")
    Console().print(table)
    means = {name: round(sum(r.rate * r.n for r in rows) / sum(r.n for r in rows), 4) for name, rows in flips.items()}
    print(json.dumps({"prompts": len(prompts), **{f"flips_{name}": mean for name, mean in means.items()}}))


if __name__ == "__main__":
    main()
