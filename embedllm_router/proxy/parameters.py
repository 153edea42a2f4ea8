"""Which request parameters LiteLLM sends to a deployment, by its own lists."""

from collections.abc import Mapping

import litellm

from embedllm_router.routing.deployments import Row
from embedllm_router.routing.prompt import is_said

__all__ = ["accepted_parameters"]

_BEHIND_A_LOGIN = frozenset({"github_copilot", "chatgpt"})  # LiteLLM begins it when asked what they can do


def accepted_parameters(row: Row) -> frozenset[str] | None:
    """Names of the request parameters that LiteLLM sends to a deployment, or leaves out without a word.

    Args:
        row: A deployment of LiteLLM's.

    Returns:
        The names; None when it drops what the LLM does not take, or LiteLLM has no list for it.
    """
    params, info = row.get("litellm_params"), row.get("model_info")
    if not isinstance(params, Mapping) or is_said(params.get("drop_params")):
        return None
    model, declared = str(params.get("model") or ""), params.get("custom_llm_provider")
    prefix, slash, _ = model.partition("/")
    if (declared or prefix) in _BEHIND_A_LOGIN or not (declared or slash or model in litellm.model_cost):
        return None  # for a name without a provider LiteLLM prints that there is none
    base = params.get("base_model") or (info.get("base_model") if isinstance(info, Mapping) else None)
    try:
        name, provider, _, _ = litellm.get_llm_provider(model, declared, params.get("api_base"))
        known = litellm.get_supported_openai_params(name, provider, **({"base_model": base} if base else {}))
    except Exception:  # noqa: BLE001 - a list that cannot be had excludes nobody
        return None
    if known is None:  # as LiteLLM does for a provider it has no list for
        known = litellm.get_supported_openai_params(name, "openai") or []
    excused = [params.get(field) for field in ("allowed_openai_params", "additional_drop_params")]
    return frozenset(str(name) for names in (known, *excused) if isinstance(names, list) for name in names)
