"""The dashboard over HTTP: its page and files for anybody, its data for those whom `auth` lets pass.

It parses, asks one function and answers. It does not know LiteLLM, nor where records lie.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from embedllm_router.analysis.calibration_dashboard_calibration import calibration
from embedllm_router.analysis.decisions import DEEPEST, Sought, decision_page, decision_row, feedback_on
from embedllm_router.analysis.explain import explain
from embedllm_router.analysis.llms import map_of_llms
from embedllm_router.analysis.overview import overview
from embedllm_router.analysis.overview_dashboard_choices import choices
from embedllm_router.analysis.span import Asked, Span
from embedllm_router.analysis.tradeoff import frontier
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import EmbedLLMRouterError
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.telemetry.status import Status
from embedllm_router.web.dashboard_dashboard_answers import Answers, as_json
from embedllm_router.web.dashboard_dashboard_files import PageFile, page_files
from embedllm_router.web.dashboard_dashboard_health import health, records_held

__all__ = ["dashboard_router"]

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_GUARDED: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_MOST_PER_PAGE: Final = 100
_MOST_REPLAYED: Final = 2_000

Text = Annotated[str | None, Query(min_length=1, max_length=200)]
When = Annotated[datetime | None, Query(description="ISO 8601; without a zone it is UTC")]


def dashboard_router(
    *,
    auth: Callable[..., Any],
    status: Callable[[], Status],
    source: Callable[[], RecordSource],
    artifact: Callable[[], Artifact | None],
    answers: Answers | None = None,
) -> APIRouter:
    """The routes under /embedllm/.

    Args:
        auth: A FastAPI dependency that raises unless the caller may see all records. The data under /embedllm/api/
            depends on it; the page and its files, which hold no data, do not.
        status: The plugin as it is now.
        source: The records; called in a worker thread.
        artifact: The live weights; None when there are none.
        answers: How answers are computed and kept; None takes one at a time and the usual times.

    Returns:
        The router, to be mounted at the root of an application.
    """
    router = APIRouter(prefix="/embedllm", include_in_schema=False)
    _add_files(router, page_files())
    data = APIRouter(prefix="/embedllm/api", dependencies=[Depends(auth)], include_in_schema=False)
    shown = _Shown(answers or Answers(), source)
    _add_figures(data, shown)
    _add_decisions(data, shown)
    _add_state(data, shown, status, artifact)
    router.routes.extend(data.routes)
    return router


def _add_files(router: APIRouter, files: dict[str, PageFile]) -> None:
    @router.get("")
    async def without_slash() -> Response:
        return RedirectResponse("embedllm/")

    @router.get("/")
    async def page(request: Request) -> Response:
        return _file(request, files["index.html"])

    @router.get("/static/{name:path}")
    async def file(request: Request, name: str) -> Response:
        if name not in files or name.endswith(".html"):
            raise HTTPException(404, f"the dashboard has no file {name[:100]!r}")
        return _file(request, files[name])


def _file(request: Request, file: PageFile) -> Response:
    headers = {**_GUARDED, "ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.kind)
    return Response(file.body, headers=headers, media_type=file.kind)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the routes share."""

    answers: Answers
    source: Callable[[], RecordSource]

    async def json(self, key: Hashable, compute: Callable[[RecordSource], object]) -> Response:
        try:
            return _json(await self.answers.answer(key, lambda: compute(self.source())))
        except TimeoutError as error:
            raise HTTPException(503, "the dashboard is busy with other questions; try again in a moment") from error
        except EmbedLLMRouterError as error:
            raise HTTPException(503, str(error)) from error


def _json(body: bytes) -> Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(body, headers=headers, media_type="application/json")


def _asked(
    span: Annotated[Span, Query(alias="range")] = Span.DAY,
    until: When = None,
    virtual_model: Text = None,
    key_alias: Text = None,
) -> Asked:
    return Asked(span, _utc(until), virtual_model, key_alias)


AskedFor = Annotated[Asked, Depends(_asked)]


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def _add_figures(data: APIRouter, shown: _Shown) -> None:
    @data.get("/overview")
    async def overview_of(asked: AskedFor) -> Response:
        return await shown.json(("overview", asked), lambda source: overview(source, asked))

    @data.get("/choices")
    async def choices_in(asked: AskedFor) -> Response:
        return await shown.json(("choices", asked), lambda source: choices(source, asked))

    @data.get("/frontier")
    async def frontier_of(asked: AskedFor, n: Annotated[int, Query(ge=1, le=_MOST_REPLAYED)] = 1_000) -> Response:
        return await shown.json(("frontier", asked, n), lambda source: frontier(source, asked, n))


def _sought(  # noqa: PLR0913 - the conditions a list can be searched by, one parameter each
    *,
    q: Text = None,
    llm: Text = None,
    reason: Text = None,
    status: Text = None,
    arm: Text = None,
    only: Annotated[Literal["fallback", "failed_open"] | None, Query()] = None,
) -> Sought:
    return Sought(q, llm, reason, status, arm, only)


def _add_decisions(data: APIRouter, shown: _Shown) -> None:
    @data.get("/decisions")
    async def decisions_of(
        asked: AskedFor,
        sought: Annotated[Sought, Depends(_sought)],
        page: Annotated[int, Query(ge=1, le=DEEPEST)] = 1,
        per_page: Annotated[int, Query(ge=1, le=_MOST_PER_PAGE)] = 50,
    ) -> Response:
        offset = (page - 1) * per_page
        if offset + per_page > DEEPEST:
            raise HTTPException(
                400, f"page {page} lies beyond the {DEEPEST:,} newest; narrow the search or the time instead"
            )
        found = ("decisions", asked, sought, page, per_page)
        return await shown.json(found, lambda source: decision_page(source, asked, sought, offset, per_page))

    @data.get("/decision")
    async def one_decision(
        request_id: Annotated[str, Query(min_length=1, max_length=200)], at: When = None
    ) -> Response:
        body = await shown.json(("decision", request_id, at), lambda source: _one(source, request_id, _utc(at)))
        if body.body == b"null":
            raise HTTPException(404, f"no record of request {request_id!r}")
        return body


def _one(source: RecordSource, request_id: str, at: datetime | None) -> dict[str, object] | None:
    row = decision_row(source, request_id, at)
    return None if row is None else {"record": row, "explanation": explain(row), "feedback": feedback_on(source, row)}


def _add_state(
    data: APIRouter, shown: _Shown, status: Callable[[], Status], artifact: Callable[[], Artifact | None]
) -> None:
    @data.get("/calibration")
    async def calibration_of(asked: AskedFor) -> Response:
        live = artifact()
        key = ("calibration", asked, live and live.id)
        return await shown.json(key, lambda source: calibration(source, asked, live))

    @data.get("/llms")
    async def llms(asked: AskedFor) -> Response:
        live = artifact()
        key = ("llms", asked, live and live.id)
        return await shown.json(key, lambda source: map_of_llms(live, source, asked))

    @data.get("/health")
    async def health_now() -> Response:
        return _json(as_json(health(status())))

    @data.get("/records")
    async def records() -> Response:
        return await shown.json(("records",), records_held)
