"""How long one decision takes in-process: text in, ranked candidates out, every LLM of the artifact a candidate.

    python benchmarks/bench_decision.py [--artifact DIR] [--rounds N] [--pools] [--memory N]

Prints a table by prompt length; with --pools another by number of LLMs, weights of random numbers where there are more
than the shipped ones know; with --memory what memory the process has after so many decisions on prompts that
differ. Ends with one JSON line, for the 100-token prompt.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from random_weights import Sizes, random_weights
from rich.console import Console
from rich.table import Table

from embedllm_router import Router
from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.routing.pipeline import Routing
from embedllm_router.routing.pool import CandidatePool

SENTENCE = (
    "A reservoir is filled by two pumps, the first of which alone would take six hours and the second nine; after "
    "two hours together the first one fails. "
)
"""36 tokens of the encoder."""
LENGTHS = (16, 100, 1_000, 10_000, 100_000, 250_000)
POOLS = (2, 10, 100, 393, 1_000, 10_000)
MEMORY_AT = (10_000, 100_000, 1_000_000, 10_000_000)
REPORTED = 100
WARM_UP = 50


def prompt_of(n_tokens: int) -> str:
    """A prompt of about so many tokens, in words that vary."""
    words = (SENTENCE * (1 + n_tokens // 30)).split()
    return " ".join(f"{word}{i % 7}" if i % 11 == 0 else word for i, word in enumerate(words))[: int(n_tokens * 4.2)]


def measure(router: Router, prompt: str, rounds: int, pool: CandidatePool | None = None) -> tuple[np.ndarray, Routing]:
    """Milliseconds of each decision, and the last one."""
    for _ in range(min(WARM_UP, rounds)):
        routing = router.route(prompt, cost_weight=20.0, pool=pool)
    taken = np.empty(rounds)
    for i in range(rounds):
        started = time.perf_counter()
        routing = router.route(prompt, cost_weight=20.0, pool=pool)
        taken[i] = (time.perf_counter() - started) * 1e3
    return taken, routing


def by_length(router: Router, rounds: int) -> dict[str, float]:
    """Prints a row for each length; returns the figures of the reported one."""
    table = Table("prompt tokens", "p50 ms", "p99 ms", "encode", "score", "decide", title="one decision")
    reported: dict[str, float] = {}
    for n_tokens in LENGTHS:
        prompt = prompt_of(n_tokens)
        taken, routing = measure(router, prompt, max(rounds * 100 // max(n_tokens, 100), 50))
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
    return reported


def by_pool(router: Router, rounds: int) -> dict[str, dict[str, float]]:
    """Prints a row for each number of candidates; returns p50 and p99 in ms by number.

    As many candidates as the weights know or fewer are drawn from those; for more, weights are made.
    """
    table = Table(
        "candidates", "LLMs of the weights", "p50 ms", "p99 ms", "score", "decide", title="by pool, 100 tokens"
    )
    found: dict[str, dict[str, float]] = {}
    prompt, known = prompt_of(REPORTED), len(router.catalog.ids)
    for n in POOLS:
        asked, pool = router, router.pool(random.Random(0).sample(router.catalog.ids, n)) if n <= known else None  # noqa: S311
        if pool is None:
            with tempfile.TemporaryDirectory() as folder:
                made = random_weights(load_artifact(default_artifact_path()), Path(folder) / "made", Sizes(n_llms=n))
            asked, pool = (many := Router(made)), many.pool()
        taken, routing = measure(asked, prompt, max(rounds * 400 // max(n, 400), 200), pool)
        p50, p99 = (round(float(value), 4) for value in np.percentile(taken, [50, 99]))
        steps = routing.timing_ms
        table.add_row(
            str(n), str(len(asked.catalog.ids)), str(p50), str(p99), f"{steps.score:.3f}", f"{steps.decide:.3f}"
        )
        found[str(n)] = {"p50_ms": p50, "p99_ms": p99}
    Console().print(table)
    return found


def memory(router: Router, most: int) -> dict[str, float]:
    """MB of the process after 10,000 decisions, ten times as many, and so on; hardly a prompt is asked twice."""
    process, found = psutil.Process(), {}
    words, rng = SENTENCE.split(), random.Random(0)  # noqa: S311 - prompts, no secrets
    for n in range(1, most + 1):
        router.route(f"{n}: {' '.join(rng.sample(words, 8))}", cost_weight=20.0)
        if n in MEMORY_AT or n == most:
            found[str(n)] = round(process.memory_info().rss / 2**20, 1)
            Console().print(f"{n:,} decisions: {found[str(n)]} MB")
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--pools", action="store_true")
    parser.add_argument("--memory", type=int, default=0, metavar="N")
    options = parser.parse_args()
    router = Router.load(options.artifact)
    reported: dict[str, object] = {**by_length(router, options.rounds)}
    if options.memory:
        reported["rss_mb_after"] = memory(router, options.memory)
    if options.pools:
        reported["by_pool"] = by_pool(router, options.rounds)
    print(json.dumps(reported))


if __name__ == "__main__":
    main()
