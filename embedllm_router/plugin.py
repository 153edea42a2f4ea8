"""The LiteLLM plugin: the only file that imports litellm.

One hook rewrites `model` before LiteLLM routes the request; the others report what came of it. Whatever goes
wrong in here, the request goes to the virtual model's default instead.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import litellm
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from structlog.typing import FilteringBoundLogger

from embedllm_router.deployments import group_of_deployment, read_model_groups
from embedllm_router.errors import ArtifactError, EmbedLLMRouterError, RequestError
from embedllm_router.events import Outcome, Routed, decided, response_headers, served
from embedllm_router.log import configure_logging
from embedllm_router.messages import read_body
from embedllm_router.overrides import BODY_FIELD, Overrides, read_overrides
from embedllm_router.router import Router, Routing
from embedllm_router.setting_groups import VirtualModelSettings
from embedllm_router.settings import SECTION, RouterSettings, read_settings
from embedllm_router.virtual_models import VirtualModel, build_virtual_models, findings

__all__ = ["ProxyHandler", "create_proxy_handler"]

ROUTED_CALL_TYPES = frozenset({"acompletion", "completion", "atext_completion", "text_completion"}) | {
    "aresponses",
    "responses",
    "anthropic_messages",
}
_START_POLLS, _START_POLL_S = 300, 0.1
_MAX_PENDING = 10_000  # requests in flight whose outcome is still awaited; beyond it the oldest is forgotten


def create_proxy_handler() -> "ProxyHandler":
    """Builds the handler from LiteLLM's configuration; called once, when the proxy loads its callbacks.

    Raises:
        ConfigError: The section `callback_settings.embedllm_router` is not valid.
    """
    settings = read_settings(litellm.callback_settings.get(SECTION))
    log = configure_logging(settings.log)
    handler = ProxyHandler(settings, log, _load_router(settings.artifact, log))
    handler.report_when_ready()
    return handler


def _load_router(artifact: Path | None, log: FilteringBoundLogger) -> Router | None:
    try:
        return Router.load(artifact)
    except ArtifactError as error:
        log.error(  # noqa: TRY400 - the message says it all; a traceback would bury it
            "routing.artifact_unusable", error=str(error), consequence="the defaults answer"
        )
        return None


class ProxyHandler(CustomLogger):
    """Routes requests for virtual models; leaves every other request alone.

    Args:
        settings: The plugin's settings.
        log: Where decisions are reported.
        router: What decides; None when the artifact could not be loaded, and the defaults answer.
    """

    def __init__(self, settings: RouterSettings, log: FilteringBoundLogger, router: Router | None) -> None:
        super().__init__()
        self._settings = settings
        self._log = log
        self._router = router
        self._rows: object = None
        self._virtual_models: dict[str, VirtualModel] = {}
        self._groups_by_deployment: dict[str, str] = {}
        self._pending: OrderedDict[str, Routed] = OrderedDict()

    def report_when_ready(self) -> None:
        """Reports what every model group was matched to, as soon as LiteLLM knows its deployments."""
        with suppress(RuntimeError):  # no event loop: not inside a proxy; the first request reports
            self._start_report = asyncio.get_running_loop().create_task(self._report_at_start())

    async def _report_at_start(self) -> None:
        from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; see _current_virtual_models

        if self._router is None:
            return
        for _ in range(_START_POLLS):
            if proxy_server.llm_model_list:
                self._current_virtual_models(self._router)
                return
            await asyncio.sleep(_START_POLL_S)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Sends a request for a virtual model to the LLM that is worth it."""
        del user_api_key_dict, cache
        if call_type not in ROUTED_CALL_TYPES:
            return data
        started = time.perf_counter()
        wishes = data.pop(BODY_FIELD, None)
        name = data.get("model")
        settings = self._settings.virtual_models.get(name) if isinstance(name, str) else None
        if name is None or settings is None:
            return data
        data["model"] = settings.default
        with self._failing_open(name, settings, data, call_type, started):
            self._route(name, wishes, data, call_type, started)
        return data

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Adds the decision to the answer's headers."""
        del user_api_key_dict, response, request_headers
        routed = self._pending.get(str(data.get("litellm_call_id")))
        if routed is None:
            return None
        deployment = _served_deployment(data, litellm_call_info or {})
        return response_headers(routed, self._groups_by_deployment.get(str(deployment)))

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Reports what answered, and what it cost."""
        del response_obj
        routed = self._pending.pop(str(kwargs.get("litellm_call_id")), None)
        if routed is None:
            return
        payload = kwargs.get("standard_logging_object") or {}
        outcome = Outcome(
            served=self._groups_by_deployment.get(str(payload.get("model_id"))) or payload.get("model_group"),
            status="success",
            input_tokens=payload.get("prompt_tokens"),
            output_tokens=payload.get("completion_tokens"),
            cost_usd=payload.get("response_cost"),
            latency_ms=(end_time - start_time).total_seconds() * 1e3,
        )
        self._log.info("routing.served", **served(routed, outcome))

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Reports a request that no LLM answered."""
        del user_api_key_dict, traceback_str
        routed = self._pending.get(str(request_data.get("litellm_call_id")))  # kept: the error's headers come after
        if routed is not None:
            outcome = Outcome(served=None, status="failure", error=type(original_exception).__name__)
            self._log.info("routing.served", **served(routed, outcome))

    def _route(self, name: str, wishes: object, data: dict[str, Any], call_type: str, started: float) -> None:
        if self._router is None:
            raise ArtifactError("no artifact is loaded; see the event routing.artifact_unusable at start")
        virtual_model = self._current_virtual_models(self._router)[name]
        headers = (data.get("proxy_server_request") or {}).get("headers") or {}
        overrides = read_overrides(headers, wishes, virtual_model.pool.names, virtual_model.settings.objective)
        routing = self._decide(self._router, virtual_model, overrides, data)
        chosen = routing.decision.chosen
        if chosen is None:
            reasons = {a.name: str(a.excluded) for a in routing.decision.assessments()}
            if overrides.candidates or overrides.objective_from != "config":
                raise RequestError(BODY_FIELD, f"no candidate is left: {reasons}")
            raise EmbedLLMRouterError(f"every candidate is excluded: {reasons}")
        data["model"] = chosen.name
        fallbacks = routing.decision.fallbacks(virtual_model.settings.max_fallbacks)
        if fallbacks:
            data.setdefault("fallbacks", fallbacks)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        routed = Routed(_request_id(data), name, call_type, chosen.name, elapsed_ms, routing.decision)
        self._remember(routed)
        with_prompt = self._settings.log.prompt
        self._log.info("routing.decided", **decided(routed, routing, virtual_model, overrides, with_prompt=with_prompt))

    @staticmethod
    def _decide(router: Router, virtual_model: VirtualModel, overrides: Overrides, data: Mapping[str, Any]) -> Routing:
        settings = virtual_model.settings
        return router.route(
            read_body(data, settings.text_from),
            objective=overrides.objective,
            pool=virtual_model.pool,
            only=overrides.candidates,
        )

    @contextmanager
    def _failing_open(
        self, name: str, settings: VirtualModelSettings, data: dict[str, Any], call_type: str, started: float
    ) -> Iterator[None]:
        try:
            yield
        except RequestError as error:
            raise _bad_request(error) from error
        except Exception as error:  # noqa: BLE001 - our fault never becomes the client's error
            reason = type(error).__name__
            data["model"] = settings.default
            elapsed_ms = (time.perf_counter() - started) * 1e3
            self._remember(Routed(_request_id(data), name, call_type, settings.default, elapsed_ms, failed_open=reason))
            self._log.warning(
                "routing.failed_open",
                request_id=_request_id(data),
                virtual_model=name,
                default=settings.default,
                reason=reason,
                error=_safe_message(error),
                where=_where(error),
            )

    def _remember(self, routed: Routed) -> None:
        self._pending[routed.request_id] = routed
        if len(self._pending) > _MAX_PENDING:
            self._pending.popitem(last=False)

    def _current_virtual_models(self, router: Router) -> dict[str, VirtualModel]:
        from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

        rows = proxy_server.llm_model_list or []
        if rows is not self._rows:
            real = [row for row in rows if row.get("model_name") not in self._settings.virtual_models]
            groups = read_model_groups(real, litellm.model_cost, router.catalog)
            self._virtual_models = build_virtual_models(self._settings.virtual_models, groups)
            self._groups_by_deployment = group_of_deployment(real)
            self._rows = rows
            for finding in findings(self._virtual_models, groups):
                getattr(self._log, finding.level)(finding.event, **finding.fields)
        return self._virtual_models


def _served_deployment(data: Mapping[str, Any], call_info: Mapping[str, Any]) -> object:
    if call_info.get("model_id"):
        return call_info["model_id"]
    # The request's own metadata still names the first attempt after a fallback; the logging object does not.
    details = getattr(data.get("litellm_logging_obj"), "model_call_details", None) or {}
    return ((details.get("litellm_params") or {}).get("model_info") or {}).get("id")


def _bad_request(error: RequestError) -> HTTPException:
    response = HTTPException(status_code=400, detail={"error": str(error)})
    response.param = error.field  # type: ignore[attr-defined]  # LiteLLM answers with it as `error.param`
    return response


def _request_id(data: Mapping[str, Any]) -> str:
    return str(data.get("litellm_call_id"))


def _safe_message(error: Exception) -> str | None:
    return str(error) if isinstance(error, EmbedLLMRouterError) else None


def _where(error: Exception) -> str | None:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else None
