"""`POST /embedllm/feedback`: feedback on answers, from those who asked for them and from administrators."""

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import from_json

from embedllm_router.errors import EmbedLLMRouterError
from embedllm_router.records.feedback import THUMB_SCORES
from embedllm_router.records.owners import USER, Giver, Owners
from embedllm_router.records.schema import LONGEST_ID, FeedbackRecord

__all__ = ["MOST_AT_ONCE", "PATH", "feedback_router", "replay"]

PATH: Final = "/embedllm/feedback"
MOST_AT_ONCE: Final = 1000
"""Verdicts in one request."""

_MOST_BYTES: Final = 1_000_000
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _UNAVAILABLE, _ACCEPTED = 400, 403, 404, 413, 503, 202
_AGAIN_S: Final = 10
_NOT_KEPT: Final = "no records are kept here, so no feedback either: set store.enabled. Nothing was stored."
_SHOWN_PROBLEMS: Final = 5
_SHOWN_ID: Final = 80


class _Verdict(BaseModel):
    """What a client sends; anything beside is refused, so that no prompt text gets in by mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: str = Field(min_length=1, max_length=LONGEST_ID)
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    thumb: Literal["up", "down"] | None = None
    source: str = Field(default=USER, min_length=1, max_length=64)

    @model_validator(mode="after")
    def _says_one_thing(self) -> "_Verdict":
        if (self.score is None) == (self.thumb is None):
            raise ValueError("send either score or thumb")
        return self

    def record(self, at: datetime, key_alias: str | None) -> FeedbackRecord:
        score = self.score if self.thumb is None else THUMB_SCORES[self.thumb]
        assert score is not None
        return FeedbackRecord(at=at, request_id=self.request_id, score=score, source=self.source, key_alias=key_alias)


class _Several(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    feedback: list[_Verdict] = Field(min_length=1, max_length=MOST_AT_ONCE)


_ONE, _MANY = TypeAdapter(_Verdict), TypeAdapter(_Several)


def feedback_router(
    *,
    auth: Callable[..., Any],
    put: Callable[[FeedbackRecord], None],
    clock: Callable[[], datetime],
    giver: Callable[[object], Giver],
    owners: Owners | None,
) -> APIRouter:
    """The route that takes verdicts.

    Args:
        auth: Dependency that lets holders of a key through, and returns the key.
        put: Takes a record; never blocks and never raises.
        clock: The time, UTC.
        giver: Who holds a key.
        owners: Whose requests they are; None where `put` keeps nothing: then the route says so and takes nothing.

    Returns:
        `POST /embedllm/feedback`. The body is one verdict, `{"request_id": …, "score": …}` or with `"thumb"`, or
        several: a list of them, or `{"feedback": […]}`. 202 when all are taken. None is: 400 that names the field, 403
        for a source that only administrators name, 404 for ids of no request of the key or where nothing is kept, 503
        while records cannot be read.
    """
    router = APIRouter(tags=["embedllm_router"], route_class=_BodyRoute)

    @router.post(PATH, status_code=_ACCEPTED)
    async def give_feedback(request: Request, key: Annotated[Any, Depends(auth)]) -> Response:
        """Takes verdicts on answers."""
        if owners is None:
            return _problem(_NOT_FOUND, _NOT_KEPT, None)
        try:
            verdicts = _read(await request.body())
        except ValidationError as error:
            return _refused(error)
        except ValueError as error:
            return _problem(_BAD_REQUEST, f"not JSON: {error}", None)
        at, who = clock(), giver(key)
        if (problem := await _not_theirs(verdicts, who, owners)) is not None:
            return problem
        for one in verdicts:
            put(one.record(at, who.key_alias))
        return JSONResponse({"accepted": len(verdicts)}, _ACCEPTED)

    return router


async def _not_theirs(verdicts: Sequence[_Verdict], who: Giver, owners: Owners) -> Response | None:
    """Why somebody may not give these verdicts; None when they may."""
    if not who.admin and any(one.source != USER for one in verdicts):
        return _problem(_FORBIDDEN, f"only an administrator's key names a source other than {USER!r}", "source")
    try:
        refused = await owners.refused([one.request_id for one in verdicts], who)
    except EmbedLLMRouterError as error:
        return _problem(_UNAVAILABLE, f"whose requests they are cannot be read now: {error} Send it again later.", None)
    return _problem(_NOT_FOUND, _unknown(refused), "request_id") if refused else None


def _unknown(ids: Sequence[str]) -> str:
    """Says that ids are of no request whose answer somebody may judge."""
    shown = ", ".join(repr(one[:_SHOWN_ID]) for one in ids[:_SHOWN_PROBLEMS])
    more = f" and {len(ids) - _SHOWN_PROBLEMS} more" if len(ids) > _SHOWN_PROBLEMS else ""
    return f"no request of this key has the id {shown}{more}. Nothing was stored."


class _BodyRoute(APIRoute):
    """Reads the body before anyone else does, so that LiteLLM's key check only ever sees a small JSON object."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_first(request: Request) -> Response:
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > _MOST_BYTES:
                    return _problem(_TOO_LARGE, f"expected at most {_MOST_BYTES:,} bytes", None)
            start = body.lstrip()[:1]
            if start == b"[":
                body = b'{"feedback": %b}' % body
            elif start != b"{":
                return _problem(_BAD_REQUEST, "expected a JSON object or a list of them", None)
            return await handle(Request(request.scope, replay(body)))

        return read_first


def replay(body: bytes) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    """An ASGI `receive` that hands over a body that was read already."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _read(body: bytes) -> list[_Verdict]:
    """Raises `ValueError` for what is not JSON, and its kind `ValidationError` for what is wrong."""
    found = from_json(body, allow_inf_nan=False)
    if isinstance(found, dict) and "feedback" in found:
        return _MANY.validate_python(found).feedback
    return [_ONE.validate_python(found)]


def _refused(error: ValidationError) -> Response:
    problems = [(_field(e["loc"]), _message(e["type"], e["msg"])) for e in error.errors(include_input=False)]
    said = "; ".join(f"{field}: {message}" if field else message for field, message in problems[:_SHOWN_PROBLEMS])
    more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    return _problem(_BAD_REQUEST, f"{said}{more}. Nothing was stored.", problems[0][0] or None)


def _message(kind: str, message: str) -> str:
    return "expected an object" if kind == "model_type" else message.removeprefix("Value error, ")


def _field(loc: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".")


def _problem(status: int, message: str, field: str | None) -> Response:
    """The shape OpenAI's clients expect of an error."""
    error = {"message": message, "type": "invalid_request_error", "param": field, "code": str(status)}
    headers = {"retry-after": str(_AGAIN_S)} if status == _UNAVAILABLE else None
    return JSONResponse({"error": error}, status, headers)
