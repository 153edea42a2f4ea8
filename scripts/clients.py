"""Whether clients see the same with `model="auto"` as with a pinned LLM: `.venv/bin/python scripts/clients.py`.

Installs the clients, at the releases below, into a Python of their own in a temporary folder, and runs the scenarios of
clients_cases.py twice against the real proxy in front of a stand-in for an LLM. Prints a table, then one line of JSON;
ends with 1 where a verdict differs. `--python PATH` takes a Python that has the clients already.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from embedllm_router.cli.demo import running_proxy

CLIENTS = (
    "openai==3.57.0",
    "anthropic==2.14.0",
    "langchain-openai==1.7.4",
    "pydantic-ai-slim[openai]==2.68.0",
    "openai-agents==0.24.0",
)
PINNED = "gpt-4o-mini"
CASES = Path(__file__).with_name("clients_cases.py")
PLACE = json.dumps({"city": "Paris"})


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
def stand_in() -> Iterator[str]:
    """Runs it on a free port of 127.0.0.1; yields its base URL."""
    app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(10)


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


def installed(folder: Path) -> str:
    """A Python of its own with the clients."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *CLIENTS], check=True)
    return python


def seen(python: str, base_url: str, key: str, model: str) -> dict[str, dict[str, str]]:
    """What every client makes of every scenario."""
    command = [python, str(CASES), base_url, model]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"API_KEY": key}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def main() -> int:
    """Compares, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="a Python that has the clients; without it they are installed")
    given = parser.parse_args().python
    with tempfile.TemporaryDirectory(prefix="embedllm-clients-") as name, stand_in() as upstream:
        folder = Path(name)
        python = given or installed(folder / "venv")
        file = folder / "proxy_config.yaml"
        file.write_text(yaml.safe_dump(configuration()), encoding="utf-8")
        with running_proxy(file, environment={"UPSTREAM_API_BASE": upstream}) as proxy:
            pinned, auto = (seen(python, proxy.base_url, proxy.api_key, model) for model in (PINNED, "auto"))
    differing = []
    for client, cases in pinned.items():
        for what, verdict in cases.items():
            same = auto[client][what] == verdict
            differing += [] if same else [f"{client} {what}"]
            shown = verdict if same else f"{verdict}  |  auto: {auto[client][what]}"
            sys.stdout.write(f"{client:18}{what:12}{'same' if same else 'DIFFERS':9}{shown[:90]}\n")
    sys.stdout.write(json.dumps({"scenarios": sum(map(len, pinned.values())), "differing": differing}) + "\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
