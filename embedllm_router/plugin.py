"""The LiteLLM plugin: the only file that imports litellm.

One hook rewrites `model` before LiteLLM routes the request; the others report what came of it. Whatever goes
wrong in here, the request goes to the virtual model's default instead.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import litellm
from fastapi import APIRouter, Depends, HTTPException
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from embedllm_router.errors import ArtifactError, ConfigError, EmbedLLMRouterError, RequestError
from embedllm_router.events import Outcome, response_headers
from embedllm_router.lanes import Lane
from embedllm_router.live import Served
from embedllm_router.messages import opening, read_body
from embedllm_router.overrides import BODY_FIELD, Overrides, read_overrides
from embedllm_router.parts import Parts, assemble
from embedllm_router.recording import Arrival
from embedllm_router.router import Routing
from embedllm_router.setting_groups import VirtualModelSettings
from embedllm_router.settings import SECTION, read_settings
from embedllm_router.web import Doors, mount, routers_of

__all__ = ["ProxyHandler", "create_proxy_handler"]

ROUTED_CALL_TYPES = frozenset({"acompletion", "completion", "atext_completion", "text_completion"}) | {
    "aresponses",
    "responses",
    "anthropic_messages",
}
_ADMINS = frozenset({LitellmUserRoles.PROXY_ADMIN, LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY})
_START_POLLS, _START_POLL_S = 300, 0.1


def create_proxy_handler() -> "ProxyHandler":
    """Builds the handler from LiteLLM's configuration; called once, when the proxy loads its callbacks.

    Raises:
        ConfigError: The section `callback_settings.embedllm_router` is not valid.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is far enough

    file = proxy_server.user_config_file_path
    handler = ProxyHandler(
        assemble(read_settings(litellm.callback_settings.get(SECTION)), Path(file) if file else None)
    )
    mount(proxy_server.app, handler.routers())
    handler.start()
    return handler


class ProxyHandler(CustomLogger):
    """Routes requests for virtual models; leaves every other request alone.

    Args:
        parts: What decides, and what is told of it.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._live, self._observer, self._log = parts.live, parts.observer, parts.log

    def start(self) -> None:
        """Reports what every model group was matched to, as soon as LiteLLM knows its deployments; then watches."""
        with suppress(RuntimeError):  # no event loop: not inside a proxy; the first request reports
            self._task = asyncio.get_running_loop().create_task(self._run())

    def routers(self) -> list[APIRouter]:
        """Our pages and endpoints, behind the proxy's own authentication."""
        return routers_of(self._parts, Doors(user_api_key_auth, _admin, _metrics_need_a_key))

    async def _run(self) -> None:
        from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; see _served

        for _ in range(_START_POLLS):
            if proxy_server.llm_model_list:
                self._served()
                break
            await asyncio.sleep(_START_POLL_S)
        while (reload := self._live.generation.settings.reload).watch:
            await asyncio.sleep(reload.every_s)
            if await asyncio.to_thread(self._live.changed):
                with suppress(ConfigError, ArtifactError):  # reported where it happened; the old ones stay
                    await asyncio.to_thread(self._parts.reload)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Sends a request for a virtual model to the LLM that is worth it."""
        del cache
        if call_type not in ROUTED_CALL_TYPES:
            return data
        wishes = data.pop(BODY_FIELD, None)
        name = data.get("model")
        settings = self._live.generation.settings.virtual_models.get(name) if isinstance(name, str) else None
        if name is None or settings is None:
            return data
        arrival = self._arrival(name, data, call_type, user_api_key_dict)
        data["model"] = settings.default
        with self._failing_open(arrival, settings, data):
            self._route(arrival, wishes, data)
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
        routed = self._observer.find(_request_id(data))
        if routed is None:
            return None
        deployment = _served_deployment(data, litellm_call_info or {})
        return response_headers(routed, self._group_of(deployment))

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Reports what answered, and what it cost."""
        del response_obj
        payload = kwargs.get("standard_logging_object") or {}
        outcome = Outcome(
            served=self._group_of(payload.get("model_id")) or payload.get("model_group"),
            status="success",
            input_tokens=payload.get("prompt_tokens"),
            output_tokens=payload.get("completion_tokens"),
            cost_usd=payload.get("response_cost"),
            latency_ms=(end_time - start_time).total_seconds() * 1e3,
            response_id=payload.get("id"),
        )
        self._observer.ended(str(kwargs.get("litellm_call_id")), outcome)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Reports a request that no LLM answered."""
        del user_api_key_dict, traceback_str
        outcome = Outcome(served=None, status="failure", error=type(original_exception).__name__)
        self._observer.ended(_request_id(request_data), outcome, headers_follow=True)

    def _route(self, arrival: Arrival, wishes: object, data: dict[str, Any]) -> None:
        served = self._served()
        if served is None:
            raise ArtifactError("no artifact is loaded; see the event routing.artifact_unusable")
        lanes = served.lanes[arrival.virtual_model]
        lane = lanes.of(_caller(data)) if lanes.canary else lanes.live
        headers = (data.get("proxy_server_request") or {}).get("headers") or {}
        overrides = read_overrides(headers, wishes, lane.virtual_model.pool.names, lane.objective)
        routing = _decide(lane, overrides, data)
        chosen = routing.decision.chosen
        if chosen is None:
            raise _nobody_left(routing, overrides)
        data["model"] = chosen.name
        fallbacks = routing.decision.fallbacks(lane.virtual_model.settings.max_fallbacks)
        if fallbacks:
            data.setdefault("fallbacks", fallbacks)
        said_by = (
            "canary" if lane.arm == "canary" and overrides.objective_from == "config" else overrides.objective_from
        )
        routed = arrival.routed(chosen.name, decision=routing.decision, arm=lane.arm, objective_from=said_by)
        self._observer.decided(routed, routing, arrival, lane, lanes.shadow)

    @contextmanager
    def _failing_open(self, arrival: Arrival, settings: VirtualModelSettings, data: dict[str, Any]) -> Iterator[None]:
        try:
            yield
        except RequestError as error:
            self._observer.rejected(arrival, error.field)
            raise _bad_request(error) from error
        except Exception as error:  # noqa: BLE001 - our fault never becomes the client's error
            reason = type(error).__name__
            data["model"] = settings.default
            self._observer.failed_open(arrival.routed(settings.default, failed_open=reason), arrival)
            self._log.warning(
                "routing.failed_open",
                request_id=arrival.request_id,
                virtual_model=arrival.virtual_model,
                default=settings.default,
                reason=reason,
                error=_safe_message(error),
                where=_where(error),
            )

    def _served(self) -> Served | None:
        from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

        return self._live.serve(proxy_server.llm_model_list or [], litellm.model_cost)

    def _group_of(self, deployment: object) -> str | None:
        served = self._live.served
        return served.groups_by_deployment.get(str(deployment)) if served else None

    def _arrival(self, name: str, data: Mapping[str, Any], call_type: str, key: Any) -> Arrival:
        return Arrival(
            request_id=_request_id(data),
            virtual_model=name,
            call_type=call_type,
            at=datetime.now(UTC),
            started=time.perf_counter(),
            generation=self._live.generation.number,
            key_alias=getattr(key, "key_alias", None),
            team_alias=getattr(key, "team_alias", None),
            parent_span=getattr(key, "parent_otel_span", None),
        )


async def _admin(key: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> UserAPIKeyAuth:
    """Lets the proxy's administrators through, and everybody where the proxy asks for no key.

    Raises:
        HTTPException: 403 for any other key.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    if proxy_server.master_key is not None and key.user_role not in _ADMINS:
        raise HTTPException(403, detail="only an administrator's key opens this; found another one")
    return key


def _metrics_need_a_key() -> bool:
    return litellm.require_auth_for_metrics_endpoint is not False  # as LiteLLM decides for its own /metrics


def _decide(lane: Lane, overrides: Overrides, data: Mapping[str, Any]) -> Routing:
    return lane.router.route(
        read_body(data, lane.virtual_model.settings.text_from),
        objective=overrides.objective,
        pool=lane.virtual_model.pool,
        only=overrides.candidates,
    )


def _nobody_left(routing: Routing, overrides: Overrides) -> EmbedLLMRouterError:
    reasons = {a.name: str(a.excluded) for a in routing.decision.assessments()}
    if overrides.candidates or overrides.objective_from != "config":
        return RequestError(BODY_FIELD, f"no candidate is left: {reasons}")
    return EmbedLLMRouterError(f"every candidate is excluded: {reasons}")


def _caller(data: Mapping[str, Any]) -> str:
    """Who stays on one side of a canary: the end user if named, else the conversation by its first turn."""
    user = data.get("user")
    return user if isinstance(user, str) and user else opening(data)


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
