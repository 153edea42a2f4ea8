"""What a prompt encoder costs a decision: the static one, and sentence transformers on each device there is.

    python benchmarks/bench_encoders.py [--encoder NAME_OR_FOLDER]... [--device cpu]... [--tokens 100] [--seconds 5]

Each encoder routes the same prompts through the queue that the proxy uses, by 1, 8, 64 and 200 requests at once. Every
LLM is a candidate; a transformer's decoder has the shipped sizes and random numbers, since speed does not depend on
them. The longest pause of the event loop stands beside, which is how long other requests were held up. Ends with one
JSON line.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from bench_decision import prompt_of
from random_weights import Sizes, random_weights
from rich.console import Console
from rich.table import Table

from embedllm_router import Router
from embedllm_router.artifact.manifest import EncoderSpec
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.prediction.transformer_encoder import Device, TransformerEncoder
from embedllm_router.routing.decision import Objective, Request
from embedllm_router.routing.pipeline import Embedded, Policy, decide
from embedllm_router.routing.prompt import read_body
from embedllm_router.serving.encoder_queue import EncoderQueue

AT_ONCE = (1, 8, 64, 200)
MAX_BATCH, TIMEOUT_S = 32, 60.0
"""The default batch, and more time than the default: what is late shall be seen, not left out."""
N_PROMPTS = 512
PAUSE_S = 1e-3


@dataclass(frozen=True, slots=True)
class Figures:
    """One encoder on one device under one load.

    Attributes:
        encoder: "static", or the transformer's name.
        device: Where it ran.
        at_once: Requests in flight.
        p50_ms: Median time from prompt to decision, waiting included.
        p99_ms: The 99th percentile of it.
        per_s: Decisions a second.
        pause_ms: The longest time the event loop did nothing else.
        gpu_mb: Most GPU memory that torch held; 0 on a CPU.
    """

    encoder: str
    device: str
    at_once: int
    p50_ms: float
    p99_ms: float
    per_s: float
    pause_ms: float
    gpu_mb: float


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", action="append", default=[])
    parser.add_argument("--device", action="append", default=[])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    prompts = [f"{n}: {prompt_of(options.tokens)}" for n in range(N_PROMPTS)]
    table = Table("encoder", "device", "at once", "p50 ms", "p99 ms", "decisions/s", "longest pause ms", "GPU MB")
    found = []
    for name, router in routers(options.encoder, options.device or ["auto"], options.threads):
        for at_once in AT_ONCE:
            one = asyncio.run(measure(name, router, prompts, at_once, options.seconds))
            found.append(one)
            row = (one.p50_ms, one.p99_ms, one.per_s, one.pause_ms, one.gpu_mb)
            table.add_row(one.encoder, one.device, str(at_once), *(f"{value:.4g}" for value in row))
            Console(stderr=True).print(one)
    Console().print(table)
    sys.stdout.write(json.dumps([asdict(one) for one in found]) + "\n")


def routers(encoders: list[str], devices: list[Device], threads: int) -> Iterator[tuple[str, Router]]:
    """The shipped weights, then weights behind each transformer on each device."""
    yield "static", Router.load()
    base = without_ngrams(load_artifact(default_artifact_path()))
    for name in encoders:
        for device in devices:
            encoder = TransformerEncoder(name, device=device, threads=threads)
            half = encoder.spec.d_embedding // 2
            sizes = Sizes(n_llms=len(base.manifest.llms), blocks=(half, half), n_broad_blocks=1)
            with tempfile.TemporaryDirectory() as folder:
                weights = random_weights(base, Path(folder) / "weights", sizes)
            queue = EncoderQueue(encoder, max_batch=MAX_BATCH, timeout_s=TIMEOUT_S)
            yield f"{Path(name).name} on {encoder.device}", Router(weights, queue)


def without_ngrams(base: Artifact) -> Artifact:
    """Weights whose prompt embedding has the parts that a transformer's has."""
    spec = base.manifest.encoder
    assert isinstance(spec, EncoderSpec)
    manifest = base.manifest.model_copy(update={"encoder": spec.model_copy(update={"ngrams": ()})})
    tables = {name: base.encoder[name] for name in ("token_embeddings", "token_scales")}
    return replace(base, manifest=manifest, encoder=tables)


async def measure(name: str, router: Router, prompts: list[str], at_once: int, seconds: float) -> Figures:
    """Keeps so many requests in flight for some seconds."""
    policy = Policy(router.pool())
    taken: list[float] = []
    waiting = iter(prompts * 1000)

    async def client(until: float) -> None:
        while time.perf_counter() < until:
            started = time.perf_counter()
            await decide_one(router, next(waiting), policy)
            taken.append(time.perf_counter() - started)

    await decide_one(router, prompts[0], policy)
    watch = asyncio.create_task(longest_pause())
    started = time.perf_counter()
    await asyncio.gather(*(client(started + seconds) for _ in range(at_once)))
    wall = time.perf_counter() - started
    watch.cancel()
    pause = (await asyncio.gather(watch))[0]
    label, _, device = name.partition(" on ")
    p50, p99 = np.percentile(taken, [50, 99]) * 1e3
    gpu_mb = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return Figures(label, device or "cpu", at_once, p50, p99, len(taken) / wall, pause * 1e3, gpu_mb)


async def decide_one(router: Router, text: str, policy: Policy) -> None:
    """Routes one prompt as the proxy's hook does."""
    prompt = read_body({"prompt": text})
    embedded = None
    if isinstance(router.encoder, EncoderQueue):
        embedded = Embedded((await router.encoder.encode_soon(text)).prompt_embedding)
    request = Request(Objective(20.0), prompt.input_tokens, prompt.max_output_tokens)
    decide(router, prompt, request, policy, embedded=embedded)
    await asyncio.sleep(0)


async def longest_pause() -> float:
    """The longest time between two turns of this task beyond what it sleeps, in seconds, until it is cancelled."""
    longest = 0.0
    try:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(PAUSE_S)
            longest = max(longest, time.perf_counter() - started - PAUSE_S)
    except asyncio.CancelledError:
        return longest


if __name__ == "__main__":
    main()
