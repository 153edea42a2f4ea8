"""A proxy's own check of keys, as LiteLLM's `general_settings.custom_auth` loads it: some people, a key each."""

import os

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

KEYS = {
    "sk-admin": UserAPIKeyAuth(api_key="sk-admin", user_role=LitellmUserRoles.PROXY_ADMIN),
    "sk-viewer": UserAPIKeyAuth(api_key="sk-viewer", user_role=LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY),
    "sk-frugal": UserAPIKeyAuth(
        api_key="sk-frugal",
        key_alias="frugal",
        metadata={"embedllm": {"cost_weight": 1000}},
        user_role=LitellmUserRoles.INTERNAL_USER,
    ),
    "sk-narrow": UserAPIKeyAuth(
        api_key="sk-narrow", key_alias="narrow", models=["auto", "auto-own", "sprinter"], team_alias="field"
    ),
    "sk-target": UserAPIKeyAuth(api_key="sk-target", key_alias="target", models=["sprinter"]),
    "sk-unlisted": UserAPIKeyAuth(
        api_key="sk-unlisted", key_alias="unlisted", user_id="owner-of-unlisted", models=["auto-unlisted"]
    ),
}


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Finds a key's owner."""
    del request
    if api_key == os.environ["LITELLM_MASTER_KEY"]:
        return KEYS["sk-admin"].model_copy()
    if api_key not in KEYS:
        raise ProxyException(message="no such key", type="auth_error", param="key", code=401)
    return KEYS[api_key].model_copy()
