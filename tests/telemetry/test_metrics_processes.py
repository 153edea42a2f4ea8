"""Several worker processes that share a folder: a scrape of any of them shows all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from monitored import sampled, total
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from recorded import START

HELPERS = Path(__file__).parents[1] / "helpers"

WORKER = """
import json, sys
from dataclasses import replace
from monitored import STATUS
from recorded import make_record
from embedllm_router.telemetry.prometheus import PrometheusMetrics
from embedllm_router.telemetry.status import ReloadStatus

number = int(sys.argv[1])
now = [replace(STATUS, store=replace(STATUS.store, lag_s=float(number)), last_reload=None)]
metrics = PrometheusMetrics(lambda: now[0])
for i in range(10 * number):
    metrics.observe(make_record(i))
for line in sys.stdin:
    match line.strip():
        case "scrape":
            print(json.dumps(metrics.scrape().body.decode()), flush=True)
        case "new weights":
            now[0] = replace(now[0], artifact="fedcba987654", store=replace(now[0].store, written=130))
        case "reload failed":
            now[0] = replace(now[0], last_reload=ReloadStatus(STATUS.loaded_at, "no such file"))
        case "rests":
            now[0] = replace(now[0], left_alone={"wizard": "resting"})
        case "rests no more":
            now[0] = replace(now[0], left_alone={"sprinter": "over_budget"})
        case "store anew":
            now[0] = replace(now[0], store=replace(now[0].store, written=5))
        case "again":
            again = PrometheusMetrics(lambda: now[0])
            again.observe(make_record(0))
"""

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


class Worker:
    """A process that counts ten requests times its number."""

    def __init__(self, number: int, folder: Path) -> None:
        path = str(HELPERS)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(number)],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, line: str) -> None:
        self._pipe(self.process.stdin).write(f"{line}\n")
        self._pipe(self.process.stdin).flush()

    def scrape(self) -> Samples:
        self.say("scrape")
        return sampled(json.loads(self._pipe(self.process.stdout).readline()))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            self._pipe(pipe).close()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def test_a_scrape_of_one_worker_shows_all(tmp_path: Path) -> None:
    workers = [Worker(number, tmp_path) for number in (1, 2)]
    try:
        for worker in workers:
            worker.scrape()
        first = workers[0].scrape()
        assert first == workers[1].scrape()
        assert total(first, "embedllm_decisions_total") == 30
        assert total(first, "embedllm_p_correct_count") == 30
        assert total(first, "embedllm_pending_requests") == 8  # added up
        assert total(first, "embedllm_store_lag_seconds") == 2  # the worst
        assert total(first, "embedllm_ready") == 1
        assert total(first, "embedllm_store_written_records_total") == 200
        assert total(first, "embedllm_artifact_info", artifact="0123456789ab") == 2

        workers[0].say("new weights")
        workers[0].say("again")
        second = workers[0].scrape()
        assert total(second, "embedllm_artifact_info", artifact="0123456789ab") == 1
        assert total(second, "embedllm_artifact_info", artifact="fedcba987654") == 1
        assert total(second, "embedllm_store_written_records_total") == 230
        assert total(second, "embedllm_decisions_total") == 31

        assert "embedllm_last_reload_success" not in second  # nobody has reloaded yet
        workers[0].say("reload failed")
        third = workers[0].scrape()
        assert third["embedllm_last_reload_success"] == {frozenset(): 0}
        assert third["embedllm_last_reload_timestamp_seconds"] == {frozenset(): START.timestamp()}

        for worker in workers:
            worker.say("rests")
            worker.scrape()
        assert total(workers[0].scrape(), "embedllm_llm_left_alone", llm="wizard", reason="resting") == 2
        workers[0].say("rests no more")
        fourth = workers[0].scrape()
        assert total(fourth, "embedllm_llm_left_alone", llm="wizard") == 1
        assert total(fourth, "embedllm_llm_left_alone", llm="sprinter", reason="over_budget") == 1

        workers[0].say("store anew")
        assert total(workers[0].scrape(), "embedllm_store_written_records_total") == 235
    finally:
        for worker in workers:
            worker.stop()


def test_the_host_sees_the_files_without_asking_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As LiteLLM's own `/metrics` reads them; a worker that is gone leaves its counts, not its state."""
    worker = Worker(1, tmp_path)
    try:
        worker.scrape()
    finally:
        worker.stop()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    multiprocess.mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]  # left untyped there
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # left untyped there
    samples = sampled(generate_latest(registry).decode())
    assert total(samples, "embedllm_decisions_total") == 10
    assert "embedllm_artifact_info" not in samples
