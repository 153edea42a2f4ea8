"""A local OpenAI-compatible stand-in for paid LLMs that keeps a ledger of what it bills, and fails as providers do.

It calls no LLM. How well each of its LLMs does is planted: it is told the right answers, and gives them with a
probability that depends on the LLM and on the difficulty of the question. Failures come in turn: a share of the
requests is refused with 429 or 500, never answered, or cut off in the middle.
"""

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from local_server import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["PaidLLM", "StandIn", "paid_llms"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PaidLLM:
    """One simulated LLM.

    Attributes:
        ability: Log-odds of a right answer to a question of difficulty 0.
        input_usd: Of a token. So is the next one.
        output_usd: Of a token.
        tokens: Of an answer.
    """

    ability: float
    input_usd: float = 1e-6
    output_usd: float = 4e-6
    tokens: int = 40


@dataclass(slots=True)
class StandIn:
    """What the stand-in answers and bills.

    Attributes:
        llms: By name; at a reasoning effort that a request sets as "name:effort".
        key: Right answer and difficulty, by what a question ends in.
        failures: Share of requests by kind: "429", "500", "hang", "cut", "empty", "long".
        latency_s: Of an answer.
        hang_s: How long a request that hangs is kept.
        bills: USD by LLM of answers that were sent whole.
        asked: How often each LLM gave a whole answer to each question.
        billed: USD of these, by LLM and question.
        cut_usd: USD of answers that were cut off.
        n_requests: All requests.
        bodies: Of all requests.
        broken: LLMs that answer every request with 500.
        reply_of: Says something else than the planted answer; None where it does not.
    """

    llms: Mapping[str, PaidLLM]
    key: Mapping[str, tuple[str, float]]
    failures: Mapping[str, float] = field(default_factory=dict)
    latency_s: float = 0.0
    hang_s: float = 30.0
    bills: dict[str, float] = field(default_factory=dict)
    asked: dict[tuple[str, str], int] = field(default_factory=dict)
    billed: dict[tuple[str, str], float] = field(default_factory=dict)
    cut_usd: float = 0.0
    n_requests: int = 0
    bodies: list[Json] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    reply_of: Callable[[str, Json], str | None] = lambda *_: None
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def app(self) -> Starlette:
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/ledger", self._ledger, methods=["GET"]),
        ]
        return Starlette(routes=routes)

    async def _ledger(self, _request: Request) -> Response:
        asked = [[llm, question, n] for (llm, question), n in self.asked.items()]
        ledger = {"bills": self.bills, "cut_usd": self.cut_usd, "n_requests": self.n_requests, "asked": asked}
        return JSONResponse(ledger)

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.n_requests += 1
        self.bodies.append(body)
        failure = "500" if body["model"] in self.broken else self._drawn()
        if failure == "429":
            return JSONResponse({"error": {"message": "slow down"}}, 429, headers={"retry-after": "0.05"})
        if failure == "500":
            return JSONResponse({"error": {"message": "simulated failure"}}, 500)
        if failure == "hang":
            await asyncio.sleep(self.hang_s)
            return JSONResponse({"error": {"message": "too late"}}, 503)
        await asyncio.sleep(self.latency_s)
        return self._answered(body, failure)

    def _drawn(self) -> str | None:
        drawn = self.dice.random()
        for kind, share in self.failures.items():
            if drawn < share:
                return kind
            drawn -= share
        return None

    def _answered(self, body: Json, failure: str | None) -> Response:
        effort = body.get("reasoning_effort")
        name = str(body["model"]) if effort is None else f"{body['model']}:{effort}"
        question = str(body["messages"][-1]["content"])
        content = json.dumps(self._completion(name, question, failure, self.reply_of(name, body))).encode()
        usd = self._bill(name, question, failure)
        if failure == "cut":
            self.cut_usd += usd
            return StreamingResponse(_cut(content), headers={"content-length": str(len(content))})
        self.bills[name] = self.bills.get(name, 0.0) + usd
        self.billed[name, question] = self.billed.get((name, question), 0.0) + usd
        self.asked[name, question] = self.asked.get((name, question), 0) + 1
        return Response(content, media_type="application/json")

    def _bill(self, name: str, question: str, failure: str | None) -> float:
        llm, (n_in, n_out) = self.llms[name], self._usage(name, question, failure)
        return n_in * llm.input_usd + n_out * llm.output_usd

    def _usage(self, name: str, question: str, failure: str | None) -> tuple[int, int]:
        return -(-len(question) // 4), 0 if failure == "empty" else self.llms[name].tokens

    def _completion(self, name: str, question: str, failure: str | None, said: str | None) -> Json:
        n_in, n_out = self._usage(name, question, failure)
        finish = "length" if failure == "long" else "stop"
        text = "" if failure == "empty" else said or self._text(name, question)
        return {
            "id": f"chatcmpl-{self.n_requests}",
            "object": "chat.completion",
            "created": 1,
            "model": name,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": {"prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out},
        }

    def _text(self, name: str, question: str) -> str:
        right, difficulty = self.key.get(question, ("?", 0.0))
        p = 1 / (1 + math.exp(difficulty - self.llms[name].ability))
        drawn = random.Random(f"{name}|{question}").random()
        return f"Simulated; no LLM was called.\nAnswer: {right if drawn < p else '0'}"


async def _cut(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    await asyncio.sleep(0)
    raise ConnectionResetError  # the connection is closed before the announced length


@contextmanager
def paid_llms(stand_in: StandIn) -> Iterator[str]:
    """Runs a stand-in on a free port of 127.0.0.1; yields its base URL."""
    with served(stand_in.app()) as url:
        yield url
