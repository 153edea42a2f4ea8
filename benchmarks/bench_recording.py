"""What keeping a record costs a request: the tracker and the store, beside the same tracker without a store.

    python benchmarks/bench_recording.py [--requests N] [--rounds N]

One decision among the eight LLMs of the shipped configuration is reported and ended over and over, with records kept in
files and without, in alternating rounds. Counted is the processor time of the whole process, the writer thread
included; log lines are off. Ends with one JSON line.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime

from embedllm_router.config.settings import read_settings
from embedllm_router.proxy.container import assemble
from embedllm_router.telemetry.decision_record import Outcome, RequestContext

LLMS = ["gpt-4o-mini", "gpt-4o", "claude-3-5-haiku", "claude-sonnet-4", "gemini-3.1-pro", "o3-mini", "deepseek-r1-0120"]
PROMPT = "How many primes are there below 100? " * 10


def cpu_us(n_requests: int, *, kept: bool) -> float:
    """Microseconds of processor time per request, with its record kept or not."""
    with tempfile.TemporaryDirectory() as folder:
        section = {
            "virtual_models": {"auto": {"default": "gpt-4o-mini", "cost_weight": 20}},
            "store": {"enabled": kept, "path": folder},
            "log": {"level": "error"},
        }
        container = assemble(read_settings(section), log_to=io.StringIO())
        router = container.live.snapshot.router
        if router is None:
            raise SystemExit("the shipped weights do not load")
        pool = router.pool([*LLMS, "llama-3.1-8b-instruct"])
        outcome = Outcome("gpt-4o-mini", "success", input_tokens=90, output_tokens=70, cost_usd=1e-4, latency_ms=800.0)
        routings = [router.route(PROMPT, cost_weight=20.0, pool=pool) for _ in range(n_requests)]
        started = time.process_time()
        for number, routing in enumerate(routings):
            context = RequestContext(str(number), "auto", "acompletion", datetime.now(UTC), time.perf_counter())
            container.tracker.decided(context, routing)
            container.tracker.ended(str(number), outcome)
        container.close()
        return (time.process_time() - started) / n_requests * 1e6


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    cpu_us(200, kept=True)  # warms up
    rounds = [
        (cpu_us(options.requests, kept=True), cpu_us(options.requests, kept=False)) for _ in range(options.rounds)
    ]
    added = statistics.median(with_store - without for with_store, without in rounds)
    for with_store, without in rounds:
        print(f"{with_store:7.1f} µs with, {without:6.1f} without")
    print(json.dumps({"recording_us": round(added, 1), "rounds": options.rounds, "requests": options.requests}))


if __name__ == "__main__":
    main()
