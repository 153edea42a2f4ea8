"""How long counting one request takes, and one scrape; for one process and for several that share files.

    python benchmarks/bench_metrics.py [--rounds N]

The records are planted ones in many virtual models and LLMs. Prints a table and ends with one JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from embedllm_router.records.schema import CandidateRecord, RequestRecord
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.telemetry.status import Status, VirtualModelStatus

N_LLMS, N_MODELS, N_RECORDS = 20, 4, 500
LLMS = [f"llm-{i}" for i in range(N_LLMS)]
MODELS = [f"auto-{i}" for i in range(N_MODELS)]
BATCH = 50


def status() -> Status:
    """A plugin with some virtual models, at work."""
    now = datetime.now(UTC)
    models = tuple(
        VirtualModelStatus(name, LLMS[0], {}, tuple(LLMS), {}, shadow=False, canary_share=0.0) for name in MODELS
    )
    return Status("0", now, 1, now, "0123456789ab", None, None, 0, None, None, models, 0, 0, 0, 0, StoreHealth("files"))


def record(number: int) -> RequestRecord:
    """An answered request; one in twenty fell back, one in ten has a shadow."""
    chosen, served = LLMS[number % N_LLMS], LLMS[(number + (number % 20 == 0)) % N_LLMS]
    candidates = tuple(CandidateRecord(name, name, 0.8, 100.0, 0.001, 0.78, None) for name in LLMS)
    return RequestRecord(
        at=datetime.now(UTC),
        request_id=f"request-{number}",
        response_id=f"chatcmpl-{number}",
        virtual_model=MODELS[number % N_MODELS],
        call_type="acompletion",
        reason="highest_utility",
        chosen=chosen,
        p_correct=0.8,
        expected_cost_usd=0.001,
        likeliest_p_correct=0.85,
        likeliest_cost_usd=0.01,
        cheapest_p_correct=0.5,
        cheapest_cost_usd=0.0001,
        candidates=candidates,
        encode_ms=0.3,
        score_ms=0.1,
        decide_ms=0.05,
        route_ms=0.5,
        shadow_chosen=LLMS[0] if number % 10 == 0 else None,
        status="success",
        served=served,
        fallback=served != chosen,
        served_p_correct=0.8,
        billed_cost_usd=0.0011,
        latency_ms=800.0,
    )


def measure(rounds: int) -> dict[str, float]:
    """Microseconds to count a request (best, median and 99th percentile of batches), milliseconds of a scrape."""
    from embedllm_router.telemetry.prometheus import PrometheusMetrics  # noqa: PLC0415 - after the environment is set

    metrics = PrometheusMetrics(status)
    records = [record(i) for i in range(N_RECORDS)]
    for one in records:
        metrics.observe(one)
    taken = []
    for start in range(0, rounds, BATCH):
        batch = [records[(start + i) % N_RECORDS] for i in range(BATCH)]
        started = time.perf_counter()
        for one in batch:
            metrics.observe(one)
        taken.append((time.perf_counter() - started) / BATCH * 1e6)
    scrapes = []
    for _ in range(20):
        started = time.perf_counter()
        body = metrics.scrape().body
        scrapes.append((time.perf_counter() - started) * 1e3)
    return {
        "observe_us_best": round(min(taken), 2),
        "observe_us_p50": round(statistics.median(taken), 2),
        "observe_us_p99": round(statistics.quantiles(taken, n=100)[-1], 2),
        "scrape_ms": round(statistics.median(scrapes), 2),
        "scrape_kb": round(len(body) / 1e3, 1),
    }


def measure_with_files(rounds: int) -> dict[str, float]:
    """The same in a process whose series live in files, as with several workers."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", "--rounds", str(rounds)]
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50_000)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.rounds)))
        return
    results = {"one process": measure(options.rounds), "several": measure_with_files(options.rounds)}
    table = Table("", "observe best µs", "p50 µs", "p99 µs", "scrape ms", "scrape kB", title="counting a request")
    for name, found in results.items():
        table.add_row(name, *(f"{value:.2f}" for value in found.values()))
    Console().print(table)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
