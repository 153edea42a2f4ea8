"""What keeping a record costs a request: the observer and the store, beside the same observer without a store.

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
from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.proxy.container import assemble
from embedllm_router.routing.policy import Objective
from embedllm_router.serving.arms import Lane, Lanes, VirtualModel
from embedllm_router.telemetry.events import Outcome
from embedllm_router.telemetry.record_builder import Arrival

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
        parts = assemble(read_settings(section), log_to=io.StringIO())
        router = parts.live.generation.router
        if router is None:
            raise SystemExit("the shipped weights do not load")
        pool, objective = router.pool([*LLMS, "llama-3.1-8b-instruct"]), Objective(20.0)
        lanes = Lanes(Lane("live", router, VirtualModel("auto", VirtualModelSettings(default="x"), pool), objective))
        outcome = Outcome("gpt-4o-mini", "success", input_tokens=90, output_tokens=70, cost_usd=1e-4, latency_ms=800.0)
        routings = [router.route(PROMPT, objective=objective, pool=pool) for _ in range(n_requests)]
        started = time.process_time()
        for number, routing in enumerate(routings):
            arrival = Arrival(str(number), "auto", "acompletion", datetime.now(UTC), time.perf_counter())
            chosen = routing.decision.chosen
            routed = arrival.routed(chosen.name if chosen else "-", decision=routing.decision)
            parts.observer.decided(routed, routing, arrival, lanes)
            parts.observer.ended(str(number), outcome)
        parts.close()
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
