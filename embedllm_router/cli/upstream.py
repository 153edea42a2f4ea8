"""A local OpenAI-compatible server that stands in for paid LLMs. It calls no LLM, and every answer says so.

It speaks chat completions, Responses and completions, whole and streamed, and can be set to fail for some LLMs and to
make up the scores of a judge.
"""

import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["create_app"]

_CHARS_PER_TOKEN = 4
Json = dict[str, object]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Answer:
    id: str
    created: int
    model: str
    text: str
    input_tokens: int

    @property
    def output_tokens(self) -> int:
        return -(-len(self.text) // _CHARS_PER_TOKEN)

    @property
    def pieces(self) -> list[str]:
        return [word + " " for word in self.text.split()]


Render = Callable[[_Answer], Json]
Stream = Callable[[_Answer, Mapping[str, object]], Iterator[Json]]


def create_app(failures: Mapping[str, int] | None = None, *, scores: bool = False) -> Starlette:
    """Builds the server.

    Args:
        failures: HTTP status by LLM name, for LLMs that shall fail every request.
        scores: Whether a judge's question is answered with scores, which are made up.

    Returns:
        An ASGI application.
    """
    failing = dict(failures or {})

    def endpoint(whole: Render, streamed: Stream) -> Endpoint:
        async def answer(request: Request) -> Response:
            body = await request.json()
            model = str(body.get("model"))
            if model in failing:
                return _failure(model, failing[model])
            answer = _answer(model, body, (_scores(body) if scores else None) or _said_by(model))
            if body.get("stream"):
                return StreamingResponse(_events(streamed(answer, body)), media_type="text/event-stream")
            return JSONResponse(whole(answer))

        return answer

    return Starlette(
        routes=[
            Route("/v1/chat/completions", endpoint(_chat, _chat_stream), methods=["POST"]),
            Route("/v1/completions", endpoint(_completion, _completion_stream), methods=["POST"]),
            Route("/v1/responses", endpoint(_response, _response_stream), methods=["POST"]),
            Route("/health", _health, methods=["GET"]),
        ]
    )


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok", "what": "simulated LLMs"})


def _failure(model: str, status: int) -> Response:
    error = {
        "message": f"simulated failure of {model}",
        "type": "simulated",
        "param": None,
        "code": str(status),
    }
    return JSONResponse({"error": error}, status_code=status)


def _said_by(model: str) -> str:
    return f"This is a simulated answer in the name of {model}; no LLM was called."


def _scores(body: Mapping[str, object]) -> str | None:
    """Scores of the answers that judged evaluation shows a judge, by a hash of task and answer; None for others."""
    try:
        case = json.loads(_last_content(body))
    except json.JSONDecodeError:
        return None
    if not (isinstance(case, dict) and isinstance(case.get("answers"), dict) and "task" in case):
        return None
    task = json.dumps(case["task"])
    return json.dumps({letter: _score(task, str(answer)) for letter, answer in case["answers"].items()})


def _last_content(body: Mapping[str, object]) -> str:
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return str(last.get("content")) if isinstance(last, dict) else ""


def _score(task: str, answer: str) -> float:
    return round(hashlib.sha256(f"{task}\n{answer}".encode()).digest()[0] / 255, 1)


def _answer(model: str, body: Mapping[str, object], text: str) -> _Answer:
    prompt = body.get("messages") or body.get("input") or body.get("prompt") or ""
    n_chars = len(json.dumps(prompt))
    return _Answer(
        id=uuid.uuid4().hex,
        created=int(time.time()),
        model=model,
        text=text,
        input_tokens=-(-n_chars // _CHARS_PER_TOKEN),
    )


def _usage(answer: _Answer) -> Json:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }


def _chat(answer: _Answer) -> Json:
    message = {"role": "assistant", "content": answer.text}
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(answer),
    }


def _chat_stream(answer: _Answer, body: Mapping[str, object]) -> Iterator[Json]:
    head: Json = {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
    }

    def chunk(delta: Json, finish_reason: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in answer.pieces:
        yield chunk({"content": piece})
    yield chunk({}, "stop")
    if _wants_usage(body):
        yield {**head, "choices": [], "usage": _usage(answer)}


def _completion(answer: _Answer) -> Json:
    return {
        "id": f"cmpl-{answer.id}",
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [{"index": 0, "text": answer.text, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(answer),
    }


def _completion_stream(answer: _Answer, body: Mapping[str, object]) -> Iterator[Json]:
    head: Json = {
        "id": f"cmpl-{answer.id}",
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
    }
    for piece in answer.pieces:
        choice = {"index": 0, "text": piece, "logprobs": None, "finish_reason": None}
        yield {**head, "choices": [choice]}
    yield {**head, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]}
    if _wants_usage(body):
        yield {**head, "choices": [], "usage": _usage(answer)}


def _response(answer: _Answer, status: str = "completed") -> Json:
    done = status == "completed"
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "model": answer.model,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [_message(answer, answer.text, "completed")] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done else None,
    }


def _message(answer: _Answer, text: str, status: str) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    return {
        "type": "message",
        "id": f"msg_{answer.id}",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _response_stream(answer: _Answer, body: Mapping[str, object]) -> Iterator[Json]:
    del body
    part = {"item_id": f"msg_{answer.id}", "output_index": 0, "content_index": 0}

    def events() -> Iterator[Json]:
        yield {"type": "response.created", "response": _response(answer, "in_progress")}
        item = _message(answer, "", "in_progress")
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        empty = {"type": "output_text", "text": "", "annotations": []}
        yield {"type": "response.content_part.added", **part, "part": empty}
        for piece in answer.pieces:
            yield {"type": "response.output_text.delta", **part, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **part, "text": answer.text, "logprobs": []}
        yield {"type": "response.content_part.done", **part, "part": {**empty, "text": answer.text}}
        whole = _message(answer, answer.text, "completed")
        yield {"type": "response.output_item.done", "output_index": 0, "item": whole}
        yield {"type": "response.completed", "response": _response(answer)}

    for number, event in enumerate(events()):
        yield {**event, "sequence_number": number}


def _wants_usage(body: Mapping[str, object]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


async def _events(chunks: Iterator[Json]) -> AsyncIterator[str]:
    for chunk in chunks:
        name = f"event: {chunk['type']}\n" if "type" in chunk else ""
        yield f"{name}data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"
