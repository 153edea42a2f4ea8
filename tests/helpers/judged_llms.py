"""LLMs that a judge can tell apart, and the judge: a local OpenAI-compatible server that calls no LLM.

`wizard` answers right, `acme-fast` only on chat, `broken` never. The judge knows which answers are right, prefers the
first of equal ones, and talks nonsense where the conversation says so. `hanging` judges alike, once it is released.
"""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from local_server import served
from planted import SPRINTER, WIZARD
from proxied import deployment, planted_config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["HANGING", "JUDGE", "Asked", "judged_config", "judged_llms"]

Json = dict[str, Any]
RIGHT, WRONG = "That is right.", "That is wrong."
JUDGE, HANGING = "umpire", "hanging"
_USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


@dataclass
class Asked:
    """What came in: the LLM and the body of each request; and whether the judge that hangs answers by now."""

    bodies: list[Json] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def of(self, model: str, words: str) -> list[Json]:
        """What an LLM was sent about a prompt with these words."""
        return [one for one in self.bodies if one["model"] == model and words in json.dumps(one["messages"])]

    async def answer(self, request: Request) -> Response:
        """Answers one request."""
        body = await request.json()
        self.bodies.append(body)
        if body["model"] == "broken":
            return JSONResponse({"error": {"message": "simulated failure"}}, 500)
        if body["model"] == HANGING:
            await self._release(within_s=60.0)
        text = _text(body)
        head = {"id": f"chatcmpl-{len(self.bodies)}", "created": 1, "model": body["model"]}
        if body.get("stream"):
            return StreamingResponse(_events(head, text), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": _USAGE})

    async def _release(self, within_s: float) -> None:
        for _ in range(int(within_s / 0.02)):
            if self.released.is_set():
                return
            await asyncio.sleep(0.02)


def _text(body: Json) -> str:
    prompt = str(body["messages"][-1]["content"])
    if body["model"] in {JUDGE, HANGING}:
        return _verdict(json.loads(prompt))
    return RIGHT if body["model"] == WIZARD or "hello" in prompt else WRONG


def _verdict(case: Json) -> str:
    if "nonsense" in json.dumps(case["task"]):
        return "I like the first one best."
    scores = {letter: 0.9 if answer == RIGHT else 0.1 for letter, answer in case["answers"].items()}
    if len(set(scores.values())) == 1:  # it prefers a place
        scores["A"] += 0.05
    return json.dumps(scores)


def _events(head: Json, text: str) -> Iterator[str]:
    pieces = [*re.findall(r"\S+\s*", text), ""]
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        choice = {"index": 0, "delta": {} if last else {"content": piece}, "finish_reason": "stop" if last else None}
        chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        yield f"data: {json.dumps(chunk | ({'usage': _USAGE} if last else {}))}\n\n"
    yield "data: [DONE]\n\n"


@contextmanager
def judged_llms() -> Iterator[tuple[str, Asked]]:
    """Runs the server on a free port of 127.0.0.1; yields its base URL and what it was asked."""
    asked = Asked()
    app = Starlette(routes=[Route("/v1/chat/completions", asked.answer, methods=["POST"])])
    with served(app) as url:
        yield url, asked


def judged_config(artifact: Any, records: Any) -> Json:
    """A proxy whose virtual models are judged in different ways; the sprinter answers all but `auto-best`."""
    config = planted_config(artifact)
    config["model_list"] += [
        deployment(JUDGE, JUDGE, (1.0, 4.0)),
        deployment(HANGING, HANGING, (1.0, 4.0)),
        deployment("broken", "broken", (0.2, 0.7), embedllm=SPRINTER),
        deployment("unpriced", "unpriced", None),
    ]
    config["model_list"][1]["model_info"]["embedllm_labels"] = ["vetted"]  # the sprinter
    config["general_settings"]["custom_auth"] = "proxy_keys.user_api_key_auth"
    config["router_settings"] |= {"allowed_fails": 0, "cooldown_time": 600}
    judging = {"share": 1, "usd_per_day": 5.0, "judges": [JUDGE], "candidates": 1, "doubles": 0}
    two = {"default": "sprinter", "cost_weight": 1000, "candidates": ["wizard", "sprinter"]}
    section = config["callback_settings"]["embedllm_router"]
    section["store"] = {"path": str(records), "flush_s": 0.1, "embedding": True}
    section["virtual_models"] = {
        "auto": {**two, "judging": judging},
        "auto-off": two,
        "auto-best": {
            **two,
            "default": "wizard",
            "cost_weight": 0,
            "judging": {**judging, "judges": ["wizard", JUDGE]},
        },
        "auto-doubles": {**two, "judging": {**judging, "doubles": 1}},
        "auto-poor": {**two, "judging": {**judging, "usd_per_day": 1e-6}},
        "auto-broken": {**two, "candidates": ["sprinter", "broken"], "judging": judging},
        "auto-vain": {**two, "judging": {**judging, "judges": ["broken"]}},
        "auto-strict": {**two, "labels": ["vetted"], "judging": judging},
        "auto-late": {**two, "judging": {**judging, "judges": [HANGING], "timeout_s": 2}},
        "auto-hanging": {**two, "judging": {**judging, "judges": [HANGING], "timeout_s": 600}},
        "auto-own": {**two, "access": "enforce", "judging": judging},
        "auto-misjudged": {**two, "judging": {**judging, "judges": ["umpyre", "unpriced"]}},
    }
    return config
