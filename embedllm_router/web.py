"""Our routes on the proxy's web application: put in front of its own, and the one that reloads. No LiteLLM."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException

from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.live import Generation

__all__ = ["mount", "reload_router"]


def mount(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Adds routes in front of an application's own, which may end in one that takes every path."""
    routes = app.router.routes
    before = len(routes)
    for router in routers:
        app.include_router(router)
    ours = routes[before:]
    del routes[before:]
    routes[:0] = ours


def reload_router(*, admin: Callable[..., Any], reload: Callable[[], Generation]) -> APIRouter:
    """The route that takes up changed configuration and weights at once.

    Args:
        admin: Dependency that lets administrators through.
        reload: Loads anew; raises and changes nothing when that fails.

    Returns:
        `POST /embedllm/reload`: 200 with the new generation, or 409 with the reason why the old one stays.
    """
    router = APIRouter(prefix="/embedllm", tags=["embedllm_router"])

    @router.post("/reload", dependencies=[Depends(admin)])
    def reload_now() -> dict[str, object]:
        """Takes up changed configuration and weights; nothing changes when they do not load."""
        try:
            generation = reload()
        except (ConfigError, ArtifactError) as error:
            raise HTTPException(409, detail=f"nothing was changed: {error}") from error
        live = generation.router
        return {"generation": generation.number, "artifact": live.artifact.id if live else None}

    return router
