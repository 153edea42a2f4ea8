"""The dashboard over HTTP: its page and files for anybody, its data for callers that `auth` lets pass.

Answers are computed in worker threads, one at a time by default, and kept for a moment: however many pages are open,
the dashboard takes no more than these threads from the proxy's requests. The page's files are read once, and hold no
data.
"""

import gzip
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from embedllm_router.analysis.advice import answers as answers_to
from embedllm_router.analysis.calibration import judged_calibration
from embedllm_router.analysis.decisions import (
    DEEPEST,
    DecisionSearch,
    decision_csv,
    decision_page,
    decision_row,
    feedback_on,
)
from embedllm_router.analysis.explain import explain
from embedllm_router.analysis.llms import learned_llms
from embedllm_router.analysis.overview import choices, overview
from embedllm_router.analysis.saved import saved
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.analysis.topics import by_topic_and_llm
from embedllm_router.analysis.tradeoff import frontier, setting_as_yaml
from embedllm_router.analysis.verdict.recorded import UnknownBaselineError, verdict_of
from embedllm_router.artifact.weights import Artifact
from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.errors import EmbedLLMRouterError
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.telemetry.status import BudgetState, Status

__all__ = [
    "Answers",
    "Health",
    "PageFile",
    "RecordsHeld",
    "as_json",
    "dashboard_router",
    "health",
    "page_files",
    "records_held",
]

_FOLDER: Final = Path(__file__).parent / "static"
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file.

    Attributes:
        body: Its bytes.
        compressed: The same, gzipped.
        kind: Its media type.
        tag: Its entity tag, quotes included.
    """

    body: bytes
    compressed: bytes
    kind: str
    tag: str


def page_files() -> dict[str, PageFile]:
    """Reads them all: name relative to the folder → file."""
    return {
        file.relative_to(_FOLDER).as_posix(): _read(file)
        for file in sorted(_FOLDER.rglob("*"))
        if file.suffix in _KINDS
    }


def _read(file: Path) -> PageFile:
    body = file.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return PageFile(body, gzip.compress(body, mtime=0), _KINDS[file.suffix], tag)


_SHARE: Final = 10.0
"""An answer is kept this many times as long as it took, so that reloading one page costs a tenth of a core at most."""


@dataclass(frozen=True, slots=True)
class _Kept:
    body: bytes
    until: float


class Answers:
    """Computes answers and keeps them.

    Args:
        at_once: How many are computed at the same time, at least 1.
        keep_s: How long an answer is kept at least, in seconds.
        keep_most_s: How long at most.
        most: How many are kept.
    """

    def __init__(self, at_once: int = 1, keep_s: float = 2.0, keep_most_s: float = 10.0, most: int = 128) -> None:
        self._at_once = at_once
        self._keep_s = keep_s
        self._keep_most_s = keep_most_s
        self._most = most
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._turns: anyio.CapacityLimiter | None = None

    async def answer(
        self, key: Hashable, compute: Callable[[], object], *, wait_s: float = 20.0, times: float = _SHARE
    ) -> bytes:
        """An answer as JSON, or as the bytes it is, computed unless it is still kept.

        Args:
            key: Says which answer it is.
            compute: Makes it, in a worker thread.
            wait_s: Longest time to wait for a turn, in seconds.
            times: It is kept so many times as long as it took, and in proportion longer at most.

        Raises:
            TimeoutError: No turn came in time.
        """
        if (kept := self._look_up(key)) is not None:
            return kept
        with anyio.fail_after(wait_s) as waiting:
            async with self._limiter():
                waiting.deadline = float("inf")
                if (kept := self._look_up(key)) is not None:
                    return kept
                started = time.monotonic()
                body = await to_thread.run_sync(lambda: _as_bytes(compute()))
                self._keep(key, body, time.monotonic() - started, times)
                return body

    def _limiter(self) -> anyio.CapacityLimiter:
        if self._turns is None:
            self._turns = anyio.CapacityLimiter(self._at_once)
        return self._turns

    def _look_up(self, key: Hashable) -> bytes | None:
        kept = self._kept.get(key)
        return kept.body if kept is not None and time.monotonic() < kept.until else None

    def _keep(self, key: Hashable, body: bytes, took_s: float, times: float) -> None:
        keep_s = min(max(self._keep_s, times * took_s), self._keep_most_s * times / _SHARE)
        self._kept[key] = _Kept(body, time.monotonic() + keep_s)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


def as_json(value: object) -> bytes:
    """Any value as JSON; times end in Z."""
    return orjson.dumps(value, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY)


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else as_json(value)


@dataclass(frozen=True, slots=True)
class RecordsHeld:
    """The records that can be read.

    Attributes:
        kind: "files" or "postgres".
        where: Where they lie, without credentials.
        requests: How many there are.
        oldest: When the first was decided, UTC; None without any.
        newest: When the last was.
        feedback: How many pieces of feedback there are.
    """

    kind: str
    where: str
    requests: int
    oldest: datetime | None
    newest: datetime | None
    feedback: int


@dataclass(frozen=True, slots=True)
class Health:
    """All the health page shows of the router.

    Attributes:
        status: The plugin as it is now.
        not_ready: Why routing is not at work; None when it is.
        budgets: Every budget now, the one with the least left first; at most 50.
    """

    status: Status
    not_ready: str | None
    budgets: tuple[BudgetState, ...] = ()


def health(status: Status, budgets: tuple[BudgetState, ...] = ()) -> Health:
    """The plugin's status, with its verdict."""
    return Health(status, status.not_ready, budgets[:_MOST_BUDGETS])


def records_held(source: RecordSource) -> RecordsHeld:
    """Counts the records.

    Args:
        source: The records.

    Returns:
        How many there are, and of what time.

    Raises:
        DataError: The records cannot be read.
    """
    query = 'SELECT count(*) AS n, min("at") AS oldest, max("at") AS newest FROM requests'
    requests: dict[str, Any] = source.rows(query)[0]
    feedback = source.rows("SELECT count(*) AS n FROM feedback")[0]["n"]
    return RecordsHeld(source.kind, source.where, requests["n"], requests["oldest"], requests["newest"], feedback)


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
_MOST_BUDGETS: Final = 50
_MOST_PER_PAGE: Final = 100
_SELDOM: Final = 60.0
"""What is judged takes longest and changes slowest, so it is kept longer."""
_MOST_REPLAYED: Final = 2_000
_MOST_PER_MONTH: Final = 1e12

Text = Annotated[str | None, Query(min_length=1, max_length=200)]
_YEARS: Final = range(1000, 9999)  # so that neither a time zone nor the longest range leads out of the calendar


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.year not in _YEARS:
        raise PydanticCustomError(
            "time_out_of_range", "expected a time from the year {first} to {last}", {"first": 1000, "last": 9998}
        )
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


When = Annotated[datetime | None, AfterValidator(_utc), Query(description="ISO 8601; without a zone it is UTC")]


def dashboard_router(  # noqa: PLR0913 - all that the pages show
    *,
    auth: Callable[..., Any],
    status: Callable[[], Status],
    source: Callable[[], RecordSource],
    artifact: Callable[[], Artifact | None],
    budgets: Callable[[], tuple[BudgetState, ...]] = tuple,
    virtual_models: Callable[[], Mapping[str, VirtualModelSettings]] = dict,
    answers: Answers | None = None,
) -> APIRouter:
    """The routes under /embedllm/.

    Args:
        auth: A FastAPI dependency that raises unless the caller may see all records. The data under /embedllm/api/
            depends on it; the page and its files, which hold no data, do not.
        status: The plugin as it is now.
        source: The records; called in a worker thread.
        artifact: The live weights; None when there are none.
        budgets: Every budget now; called on the event loop.
        virtual_models: Their settings now.
        answers: How answers are computed and kept; None takes one at a time and the usual times.

    Returns:
        The router, to be mounted at the root of an application.
    """
    router = APIRouter(prefix="/embedllm", include_in_schema=False)
    _add_files(router, page_files())
    data = APIRouter(prefix="/embedllm/api", dependencies=[Depends(auth)], include_in_schema=False)
    shown = _Shown(answers or Answers(), source)
    _add_figures(data, shown)
    _add_answers(data, shown, budgets)
    _add_decisions(data, shown)
    _add_setting(data, virtual_models)
    _add_state(data, shown, status, budgets)
    _add_weights(data, shown, artifact)
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

    async def json(
        self, key: Hashable, compute: Callable[[RecordSource], object], *, times: float = _SHARE
    ) -> Response:
        return _json(await self.body(key, compute, times=times))

    async def body(self, key: Hashable, compute: Callable[[RecordSource], object], *, times: float = _SHARE) -> bytes:
        try:
            return await self.answers.answer(key, lambda: compute(self.source()), times=times)
        except TimeoutError as error:
            raise HTTPException(503, "the dashboard is busy with other questions; try again in a moment") from error
        except UnknownBaselineError as error:
            raise HTTPException(400, str(error)) from error
        except EmbedLLMRouterError as error:
            raise HTTPException(503, str(error)) from error


def _json(body: bytes) -> Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(body, headers=headers, media_type="application/json")


def _query(
    span: Annotated[Span, Query(alias="range")] = Span.DAY,
    until: When = None,
    virtual_model: Text = None,
    key_alias: Text = None,
) -> RecordQuery:
    return RecordQuery(span, until, virtual_model, key_alias)


RecordQueryOf = Annotated[RecordQuery, Depends(_query)]


def _add_figures(data: APIRouter, shown: _Shown) -> None:
    @data.get("/overview")
    async def overview_of(query: RecordQueryOf) -> Response:
        return await shown.json(("overview", query), lambda source: overview(source, query))

    @data.get("/choices")
    async def choices_in(query: RecordQueryOf) -> Response:
        return await shown.json(("choices", query), lambda source: choices(source, query))

    @data.get("/frontier")
    async def frontier_of(
        query: RecordQueryOf,
        n: Annotated[int, Query(ge=1, le=_MOST_REPLAYED)] = 1_000,
        requests_per_month: Annotated[float | None, Query(gt=0, le=_MOST_PER_MONTH, allow_inf_nan=False)] = None,
    ) -> Response:
        asked = ("frontier", query, n, requests_per_month)
        return await shown.json(asked, lambda source: frontier(source, query, n, requests_per_month))

    @data.get("/topics")
    async def topics(query: RecordQueryOf) -> Response:
        return await shown.json(("topics", query), lambda source: by_topic_and_llm(source, query.filters()))

    @data.get("/verdict")
    async def verdict(query: RecordQueryOf, baseline: Text = None) -> Response:
        asked = ("verdict", query, baseline)
        return await shown.json(asked, lambda source: verdict_of(source, query.filters(), baseline))


def _add_answers(data: APIRouter, shown: _Shown, budgets: Callable[[], tuple[BudgetState, ...]]) -> None:
    @data.get("/saved")
    async def saved_by(query: RecordQueryOf) -> Response:
        return await shown.json(("saved", query), lambda source: saved(source, query))

    @data.get("/answers")
    async def answers_now(query: RecordQueryOf) -> Response:
        now = budgets()
        spent = tuple((one.virtual_model, one.scope, one.holder, one.period) for one in now if one.exhausted)
        asked = ("answers", query, spent)
        return await shown.json(asked, lambda source: answers_to(source, query, now), times=_SELDOM)


def _add_setting(data: APIRouter, virtual_models: Callable[[], Mapping[str, VirtualModelSettings]]) -> None:
    @data.get("/setting")
    async def setting(
        virtual_model: Annotated[str, Query(min_length=1, max_length=200)],
        cost_weight: Annotated[float, Query(ge=0, allow_inf_nan=False)],
    ) -> Response:
        settings = virtual_models().get(virtual_model)
        if settings is None:
            raise HTTPException(404, f"no virtual model {virtual_model!r} is configured now, so there is none to paste")
        return _json(as_json({"yaml": setting_as_yaml(virtual_model, settings, cost_weight)}))


def _search(  # noqa: PLR0913 - the conditions a list can be searched by, one parameter each
    *,
    q: Text = None,
    llm: Text = None,
    reason: Text = None,
    status: Text = None,
    arm: Text = None,
    only: Annotated[Literal["fallback", "failed_open"] | None, Query()] = None,
) -> DecisionSearch:
    return DecisionSearch(q, llm, reason, status, arm, only)


def _add_decisions(data: APIRouter, shown: _Shown) -> None:
    @data.get("/decisions")
    async def decisions_of(
        query: RecordQueryOf,
        search: Annotated[DecisionSearch, Depends(_search)],
        page: Annotated[int, Query(ge=1, le=DEEPEST)] = 1,
        per_page: Annotated[int, Query(ge=1, le=_MOST_PER_PAGE)] = 50,
    ) -> Response:
        offset = (page - 1) * per_page
        if offset + per_page > DEEPEST:
            raise HTTPException(
                400, f"page {page} lies beyond the {DEEPEST:,} newest; narrow the search or the time instead"
            )
        found = ("decisions", query, search, page, per_page)
        return await shown.json(found, lambda source: decision_page(source, query, search, offset, per_page))

    @data.get("/decisions.csv")
    async def decisions_as_csv(query: RecordQueryOf, search: Annotated[DecisionSearch, Depends(_search)]) -> Response:
        body = await shown.body(("csv", query, search), lambda source: decision_csv(source, query, search))
        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": 'attachment; filename="decisions.csv"',
        }
        return Response(body, headers=headers, media_type="text/csv")

    @data.get("/decision")
    async def one_decision(
        request_id: Annotated[str, Query(min_length=1, max_length=200)], at: When = None
    ) -> Response:
        body = await shown.json(("decision", request_id, at), lambda source: _one(source, request_id, at))
        if body.body == b"null":
            raise HTTPException(404, f"no record of request {request_id!r}")
        return body


def _one(source: RecordSource, request_id: str, at: datetime | None) -> dict[str, object] | None:
    row = decision_row(source, request_id, at)
    return None if row is None else {"record": row, "explanation": explain(row), "feedback": feedback_on(source, row)}


def _add_weights(data: APIRouter, shown: _Shown, artifact: Callable[[], Artifact | None]) -> None:
    @data.get("/calibration")
    async def calibration_of(query: RecordQueryOf) -> Response:
        live = artifact()
        key = ("calibration", query, live and live.id)
        return await shown.json(key, lambda source: judged_calibration(source, query, live))

    @data.get("/llms")
    async def llms(query: RecordQueryOf) -> Response:
        live = artifact()
        key = ("llms", query, live and live.id)
        return await shown.json(key, lambda source: learned_llms(live, source, query))


def _add_state(
    data: APIRouter,
    shown: _Shown,
    status: Callable[[], Status],
    budgets: Callable[[], tuple[BudgetState, ...]],
) -> None:
    @data.get("/health")
    async def health_now() -> Response:
        return _json(as_json(health(status(), budgets())))

    @data.get("/records")
    async def records() -> Response:
        return await shown.json(("records",), records_held)
