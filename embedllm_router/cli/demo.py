"""The demonstration: the real proxy with the shipped configuration, called through the OpenAI SDK.

The LLMs behind the proxy are simulated (`upstream.py`); routing, proxying and the SDK are real. Nothing is left
running. The prompts were written for it, one of each kind that a router meets.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import httpx

from embedllm_router.errors import EmbedLLMRouterError
from embedllm_router.proxy.serve import proxy_command
from embedllm_router.routing.overrides import COST_WEIGHT_HEADER

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["COST_WEIGHTS", "PROMPTS", "DemoError", "DemoRequest", "RunningProxy", "run_demo", "running_proxy"]

_PARAGRAPH = (
    "Section {n}. The harbour authority shall keep a register of berths, and every vessel that remains alongside "
    "for more than {days} days shall be charged the rate of the season in which it arrived, save where the master "
    "has given notice in writing that repairs prevent departure and the surveyor has confirmed it. "
)

_DOCUMENT = "".join(_PARAGRAPH.format(n=n, days=7 + n % 23) for n in range(1, 121))

PROMPTS: dict[str, str] = {
    "greeting": "Hi there! How are you today?",
    "arithmetic": (
        "A bakery sells 14 trays of 24 rolls each morning and 9 trays each afternoon. "
        "If 37 rolls are returned, how many rolls were sold that day?"
    ),
    "competition maths": (
        "Let $a, b, c$ be positive integers with $a^2 + b^2 + c^2 = abc + 4$ and $a \\le b \\le c \\le 50$. "
        "Find the number of ordered triples $(a, b, c)$, and prove that your list is complete."
    ),
    "law": (
        "A tenant signs a lease that forbids subletting. She lets a friend stay rent-free for two months while she "
        "is abroad. Under common-law principles, has she breached the covenant?\n"
        "A. Yes, any occupation by another is a subletting.\n"
        "B. No, a licence without rent or exclusive possession is not a sublease.\n"
        "C. Yes, because she was absent.\n"
        "D. No, covenants against subletting are void."
    ),
    "code": (
        "What does this print?\n\n```python\ndef f(xs, acc=[]):\n    for x in xs:\n        acc.append(x * len(acc))\n"
        "    return acc\n\nf([1, 2])\nprint(f([3, 4]))\n```"
    ),
    "logic puzzle": (
        "Five neighbours live in a row of houses, each with a different pet, drink and job. The baker lives next to "
        "the owner of the cat. The tea drinker lives in the middle. The pilot lives left of the nurse. The owner of "
        "the parrot drinks milk. The dog lives at one end, and its owner is not the baker. The judge drinks water and "
        "lives in the fourth house. Who owns the fish?"
    ),
    "long document": (
        f"{_DOCUMENT}\n\nSummarise the rules above in three sentences, and say which section applies to a vessel that "
        "stayed 19 days for repairs."
    ),
}
"""Prompt by title."""


COST_WEIGHTS = (0.0, 20.0, 500.0)
"""λ of the demonstration: quality at any price, balanced, cheap."""

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05


class DemoError(EmbedLLMRouterError):
    """A program of the demonstration did not start or did not answer."""


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request of the demonstration and what became of it.

    Attributes:
        prompt: Title of the prompt.
        cost_weight: λ it was sent with.
        chosen: Candidate that routing chose.
        served: Candidate that answered.
        p_correct: Predicted probability of a correct answer.
        cost_usd: Expected cost in USD.
        runner_up: Second best candidate.
        status: HTTP status.
    """

    prompt: str
    cost_weight: float
    chosen: str | None
    served: str | None
    p_correct: float | None
    cost_usd: float | None
    runner_up: str | None
    status: int


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy that answers.

    Attributes:
        base_url: Where, with `/v1`.
        api_key: Its master key, made for this run.
        pid: Its process.
        log: Where its output goes, while it runs.
        start_s: Seconds from its start to its first answer.
    """

    base_url: str
    api_key: str
    pid: int
    log: Path
    start_s: float


def run_demo(
    config: Path,
    *,
    cost_weights: Sequence[float] = COST_WEIGHTS,
    on_request: Callable[[DemoRequest], None] = lambda _: None,
) -> list[DemoRequest]:
    """Sends every prompt at every cost weight.

    Args:
        config: The proxy configuration.
        cost_weights: λ values to compare.
        on_request: Called after each request, for showing progress.

    Returns:
        The requests in the order they were sent.

    Raises:
        DemoError: The proxy or the stand-in for the LLMs did not start.
    """
    from openai import OpenAI

    results = []
    with (
        running_proxy(config) as proxy,
        OpenAI(base_url=proxy.base_url, api_key=proxy.api_key, max_retries=0, timeout=60.0) as client,
    ):
        for title, text in PROMPTS.items():
            for cost_weight in cost_weights:
                results.append(_ask(client, title, text, cost_weight))
                on_request(results[-1])
    return results


@contextmanager
def running_proxy(
    config: Path,
    *,
    through: Literal["embedllm-router", "litellm"] = "embedllm-router",
    environment: Mapping[str, str] | None = None,
    failures: Mapping[str, int] | None = None,
) -> Iterator[RunningProxy]:
    """Starts the simulated LLMs and the proxy on free local ports; stops both by their pids.

    Args:
        config: The proxy configuration; its deployments read `UPSTREAM_API_BASE` and `UPSTREAM_API_KEY`.
        through: Which command runs the proxy: `embedllm-router serve` or LiteLLM's own.
        environment: More environment variables for the proxy.
        failures: HTTP status by LLM, for simulated LLMs that shall fail every request.

    Yields:
        The proxy, ready to answer.

    Raises:
        DemoError: One of them did not start; the end of its log is in the message.
    """
    upstream_port, proxy_port = _free_port(), _free_port()
    key = f"sk-{secrets.token_urlsafe(24)}"
    more_environment = {
        "UPSTREAM_API_BASE": f"http://127.0.0.1:{upstream_port}/v1",
        "UPSTREAM_API_KEY": "simulated",
        "LITELLM_MASTER_KEY": key,
        **(environment or {}),
    }
    command = [sys.executable, "-m", "embedllm_router"]
    upstream = [*command, "upstream", "--port", str(upstream_port)]
    upstream += [f"--fail={llm}={status}" for llm, status in (failures or {}).items()]
    serve = [*command, "serve", "--config", str(config), "--port", str(proxy_port)]
    if through == "litellm":
        serve = proxy_command(config, "127.0.0.1", proxy_port)
        more_environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", **more_environment}
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="embedllm-router-")))
        health = f"http://127.0.0.1:{upstream_port}/health"
        stack.enter_context(_running("simulated LLMs", upstream, {}, health, logs / "upstream.log"))
        ready = f"http://127.0.0.1:{proxy_port}/health/liveliness"
        log = logs / "proxy.log"
        more_environment.setdefault("EMBEDLLM_ROUTER_STORE__PATH", str(logs / "records"))
        more_environment.setdefault("EMBEDLLM_ROUTER_STATE__PATH", str(logs / "state"))
        started = time.perf_counter()
        pid = stack.enter_context(_running("proxy", serve, more_environment, ready, log))
        start_s = time.perf_counter() - started
        yield RunningProxy(f"http://127.0.0.1:{proxy_port}/v1", key, pid, log, start_s)


def _ask(client: "OpenAI", title: str, text: str, cost_weight: float) -> DemoRequest:
    from openai import APIStatusError

    try:
        response = client.chat.completions.with_raw_response.create(
            model="auto",
            messages=[{"role": "user", "content": text}],
            extra_headers={COST_WEIGHT_HEADER: str(cost_weight)},
        )
        headers, status = response.headers, response.status_code
    except APIStatusError as error:
        headers, status = error.response.headers, error.status_code
    return DemoRequest(
        prompt=title,
        cost_weight=cost_weight,
        chosen=headers.get("x-embedllm-chosen"),
        served=headers.get("x-embedllm-served"),
        p_correct=_number(headers.get("x-embedllm-p-correct")),
        cost_usd=_number(headers.get("x-embedllm-expected-cost-usd")),
        runner_up=headers.get("x-embedllm-runner-up"),
        status=status,
    )


@contextmanager
def _running(what: str, command: Sequence[str], environment: Mapping[str, str], ready: str, log: Path) -> Iterator[int]:
    with log.open("wb") as output:
        process = _start(command, {**os.environ, **environment}, output)
    try:
        _wait(what, process, ready, log)
        yield process.pid
    finally:
        _stop(process)


def _start(command: Sequence[str], environment: Mapping[str, str], output: BinaryIO) -> "subprocess.Popen[bytes]":
    """Starts one of our own programs."""
    return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603


def _wait(what: str, process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    with httpx.Client(timeout=2.0) as client:  # one for all attempts: making one costs more than the attempt
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoError(f"the {what} stopped with exit code {process.returncode}:\n{_tail(log)}")
            with suppress(httpx.TransportError):
                if client.get(url).is_success:
                    return
            time.sleep(_POLL_S)
    raise DemoError(f"the {what} did not answer within {_START_TIMEOUT_S:.0f} s:\n{_tail(log)}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path, n_chars: int = 4_000) -> str:
    return log.read_text(errors="replace")[-n_chars:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
