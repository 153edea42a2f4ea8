"""How long the dashboard takes to answer over a million records, and what its questions cost the requests beside it.

    python benchmarks/bench_dashboard.py [--records N] [--open N] [--rounds N] [--folder DIR]

Writes N sealed records of a week, and some more in a file that is still being written, as a proxy leaves them. Every
question is asked over HTTP, over all of the records and over the last day, with no answer kept for the next one. Then
a route that does nothing is asked, alone and while pages are reloaded without pause. Ends with one JSON line.
"""

import argparse
import contextlib
import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from million_records import write_records
from rich.console import Console
from rich.table import Table

from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.records.reader.source import Limits, RecordSource, open_source
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.telemetry.status import Status
from embedllm_router.web.dashboard import Answers, dashboard_router

WEEK = timedelta(days=7)
LIMIT_MS = 1_000
PAUSE_S = 0.005


def made_folder(folder: Path, sealed: int, unsealed: int, end: datetime) -> None:
    """Fills a folder that has no records yet."""
    if any(folder.glob("requests-*.parquet")):
        return
    write_records(folder, sealed, end - WEEK, WEEK)
    if unsealed:
        with tempfile.TemporaryDirectory() as aside:
            write_records(Path(aside), unsealed, end - timedelta(hours=1), timedelta(hours=1), files=1)
            lines = f"SELECT * REPLACE (md5(request_id) AS request_id) FROM read_parquet('{aside}/requests-*.parquet')"  # noqa: S608 - our own folder
            duckdb.execute(f"COPY ({lines}) TO '{folder}/requests-{end:%Y%m%dT%H%M%S}-open.jsonl' (FORMAT json)")


def application(source: RecordSource) -> FastAPI:
    """The dashboard without a key, and a route that does nothing."""
    artifact = load_artifact(default_artifact_path())
    now = datetime.now(UTC)
    status = Status(
        "bench",
        now,
        1,
        now,
        artifact.id,
        "",
        "",
        len(artifact.manifest.llms),
        None,
        None,
        (),
        0,
        0,
        0,
        0,
        StoreHealth(),
    )
    app = FastAPI()
    app.include_router(
        dashboard_router(
            auth=lambda: None,
            status=lambda: status,
            source=lambda: source,
            artifact=lambda: artifact,
            answers=Answers(keep_s=0, keep_most_s=0),
        )
    )

    @app.get("/nothing")
    async def nothing() -> dict[str, str]:
        return {}

    return app


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serves it on 127.0.0.1; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def questions(rows: list[dict[str, str]]) -> dict[str, tuple[str, list[dict[str, str]]]]:
    """What each view asks, in turn."""
    return {
        "overview": ("overview", [{}]),
        "overview, one key": ("overview", [{"key_alias": "search"}]),
        "overview: saved": ("saved", [{}]),
        "overview: quality and advice": ("answers", [{}]),
        "filters": ("choices", [{}]),
        "verdict": ("verdict", [{}]),
        "topics": ("topics", [{}]),
        "trade-off, 1,000": ("frontier", [{}]),
        "trade-off, 2,000": ("frontier", [{"n": "2000"}]),
        "decisions": ("decisions", [{}]),
        "decisions, page 200": ("decisions", [{"page": "200"}]),
        "decisions, search": ("decisions", [{"q": f"{number:04x}a"} for number in range(0, 65536, 1234)]),
        "decisions as CSV, 10,000": ("decisions.csv", [{}]),
        "decision, from the list": ("decision", [{name: row[name] for name in ("request_id", "at")} for row in rows]),
        "decision, by id alone": ("decision", [{"request_id": row["request_id"]} for row in rows]),
        "LLMs": ("llms", [{}]),
        "calibration": ("calibration", [{}]),
        "health": ("health", [{}]),
        "records held": ("records", [{}]),
    }


@dataclass(frozen=True, slots=True)
class Taken:
    """Milliseconds of each round.

    Attributes:
        wall: By the clock.
        cpu: Of this process, which asks and answers.
    """

    wall: list[float]
    cpu: list[float]


def measured(ask: Callable[[int], httpx.Response], rounds: int) -> Taken:
    """Times so many rounds, after one that does not count."""
    taken = Taken([], [])
    for number in range(rounds + 1):
        started, worked = time.perf_counter(), time.process_time()
        ask(number).raise_for_status()
        taken.wall.append((time.perf_counter() - started) * 1e3)
        taken.cpu.append((time.process_time() - worked) * 1e3)
    return Taken(taken.wall[1:], taken.cpu[1:])


def measure_views(address: str, rounds: int, table: Table) -> dict[str, float]:
    """p95 of every question in milliseconds, the slower of the two spans of time."""
    slowest: dict[str, float] = {}
    with httpx.Client(base_url=f"{address}/embedllm/api/", timeout=120) as client:
        rows = client.get("decisions", params={"per_page": 100}).json()["rows"]
        for name, (view, turns) in questions(rows).items():
            shown = []
            for span in ("all", "24h"):
                asked = [{**turn, "range": span} for turn in turns]
                taken = measured(lambda n, v=view, a=asked: client.get(v, params=a[n % len(a)]), rounds)  # type: ignore[misc]  # defaults bind
                p95 = float(np.percentile(taken.wall, 95))
                slowest[name] = max(slowest.get(name, 0.0), p95)
                shown += [f"{one:,.0f}" for one in (statistics.median(taken.wall), p95, statistics.median(taken.cpu))]
            table.add_row(name, *shown)
    return slowest


def measure_beside(address: str, n: int, busy: bool) -> list[float]:  # noqa: FBT001 - a script's own switch
    """Milliseconds of a route that does nothing, while pages are reloaded or not."""
    stop = threading.Event()

    def reload(view: str) -> None:
        with httpx.Client(base_url=f"{address}/embedllm/api/", timeout=120) as client:
            while not stop.is_set():
                client.get(view, params={"range": "all"}).raise_for_status()

    pages = [threading.Thread(target=reload, args=(view,)) for view in ("overview", "frontier", "decisions", "llms")]
    for page in pages if busy else []:
        page.start()
    with httpx.Client(base_url=address) as client:

        def after_a_pause(_: int) -> httpx.Response:
            time.sleep(PAUSE_S)
            return client.get("/nothing")

        taken = measured(after_a_pause, n)
    stop.set()
    for page in pages if busy else []:
        page.join()
    return [one - PAUSE_S * 1e3 for one in taken.wall]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--open", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        made_folder(folder, options.records, options.open, datetime.now(UTC).replace(tzinfo=None))
        source = open_source(folder, limits=Limits(threads=1, memory="512MB"))
        stack.callback(source.close)
        held = source.rows("SELECT count(*) AS n FROM requests")[0]["n"]
        address = stack.enter_context(served(application(source)))
        title = f"{held:,} records, {options.rounds} rounds, one thread"
        table = Table("view", "all: p50 ms", "p95", "cpu", "24 h: p50", "p95", "cpu", title=title)
        slowest = measure_views(address, options.rounds, table)
        alone, beside = (measure_beside(address, 1_000, busy) for busy in (False, True))
    console = Console()
    console.print(table)
    p = {f"{name}_p{q}_ms": round(float(np.percentile(taken, q)), 2) for name, taken in
         (("alone", alone), ("beside", beside)) for q in (50, 99)}  # fmt: skip
    console.print(f"a route that does nothing: {p}")
    worst = max(slowest, key=lambda name: slowest[name])
    result = {"records": held, "worst_view": worst, "worst_p95_ms": round(slowest[worst]), "limit_ms": LIMIT_MS, **p}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
