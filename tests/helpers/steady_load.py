"""Clients that keep asking through the OpenAI SDK, what stands in for the LLMs, and the account of every request."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from fleet import Death
from local_server import served
from openai import APIConnectionError, APIStatusError, AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from waiting import until

__all__ = ["Account", "Asked", "Load", "StandIn", "account", "await_records", "load", "stand_in"]

_MOST_REQUESTS = 20_000
_PIECES, _PIECE_S = 5, 0.06
"""A streamed answer takes a third of a second, and so does a whole one."""
_LOST_WITHIN_S = 2.5
"""What SIGKILL may cost: records of `store.flush_s` (1 s), and what LiteLLM has not yet reported on a busy machine."""


@dataclass(slots=True)
class StandIn:
    """Stands in for the LLMs.

    Attributes:
        asked: How often it was asked for each request, which is how often that was billed.
    """

    asked: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        name = str(body["messages"][-1]["content"]).split()[-1]
        self.asked[name] += 1
        about: dict[str, Any] = {"id": f"chatcmpl-{name}", "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 9, "completion_tokens": _PIECES, "total_tokens": 9 + _PIECES}
        if body.get("stream"):
            return StreamingResponse(_pieces(name, about, usage), media_type="text/event-stream")
        await asyncio.sleep(_PIECES * _PIECE_S)
        message = {"role": "assistant", "content": _text(name)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({**about, "object": "chat.completion", "choices": [choice], "usage": usage})


def _text(name: str) -> str:
    return f"{name} " * _PIECES


async def _pieces(name: str, about: Mapping[str, Any], usage: Mapping[str, int]) -> AsyncIterator[str]:
    head = {**about, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"content": f"{name} "}] * _PIECES
    for delta, finish in [*((delta, None) for delta in deltas), ({}, "stop")]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
        await asyncio.sleep(_PIECE_S)
    yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


@contextmanager
def stand_in() -> Iterator[tuple[str, StandIn]]:
    """Runs it in a thread; yields its base URL."""
    llms = StandIn()
    routes = [Route("/v1/chat/completions", llms.answer, methods=["POST"])]
    with served(Starlette(routes=routes)) as url:
        yield url, llms


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and what the client saw.

    Attributes:
        id: Chosen by the client, and the record's.
        began: On the monotonic clock.
        ended: Likewise.
        error: Class of the error and what it said; None for a whole answer.
    """

    id: str
    began: float
    ended: float
    error: str | None

    @property
    def answered(self) -> bool:
        return self.error is None


class Load:
    """Clients in a thread, each with one request at a time; every second one is streamed.

    Args:
        base_url: Where they ask, with `/v1`.
        key: With which key.
        n_clients: How many.
    """

    def __init__(self, base_url: str, key: str, *, n_clients: int) -> None:
        self._base_url, self._key, self._n_clients = base_url, key, n_clients
        self.asked: list[Asked] = []
        self._stop = threading.Event()
        self._numbers = count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Lets every request under way end, at most a minute."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a request did not end"

    def await_answers(self, n: int, within_s: float = 30.0) -> None:
        """Waits for so many more answers."""
        wanted = sum(one.answered for one in self.asked) + n
        deadline = time.monotonic() + within_s
        while sum(one.answered for one in self.asked) < wanted:
            assert time.monotonic() < deadline, f"fewer than {n} answers within {within_s:.0f} s: {self.asked[-3:]}"
            time.sleep(0.05)

    async def _run(self) -> None:
        # No connection is kept: nginx closes idle ones when it reloads, which the SDK, without tries, would report.
        async with (
            httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), timeout=40) as http,
            AsyncOpenAI(base_url=self._base_url, api_key=self._key, max_retries=0, http_client=http) as client,
        ):
            await asyncio.gather(*(self._keep_asking(client) for _ in range(self._n_clients)))

    async def _keep_asking(self, client: AsyncOpenAI) -> None:
        while not self._stop.is_set() and (number := next(self._numbers)) < _MOST_REQUESTS:
            name, began = f"request-{number}", time.monotonic()
            error = await _ask(client, name, streamed=number % 2 == 1)
            self.asked.append(Asked(name, began, time.monotonic(), error))
            await asyncio.sleep(0.1 if error else 0.01)


async def _ask(client: AsyncOpenAI, name: str, *, streamed: bool) -> str | None:
    """Asks once; what went wrong, or None."""
    said: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": f"hello {name}"}]}
    headers = {"x-litellm-call-id": name}
    try:
        if streamed:
            stream = await client.chat.completions.create(**said, stream=True, extra_headers=headers)
            text, finish = "", None
            async for chunk in stream:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
        else:
            answer = await client.chat.completions.create(**said, extra_headers=headers)
            text, finish = answer.choices[0].message.content or "", answer.choices[0].finish_reason
    except (APIStatusError, APIConnectionError, httpx.TransportError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None if (text, finish) == (_text(name), "stop") else f"cut off: {text!r}, {finish}"


@contextmanager
def load(base_url: str, key: str, *, n_clients: int) -> Iterator[Load]:
    """Keeps asking meanwhile."""
    clients = Load(base_url, key, n_clients=n_clients)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()


def await_records(
    clients: Load, records: Callable[[], Mapping[str, object]], deaths: Sequence[Death] = (), within_s: float = 60.0
) -> None:
    """Waits until everything is recorded that was answered up to now, as it is once a database is back.

    Args:
        clients: Who asked.
        records: What is recorded now, by request.
        deaths: Who was killed; what ended just before is not waited for.
        within_s: How long at most.
    """
    waited_for = {
        one.id
        for one in clients.asked
        if one.answered and not any(0 <= death.at - one.ended <= _LOST_WITHIN_S for death in deaths if death.abrupt)
    }
    until(lambda: True if waited_for <= records().keys() else None, within_s)


@dataclass(frozen=True, slots=True)
class Account:
    """Every request and every record accounted for; what stands under `wrong` must be empty.

    Attributes:
        answered: Requests with a whole answer.
        failed: Requests that failed while a proxy was killed.
        refused: Requests that failed while a proxy was told to end that nginx had not been told of.
        recorded: Requests with one record.
        lost: Answered requests without a record, all of them answered by a proxy just before it was killed.
        wrong: Sentences about what may not happen.
    """

    answered: int
    failed: int
    refused: int
    recorded: int
    lost: int
    wrong: tuple[str, ...]


def account(
    asked: Sequence[Asked],
    records: Mapping[str, Sequence[object]],
    billed: Mapping[str, int],
    log: Path,
    deaths: Sequence[Death],
) -> Account:
    """Compares what clients saw, what is recorded, what was billed, and which proxies were killed.

    Args:
        asked: Every request.
        records: The records of each request.
        billed: How often an LLM was asked for each.
        log: nginx's.
        deaths: Which proxies were ended while they were asked, and when.
    """
    by_proxy = {one["request_id"]: one["proxy"].split(", ")[-1] for one in _lines(log)}
    failed = [one for one in asked if not one.answered]
    lost = [one for one in asked if one.answered and one.id not in records]
    wrong = [f"{one} failed while no proxy was killed" for one in failed if not _killed_during(one, deaths)]
    wrong += [f"{one} has no record" for one in lost if not _killed_after(one, by_proxy.get(one.id), deaths)]
    wrong += [f"{name} has {len(rows)} records" for name, rows in records.items() if len(rows) != 1]
    wrong += [f"{name} was billed {n} times" for name, n in billed.items() if n != 1]
    wrong += [f"{one} was answered by nobody" for one in asked if one.answered and one.id not in billed]
    wrong += [f"nobody asked {name}" for name in records if name not in {one.id for one in asked}]
    dead = {death.proxy for death in deaths}
    wrong += [
        f"nginx: {one}" for one in _lines(log) if one["status"] >= 500 and one["proxy"].split(", ")[-1] not in dead
    ]
    killed = [one for one in failed if _killed_during(one, [death for death in deaths if death.abrupt])]
    return Account(
        answered=len(asked) - len(failed),
        failed=len(killed),
        refused=len(failed) - len(killed),
        recorded=len(records),
        lost=len(lost),
        wrong=tuple(wrong),
    )


def _killed_during(one: Asked, deaths: Sequence[Death]) -> bool:
    return any(one.began <= death.at + 0.5 and one.ended >= death.at for death in deaths)


def _killed_after(one: Asked, proxy: str | None, deaths: Sequence[Death]) -> bool:
    return any(
        death.abrupt and proxy == death.proxy and 0 <= death.at - one.ended <= _LOST_WITHIN_S for death in deaths
    )


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]
