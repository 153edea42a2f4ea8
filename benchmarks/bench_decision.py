"""How long one decision takes in-process: text in, ranked candidates out, every LLM of the artifact a candidate.

    python benchmarks/bench_decision.py [--artifact DIR] [--rounds N]

Prints a table by prompt length and ends with one JSON line for the 100-token prompt.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from embedllm_router import Router
from embedllm_router.routing.pipeline import Routing

SENTENCE = (
    "A reservoir is filled by two pumps, the first of which alone would take six hours and the second nine; after "
    "two hours together the first one fails. "
)
"""36 tokens of the encoder."""
LENGTHS = (10, 100, 1_000, 10_000, 250_000)
REPORTED = 100
WARM_UP = 50


def prompt_of(n_tokens: int) -> str:
    """A prompt of about so many tokens, in words that vary."""
    words = (SENTENCE * (1 + n_tokens // 30)).split()
    return " ".join(f"{word}{i % 7}" if i % 11 == 0 else word for i, word in enumerate(words))[: int(n_tokens * 4.2)]


def measure(router: Router, prompt: str, rounds: int) -> tuple[np.ndarray, Routing]:
    """Milliseconds of each decision, and the last one."""
    for _ in range(min(WARM_UP, rounds)):
        routing = router.route(prompt, cost_weight=20.0)
    taken = np.empty(rounds)
    for i in range(rounds):
        started = time.perf_counter()
        routing = router.route(prompt, cost_weight=20.0)
        taken[i] = (time.perf_counter() - started) * 1e3
    return taken, routing


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=3_000)
    options = parser.parse_args()
    router = Router.load(options.artifact)
    table = Table("prompt tokens", "p50 ms", "p99 ms", "encode", "score", "decide", title="one decision")
    reported: dict[str, float] = {}
    for n_tokens in LENGTHS:
        prompt = prompt_of(n_tokens)
        taken, routing = measure(router, prompt, max(options.rounds * 100 // max(n_tokens, 100), 50))
        n_read = router.encode(prompt).n_tokens
        p50, p99 = np.percentile(taken, [50, 99])
        steps = routing.timing_ms
        parts = (f"{steps.encode:.3f}", f"{steps.score:.3f}", f"{steps.decide:.3f}")
        table.add_row(f"{n_tokens} ({n_read} read)", f"{p50:.3f}", f"{p99:.3f}", *parts)
        if n_tokens == REPORTED:
            reported = {
                "p50_ms": round(float(p50), 4),
                "p99_ms": round(float(p99), 4),
                "decisions_per_s": round(1e3 / float(taken.mean()), 1),
                "n_llms": len(router.catalog.ids),
                "prompt_tokens": n_read,
                "rss_mb": round(psutil.Process().memory_info().rss / 2**20, 1),
            }
    Console().print(table)
    print(json.dumps(reported))


if __name__ == "__main__":
    main()
