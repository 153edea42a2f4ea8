"""Routes for machines: whether the process lives, whether routing works, and the metrics."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Header, HTTPException, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from embedllm_router.telemetry.metrics import Exposition
from embedllm_router.telemetry.status import Status

__all__ = ["health_router"]

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

    public = _when(lambda: not metrics_auth())
    router.add_api_route("/embedllm/metrics", metrics, methods=["GET"], route_class_override=public)
    router.add_api_route("/embedllm/metrics", metrics, methods=["GET"], dependencies=[Depends(auth)])
    return router


def _when(condition: Callable[[], bool]) -> type[APIRoute]:
    """A route that exists while a condition holds, so that the next one of the same path answers otherwise."""

    class Conditional(APIRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            return super().matches(scope) if condition() else (Match.NONE, {})

    return Conditional
