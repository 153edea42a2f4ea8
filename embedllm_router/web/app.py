"""The plugin's routes on the proxy's web application, put in front of the proxy's own. Access checks are arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException

from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.proxy.container import Container
from embedllm_router.records.reader.source import Limits, RecordSource, open_source
from embedllm_router.serving.snapshot import Snapshot
from embedllm_router.web.dashboard import dashboard_router
from embedllm_router.web.feedback import feedback_router
from embedllm_router.web.health import health_router

__all__ = ["Doors", "mount", "reload_router", "routers_of"]

_FOR_PAGES = Limits(threads=1, memory="512MB")  # requests come first: the pages get one thread


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in: FastAPI dependencies that raise for everybody else.

    Attributes:
        key: Lets every valid key through.
        admin: Lets administrators through.
        metrics_need_a_key: Whether a scrape needs an administrator; called at every scrape.
    """

    key: Callable[..., Any]
    admin: Callable[..., Any]
    metrics_need_a_key: Callable[[], bool]


def routers_of(container: Container, doors: Doors) -> list[APIRouter]:
    """All our routes.

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
            auth=doors.admin,
            metrics_auth=doors.metrics_need_a_key,
        ),
        reload_router(admin=doors.admin, reload=container.reload),
        feedback_router(
            auth=doors.key, put=container.take, clock=lambda: datetime.now(UTC), keeps=settings.store.enabled
        ),
    ]
    if settings.dashboard.enabled:
        routers.append(_dashboard(container, doors))
    return routers


def _dashboard(container: Container, doors: Doors) -> APIRouter:
    place = container.live.snapshot.settings.store.place

    @cache
    def source() -> RecordSource:
        return open_source(place, limits=_FOR_PAGES, must_exist=False)

    def artifact() -> Artifact | None:
        router = container.live.snapshot.router
        return router.artifact if router else None

    return dashboard_router(auth=doors.admin, status=container.status, source=source, artifact=artifact)


def mount(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Adds routes in front of an application's own, which may end in one that takes every path."""
    routes = app.router.routes
    before = len(routes)
    for router in routers:
        app.include_router(router)
    ours = routes[before:]
    del routes[before:]
    routes[:0] = ours


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
