"""The LiteLLM plugin: LiteLLM calls these hooks.

One hook rewrites `model` before LiteLLM routes the request; the others report what came of it. Whatever goes
wrong in here, the request goes to the virtual model's default instead.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import randbits
from typing import Any

import litellm
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from embedllm_router._hashing import digest_of
from embedllm_router.config.settings import SECTION, read_settings
from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.errors import ArtifactError, EmbedLLMRouterError, RequestError, safe_message, where
from embedllm_router.proxy import litellm_state
from embedllm_router.proxy.background import Background
from embedllm_router.proxy.container import Container, assemble
from embedllm_router.proxy.parameters import accepted_parameters
from embedllm_router.proxy.refusals import Refusals
from embedllm_router.proxy.request_context import (
    Eligibility,
    bind_fallbacks,
    canary_key,
    carry_efforts,
    client_overrides,
    drop_fallbacks,
    eligibility_of,
    key_id_of,
    key_overrides,
    last_fallback,
    names_among,
    no_candidate_left,
    read_context,
    request_id_of,
    tracking_id_of,
)
from embedllm_router.records.feedback import feedback_in
from embedllm_router.records.owners import Giver, Owners
from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.routing.budget import Guarded, scopes_of
from embedllm_router.routing.decision import NO_EXPLORATION, Conditions, Decision, Request
from embedllm_router.routing.overrides import BODY_FIELD, Override, Overrides, combine
from embedllm_router.routing.pipeline import Embedded, RequestState, Routing, decide
from embedllm_router.routing.pool import PARAMETERS, Exclusion
from embedllm_router.routing.prompt import Prompt, read_body
from embedllm_router.serving.arms import Arm, Arms, VirtualModel
from embedllm_router.serving.budget_enforcer import Scopes
from embedllm_router.serving.encoder_queue import EncoderQueue
from embedllm_router.serving.sessions import Session
from embedllm_router.serving.snapshot import Served
from embedllm_router.telemetry.decision_record import Outcome, RequestContext
from embedllm_router.telemetry.events import response_headers
from embedllm_router.telemetry.tracker import OnEnd

__all__ = ["ProxyHandler", "create_proxy_handler"]

ROUTED_CALL_TYPES = frozenset({"acompletion", "completion", "atext_completion", "text_completion"}) | {
    "aresponses",
    "responses",
    "anthropic_messages",
}
_SEED_BITS = 63
_PREVIOUS = "previous_response_id"
_AWAIT_NEWS_S = (0.0, 0.1, 0.2)
"""Pauses before other processes are asked for a session that must be kept and is not known here."""
_DELIVERED_WITHIN_S = 0.3
"""Longest wait of an answer that may call a tool, until other processes can read which LLM gave it."""
_LIMITS_OF_A_KEY = ("models", "team_id", "project_id", "access_group_ids")


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

    def __init__(self, container: Container) -> None:
        super().__init__()
        self.container = container
        self._live, self._tracker, self._log = container.live, container.tracker, container.log
        self._availability = container.availability
        self._background = Background(container, self._served)
        self._drops_feedback = True
        self._judging: set[asyncio.Task[None]] = set()
        self._proxy = litellm_state.proxy()
        self._price_map, self._prices = litellm.model_cost, litellm_state.prices()
        self._refusals = Refusals([])

    def start(self) -> None:
        """Reports what every model group was matched to, as soon as LiteLLM knows its deployments; then watches."""
        self._background.start()

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Sends a request for a virtual model to the LLM that is worth it."""
        del cache
        models = self._live.snapshot.settings.virtual_models
        named = names_among(data.get("model"), models)
        if call_type not in ROUTED_CALL_TYPES:
            await self._check_unrouted(named, user_api_key_dict)
            return data
        if data.get("metadata"):
            self._take_feedback(data, user_api_key_dict)
        body_field = data.pop(BODY_FIELD, None)
        if not named or data["model"] not in models:
            await self._check_unrouted(named, user_api_key_dict)
            return data
        name, settings = data["model"], models[data["model"]]
        context = read_context(name, data, call_type, user_api_key_dict, self._live.snapshot.number)
        data["model"] = settings.default
        overrides: list[Override] | None = None
        denied: dict[str, Exclusion] | None = None
        try:
            granted = key_overrides(user_api_key_dict)
            overrides = granted if body_field is None else None  # an override that cannot be read may be a rule
            overrides = [*granted, *client_overrides(data, body_field)]
            if self._may_lack(user_api_key_dict, name):
                await litellm_state.check_name(user_api_key_dict, name)
            denied = await self._denied(settings, user_api_key_dict)
            await self._route(context, overrides, denied, await self._refused(data, user_api_key_dict), data)
        except litellm_state.ProxyException:
            self._tracker.rejected(context, "model")
            raise
        except RequestError as error:
            self._tracker.rejected(context, error.field)
            raise _bad_request(error) from error
        except Exception as error:  # noqa: BLE001 - our fault never becomes the client's error
            self._fail_open(error, context, settings, data, self._eligibility(settings, overrides, denied))
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
        del response, request_headers
        record = self._tracker.find(self._tracking_id(data, user_api_key_dict))
        if record is None:
            return None
        if data.get("tools") or data.get("functions"):  # the next request may come at once, and to another process
            place = self.container.sessions.place_of(data, record.context)
            if place is not None:
                await self.container.state.deliver(place, _DELIVERED_WITHIN_S)
        deployment = litellm_state.served_deployment(data, litellm_call_info or {})
        group = self._group_of(deployment)
        return response_headers(record, litellm_state.served_group(data) if deployment and group is None else group)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Reports what answered, and what it cost."""
        latency_ms = (end_time - start_time).total_seconds() * 1e3
        outcome = litellm_state.outcome_of(kwargs, response_obj, latency_ms, self._group_of)
        outcome = replace(outcome, ended_at=end_time)
        if outcome.served is not None and not outcome.from_cache:
            self._availability.answered(outcome.served, latency_ms / 1e3)
        tracking_id = tracking_id_of(kwargs) or request_id_of(kwargs)
        judge = self.container.judging.offer(self._tracker.find(tracking_id), outcome, kwargs, response_obj)
        self._tracker.ended(tracking_id, outcome, then=judge)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Notes a call that failed; LiteLLM may go on with a retry or a fallback."""
        del response_obj
        payload, error = kwargs.get("standard_logging_object") or {}, kwargs.get("exception")
        # Where the Router had no deployment to ask, its error alone says of which group: LiteLLM may name the next one.
        no_deployment_of = getattr(error, "model", None) if type(error).__name__.startswith("Router") else None
        group = no_deployment_of or self._group_of(payload.get("model_id")) or payload.get("model_group")
        tracking_id = tracking_id_of(kwargs) or request_id_of(kwargs)
        self._tracker.attempt_failed(tracking_id, group, type(error).__name__)
        if group is not None and group in self._served().groups and litellm_state.is_the_group_s_fault(kwargs, error):
            self._availability.failed(group, (end_time - start_time).total_seconds())

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Reports a request that no LLM answered."""
        del traceback_str
        error = type(original_exception).__name__
        outcome = Outcome(served=None, status="failure", ended_at=datetime.now(UTC), error=error)
        self._tracker.ended(self._tracking_id(request_data, user_api_key_dict), outcome, headers_follow=True)

    async def _route(
        self,
        context: RequestContext,
        overrides: Sequence[Override],
        denied: Mapping[str, Exclusion],
        refused: Mapping[str, Exclusion],
        data: dict[str, Any],
    ) -> None:
        served = self._served()
        arms = served.arms.get(context.virtual_model)
        if arms is None:
            raise ArtifactError("no artifact is loaded; see the event routing.artifact_unusable")
        arm = arms.of(canary_key(data)) if arms.canary else arms.live
        model, settings = arm.virtual_model, arm.virtual_model.settings
        combined = Overrides(arm.objective, rules=model.rules)
        if overrides:
            combined = _combined(arm, overrides, refused)
        body = data if data.get(_PREVIOUS) is None else _with_plain_id(data)
        find = partial(self.container.sessions.find, body, context, settings.sessions, self._group_of)
        session = find() if settings.sessions.enabled else None
        if session is not None and session.bond is not None and session.pinned is None:
            session = await self._found_elsewhere(session, find)
        prompt, embedded = read_body(data, settings.embed_text, call_type=context.call_type), None
        if isinstance(arm.router.encoder, EncoderQueue):
            embedded = await _embed_soon(arm.router.encoder, prompt)
            session = find() if settings.sessions.enabled else None  # other requests went on meanwhile
        scopes = scopes_of(model.budgets, model.name, context.key_id, context.team_id) if model.budgets else ()
        guarded = Guarded(model.guard, model.name, context.key_id) if model.guard is not None else None
        caller = digest_of(context.key_id or "", model.name, arm.name, arm.router.artifact_id)
        state = RequestState(
            caller_shrinkage=arm.drift.shrinkage(caller),
            session=session.pin if session and session.pinned else None,
            pace=partial(self.container.budget_enforcer.pace, scopes, guarded) if scopes or guarded else None,
            seed=randbits(_SEED_BITS) if _may_explore(model, combined, session) else None,
        )
        request = self._request(prompt, combined, {**refused, **denied}, model, session)
        routing = _decide(arm, prompt, request, state, embedded)
        if routing.shrinkage.ood_score is not None:
            arm.drift.add(caller, routing.shrinkage.ood_score)
        if not routing.decision.ranking:
            raise no_candidate_left(routing.decision, combined, settings)
        group = model.policy.pool.groups[routing.decision.ranking[0]]
        if group in self._availability.on_trial:
            self._availability.trying(group)
        _send(data, routing.decision, session, Eligibility(combined.rules, denied, served.groups), settings)
        effort: Mapping[str, Any] = {}
        if model.policy.pool.at_efforts and not prompt.sets_effort:
            effort = carry_efforts(data, routing.decision, context.call_type, self._proxy.llm_router)
        self._report(context, routing, arms, arm, combined, state, self._follow(routing, session, scopes, guarded))
        data |= effort  # last, so that where anything fails the default is asked without it

    async def _found_elsewhere(self, session: Session, find: Callable[[], Session]) -> Session:
        """Asks other processes for a session that is tied to an LLM nobody here knows: it may have begun there."""
        for pause_s in _AWAIT_NEWS_S if session.keys.earlier else ():
            await asyncio.sleep(pause_s)
            await self.container.state.exchange()
            session = find()
            if session.pinned is not None:
                break
        return session

    def _request(
        self,
        prompt: Prompt,
        combined: Overrides,
        barred: Mapping[str, Exclusion],
        model: VirtualModel,
        session: Session | None,
    ) -> Request:
        statistics = self._tracker.statistics
        conditions = Conditions(
            only=combined.candidates,
            rules=combined.rules,
            barred={**self._availability.excluded, **barred},
            cached_tokens=self._cached_tokens(prompt, model, session) if session and session.pinned else {},
            observed=statistics.of(model.policy.pool) if statistics.groups else None,
        )
        needs = prompt.needs - PARAMETERS if litellm.drop_params is True else prompt.needs
        size = prompt.input_tokens, prompt.max_output_tokens
        return Request(
            combined.objective, *size, needs, conditions, prompt.n_answers, prompt.efforts, prompt.service_tier
        )

    def _cached_tokens(self, prompt: Prompt, model: VirtualModel, session: Session) -> Mapping[str, int]:
        """Input tokens in the prompt cache of the session's provider, where it caches such a request."""
        cached = session.cached_tokens(self.container.sessions.clock())
        if prompt.marks_cache:
            return cached
        marked = {one.name for one in model.policy.pool.candidates if one.caches_marked}
        return {name: n for name, n in cached.items() if name not in marked}

    def _report(  # noqa: PLR0913, PLR0917 - a decision, and everybody who wants to know of it
        self,
        context: RequestContext,
        routing: Routing,
        arms: Arms,
        arm: Arm,
        combined: Overrides,
        state: RequestState,
        on_end: OnEnd | None,
    ) -> None:
        source = combined.objective_from
        if arm.name == "canary" and source == "config":
            source = "canary"
        shadow = None
        if arms.shadow is not None:
            shadow = self.container.shadows.decide(arms.shadow, arm, routing, state, source, context.key_id)
        self._tracker.decided(
            context,
            routing,
            arm=arm.name,
            objective_from=source,
            baseline=arm.virtual_model.settings.baseline,
            shadow=shadow,
            on_end=on_end,
        )

    def _follow(
        self, routing: Routing, session: Session | None, scopes: Scopes, guarded: Guarded | None
    ) -> OnEnd | None:
        """Charges what is sent and remembers which LLM is asked; what makes good for both when the outcome is known."""
        if session is None and not scopes and guarded is None:
            return None
        sessions, enforcer = self.container.sessions, self.container.budget_enforcer
        decision, tokens = routing.decision, routing.decision.request.input_tokens
        settle = enforcer.charge(scopes, guarded, decision) if scopes or guarded else None
        if session is not None:
            sessions.sent(session, decision.pool.names[decision.ranking[0]], tokens)

        def ended(outcome: Outcome, billed_usd: float | None) -> None:
            if settle is not None:
                settle(billed_usd)
            if session is not None:
                sessions.ended(session, outcome, tokens)

        return ended

    def _take_feedback(self, data: Mapping[str, Any], key: object) -> None:
        """Takes feedback on an earlier answer that a request carries in its metadata."""
        giver = self.container.giver(key, admin=litellm_state.is_admin(key))
        try:
            feedback = feedback_in(data.get("metadata"), at=datetime.now(UTC), giver=giver)
        except RequestError as error:
            raise _bad_request(error) from error
        if feedback is None:
            return
        if self.container.owners is not None:
            task = asyncio.create_task(self._keep_feedback(self.container.owners, feedback, giver))
            self._judging.add(task)
            task.add_done_callback(self._judging.discard)
        elif self._drops_feedback:
            self._drops_feedback = False  # reported once
            self._log.warning("feedback.not_kept", found="in a request's metadata", remedy="set store.enabled")

    async def _keep_feedback(self, owners: Owners, feedback: FeedbackRecord, giver: Giver) -> None:
        """Keeps feedback on an answer that its giver asked for; the request that carries it does not wait."""
        try:
            refused = await owners.refused([feedback.request_id], giver)
            reason = "no request of this key" if refused else None
        except EmbedLLMRouterError as error:
            reason = safe_message(error)
        if reason is None:
            self.container.take(feedback)
        else:
            self._log.warning("feedback.refused", feedback_for=feedback.request_id, reason=reason)

    def _fail_open(
        self,
        error: Exception,
        context: RequestContext,
        settings: VirtualModelSettings,
        data: dict[str, Any],
        eligibility: Eligibility,
    ) -> None:
        ruled_out_by = eligibility.against(settings.default)
        if ruled_out_by is not None:
            self._tracker.rejected(context, "model")
            message = f"routing failed, and the default {settings.default!r} may not answer: {ruled_out_by}"
            raise _bad_request(RequestError("model", message)) from error
        reason = type(error).__name__
        if eligibility.binds:
            drop_fallbacks(data)
        data["model"] = settings.default
        self._tracker.failed_open(context, settings.default, reason)
        self._log.warning(
            "routing.failed_open",
            request_id=context.request_id,
            virtual_model=context.virtual_model,
            default=settings.default,
            reason=reason,
            error=safe_message(error),
            where=where(error),
        )

    def _eligibility(
        self,
        settings: VirtualModelSettings,
        overrides: list[Override] | None,
        denied: Mapping[str, Exclusion] | None,
    ) -> Eligibility:
        served = self._live.served
        if overrides is None:  # no group is known to keep the rules
            return Eligibility(settings.rules, None, {})
        return eligibility_of(settings, overrides, denied, served.groups if served else None)

    async def check_unrouted(self, model: object, key: object) -> None:
        """Refuses a request for virtual models that none of the hooks routes, where it would go past a rule.

        Args:
            model: What the request asks for.
            key: LiteLLM's key object.

        Raises:
            HTTPException: 400.
        """
        await self._check_unrouted(names_among(model, self._live.snapshot.settings.virtual_models), key)

    async def _check_unrouted(self, named: list[str], key: object) -> None:
        """Refuses what is asked of virtual models but not routed, where that would go past a rule."""
        for name in named:
            settings = self._live.snapshot.settings.virtual_models[name]
            try:
                eligibility = self._eligibility(settings, key_overrides(key), await self._denied(settings, key))
            except RequestError as error:
                raise _bad_request(error) from error
            if eligibility.binds:
                message = f"{name!r} has rules, and they are kept only where it is asked for alone, for text"
                raise _bad_request(RequestError("model", message))

    async def _denied(self, settings: VirtualModelSettings, key: object) -> dict[str, Exclusion]:
        """The model groups that a key may not call itself, where the virtual model says that this matters."""
        if settings.access == "inherit":
            return {}
        return dict.fromkeys(await litellm_state.denied(key, list(self._served().groups)), Exclusion.KEY_ACCESS)

    async def _refused(self, data: Mapping[str, Any], key: object) -> dict[str, Exclusion]:
        """The model groups that LiteLLM's Router would not let serve the request."""
        rows, router = self._proxy.llm_model_list or [], self._proxy.llm_router
        if rows is not self._refusals.rows:
            self._refusals = Refusals(rows)
        by_request = data.get("allowed_model_region") is not None or data.get("enable_tag_filtering")
        if by_request or self._refusals.by_deployment or getattr(router, "enable_tag_filtering", False):
            return await self._refusals.of(data, key, router)
        return {}

    def _tracking_id(self, data: Mapping[str, Any], key: object) -> str:
        """The id a request is awaited under; after a failure LiteLLM keeps only its call id, and the key."""
        request_id = request_id_of(data)
        return tracking_id_of(data) or self._tracker.latest(request_id, key_id_of(key)) or request_id

    def _may_lack(self, key: Any, name: str) -> bool:
        """Whether a key may have got here by an alias: LiteLLM lets whoever may call its target call the alias."""
        aliases = getattr(self._proxy.llm_router, "model_group_alias", None) or {}
        if name not in aliases and name not in litellm.model_alias_map:
            return False
        if any(getattr(key, limit, None) for limit in _LIMITS_OF_A_KEY):
            return True
        by_person = getattr(key, "user_id", None) or getattr(key, "end_user_id", None)
        return bool(by_person) and self._proxy.prisma_client is not None

    def _served(self) -> Served:
        if litellm.model_cost is not self._price_map:  # LiteLLM has fetched another one
            self._price_map, self._prices = litellm.model_cost, litellm_state.prices()
        return self._live.serve(self._proxy.llm_model_list or [], self._prices, accepted_parameters)

    def _group_of(self, deployment: object) -> str | None:
        return None if deployment is None else self._served().groups_by_deployment.get(str(deployment))


# With "no-log" in a body LiteLLM reports the outcome only to callbacks of such a name, its own accounting among them.
ProxyHandler.__name__ = "_PROXY_EmbedLLMRouter"


def _combined(arm: Arm, overrides: Sequence[Override], refused: Mapping[str, Exclusion]) -> Overrides:
    """What a virtual model and the overrides say together; another team's LLMs are as good as unknown."""
    model = arm.virtual_model
    others = {name for name, reason in refused.items() if reason is Exclusion.TEAM}
    pool = model.policy.pool
    names = [n for n, its in zip(pool.names, pool.groups, strict=True) if its not in others]
    at = {group: its for group, its in pool.at_efforts.items() if group not in others}
    return combine(arm.objective, model.rules, overrides, model.allowed, names, at)


def _decide(arm: Arm, prompt: Prompt, request: Request, state: RequestState, embedded: Embedded | None) -> Routing:
    """Decides; where none but LLMs that rest could answer, these are asked all the same."""
    policy = arm.virtual_model.policy
    routing = decide(arm.router, prompt, request, policy, state, embedded)
    if routing.decision.ranking or Exclusion.RESTING not in request.conditions.barred.values():
        return routing
    barred = {name: why for name, why in request.conditions.barred.items() if why is not Exclusion.RESTING}
    request = replace(request, conditions=replace(request.conditions, barred=barred))
    return decide(arm.router, prompt, request, policy, state, embedded)


async def _embed_soon(encoder: EncoderQueue, prompt: Prompt) -> Embedded:
    """Embeds a prompt while other requests go on."""
    if not prompt.text.strip():
        return Embedded(None)
    started = time.perf_counter()
    encoded = await encoder.encode_soon(prompt.text)
    return Embedded(encoded.prompt_embedding, (time.perf_counter() - started) * 1e3)


def _with_plain_id(data: dict[str, Any]) -> dict[str, Any]:
    """A body whose previous response is named as LiteLLM keeps it."""
    stored = data.get(_PREVIOUS)
    return {**data, _PREVIOUS: litellm_state.plain_response_id(stored)} if isinstance(stored, str) else data


def _may_explore(model: VirtualModel, combined: Overrides, session: Session | None) -> bool:
    """Whether another candidate may be tried: not where the client set anything, or a session has its LLM."""
    if model.policy.exploration is NO_EXPLORATION or combined.by_client:
        return False
    return session is None or session.pinned is None


def _send(
    data: dict[str, Any],
    decision: Decision,
    session: Session | None,
    eligibility: Eligibility,
    settings: VirtualModelSettings,
) -> None:
    """Writes the choice and its fallbacks into the request."""
    pool, ranking = decision.pool, decision.ranking
    if pool.at_efforts:  # a model group that failed at one effort fails at any
        first, *others = dict.fromkeys(pool.groups[i] for i in ranking)
        next_best = others[: settings.max_fallbacks]
    else:
        first, *next_best = [pool.names[i] for i in ranking[: settings.max_fallbacks + 1]]
    last = last_fallback(decision, settings, eligibility)
    if last is not None and last not in next_best:
        next_best.append(last)
    bond = session.bond if session is not None else None
    alone = bond is not None and bond.forbids_fallbacks  # no other LLM could read the request at all
    bind_fallbacks(data, None if alone else next_best, eligibility)
    data["model"] = first


def _bad_request(error: RequestError) -> HTTPException:
    response = HTTPException(status_code=400, detail={"error": str(error)})
    response.param = error.field  # type: ignore[attr-defined]  # LiteLLM answers with it as `error.param`
    return response
