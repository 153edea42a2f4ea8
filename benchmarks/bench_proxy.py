"""What the plugin costs the proxy: the same LiteLLM proxy with and without it, in interleaved rounds.

    python benchmarks/bench_proxy.py [--rounds N] [--requests N] [--starts N] [--records]

With --records both have the plugin, and what is measured is keeping records: one keeps them, the other does not.

Both proxies run the shipped configuration, one without the callback, both in front of simulated LLMs, and are asked the
same prompts: one for "auto", the other for the very LLM that "auto" goes to, so that both do the same work behind the
choice. A round measures one, then the other, in alternating order; a ratio is the median over rounds. Processor time is
the proxy's own, all its threads, so other work on the machine hardly moves it. Ends with one JSON line.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from embedllm_router.cli.demo import PROMPTS, RunningProxy, running_proxy

CONFIG = Path(__file__).parents[1] / "proxy_config.yaml"
CONCURRENCIES = (1, 16)
SHORT_PROMPTS = [text for title, text in PROMPTS.items() if title != "long document"]
MEASURED = ("requests/s", "p95 ms", "processor ms")
MAX_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """One proxy under one load: requests per second; p95 and processor time of a request in milliseconds."""

    rps: float
    p95_ms: float
    cpu_ms: float


async def load(proxy: RunningProxy, models: Sequence[str], concurrency: int, n_requests: int) -> Load:
    """Sends requests from so many clients at once, model by prompt; every answer must be a 200."""
    numbers = itertools.count()
    taken: list[float] = []
    headers = {"authorization": f"Bearer {proxy.api_key}"}

    async def client(session: aiohttp.ClientSession) -> None:
        while (number := next(numbers)) < n_requests:
            index = number % len(SHORT_PROMPTS)
            body = {"model": models[index], "messages": [{"role": "user", "content": SHORT_PROMPTS[index]}]}
            started = time.perf_counter()
            async with session.post(f"{proxy.base_url}/chat/completions", json=body) as response:
                await response.read()
                response.raise_for_status()
            taken.append((time.perf_counter() - started) * 1e3)

    connector = aiohttp.TCPConnector(limit=concurrency)
    cpu_s = processor_s(proxy)
    async with (
        asyncio.timeout(MAX_SECONDS),
        aiohttp.ClientSession(headers=headers, connector=connector) as session,
    ):
        started = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(concurrency)))
        seconds = time.perf_counter() - started
    cpu_ms = (processor_s(proxy) - cpu_s) * 1e3 / n_requests
    return Load(n_requests / seconds, float(np.percentile(taken, 95)), cpu_ms)


def processor_s(proxy: RunningProxy) -> float:
    """Processor time of a proxy so far, all its threads: seconds. What else runs on the machine hardly moves it."""
    times = psutil.Process(proxy.pid).cpu_times()
    return float(times.user + times.system)


def compare(
    with_plugin: RunningProxy, other: tuple[RunningProxy, list[str]], concurrency: int, n_requests: int, rounds: int
) -> list[tuple[Load, Load]]:
    """Loads both proxies in turn, the other with a model by prompt; the order alternates so that drift hits both."""
    pairs = []
    without, models_without = other
    auto = ["auto"] * len(SHORT_PROMPTS)
    for number in track(range(rounds), f"concurrency {concurrency}", console=Console(stderr=True)):
        turns = [(with_plugin, auto), (without, models_without)]
        order = turns if number % 2 == 0 else turns[::-1]
        loads = {proxy.pid: asyncio.run(load(proxy, models, concurrency, n_requests)) for proxy, models in order}
        pairs.append((loads[with_plugin.pid], loads[without.pid]))
    return pairs


def chosen_llms(proxy: RunningProxy) -> list[str]:
    """The model group that "auto" goes to, for each prompt."""
    key = {"authorization": f"Bearer {proxy.api_key}"}
    bodies = [{"model": "auto", "messages": [{"role": "user", "content": prompt}]} for prompt in SHORT_PROMPTS]
    answers = [httpx.post(f"{proxy.base_url}/chat/completions", json=b, headers=key, timeout=30) for b in bodies]
    groups = {
        row["litellm_params"]["model"]: row["model_name"] for row in yaml.safe_load(CONFIG.read_text())["model_list"]
    }
    return [groups[answer.headers["x-litellm-model-name"]] for answer in answers]


def rss_mb(proxy: RunningProxy) -> float:
    """Resident memory of a proxy and its children."""
    process = psutil.Process(proxy.pid)
    return float(sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))) / 2**20


def plain_config(folder: Path) -> Path:
    """The shipped configuration without the plugin."""
    config = yaml.safe_load(CONFIG.read_text())
    del config["callback_settings"], config["litellm_settings"]["callbacks"]
    file = folder / "plain.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def measure_starts(plain: Path, starts: int) -> float:
    """Seconds the plugin adds to start-up, median over interleaved starts."""
    added = []
    for _ in track(range(starts), "starts", console=Console(stderr=True)):
        seconds = []
        for config in (CONFIG, plain):
            with running_proxy(config, through="litellm") as proxy:
                seconds.append(proxy.start_s)
        added.append(seconds[0] - seconds[1])
    return statistics.median(added)


def main() -> None:
    """Measures and prints."""
    options = parsed_options()
    table = Table("clients", *(f"{what} {side}" for what in MEASURED for side in ("with", "without", "ratio")))
    result: dict[str, float] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plain = CONFIG if options.records else plain_config(folder)
        result["added_start_s"] = round(measure_starts(plain, options.starts), 2) if options.starts else 0.0
        without = {"EMBEDLLM_ROUTER_STORE__ENABLED": "false"} if options.records else {}
        routed = stack.enter_context(running_proxy(CONFIG, through="litellm"))
        direct = stack.enter_context(running_proxy(plain, through="litellm", environment=without))
        other = (direct, ["auto"] * len(SHORT_PROMPTS) if options.records else chosen_llms(routed))
        compare(routed, other, 4, 200, 1)  # warms both up
        for clients in CONCURRENCIES:
            pairs = compare(routed, other, clients, options.requests, options.rounds)
            row = [statistics.median(values) for values in zip(*(figures(a, b) for a, b in pairs), strict=True)]
            table.add_row(str(clients), *(f"{value:.3g}" for value in row))
            result |= {f"{n}_ratio_c{clients}": round(row[3 * i + 2], 3) for i, n in enumerate(("rps", "p95", "cpu"))}
        result["added_rss_mb"] = round(rss_mb(routed) - rss_mb(direct), 1)
    Console(width=140).print(table)
    print(json.dumps(result))


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--records", action="store_true")
    return parser.parse_args()


def figures(routed: Load, direct: Load) -> tuple[float, ...]:
    """Each of `MEASURED` for both loads and their ratio, in the table's order."""
    pairs = [(routed.rps, direct.rps), (routed.p95_ms, direct.p95_ms), (routed.cpu_ms, direct.cpu_ms)]
    return tuple(value for one, two in pairs for value in (one, two, one / two))


if __name__ == "__main__":
    main()
