"""The LiteLLM plugin: with litellm_state.py the only file that imports litellm.

One hook rewrites `model` before LiteLLM routes the request; the others report what came of it. Whatever goes
wrong in here, the request goes to the virtual model's default instead.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import litellm
import numpy as np
from fastapi import APIRouter, HTTPException
from litellm.integrations.custom_logger import CustomLogger

from embedllm_router import litellm_state
from embedllm_router.asked import caller_of, nobody_left, ruled_out, wishes_of
from embedllm_router.candidates import Exclusion
from embedllm_router.decision import Conditions, Decision
from embedllm_router.errors import ArtifactError, ConfigError, RequestError, told_by, where
from embedllm_router.events import Outcome, Routed, response_headers
from embedllm_router.exploring import explore
from embedllm_router.favourites import settled
from embedllm_router.feedback.thumbs import feedback_in
from embedllm_router.live import Served
from embedllm_router.overrides import BODY_FIELD, Overrides, Wish, combine
from embedllm_router.parts import Parts, assemble
from embedllm_router.recording import Arrival
from embedllm_router.setting_groups import VirtualModelSettings
from embedllm_router.settings import SECTION, read_settings
from embedllm_router.unfamiliar import left_to_default
from embedllm_router.web import Doors, mount, routers_of

__all__ = ["ProxyHandler", "create_proxy_handler"]

ROUTED_CALL_TYPES = frozenset({"acompletion", "completion", "atext_completion", "text_completion"}) | {
    "aresponses",
    "responses",
    "anthropic_messages",
}
_START_POLLS, _START_POLL_S = 300, 0.1
_COOLDOWN_POLL_S = 1.0


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
        self._resting: frozenset[str] = frozenset()
        self._dice = np.random.default_rng()

    def start(self) -> None:
        """Reports what every model group was matched to, as soon as LiteLLM knows its deployments; then watches."""
        with suppress(RuntimeError):  # no event loop: not inside a proxy; the first request reports
            loop = asyncio.get_running_loop()
            watching = (self._watch_files(), self._watch_cooldowns(), self._parts.state.run())
            self._tasks = [loop.create_task(one) for one in watching]

    def routers(self) -> list[APIRouter]:
        """Our pages and endpoints, behind the proxy's own authentication."""
        doors = Doors(litellm_state.any_key, litellm_state.admin_only, litellm_state.metrics_need_a_key)
        return routers_of(self._parts, doors)

    async def _watch_files(self) -> None:
        for _ in range(_START_POLLS):
            if litellm_state.deployments():
                self._served()
                break
            await asyncio.sleep(_START_POLL_S)
        while (reload := self._live.generation.settings.reload).watch:
            await asyncio.sleep(reload.every_s)
            if await asyncio.to_thread(self._live.changed):
                with suppress(ConfigError, ArtifactError):  # reported where it happened; the old ones stay
                    await asyncio.to_thread(self._parts.reload)

    async def _watch_cooldowns(self) -> None:
        while True:
            await asyncio.sleep(_COOLDOWN_POLL_S)
            self._resting = await litellm_state.cooled_down(litellm_state.deployments())

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Sends a request for a virtual model to the LLM that is worth it."""
        del cache
        if call_type not in ROUTED_CALL_TYPES:
            return data
        self._take_thumb(data, user_api_key_dict)
        wishes = data.pop(BODY_FIELD, None)
        name = data.get("model")
        settings = self._live.generation.settings.virtual_models.get(name) if isinstance(name, str) else None
        if name is None or settings is None:
            return data
        arrival = self._arrival(name, data, call_type, user_api_key_dict)
        data["model"] = settings.default
        asked: list[Wish] = []
        denied: dict[str, Exclusion] | None = None
        try:
            asked = wishes_of(user_api_key_dict, data, wishes)
            denied = await self._denied(settings, user_api_key_dict)
            self._route(arrival, asked, denied, data)
        except RequestError as error:
            self._observer.rejected(arrival, error.field)
            raise _bad_request(error) from error
        except Exception as error:  # noqa: BLE001 - our fault never becomes the client's error
            self._fail_open(error, arrival, settings, data, ruled_out(settings, self._live.served, asked, denied))
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
        deployment = litellm_state.served_deployment(data, litellm_call_info or {})
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

    def _route(
        self, arrival: Arrival, wishes: Sequence[Wish], denied: Mapping[str, Exclusion], data: dict[str, Any]
    ) -> None:
        lanes = self._served().lanes.get(arrival.virtual_model)
        if lanes is None:
            raise ArtifactError("no artifact is loaded; see the event routing.artifact_unusable")
        lane = lanes.of(caller_of(data)) if lanes.canary else lanes.live
        settings, pool = lane.virtual_model.settings, lane.virtual_model.pool
        overrides = combine(lane.objective, settings.rules, wishes, settings.requests.allowed, pool.names)
        talk = self._parts.conversing.find(data, arrival, settings.sessions, self._group_of)
        resting = dict.fromkeys(self._resting, Exclusion.COOLED_DOWN)
        conditions = Conditions(
            only=overrides.candidates,
            rules=overrides.rules,
            barred={**resting, **denied},
            cached_tokens=talk.cached_tokens if talk else {},
            observed=self._observer.observations.of(pool),
        )
        routing = lane.decide(data, overrides.objective, conditions, arrival.caller)
        decision, scopes = self._parts.spending.within(routing.decision, settings, arrival)
        decision = self._parts.conversing.keep(left_to_default(settled(decision), routing.hedge, settings), talk)
        if not overrides.by_client and (talk is None or talk.is_new):
            exploration = settings.exploration.exploration
            decision = explore(decision, exploration, self._dice, widening=routing.hedge.widening)
        if decision.chosen is None:
            raise nobody_left(decision, overrides, settings)
        n_fallbacks = settings.max_fallbacks if talk is None or talk.allows_fallbacks else 0
        routed = _sent(arrival, decision, lane.arm, overrides, data, n_fallbacks)
        on_end = self._parts.following(talk, scopes, decision)
        self._observer.decided(routed, replace(routing, decision=decision), arrival, lanes, on_end)

    def _take_thumb(self, data: Mapping[str, Any], key: object) -> None:
        """Keeps feedback on an earlier answer that a request carries in its metadata."""
        alias = getattr(key, "key_alias", None)
        try:
            feedback = feedback_in(data.get("metadata"), at=datetime.now(UTC), key_alias=alias)
        except RequestError as error:
            raise _bad_request(error) from error
        if feedback is not None:
            self._parts.take(feedback)

    def _fail_open(
        self,
        error: Exception,
        arrival: Arrival,
        settings: VirtualModelSettings,
        data: dict[str, Any],
        ruled_out_by: Exclusion | None,
    ) -> None:
        if ruled_out_by is not None:
            self._observer.rejected(arrival, "model")
            told = f"routing failed, and the default {settings.default!r} may not answer: {ruled_out_by}"
            raise _bad_request(RequestError("model", told)) from error
        reason = type(error).__name__
        data["model"] = settings.default
        self._observer.failed_open(arrival.routed(settings.default, failed_open=reason), arrival)
        self._log.warning(
            "routing.failed_open",
            request_id=arrival.request_id,
            virtual_model=arrival.virtual_model,
            default=settings.default,
            reason=reason,
            error=told_by(error),
            where=where(error),
        )

    async def _denied(self, settings: VirtualModelSettings, key: object) -> dict[str, Exclusion]:
        """The model groups that a key may not call itself, where the virtual model says that this matters."""
        if settings.access == "inherit":
            return {}
        return dict.fromkeys(await litellm_state.denied(key, list(self._served().groups)), Exclusion.KEY_ACCESS)

    def _served(self) -> Served:
        return self._live.serve(litellm_state.deployments(), litellm_state.prices())

    def _group_of(self, deployment: object) -> str | None:
        served = self._live.served
        return None if served is None or deployment is None else served.groups_by_deployment.get(str(deployment))

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
            key_id=getattr(key, "token", None) or getattr(key, "api_key", None),
            team_id=getattr(key, "team_id", None),
            parent_span=getattr(key, "parent_otel_span", None),
        )


def _sent(  # noqa: PLR0913, PLR0917 - what was decided, by what, for whom
    arrival: Arrival, decision: Decision, arm: str, overrides: Overrides, data: dict[str, Any], n_fallbacks: int
) -> Routed:
    """Writes the choice into the request; where it is sent."""
    data["model"] = decision.pool.names[decision.ranking[0]]
    fallbacks = decision.fallbacks(n_fallbacks)
    if fallbacks:
        data.setdefault("fallbacks", fallbacks)
    said_by = overrides.objective_from
    if arm == "canary" and said_by == "config":
        said_by = "canary"
    return arrival.routed(data["model"], decision=decision, arm=arm, objective_from=said_by)


def _bad_request(error: RequestError) -> HTTPException:
    response = HTTPException(status_code=400, detail={"error": str(error)})
    response.param = error.field  # type: ignore[attr-defined]  # LiteLLM answers with it as `error.param`
    return response


def _request_id(data: Mapping[str, Any]) -> str:
    return str(data.get("litellm_call_id"))
