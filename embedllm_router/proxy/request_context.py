"""What a request and its key say besides the prompt: who asks, what they wish, and why they may be refused. Pure."""

import time
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.errors import EmbedLLMRouterError, RequestError
from embedllm_router.records.schema import bounded_id
from embedllm_router.routing.decision import Decision
from embedllm_router.routing.deployments import ModelGroup
from embedllm_router.routing.overrides import BODY_FIELD, Overrides, Wish, header_wish, read_wish
from embedllm_router.routing.pool import NO_RULES, Exclusion, Rules
from embedllm_router.routing.prompt import opening
from embedllm_router.telemetry.record_builder import Arrival

__all__ = [
    "Ruling",
    "arrival_of",
    "caller_of",
    "granted_by",
    "names_among",
    "nobody_left",
    "ruling_of",
    "wishes_in",
]


def caller_of(data: Mapping[str, Any]) -> str:
    """Who stays on one side of a canary: the end user if named, else the conversation by its first turn."""
    user = data.get("user")
    return user if isinstance(user, str) and user else opening(data)


def arrival_of(name: str, data: Mapping[str, Any], call_type: str, key: object, generation: int) -> Arrival:
    """When a request came, and from whom.

    Args:
        name: The virtual model it asks for.
        data: The request's body with LiteLLM's additions.
        call_type: LiteLLM's name of the endpoint.
        key: LiteLLM's key object.
        generation: Number of the configuration that decides.
    """
    return Arrival(
        request_id=bounded_id(str(data.get("litellm_call_id"))),
        virtual_model=name,
        call_type=call_type,
        at=datetime.now(UTC),
        started=time.perf_counter(),
        generation=generation,
        key_alias=getattr(key, "key_alias", None),
        team_alias=getattr(key, "team_alias", None),
        key_id=getattr(key, "token", None) or getattr(key, "api_key", None),
        team_id=getattr(key, "team_id", None),
        parent_span=getattr(key, "parent_otel_span", None),
    )


def names_among(model: object, known: Container[str]) -> list[str]:
    """The known names in a request's `model`, which may be a list of them with commas between."""
    return [name for part in model.split(",") if (name := part.strip()) in known] if isinstance(model, str) else []


def granted_by(key: object) -> list[Wish]:
    """What team and key allow, in this order.

    Args:
        key: LiteLLM's key object, with `metadata` and `team_metadata` where it has them.

    Raises:
        RequestError: One of them is wrong; names it.
    """
    team, own = ((getattr(key, name, None) or {}).get(BODY_FIELD) for name in ("team_metadata", "metadata"))
    return [read_wish("team", team), read_wish("key", own)]


def wishes_in(data: Mapping[str, Any], body: object) -> list[Wish]:
    """What header and body ask for, in this order.

    Args:
        data: The request's body with LiteLLM's additions.
        body: The body field `embedllm`, taken out of it.

    Raises:
        RequestError: One of them is wrong; names it.
    """
    headers = (data.get("proxy_server_request") or {}).get("headers") or {}
    return [header_wish(headers), read_wish("body", body)]


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


@dataclass(frozen=True, slots=True)
class Ruling:
    """Who may answer a request at all, whatever routing says: nobody that breaks a rule.

    Attributes:
        rules: Where it may go.
        denied: Groups the key may not call; empty where that does not matter, None when it matters and is not known.
        groups: The model groups by name; empty when they are not known.
    """

    rules: Rules
    denied: Mapping[str, Exclusion] | None
    groups: Mapping[str, ModelGroup]

    @property
    def binds(self) -> bool:
        """Whether anything is forbidden."""
        return self.rules != NO_RULES or self.denied is None or bool(self.denied)

    def against(self, name: str) -> Exclusion | None:
        """The rule a group would break, known or feared; None when it may answer."""
        if self.denied is None or name in self.denied:
            return Exclusion.KEY_ACCESS
        if not self.binds:
            return None
        group = self.groups.get(name)
        return Exclusion.PROVIDER if group is None else group.candidate.broken_rule(self.rules)


def ruling_of(
    settings: VirtualModelSettings,
    wishes: list[Wish],
    denied: Mapping[str, Exclusion] | None,
    groups: Mapping[str, ModelGroup] | None,
) -> Ruling:
    """Puts together what forbids answers.

    Args:
        settings: The virtual model's.
        wishes: What was asked for, as far as it was read.
        denied: Groups the key may not call; None when that is not known.
        groups: The model groups by name; None when they are not known.
    """
    rules: Rules = settings.rules
    for wish in wishes:
        rules = rules.and_also(wish.rules)
    return Ruling(rules, {} if settings.access == "inherit" else denied, groups or {})
