"""What LiteLLM knows at the moment: deployments, prices, cooldowns, and what a key may do. Reads, never changes.

With plugin.py the only file that imports litellm. Methods of LiteLLM's Router are not called: releases deprecate them.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import litellm
from fastapi import Depends, FastAPI, HTTPException
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth
from litellm.proxy.auth.auth_checks import can_key_call_model
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from embedllm_router.routing.deployments import PriceMap, Row, group_of_deployment

__all__ = [
    "admin_only",
    "any_key",
    "application",
    "cooled_down",
    "denied",
    "deployments",
    "metrics_need_a_key",
    "prices",
    "proxy",
    "served_deployment",
]

_ADMINS = frozenset({LitellmUserRoles.PROXY_ADMIN, LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY})

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
        HTTPException: 403 for any other key.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    if proxy_server.master_key is not None and key.user_role not in _ADMINS:
        raise HTTPException(403, detail="only an administrator's key opens this; found another one")
    return key


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


async def denied(key: Any, groups: Sequence[str]) -> frozenset[str]:
    """Model groups that a key may not call itself.

    Args:
        key: LiteLLM's key object.
        groups: Names of model groups.

    Returns:
        Those it may not call.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it imports us; by now it is complete

    rows, router = proxy_server.llm_model_list, proxy_server.llm_router
    found = set()
    for group in groups:
        try:
            await can_key_call_model(model=group, llm_model_list=rows, valid_token=key, llm_router=router)
        except ProxyException:
            found.add(group)
    return frozenset(found)
