"""What LiteLLM knows at the moment: deployments, prices, cooldowns, and what a key may do. Reads, never changes.

With plugin.py the only file that imports litellm. Methods of LiteLLM's Router are not called: releases deprecate them.
"""

import math
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, ClassVar

import httpx
import litellm
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth
from litellm.proxy.auth import auth_checks
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from embedllm_router.routing.deployments import PriceMap, Row, group_of_deployment, is_paused
from embedllm_router.telemetry.decision_record import Outcome

__all__ = [
    "ProxyException",
    "admin_only",
    "any_key",
    "application",
    "check_name",
    "cooled_down",
    "denied",
    "deployments",
    "end_in_order",
    "is_admin",
    "is_the_group_s_fault",
    "metrics_need_a_key",
    "outcome_of",
    "over_budget",
    "plain_response_id",
    "prices",
    "proxy",
    "served_deployment",
    "served_group",
    "viewers_too",
]

_CUT = frozenset({"length", "max_tokens", "content_filter", "refusal", "error", "failed", "incomplete", "cancelled"})
_VIEWERS = frozenset({LitellmUserRoles.PROXY_ADMIN, LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY})

any_key = user_api_key_auth
"""FastAPI dependency: the proxy's own key check."""


def proxy() -> ModuleType:
    """LiteLLM's proxy: `llm_model_list` is the same object until LiteLLM replaces it."""
    return import_module("litellm.proxy.proxy_server")  # it imports us; by now it is complete


def application() -> FastAPI:
    """The proxy's web application."""
    app: FastAPI = proxy().app
    return app


def deployments() -> Sequence[Row]:
    """LiteLLM's `model_list`; the same object until LiteLLM replaces it."""
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    return proxy_server.llm_model_list or []


def prices() -> PriceMap:
    """A copy of LiteLLM's price map. LiteLLM's Router later writes into the map what its deployments state."""
    return {name: dict(entry) for name, entry in litellm.model_cost.items()}


async def admin_only(key: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> UserAPIKeyAuth:
    """Lets the proxy's administrators through, and everybody where the proxy asks for no key.

    Raises:
        HTTPException: 403 for any other key, that of a `proxy_admin_viewer` among them.
    """
    if not is_admin(key):
        raise HTTPException(403, detail="only an administrator's key opens this; found another one")
    return key


async def viewers_too(key: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> UserAPIKeyAuth:
    """Lets those through who may see everything: administrators, and keys of the role `proxy_admin_viewer`.

    Raises:
        HTTPException: 403 for any other key.
    """
    if not _has_role(key, _VIEWERS):
        raise HTTPException(
            403,
            detail="only an administrator's key or one of the role proxy_admin_viewer opens this; found another one",
        )
    return key


def is_admin(key: object) -> bool:
    """Whether a key is an administrator's; everybody's is where the proxy asks for none."""
    return _has_role(key, frozenset({LitellmUserRoles.PROXY_ADMIN}))


def _has_role(key: object, roles: frozenset[LitellmUserRoles]) -> bool:
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    return proxy_server.master_key is None or getattr(key, "user_role", None) in roles


def end_in_order() -> None:
    """Has the process end as Python programs do when it is told to (SIGTERM), so that records in memory are written.

    uvicorn answers what it has accepted, then sends itself the signal once more, and that ends the process on the spot:
    what is registered with `atexit` does not run. Told by its own flag instead, it returns. Under another server, or
    outside the main thread, nothing changes.
    """
    stop = signal.getsignal(signal.SIGTERM)
    server = getattr(stop, "__self__", None)
    if isinstance(server, uvicorn.Server) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))


def metrics_need_a_key() -> bool:
    """Whether a scrape needs a key, as LiteLLM decides for its own /metrics."""
    return litellm.require_auth_for_metrics_endpoint is not False


def served_deployment(data: Mapping[str, Any], call_info: Mapping[str, Any]) -> object:
    """Id of the deployment that answered, after fallbacks; None when unknown."""
    if call_info.get("model_id"):
        return call_info["model_id"]
    # The request's own metadata still names the first attempt after a fallback; the logging object does not.
    details = getattr(data.get("litellm_logging_obj"), "model_call_details", None) or {}
    return ((details.get("litellm_params") or {}).get("model_info") or {}).get("id")


def served_group(data: Mapping[str, Any]) -> str | None:
    """The model group that was asked last, for a deployment that serves many; None when unknown."""
    details = getattr(data.get("litellm_logging_obj"), "model_call_details", None) or {}
    params = details.get("litellm_params") or {}
    for place in ("litellm_metadata", "metadata"):
        group = (params.get(place) or {}).get("model_group")
        if group is not None:
            return str(group)
    return None


def plain_response_id(response_id: str) -> str:
    """The id of a response as LiteLLM keeps it: what clients hold is encrypted with the owner's id beside it.

    LiteLLM's own hook reads it too, after ours. An id that is not encrypted, or not by this proxy, stays as it is.
    """
    try:
        from litellm.proxy.hooks.responses_id_security import ResponsesIDSecurity  # noqa: PLC0415 - imports the proxy
    except ImportError:  # a release without it
        return response_id
    decrypt = getattr(ResponsesIDSecurity(), "_decrypt_response_id", None)
    return str(decrypt(response_id)[0]) if decrypt is not None else response_id


def outcome_of(
    kwargs: Mapping[str, Any], response: object, latency_ms: float, group_of: Callable[[object], str | None]
) -> Outcome:
    """What LiteLLM reports of an answer.

    Args:
        kwargs: What it hands to log hooks of a success: `model_call_details` of its logging object.
        response: The answer in any endpoint's form.
        latency_ms: From the call to its last byte.
        group_of: Model group of a deployment's id; None for an unknown one.
    """
    payload = kwargs.get("standard_logging_object") or {}
    input_tokens, output_tokens, cost_usd = _usage(payload)
    params = kwargs.get("litellm_params") or {}
    abandoned = any((found.get("metadata") or {}).get("client_disconnected") for found in (kwargs, params))
    return Outcome(
        served=group_of(payload.get("model_id")) or payload.get("model_group"),
        status="success",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_usd=cost_usd,
        latency_ms=latency_ms,
        response_id=payload.get("id"),
        from_cache=payload.get("cache_hit") is True or kwargs.get("cache_hit") is True,
        abandoned=abandoned,
        cut=abandoned or _is_cut(response),
    )


def _usage(payload: Mapping[str, Any]) -> tuple[int | None, int | None, float | None]:
    """Billed input and output tokens and USD; where an upstream reports a negative figure, none, and a bill of 0.

    No answer has no tokens at all: such counts, as LiteLLM makes of streamed text completions, mean that none is known.
    """
    figures = payload.get("prompt_tokens"), payload.get("completion_tokens"), payload.get("response_cost")
    if figures[0] == figures[1] == 0 and not payload.get("cache_hit"):
        return None, None, None
    if any(isinstance(figure, int | float) and not 0 <= figure < math.inf for figure in figures):
        return None, None, 0.0
    return figures


def _is_cut(response: object) -> bool:
    """Whether a limit, a filter or an error ended the answer, by the word for it on its endpoint."""
    choices = _field(response, "choices")
    ends = [_field(choice, "finish_reason") for choice in choices] if isinstance(choices, list) else []
    streamed = _field(response, "response")  # inside the last event of a stream of Responses
    ends += [_field(response, "stop_reason"), _field(response, "status"), _field(streamed, "status")]
    return any(str(end) in _CUT for end in ends)


def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


async def cooled_down(rows: Iterable[Row]) -> frozenset[str]:
    """Model groups whose every deployment LiteLLM lets rest after failures.

    Args:
        rows: LiteLLM's deployments.

    Returns:
        Names of groups; empty where this release keeps cooldowns elsewhere.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    cache = getattr(proxy_server.llm_router, "cooldown_cache", None)
    if cache is None:
        return frozenset()
    group_of = group_of_deployment(rows)
    resting = await cache.async_get_active_cooldowns(model_ids=list(group_of), parent_otel_span=None)
    awake = {group for deployment, group in group_of.items() if deployment not in {str(i) for i, _ in resting}}
    return frozenset(set(group_of.values()) - awake)


async def over_budget(rows: Iterable[Row]) -> frozenset[str]:
    """Model groups whose every deployment is over its own budget or its provider's, by LiteLLM's own check.

    Args:
        rows: LiteLLM's deployments.

    Returns:
        Names of groups; empty where LiteLLM keeps no such budgets.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    limiter = getattr(proxy_server.llm_router, "router_budget_logger", None)
    asked = [row for row in rows if not is_paused(row)]
    if limiter is None or not asked:
        return frozenset()
    try:
        left = await limiter.async_filter_deployments("", asked, None, request_kwargs={})
    except ValueError:  # how LiteLLM says that none is left
        left = []
    within = {str(row.get("model_name")) for row in left}
    return frozenset({str(row.get("model_name")) for row in asked} - within)


_TOO_MANY = 429
_SERVER_ERROR = 500
_TIMEOUT = 408
_TIME_LIMITS = frozenset(
    {"timeout", "stream_timeout", "request_timeout", "x-litellm-timeout", "x-litellm-stream-timeout"}
)
_ADDRESSES = frozenset({"api_base", "base_url", "api_key"})


def is_the_group_s_fault(kwargs: Mapping[str, Any], error: object) -> bool:
    """Whether a failed call speaks against the deployment that was called: it was too slow, too busy or broken.

    Errors of the client's own making do not: what a provider refuses (400, 404 ...), a time limit or an address that
    the client set, and a request that LiteLLM itself could not send on. 401 and 404 are not counted either: LiteLLM
    lets a deployment rest at the first of these.

    Args:
        kwargs: What LiteLLM hands to log hooks of a failure.
        error: The exception.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not (status in {_TIMEOUT, _TOO_MANY} or status >= _SERVER_ERROR):
        return False
    if type(error).__name__.startswith("Router"):  # no deployment was called
        return False
    if isinstance(error, litellm.exceptions.APIConnectionError) and not _is_a_failed_connection(error):
        return False  # what LiteLLM calls any error of its own
    request = (kwargs.get("litellm_params") or {}).get("proxy_server_request") or {}
    set_by_client = {*(request.get("body") or ()), *(request.get("headers") or ())}
    return not (set_by_client & (_ADDRESSES | _TIME_LIMITS if status == _TIMEOUT else _ADDRESSES))


def _is_a_failed_connection(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, httpx.TransportError | OSError):
            return True
        error = error.__cause__ or error.__context__
    return False


async def denied(key: Any, groups: Sequence[str]) -> frozenset[str]:
    """Model groups that a key may not call itself: for itself, its team, project, member or end user.

    Args:
        key: LiteLLM's key object.
        groups: Names of model groups.

    Returns:
        Those it may not call.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    found = set()
    for group in groups:
        try:
            await _check_access(key, group, proxy_server.llm_router)
        except ProxyException:
            found.add(group)
    return frozenset(found)


async def check_name(key: Any, name: str) -> None:
    """Checks that a key may call a virtual model by its own name, not only the model group that an alias makes of it.

    Args:
        key: LiteLLM's key object.
        name: The virtual model.

    Raises:
        ProxyException: LiteLLM's own refusal.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    await _check_access(key, name, _WithoutAliases(proxy_server.llm_router))


class _WithoutAliases:
    """LiteLLM's Router as its access checks see it, but for the aliases."""

    model_group_alias: ClassVar[Mapping[str, str]] = {}

    def __init__(self, router: Any) -> None:
        self._router = router

    def get_model_access_groups(self, model_name: str | None = None, **more: Any) -> Mapping[str, list[str]]:
        if model_name is not None and model_name in (self._router.model_group_alias or {}):
            return {}  # the Router would tell those of the alias's target
        groups: Mapping[str, list[str]] = self._router.get_model_access_groups(model_name=model_name, **more)
        return groups

    def registry(self) -> "_RegistryWithoutAliases":
        """What releases from 1.109 on ask in place of the Router."""
        return _RegistryWithoutAliases(self._router.registry())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


class _RegistryWithoutAliases:
    """The same of what those releases ask."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def aliases(self) -> Mapping[str, str]:
        return {}

    def resolve(self, name: str, **more: Any) -> Any:
        return None if name in self._registry.aliases() else self._registry.resolve(name, **more)

    def access_groups(self, model_name: str | None = None, **more: Any) -> Mapping[str, list[str]]:
        if model_name is not None and model_name in self._registry.aliases():
            return {}
        groups: Mapping[str, list[str]] = self._registry.access_groups(model_name=model_name, **more)
        return groups

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)


async def _check_access(key: Any, model: str, router: Any) -> None:
    """Asks LiteLLM whether a key may call a model.

    Raises:
        ProxyException: It may not.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    # Older releases have no check that asks for team, project and end user as well.
    check: Any = getattr(auth_checks, "can_key_call_resolved_model", auth_checks.can_key_call_model)
    rows = proxy_server.llm_model_list
    await check(model=model, llm_model_list=rows, valid_token=key, llm_router=router)
    user_id = getattr(key, "user_id", None)
    if user_id is None or getattr(key, "team_id", None) is not None or proxy_server.prisma_client is None:
        return
    try:
        user = await auth_checks.get_user_object(
            user_id, proxy_server.prisma_client, proxy_server.user_api_key_cache, user_id_upsert=False
        )
    except Exception:  # noqa: BLE001 - LiteLLM goes on too where it finds no such user
        return
    await auth_checks.can_user_call_model(model=model, llm_router=router, user_object=user)
