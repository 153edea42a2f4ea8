"""The plugin's routes on the proxy's web application, put in front of the proxy's own. Access checks are arguments.

Routes for machines: whether the process lives, whether routing works, and the metrics.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.proxy.container import Container
from embedllm_router.routing.pool import Capability, Exclusion
from embedllm_router.serving.arms import VirtualModel
from embedllm_router.serving.snapshot import Snapshot
from embedllm_router.telemetry.metrics import Exposition
from embedllm_router.telemetry.status import Status
from embedllm_router.web.dashboard import dashboard_router
from embedllm_router.web.feedback import feedback_router, replay

__all__ = [
    "Doors",
    "ModelCheck",
    "counting_router",
    "deciding",
    "health_router",
    "listing_router",
    "models_router",
    "mount",
    "reload_router",
    "routers_of",
]

ModelCheck = Callable[[object, object], Awaitable[None]]
"""Takes the `model` of a request and its key; raises where the request may not go on."""

_SERVICE_UNAVAILABLE = 503


def health_router(
    *,
    status: Callable[[], Status],
    metrics_text: Callable[[str], Exposition | None],
    auth: Callable[..., Any],
    metrics_auth: Callable[[], bool],
) -> APIRouter:
    """Makes the routes `/embedllm/healthz`, `/embedllm/readyz` and `/embedllm/metrics`.

    Args:
        status: What the plugin says of itself.
        metrics_text: Writes the series out for an `Accept` header; None when nothing is counted.
        auth: FastAPI dependency that refuses who may not come in.
        metrics_auth: Whether a scrape needs a key; called at every scrape, since the host may learn it late.

    Returns:
        The routes, to be included in the host's app.
    """
    router = APIRouter(include_in_schema=False)

    @router.api_route("/embedllm/healthz", methods=["GET", "HEAD"])
    async def healthz() -> dict[str, object]:
        now = status()
        return {"status": "alive", "version": now.version, "started_at": now.started_at}

    @router.api_route("/embedllm/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        now = status()
        body = {"ready": now.not_ready is None, "reason": now.not_ready, "artifact": now.artifact}
        return JSONResponse(body, 200 if now.not_ready is None else _SERVICE_UNAVAILABLE)

    def metrics(accept: str = Header("")) -> Response:  # no coroutine: a scrape is written in a thread
        written = metrics_text(accept)
        if written is None:
            raise HTTPException(404, "metrics are off: set metrics.enabled and install prometheus-client")
        return Response(written.body, headers={"content-type": written.content_type})

    public = _when(lambda _: not metrics_auth())
    router.add_api_route("/embedllm/metrics", metrics, methods=["GET"], route_class_override=public)
    router.add_api_route("/embedllm/metrics", metrics, methods=["GET"], dependencies=[Depends(auth)])
    return router


def _when(condition: Callable[[Scope], bool]) -> type[APIRoute]:
    """A route for requests that meet a condition, so that the next one of the same path answers the others."""

    class Conditional(APIRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            return super().matches(scope) if condition(scope) else (Match.NONE, {})

    return Conditional


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Who may come in: FastAPI dependencies that raise for everybody else.

    Attributes:
        key: Lets every valid key through.
        admin: Lets administrators through.
        viewer: Lets administrators through, and those who may see everything and change nothing.
        metrics_need_a_key: Whether a scrape needs a viewer; called at every scrape.
        is_admin: Whether a key is an administrator's.
    """

    key: Callable[..., Any]
    admin: Callable[..., Any]
    viewer: Callable[..., Any]
    metrics_need_a_key: Callable[[], bool]
    is_admin: Callable[[object], bool]


def routers_of(container: Container, doors: Doors) -> list[APIRouter]:
    """All our routes but those in front of LiteLLM's own.

    Args:
        container: What the plugin is made of.
        doors: Who may come in.

    Returns:
        What the settings ask for.
    """
    settings = container.live.snapshot.settings
    routers = [
        health_router(
            status=container.status,
            metrics_text=container.metrics.scrape,
            auth=doors.viewer,
            metrics_auth=doors.metrics_need_a_key,
        ),
        reload_router(admin=doors.admin, reload=container.reload),
        feedback_router(
            auth=doors.key,
            put=container.take,
            clock=lambda: datetime.now(UTC),
            giver=lambda key: container.giver(key, admin=doors.is_admin(key)),
            owners=container.owners,
        ),
    ]
    routers.append(
        models_router(
            auth=doors.key,
            virtual_models=lambda: deciding(container),
            left_alone=lambda: container.availability.excluded,
        )
    )
    if settings.dashboard.enabled:
        routers.append(_dashboard(container, doors))
    return routers


_FLAGS = {
    "supports_vision": Capability.VISION,
    "supports_audio_input": Capability.AUDIO,
    "supports_pdf_input": Capability.PDF,
    "supports_function_calling": Capability.TOOLS,
    "supports_response_schema": Capability.JSON_SCHEMA,
}
"""LiteLLM's words for what an LLM can do."""


def models_router(
    *,
    auth: Callable[..., Any],
    virtual_models: Callable[[], Sequence[VirtualModel]],
    left_alone: Callable[[], Mapping[str, Exclusion]] = dict,
) -> APIRouter:
    """The route that lists the virtual models with what their candidates can do together.

    Args:
        auth: FastAPI dependency that refuses who may not come in.
        virtual_models: Those that decide now.
        left_alone: Model groups that no request is sent to at the moment, and why.

    Returns:
        `GET /embedllm/models`, in the form of OpenAI's `/v1/models` with LiteLLM's names of figures.
    """
    router = APIRouter(prefix="/embedllm", tags=["embedllm_router"])

    @router.get("/models", dependencies=[Depends(auth)])
    def models() -> dict[str, object]:
        """Lists virtual models: largest context window, what some candidate can do, and how each candidate is known."""
        now = left_alone()
        return {"object": "list", "data": [_listed(one, now) for one in virtual_models()]}

    return router


def deciding(container: Container) -> list[VirtualModel]:
    """The virtual models that decide now; none until the deployments are known."""
    served = container.live.served
    return [] if served is None else [one.live.virtual_model for one in served.arms.values()]


def _figures(model: VirtualModel) -> dict[str, object]:
    """The largest context window of the candidates, None where none is known, and what some candidate can do."""
    usable = [one for one in model.pool.candidates if one.standing_exclusion is None]
    windows = [one.max_input_tokens for one in usable if one.max_input_tokens is not None]
    can = {flag: any(need not in one.lacks for one in usable) for flag, need in _FLAGS.items()}
    return {"max_input_tokens": max(windows, default=None), **can}


def _listed(model: VirtualModel, left_alone: Mapping[str, Exclusion]) -> dict[str, object]:
    candidates = model.pool.candidates
    return {
        "id": model.name,
        "object": "model",
        "owned_by": "embedllm_router",
        "default": model.settings.default,
        **_figures(model),
        "candidates": [
            {
                "id": one.name,
                "llm": one.llm,
                "known_by": one.known_by,
                "excluded": one.standing_exclusion or left_alone.get(one.group),
                **({} if one.effort is None else {"model_group": one.group, "reasoning_effort": one.effort}),
            }
            for one in candidates
        ],
    }


def _dashboard(container: Container, doors: Doors) -> APIRouter:
    def artifact() -> Artifact | None:
        router = container.live.snapshot.router
        return router.artifact if router else None

    return dashboard_router(
        auth=doors.viewer,
        status=container.status,
        source=container.records,
        artifact=artifact,
        budgets=container.budgets,
        virtual_models=lambda: container.live.snapshot.settings.virtual_models,
    )


def mount(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Adds routes in front of an application's own, which may end in one that takes every path."""
    routes = app.router.routes
    before = len(routes)
    for router in routers:
        app.include_router(router)
    ours = routes[before:]
    del routes[before:]
    routes[:0] = ours


_COUNTED: Final = (
    "/v1/messages/count_tokens",
    "/v1/responses/input_tokens",
    "/responses/input_tokens",
    "/openai/v1/responses/input_tokens",
    "/utils/token_counter",
)
_CHECKED: Final = "embedllm_router.checked"


def counting_router(app: FastAPI, *, auth: Callable[..., Any], check: ModelCheck) -> APIRouter:
    """Routes in front of those that count tokens, for which LiteLLM calls no hook though it may ask a provider.

    Args:
        app: Whose own routes go on with what was checked.
        auth: Dependency that lets holders of a key through, and returns the key.
        check: Takes a body's `model` and the key; raises where such a request may not go on.
    """

    class PassedOn(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            del receive  # the body has been read
            await app.router({**scope, _CHECKED: True}, replay(bytes(self.body)), send)

    router = APIRouter(include_in_schema=False, route_class=_when(lambda scope: not scope.get(_CHECKED)))

    async def checked(request: Request, key: Annotated[object, Depends(auth)]) -> Response:
        body = await request.body()
        try:
            parsed = await request.json()
        except ValueError:  # LiteLLM says so
            parsed = None
        await check(parsed.get("model") if isinstance(parsed, dict) else None, key)
        return PassedOn(body)

    for path in _COUNTED:
        router.add_api_route(path, checked, methods=["POST"])
    return router


_LISTINGS: Final = {
    "/v1/models": "id",
    "/models": "id",
    "/v1/model/info": "model_name",
    "/model/info": "model_name",
    "/model_group/info": "model_group",
}
"""LiteLLM's listings of models, by the field of an entry that names it."""
_LISTED: Final = "embedllm_router.listed"


def listing_router(app: FastAPI, *, virtual_models: Callable[[], Sequence[VirtualModel]]) -> APIRouter:
    """Routes in front of LiteLLM's listings, which say of a virtual model what the target of its alias can do.

    LiteLLM answers, and checks keys; what its answer says of a virtual model is then replaced by what its candidates
    can do together. An answer of any other form stays as it is. One model alone (`/v1/models/auto`) LiteLLM does not
    find under an alias: a virtual model that the listing shows to this key is answered with its entry there.

    Args:
        app: Whose own routes make the listings.
        virtual_models: Those that decide now.
    """

    def figures() -> Mapping[str, Mapping[str, object]]:
        return {one.name: _figures(one) for one in virtual_models()}

    class Corrected(Response):
        def __init__(self, named_by: str) -> None:
            super().__init__()
            self._named_by = named_by

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            start, body = await _answered(app, {**scope, _LISTED: True}, receive)
            if start:  # else nobody waits for an answer any more
                await _send_instead(_corrected(body, self._named_by, figures()), start, send)

    class Alone(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            del receive  # two routes may read the body, which a GET has not
            name, own = scope["path_params"]["model_id"], {**scope, _LISTED: True}
            if name in (known := figures()):
                path = scope["path"].removesuffix(f"/{name}")
                listing = {**own, "path": path, "raw_path": path.encode()}
                start, body = await _answered(app, listing, replay(b""))
                entry = _entry(_corrected(body, "id", known), name)
                if start and (entry is not None or start["status"] != HTTPStatus.OK):
                    await _send_instead(body if entry is None else entry, start, send)
                    return
            await app.router(own, replay(b""), send)

    router = APIRouter(include_in_schema=False, route_class=_when(lambda scope: not scope.get(_LISTED)))
    for path, named_by in _LISTINGS.items():
        router.add_api_route(path, _answering(partial(Corrected, named_by)), methods=["GET"])
    for path in ("/v1/models", "/models"):
        router.add_api_route(f"{path}/{{model_id:path}}", _answering(Alone), methods=["GET"])
    return router


async def _answered(app: FastAPI, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    """Head and body of the answer of the application's own routes; no head when nobody waits for it any more."""
    start, pieces = dict[str, Any](), list[bytes]()

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            pieces.append(message.get("body", b""))

    await app.router(scope, receive, keep)
    return start, b"".join(pieces)


async def _send_instead(body: bytes, start: Message, send: Send) -> None:
    """Sends an answer with another body."""
    headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _answering(response: Callable[[], Response]) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return response()

    return answer


def _corrected(body: bytes, named_by: str, figures: Mapping[str, Mapping[str, object]]) -> bytes:
    """A listing in which entries of virtual models say what their candidates can do."""
    try:
        listing = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    listed, changed = listing.get("data") if isinstance(listing, dict) else None, False
    for entry in listed if isinstance(listed, list) else []:
        name = entry.get(named_by) if isinstance(entry, dict) else None
        if isinstance(name, str) and name in figures:
            said = entry["model_info"] if isinstance(entry.get("model_info"), dict) else entry
            said.update({field: value for field, value in figures[name].items() if value is not None})
            changed = True
    return orjson.dumps(listing) if changed else body


def _entry(body: bytes, name: str) -> bytes | None:
    """The entry of a listing with an id; None where the listing has none."""
    try:
        listing = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    listed = listing.get("data") if isinstance(listing, dict) else None
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and entry.get("id") == name:
            return orjson.dumps(entry)
    return None


def reload_router(*, admin: Callable[..., Any], reload: Callable[[], Snapshot]) -> APIRouter:
    """The route that takes up changed configuration and weights at once.

    Args:
        admin: Dependency that lets administrators through.
        reload: Loads anew; raises and changes nothing when that fails.

    Returns:
        `POST /embedllm/reload`: 200 with the number of the new snapshot, or 409 with the reason why the old one stays.
    """
    router = APIRouter(prefix="/embedllm", tags=["embedllm_router"])

    @router.post("/reload", dependencies=[Depends(admin)])
    def reload_now() -> dict[str, object]:
        """Takes up changed configuration and weights; nothing changes when they do not load."""
        try:
            snapshot = reload()
        except (ConfigError, ArtifactError) as error:
            raise HTTPException(409, detail=f"nothing was changed: {error}") from error
        live = snapshot.router
        return {"generation": snapshot.number, "artifact": live.artifact.id if live else None}

    return router
