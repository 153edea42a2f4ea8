"""What a request and its key say besides the prompt: who asks, what they wish, and why they may be refused. Pure."""

from collections.abc import Mapping
from typing import Any

from embedllm_router.candidates import NO_RULES, Exclusion, Rules
from embedllm_router.decision import Decision
from embedllm_router.errors import EmbedLLMRouterError, RequestError
from embedllm_router.live import Served
from embedllm_router.messages import opening
from embedllm_router.overrides import BODY_FIELD, Overrides, Wish, header_wish, read_wish
from embedllm_router.setting_groups import VirtualModelSettings

__all__ = ["caller_of", "nobody_left", "ruled_out", "wishes_of"]


def caller_of(data: Mapping[str, Any]) -> str:
    """Who stays on one side of a canary: the end user if named, else the conversation by its first turn."""
    user = data.get("user")
    return user if isinstance(user, str) and user else opening(data)


def wishes_of(key: object, data: Mapping[str, Any], body: object) -> list[Wish]:
    """What team, key, header and body ask for, the nearest to the request last.

    Args:
        key: LiteLLM's key object, with `metadata` and `team_metadata` where it has them.
        data: The request's body with LiteLLM's additions.
        body: The body field `embedllm`, taken out of it.

    Raises:
        RequestError: One of them is wrong; names it.
    """
    headers = (data.get("proxy_server_request") or {}).get("headers") or {}
    team, own = ((getattr(key, name, None) or {}).get(BODY_FIELD) for name in ("team_metadata", "metadata"))
    return [read_wish("team", team), read_wish("key", own), header_wish(headers), read_wish("body", body)]


def nobody_left(decision: Decision, overrides: Overrides, settings: VirtualModelSettings) -> EmbedLLMRouterError:
    """The error of a decision without a choice.

    Args:
        decision: All of whose candidates are excluded.
        overrides: What the request was to be routed by.
        settings: The virtual model's.

    Returns:
        A `RequestError` that lists the reasons, where a rule, the client's own wish or the settings forbid that the
        default answers; another error where it shall.
    """
    excluded = {a.name: a.excluded for a in decision.assessments()}
    reasons = {name: str(reason) for name, reason in excluded.items()}
    by_rule = any(reason is not None and reason.is_a_rule for reason in excluded.values())
    if by_rule or overrides.by_client or settings.on_no_candidate == "refuse":
        return RequestError(BODY_FIELD if overrides.by_client else "model", f"no candidate is left: {reasons}")
    return EmbedLLMRouterError(f"every candidate is excluded: {reasons}")


def ruled_out(
    settings: VirtualModelSettings, served: Served | None, wishes: list[Wish], denied: Mapping[str, Exclusion] | None
) -> Exclusion | None:
    """Why not even the default may answer.

    Args:
        settings: The virtual model's.
        served: The model groups; None when they are not known.
        wishes: What was asked for, as far as it was read.
        denied: Groups the key may not call; None when that is not known.

    Returns:
        The rule it would break, known or feared; None when it may answer.
    """
    default = settings.default
    if settings.access == "enforce" and (denied is None or default in denied):
        return Exclusion.KEY_ACCESS
    rules: Rules = settings.rules
    for wish in wishes:
        rules = rules.and_also(wish.rules)
    if rules == NO_RULES:
        return None
    group = served.groups.get(default) if served else None
    return Exclusion.PROVIDER if group is None else group.candidate.broken_rule(rules)
