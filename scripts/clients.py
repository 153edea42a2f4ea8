"""Whether clients see the same with `model="auto"` as with a pinned LLM: `.venv/bin/python scripts/clients.py`.

Installs the clients, at the releases below, into environments of their own in a temporary folder, and runs three kinds
of scenarios twice against the real proxy in front of a stand-in for an LLM: those of clients_cases.py and
clients_cases.mjs (`libraries`), the tests that the sources of OpenAI's SDK bring along (`openai-tests`, by
clients_sdk_tests.py), and the probes of CompatCanary (`compatcanary`, by clients_canary.mjs). `--only` chooses.

Between clients and proxy stands a pass-through that notes, of every request for `auto`, whether it was routed: by the
answer's headers, or, where an error has none, by the proxy's log. Prints a table, then one line of JSON; ends with 1
where a verdict differs, a request to a routed endpoint was not routed, or not as many requests were sent for `auto` as
for the pinned LLM. `--folder` keeps what is installed. Without npm the AI SDK and CompatCanary are left out, and it
says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import venv
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
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

OPENAI = "openai==3.57.0"
PYTHONS: Mapping[str, tuple[str, ...]] = {
    "clients": (
        OPENAI,
        "anthropic==2.14.0",
        "langchain-openai==1.7.4",
        "pydantic-ai-slim[openai]==2.68.0",
        "openai-agents==0.24.0",
        "llm==0.36",
    ),
    "instructor": ("instructor==1.17.0",),  # it wants an older jiter than the openai above
    "openai-tests": (
        OPENAI.replace("openai", "openai[aiohttp]"),
        "pytest==9.2.0",
        "pytest-asyncio==1.5.0",
        "rich==15.0.0",
    ),
}
"""Packages by environment."""
RUN: Mapping[str, tuple[str, ...]] = {
    "clients": ("openai", "anthropic", "langchain-openai", "pydantic-ai", "openai-agents", "llm"),
    "instructor": ("instructor",),
}
NODE: Mapping[str, tuple[str, ...]] = {
    "node": ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92", "zod@4.6.7"),
    "compatcanary": ("compatcanary@0.2.2",),
}
"""Packages by folder."""
KINDS = ("libraries", "openai-tests", "compatcanary")
PINNED = "gpt-4o-mini"
ROUTED_ENDPOINTS = frozenset(
    f"POST /v1/{path}" for path in ("chat/completions", "completions", "responses", "messages")
)
"""Elsewhere LiteLLM sends `auto` to the target of its alias."""
CASES, SDK_TESTS, CANARY = (
    Path(__file__).with_name(name) for name in ("clients_cases.py", "clients_sdk_tests.py", "clients_canary.mjs")
)
PATIENCE_S = 300
"""Each installation and each run ends by then."""
PLACE = json.dumps({"city": "Paris"})
ROUTED, FAILED_OPEN, CALL_ID = "x-embedllm-chosen", "x-embedllm-failed-open", "x-litellm-call-id"
Verdicts = dict[str, dict[str, str]]


def filled(schema: Mapping[str, Any]) -> str:
    """What fits a flat JSON schema of texts: of each field the first value it allows, else a place."""
    fields: Mapping[str, Mapping[str, Any]] = schema.get("properties") or {"city": {}}
    return json.dumps({name: about.get("enum", ["Paris"])[0] for name, about in fields.items()})


def message(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the stand-in says: it calls the first tool it is given, once, and knows one place."""
    tools, shape = body.get("tools"), body.get("response_format") or {}
    if tools and body["messages"][-1]["role"] != "tool":
        function = tools[0]["function"]
        called = {"name": function["name"], "arguments": filled(function.get("parameters") or {})}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call-1", "type": "function", "function": called}],
        }
    said = "In Paris."
    if shape.get("type") in {"json_schema", "json_object"}:
        said = filled(shape.get("json_schema", {}).get("schema", {}))
    return {"role": "assistant", "content": said}


async def answer(request: Request) -> Response:
    """A chat completion."""
    body = await request.json()
    if "refuse this" in json.dumps(body["messages"][-1]):
        return JSONResponse({"error": {"message": "refused", "type": "invalid_request_error"}}, 400)
    said = message(body)
    about = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
    finish = "tool_calls" if "tool_calls" in said else "stop"
    if not body.get("stream"):
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        choice = {"index": 0, "message": said, "finish_reason": finish}
        return JSONResponse({**about, "object": "chat.completion", "choices": [choice], "usage": usage})
    calls = [{"index": 0, **one} for one in said.pop("tool_calls", ())]
    pieces: list[dict[str, Any]] = [{"delta": said | ({"tool_calls": calls} if calls else {}), "finish_reason": None}]
    pieces.append({"delta": {}, "finish_reason": finish})
    return streamed([{**about, "object": "chat.completion.chunk", "choices": [{"index": 0, **one}]} for one in pieces])


USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}
"""Of the Responses API."""


async def responded(request: Request) -> Response:
    """An answer of the Responses API."""
    body = await request.json()
    text = {"type": "output_text", "text": "In Paris.", "annotations": []}
    item = {"id": "msg-1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    about = {"id": "resp_1", "object": "response", "created_at": 1, "model": body["model"], "status": "completed"}
    about |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "metadata": {}}
    whole = {**about, "output": [item], "usage": USAGE}
    if not body.get("stream"):
        return JSONResponse(whole)
    begun = {**about, "status": "in_progress", "output": []}
    place = {"item_id": "msg-1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_text.delta", "delta": "In Paris.", "logprobs": [], **place},
        {"type": "response.completed", "response": whole},
    ]
    return streamed([{**event, "sequence_number": number} for number, event in enumerate(events)])


async def compacted(request: Request) -> Response:
    """A compacted conversation of the Responses API."""
    await request.body()
    kind = "response.compaction"
    return JSONResponse({"id": "resp_2", "object": kind, "created_at": 1, "output": [], "usage": USAGE})


async def completed(request: Request) -> Response:
    """A completion of the older kind."""
    body = await request.json()
    about = {"id": "cmpl-1", "created": 1, "model": body["model"], "object": "text_completion"}
    choice = {"index": 0, "text": "In Paris.", "finish_reason": "stop", "logprobs": None}
    if body.get("stream"):
        return streamed([{**about, "choices": [choice]}])
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return JSONResponse({**about, "choices": [choice], "usage": usage})


def streamed(pieces: list[dict[str, Any]]) -> StreamingResponse:
    """Pieces as server-sent events."""
    lines = [*map(json.dumps, pieces), "[DONE]"]
    return StreamingResponse((f"data: {line}\n\n" for line in lines), media_type="text/event-stream")


STAND_IN = Starlette(
    routes=[
        Route("/v1/chat/completions", answer, methods=["POST"]),
        Route("/v1/completions", completed, methods=["POST"]),
        Route("/v1/responses", responded, methods=["POST"]),
        Route("/v1/responses/compact", compacted, methods=["POST"]),
    ]
)


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


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request was answered.

    Attributes:
        request: Its method and path.
        model: The LLM it named; None where it named none.
        status: HTTP status.
        headers: Headers of the answer.
    """

    request: str
    model: str | None
    status: int
    headers: httpx.Headers


Answers = dict[str, list[Answer]]


def named_in(body: bytes) -> str | None:
    """The LLM that a request's body names, if it does."""
    try:
        sent = json.loads(body)
    except ValueError:
        return None
    return sent.get("model") if isinstance(sent, dict) else None


@dataclass(slots=True)
class PassThrough:
    """Hands requests on, and notes what the answers' heads say.

    Attributes:
        to: URL of the proxy, without path.
        answers: By client and scenario, each answer.
    """

    to: str
    answers: Answers = field(default_factory=dict)
    now: str = ""

    async def begin(self, request: Request) -> Response:
        """A scenario begins."""
        self.now = f"{request.path_params['client']} {request.path_params['what']}"
        self.answers[self.now] = []
        return Response()

    async def hand_on(self, request: Request) -> Response:
        """Hands a request on and the answer back, piece by piece."""
        answers = self.answers[self.now]
        client = httpx.AsyncClient(timeout=60)
        headers = {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}}
        url = httpx.URL(f"{self.to}{request.url.path}", query=request.url.query.encode())
        body = await request.body()
        got = await client.send(client.build_request(request.method, url, headers=headers, content=body), stream=True)
        answers.append(Answer(f"{request.method} {request.url.path}", named_in(body), got.status_code, got.headers))

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in got.aiter_raw():
                    yield piece
            finally:  # a client may leave in the middle
                await got.aclose()
                await client.aclose()

        kept = {
            name: value for name, value in got.headers.items() if name not in {"transfer-encoding", "content-length"}
        }
        return StreamingResponse(pieces(), got.status_code, kept)

    @property
    def app(self) -> Starlette:
        """As an application."""
        begin = Route("/begin/{client}/{what:path}", self.begin)
        return Starlette(routes=[begin, Route("/{path:path}", self.hand_on, methods=["GET", "POST", "DELETE"])])


def configuration() -> dict[str, Any]:
    """Two LLMs of the shipped weights behind `auto`."""

    def row(name: str, llm: str) -> dict[str, Any]:
        # Of openai/… LiteLLM asks the Responses endpoint when Anthropic messages come, which the stand-in has not.
        params = {"model": f"hosted_vllm/{llm}", "api_key": "simulated", "api_base": "os.environ/UPSTREAM_API_BASE"}
        prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}
        return {"model_name": name, "litellm_params": params | prices, "model_info": {"embedllm": llm}}

    return {
        "model_list": [row(PINNED, "gpt-4o-mini-2024-07-18"), row("gpt-4o", "gpt-4o-2024-08-06")],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True, "model_group_alias": {"auto": PINNED}},
        # What an LLM does not take is left out, as else nobody could answer requests with every parameter there is.
        "litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"], "drop_params": True},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "callback_settings": {"embedllm_router": {"virtual_models": {"auto": {"default": PINNED}}}},
    }


@dataclass(frozen=True, slots=True)
class Source:
    """A program that runs scenarios.

    Attributes:
        command: The program; base URL and model follow.
        more: Arguments after them.
        folder: Where it runs.
    """

    command: tuple[str, ...]
    more: tuple[str, ...]
    folder: Path


def installed(folder: Path, kinds: Collection[str]) -> list[Source]:
    """Installs what runs scenarios of some kinds; what is there already stays."""
    sources = []
    if "libraries" in kinds:
        for name, clients in RUN.items():
            sources.append(Source((str(python(folder, name)), str(CASES)), clients, folder))
    if "openai-tests" in kinds:
        with_pytest = python(folder, "openai-tests")
        sdist = str(sdk_sources(folder, with_pytest))
        sources.append(Source((str(with_pytest), str(SDK_TESTS)), (sdist,), folder))
    scripts = {"libraries": ("node", CASES.with_suffix(".mjs")), "compatcanary": ("compatcanary", CANARY)}
    for name, script in (about for kind, about in scripts.items() if kind in kinds):
        npm, node = shutil.which("npm"), shutil.which("node")
        if npm is None or node is None:
            sys.stderr.write(f"npm or node is not installed: {' '.join(NODE[name])} left out\n")
            continue
        if not (folder / name / "node_modules").exists():
            (folder / name).mkdir(parents=True, exist_ok=True)
            install = [npm, "install", "--silent", "--no-fund", "--no-audit", *NODE[name]]
            subprocess.run(install, cwd=folder / name, check=True, timeout=PATIENCE_S)
        sources.append(Source((node, str(script)), (), folder / name))
    return sources


def python(folder: Path, name: str) -> Path:
    """The Python of an environment, which is made where it is not there."""
    program = folder / name / "bin" / "python"
    if not program.exists():
        venv.create(folder / name, with_pip=True)
        install = [str(program), "-m", "pip", "install", "--quiet", *PYTHONS[name]]
        subprocess.run(install, check=True, timeout=PATIENCE_S)
    return program


def sdk_sources(folder: Path, program: Path) -> Path:
    """The folder with the sources of OpenAI's SDK, whose tests no wheel has."""
    sources = folder / OPENAI.replace("==", "-")
    if not sources.exists():
        get = [
            str(program),
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary=openai",
            f"--dest={folder}",
            OPENAI,
        ]
        subprocess.run(get, check=True, timeout=PATIENCE_S)
        with tarfile.open(f"{sources}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return sources


def seen(sources: list[Source], folder: Path, url: str, key: str, model: str) -> Verdicts:
    """What every client makes of every scenario."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"API_KEY": key, "BEGIN_URL": f"{url}/begin", "LLM_USER_PATH": str(folder / "llm")}
    found: Verdicts = {}
    for source in sources:
        command = [*source.command, f"{url}/v1", model, *source.more]
        done = subprocess.run(
            command, cwd=source.folder, env=environment, stdout=subprocess.PIPE, check=True, timeout=PATIENCE_S
        )
        found |= json.loads(done.stdout)
    return found


def decided_in(log: Path) -> set[str]:
    """The call ids of the requests that were routed, by the proxy's log."""
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"')]
    return {one["request_id"] for one in events if one.get("event") == "routing.decided"}


def why_not_routed(one: Answer, decided: Collection[str]) -> str | None:
    """Why a request for `auto` was not routed; None where it was, or where its endpoint is not routed."""
    by_log = one.status >= httpx.codes.BAD_REQUEST and one.headers.get(CALL_ID) in decided
    if FAILED_OPEN in one.headers:
        return one.headers[FAILED_OPEN]
    if one.request not in ROUTED_ENDPOINTS or ROUTED in one.headers or by_log:
        return None
    return f"{one.request} was answered with {one.status} and no sign of the router"


def not_routed(pinned: Answers, auto: Answers, decided: Collection[str]) -> dict[str, str]:
    """Why a scenario was not routed, of those that were not."""
    wrong = {}
    for scenario, answers in auto.items():
        n, expected = n_naming("auto", answers), n_naming(PINNED, pinned.get(scenario, ()))
        if n != expected:
            wrong[scenario] = f"{n} requests for auto, {expected} for {PINNED}"
        for one in answers:
            if one.model == "auto" and (reason := why_not_routed(one, decided)) is not None:
                wrong[scenario] = reason
    return wrong


def asked(answers: Answers) -> list[Answer]:
    """The answers to requests for `auto`."""
    return [one for those in answers.values() for one in those if one.model == "auto"]


def n_naming(model: str, answers: Iterable[Answer]) -> int:
    """Requests that named an LLM."""
    return sum(one.model == model for one in answers)


def main() -> int:
    """Compares, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where clients are installed, and kept; without it in a temporary one"
    )
    parser.add_argument(
        "--only", choices=KINDS, action="append", help="what is compared; without it all; may be repeated"
    )
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="embedllm-clients-") as name,
        served(STAND_IN) as upstream,
    ):
        folder, file = (given.folder or Path(name)).resolve(), Path(name) / "proxy_config.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        sources = installed(folder, given.only or KINDS)
        file.write_text(yaml.safe_dump(configuration()), encoding="utf-8")
        with running_proxy(file, environment={"UPSTREAM_API_BASE": f"{upstream}/v1"}) as proxy:
            between = PassThrough(proxy.base_url.removesuffix("/v1"))
            with served(between.app) as url:
                pinned, with_pinned = seen(sources, folder, url, proxy.api_key, PINNED), between.answers
                between.answers = {}
                auto = seen(sources, folder, url, proxy.api_key, "auto")
            time.sleep(1)  # the last line of the log
            wrong = not_routed(with_pinned, between.answers, decided_in(proxy.log))
    found = compared(pinned, auto, wrong)
    sys.stdout.write("".join(f"{row}\n" for row in table(found)))
    differing = [f"{one.client} {one.what}" for one in found if one.auto != one.pinned]
    by_endpoint = Counter(one.request for one in asked(between.answers))
    summary = {"scenarios": len(found), "differing": differing, "not_routed": wrong, "requests_for_auto": by_endpoint}
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0 if found and not differing and not wrong else 1


@dataclass(frozen=True, slots=True)
class Compared:
    """One scenario, with the pinned LLM and with `auto`.

    Attributes:
        client: Whose it is.
        what: Its name.
        pinned: What the client made of the pinned LLM's answer.
        auto: What it made of the answer to `auto`.
        not_routed: Why its requests were not routed; None where they were.
    """

    client: str
    what: str
    pinned: str
    auto: str
    not_routed: str | None

    @property
    def word(self) -> str:
        """The comparison in a word."""
        return "DIFFERS" if self.auto != self.pinned else "NOT ROUTED" if self.not_routed else "same"


def compared(pinned: Verdicts, auto: Verdicts, wrong: Mapping[str, str]) -> list[Compared]:
    """Every scenario that ran with either."""
    missing = "did not run"
    return [
        Compared(
            client,
            what,
            pinned.get(client, {}).get(what, missing),
            auto.get(client, {}).get(what, missing),
            wrong.get(f"{client} {what}"),
        )
        for client in dict.fromkeys([*pinned, *auto])
        for what in dict.fromkeys([*pinned.get(client, {}), *auto.get(client, {})])
    ]


def table(found: Iterable[Compared]) -> Iterator[str]:
    """One row for each scenario; tests that went alike share one by file and outcome, with the names of what failed."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        file, colons, test = one.what.partition("::")
        if one.word == "same" and colons:
            name = test.rpartition("::")[2].partition("[")[0]
            alike.setdefault((one.client, file, one.pinned), []).append(name.removeprefix("test_"))
            continue
        more = one.pinned if one.word == "same" else f"{one.pinned}  |  auto: {one.not_routed or one.auto}"
        yield f"{one.client:18}{one.what:28}{one.word:12}{more[:120]}"
    for (client, file, verdict), names in sorted(alike.items()):
        which = "" if verdict == "passed" else f": {', '.join(dict.fromkeys(names))}"
        yield f"{client:18}{file:28}{'same':12}{len(names)} {verdict}{which}"


if __name__ == "__main__":
    sys.exit(main())
