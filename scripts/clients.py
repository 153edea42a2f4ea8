"""Whether clients see the same with `model="auto"` as with a pinned LLM: `.venv/bin/python scripts/clients.py`.

Installs the clients, at the releases below, into environments of their own in a temporary folder, and runs the
scenarios of clients_cases.py and clients_cases.mjs twice against the real proxy in front of a stand-in for an LLM.
Between clients and proxy stands a pass-through that notes, of every request for `auto`, whether it was routed: by the
answer's headers, or, where an error has none, by the proxy's log. Prints a table, then one line of JSON; ends with 1
where a verdict differs or a request was not routed. `--folder` keeps what is installed. Without npm the AI SDK is left
out, and it says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from embedllm_router.cli.demo import running_proxy

PYTHONS: Mapping[str, tuple[str, ...]] = {
    "clients": (
        "openai==3.57.0",
        "anthropic==2.14.0",
        "langchain-openai==1.7.4",
        "pydantic-ai-slim[openai]==2.68.0",
        "openai-agents==0.24.0",
        "llm==0.36",
    ),
    "instructor": ("instructor==1.17.0",),  # it wants an older jiter than the openai above
}
"""Packages by environment."""
RUN: Mapping[str, tuple[str, ...]] = {
    "clients": ("openai", "anthropic", "langchain-openai", "pydantic-ai", "openai-agents", "llm"),
    "instructor": ("instructor",),
}
NODE = ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92", "zod@4.6.7")
PINNED = "gpt-4o-mini"
CASES = Path(__file__).with_name("clients_cases.py")
PLACE = json.dumps({"city": "Paris"})
ROUTED, FAILED_OPEN, CALL_ID = "x-embedllm-chosen", "x-embedllm-failed-open", "x-litellm-call-id"
Verdicts = dict[str, dict[str, str]]


async def answer(request: Request) -> Response:
    """An LLM that calls the first tool it is given, once, and knows one place."""
    body = await request.json()
    messages = body["messages"]
    if "refuse this" in json.dumps(messages[-1]):
        return JSONResponse({"error": {"message": "refused", "type": "invalid_request_error"}}, 400)
    message: dict[str, Any] = {"role": "assistant", "content": "In Paris."}
    if body.get("tools") and messages[-1]["role"] != "tool":
        function = {"name": body["tools"][0]["function"]["name"], "arguments": PLACE}
        call: dict[str, Any] = {"id": "call-1", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    elif (body.get("response_format") or {}).get("type") in {"json_schema", "json_object"}:
        message["content"] = PLACE
    about = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
    finish = "tool_calls" if "tool_calls" in message else "stop"
    if not body.get("stream"):
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return JSONResponse({**about, "object": "chat.completion", "choices": [choice], "usage": usage})
    calls = [{"index": 0, **one} for one in message.pop("tool_calls", ())]
    chunks: list[dict[str, Any]] = [
        {"delta": message | ({"tool_calls": calls} if calls else {}), "finish_reason": None}
    ]
    chunks.append({"delta": {}, "finish_reason": finish})
    lines = [
        json.dumps({**about, "object": "chat.completion.chunk", "choices": [{"index": 0, **one}]}) for one in chunks
    ]
    return StreamingResponse((f"data: {line}\n\n" for line in [*lines, "[DONE]"]), media_type="text/event-stream")


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Runs an application on a free port of 127.0.0.1; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass(slots=True)
class PassThrough:
    """Hands requests on, and notes what the answers' heads say.

    Attributes:
        to: URL of the proxy, without path.
        answers: By client and scenario, the status and headers of each answer.
    """

    to: str
    answers: dict[str, list[tuple[int, httpx.Headers]]] = field(default_factory=dict)
    now: str = ""

    async def begin(self, request: Request) -> Response:
        """A scenario begins."""
        self.now = f"{request.path_params['client']} {request.path_params['what']}"
        self.answers[self.now] = []
        return Response()

    async def hand_on(self, request: Request) -> Response:
        """Hands a request on and the answer back, piece by piece."""
        client = httpx.AsyncClient(timeout=60)
        headers = {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}}
        sent = client.build_request(
            request.method, f"{self.to}{request.url.path}", headers=headers, content=await request.body()
        )
        got = await client.send(sent, stream=True)
        self.answers[self.now].append((got.status_code, got.headers))

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in got.aiter_raw():
                yield piece
            await got.aclose()
            await client.aclose()

        kept = {
            name: value for name, value in got.headers.items() if name not in {"transfer-encoding", "content-length"}
        }
        return StreamingResponse(pieces(), got.status_code, kept)

    @property
    def app(self) -> Starlette:
        """As an application."""
        begin = Route("/begin/{client}/{what}", self.begin)
        return Starlette(routes=[begin, Route("/{path:path}", self.hand_on, methods=["GET", "POST"])])


def configuration() -> dict[str, Any]:
    """Two LLMs of the shipped weights behind `auto`."""

    def row(name: str, llm: str) -> dict[str, Any]:
        # Of openai/… LiteLLM asks the Responses endpoint when Anthropic messages come, which the stand-in has not.
        params = {"model": f"hosted_vllm/{llm}", "api_key": "simulated", "api_base": "os.environ/UPSTREAM_API_BASE"}
        prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}
        return {"model_name": name, "litellm_params": params | prices, "model_info": {"embedllm": llm}}

    return {
        "model_list": [row(PINNED, "gpt-4o-mini-2024-07-18"), row("gpt-4o", "gpt-4o-2024-08-06")],
        "router_settings": {"num_retries": 0, "model_group_alias": {"auto": PINNED}},
        "litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"]},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "callback_settings": {"embedllm_router": {"virtual_models": {"auto": {"default": PINNED}}}},
    }


def installed(folder: Path) -> list[list[str]]:
    """The commands that run the scenarios, each of an environment with its clients; what is there already stays."""
    commands = []
    for name, packages in PYTHONS.items():
        python = folder / name / "bin" / "python"
        if not python.exists():
            venv.create(folder / name, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        commands.append([str(python), str(CASES)])
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        sys.stderr.write("npm or node is not installed: the AI SDK is left out\n")
        return commands
    if not (folder / "node" / "node_modules" / "ai").exists():
        (folder / "node").mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "install", "--silent", "--no-fund", "--no-audit", *NODE], cwd=folder / "node", check=True)
    return [*commands, [node, str(CASES.with_suffix(".mjs"))]]


def seen(commands: list[list[str]], folder: Path, url: str, key: str, model: str) -> Verdicts:
    """What every client makes of every scenario."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"API_KEY": key, "BEGIN_URL": f"{url}/begin", "LLM_USER_PATH": str(folder / "llm")}
    found: Verdicts = {}
    for command, names in zip(commands, (*RUN.values(), ()), strict=False):
        place = folder / "node" if command[1].endswith(".mjs") else folder
        asked = [*command, f"{url}/v1", model, *names]
        done = subprocess.run(asked, cwd=place, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
        found |= json.loads(done.stdout)
    return found


def not_routed(answers: dict[str, list[tuple[int, httpx.Headers]]], log: Path) -> dict[str, str]:
    """Why a scenario was not routed, of those that were not."""
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"')]
    decided = {one["request_id"] for one in events if one.get("event") == "routing.decided"}
    wrong = {}
    for scenario, heads in answers.items():
        for status, headers in heads:
            by_log = status >= httpx.codes.BAD_REQUEST and headers.get(CALL_ID) in decided
            if FAILED_OPEN in headers or not (ROUTED in headers or by_log):
                wrong[scenario] = headers.get(FAILED_OPEN, f"an answer of {status} with no sign of the router")
        if not heads:
            wrong[scenario] = "no request came"
    return wrong


def main() -> int:
    """Compares, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where clients are installed, and kept; without it in a temporary one"
    )
    given = parser.parse_args().folder
    with (
        tempfile.TemporaryDirectory(prefix="embedllm-clients-") as name,
        served(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])) as upstream,
    ):
        folder, file = given or Path(name), Path(name) / "proxy_config.yaml"
        commands = installed(folder)
        file.write_text(yaml.safe_dump(configuration()), encoding="utf-8")
        with running_proxy(file, environment={"UPSTREAM_API_BASE": f"{upstream}/v1"}) as proxy:
            between = PassThrough(proxy.base_url.removesuffix("/v1"))
            with served(between.app) as url:
                pinned = seen(commands, folder, url, proxy.api_key, PINNED)
                auto = seen(commands, folder, url, proxy.api_key, "auto")
            time.sleep(1)  # the last line of the log
            wrong = not_routed(between.answers, proxy.log)
    return shown(pinned, auto, wrong)


def shown(pinned: Verdicts, auto: Verdicts, wrong: dict[str, str]) -> int:
    """Prints the table and the line of JSON; the exit code."""
    differing = []
    for client, cases in pinned.items():
        for what, verdict in cases.items():
            said, how = auto[client][what], wrong.get(f"{client} {what}")
            differing += [] if said == verdict else [f"{client} {what}"]
            word = "DIFFERS" if said != verdict else "NOT ROUTED" if how else "same"
            more = verdict if word == "same" else f"{verdict}  |  auto: {how or said}"
            sys.stdout.write(f"{client:18}{what:12}{word:12}{more[:90]}\n")
    n = sum(map(len, pinned.values()))
    sys.stdout.write(json.dumps({"scenarios": n, "differing": differing, "not_routed": wrong}) + "\n")
    return 1 if differing or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
