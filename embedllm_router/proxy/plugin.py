"""The LiteLLM plugin: with litellm_state.py the only file that imports litellm.

One hook rewrites `model` before LiteLLM routes the request; the others report what came of it. Whatever goes
wrong in here, the request goes to the virtual model's default instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import litellm
import numpy as np
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from embedllm_router.config.settings import SECTION, read_settings
from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.errors import ArtifactError, RequestError, told_by, where
from embedllm_router.proxy import litellm_state
from embedllm_router.proxy.background import Background
from embedllm_router.proxy.container import Parts, assemble
from embedllm_router.proxy.fallbacks import bind_fallbacks, drop_fallbacks
from embedllm_router.proxy.request_context import (
    Ruling,
    arrival_of,
    caller_of,
    granted_by,
    names_among,
    nobody_left,
    ruling_of,
    wishes_in,
)
from embedllm_router.records.feedback import feedback_in
from embedllm_router.records.schema import bounded_id
from embedllm_router.routing.decision import Conditions, Decision
from embedllm_router.routing.exploration import explore
from embedllm_router.routing.ood_fallback import left_to_default
from embedllm_router.routing.overrides import BODY_FIELD, Overrides, Wish, combine
from embedllm_router.routing.pool import Exclusion
from embedllm_router.routing.tie_breaking import settled
from embedllm_router.serving.snapshot import Served
from embedllm_router.telemetry.events import Outcome, Routed, response_headers
from embedllm_router.telemetry.record_builder import Arrival

__all__ = ["ProxyHandler", "create_proxy_handler"]

ROUTED_CALL_TYPES = frozenset({"acompletion", "completion", "atext_completion", "text_completion"}) | {
    "aresponses",
    "responses",
    "anthropic_messages",
}


def create_proxy_handler() -> "ProxyHandler":
    """Builds the handler from LiteLLM's configuration; called once, when the proxy loads its callbacks.

    Raises:
        ConfigError: The section `callback_settings.embedllm_router` is not valid.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is far enough

    file = proxy_server.user_config_file_path
    return ProxyHandler(assemble(read_settings(litellm.callback_settings.get(SECTION)), Path(file) if file else None))


class ProxyHandler(CustomLogger):
    """Routes requests for virtual models; leaves every other request alone."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        self._live, self._observer, self._log = parts.live, parts.observer, parts.log
        self._background = Background(parts, self._served)
        self._drops_feedback = parts.store.health().kind == "off"
        self._dice = np.random.default_rng()

    def start(self) -> None:
        """Reports what every model group was matched to, as soon as LiteLLM knows its deployments; then watches."""
        self._background.start()

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Sends a request for a virtual model to the LLM that is worth it."""
        del cache
        models = self._live.generation.settings.virtual_models
        named = names_among(data.get("model"), models)
        if call_type not in ROUTED_CALL_TYPES:
            await self._check_unrouted(named, user_api_key_dict)
            return data
        self._take_thumb(data, user_api_key_dict)
        wishes = data.pop(BODY_FIELD, None)
        if not named or data["model"] not in models:
            await self._check_unrouted(named, user_api_key_dict)
            return data
        name, settings = data["model"], models[data["model"]]
        arrival = arrival_of(name, data, call_type, user_api_key_dict, self._live.generation.number)
        data["model"] = settings.default
        asked: list[Wish] | None = None
        denied: dict[str, Exclusion] | None = None
        try:
            granted = granted_by(user_api_key_dict)
            asked = granted if wishes is None else None  # a wish that cannot be read may be a rule
            asked = [*granted, *wishes_in(data, wishes)]
            denied = await self._denied(settings, user_api_key_dict)
            self._route(arrival, asked, denied, data)
        except RequestError as error:
            self._observer.rejected(arrival, error.field)
            raise _bad_request(error) from error
        except Exception as error:  # noqa: BLE001 - our fault never becomes the client's error
            self._fail_open(error, arrival, settings, data, self._ruling(settings, asked, denied))
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
        self._observer.ended(_request_id(kwargs), outcome)

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
        talk = self.parts.conversing.find(data, arrival, settings.sessions, self._group_of)
        resting = dict.fromkeys(self._background.resting, Exclusion.COOLED_DOWN)
        conditions = Conditions(
            only=overrides.candidates,
            rules=overrides.rules,
            barred={**resting, **denied},
            cached_tokens=talk.cached_tokens if talk else {},
            observed=self._observer.observations.of(pool),
        )
        routing = lane.decide(data, overrides.objective, conditions, arrival.caller)
        decision, scopes = self.parts.spending.within(routing.decision, settings, arrival)
        decision = self.parts.conversing.keep(left_to_default(settled(decision), routing.hedge, settings), talk)
        if not overrides.by_client and (talk is None or talk.is_new):
            exploration = settings.exploration.exploration
            decision = explore(decision, exploration, self._dice, widening=routing.hedge.widening)
        if decision.chosen is None:
            raise nobody_left(decision, overrides, settings)
        alone = talk is not None and not talk.allows_fallbacks
        ruling = Ruling(overrides.rules, denied, self._served().groups)
        bind_fallbacks(data, None if alone else decision.fallbacks(settings.max_fallbacks), ruling)
        routed = _sent(arrival, decision, lane.arm, overrides, data)
        on_end = self.parts.following(talk, scopes, decision)
        self._observer.decided(routed, replace(routing, decision=decision), arrival, lanes, on_end)

    def _take_thumb(self, data: Mapping[str, Any], key: object) -> None:
        """Keeps feedback on an earlier answer that a request carries in its metadata."""
        alias = getattr(key, "key_alias", None)
        try:
            feedback = feedback_in(data.get("metadata"), at=datetime.now(UTC), key_alias=alias)
        except RequestError as error:
            raise _bad_request(error) from error
        if feedback is None:
            return
        if self._drops_feedback:
            self._drops_feedback = False  # said once
            self._log.warning("feedback.not_kept", found="in a request's metadata", remedy="set store.enabled")
        self.parts.take(feedback)

    def _fail_open(
        self,
        error: Exception,
        arrival: Arrival,
        settings: VirtualModelSettings,
        data: dict[str, Any],
        ruling: Ruling,
    ) -> None:
        ruled_out_by = ruling.against(settings.default)
        if ruled_out_by is not None:
            self._observer.rejected(arrival, "model")
            told = f"routing failed, and the default {settings.default!r} may not answer: {ruled_out_by}"
            raise _bad_request(RequestError("model", told)) from error
        reason = type(error).__name__
        if ruling.binds:
            drop_fallbacks(data)
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

    def _ruling(
        self, settings: VirtualModelSettings, asked: list[Wish] | None, denied: Mapping[str, Exclusion] | None
    ) -> Ruling:
        served = self._live.served
        if asked is None:  # nobody is known to keep the rules
            return Ruling(settings.rules, None, {})
        return ruling_of(settings, asked, denied, served.groups if served else None)

    async def _check_unrouted(self, named: list[str], key: object) -> None:
        """Refuses what is asked of virtual models but not routed, where that would go past a rule."""
        for name in named:
            settings = self._live.generation.settings.virtual_models[name]
            try:
                ruling = self._ruling(settings, granted_by(key), await self._denied(settings, key))
            except RequestError as error:
                raise _bad_request(error) from error
            if ruling.binds:
                told = f"{name!r} has rules, and they are kept only where it is asked for alone, for text"
                raise _bad_request(RequestError("model", told))

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


def _sent(arrival: Arrival, decision: Decision, arm: str, overrides: Overrides, data: dict[str, Any]) -> Routed:
    """Writes the choice into the request; where it is sent."""
    data["model"] = decision.pool.names[decision.ranking[0]]
    said_by = overrides.objective_from
    if arm == "canary" and said_by == "config":
        said_by = "canary"
    return arrival.routed(data["model"], decision=decision, arm=arm, objective_from=said_by)


def _bad_request(error: RequestError) -> HTTPException:
    response = HTTPException(status_code=400, detail={"error": str(error)})
    response.param = error.field  # type: ignore[attr-defined]  # LiteLLM answers with it as `error.param`
    return response


def _request_id(data: Mapping[str, Any]) -> str:
    return bounded_id(str(data.get("litellm_call_id")))
