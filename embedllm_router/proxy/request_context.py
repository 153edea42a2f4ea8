"""What a request, its key and its team say besides the prompt: who sends it, what they set, and who may answer.

LiteLLM tries fallbacks when an LLM fails, and knows no rules. So where rules bind a request, every group that may
answer stands in the request itself, and LiteLLM's configured fallbacks are kept out.
"""

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.errors import EmbedLLMRouterError, RequestError
from embedllm_router.records.schema import bounded_id
from embedllm_router.routing.decision import Decision
from embedllm_router.routing.deployments import ModelGroup
from embedllm_router.routing.overrides import (
    BODY_FIELD,
    COST_WEIGHT_HEADER,
    Override,
    Overrides,
    header_override,
    read_override,
)
from embedllm_router.routing.pool import NO_RULES, Exclusion, Rules
from embedllm_router.routing.prompt import THINKING_BUDGETS, opening
from embedllm_router.telemetry.decision_record import RequestContext

__all__ = [
    "Eligibility",
    "bind_fallbacks",
    "canary_key",
    "carry_efforts",
    "client_overrides",
    "drop_fallbacks",
    "eligibility_of",
    "key_id_of",
    "key_overrides",
    "last_fallback",
    "names_among",
    "no_candidate_left",
    "read_context",
    "request_id_of",
    "tracking_id_of",
]

_FALLBACKS = "fallbacks"
_KINDS = (_FALLBACKS, "context_window_fallbacks", "content_policy_fallbacks")
_OF_THE_SDK = "context_window_fallback_dict"  # names LLMs, not model groups
_MAX_DEPTH = 4
_LOGGING_OBJECT = "litellm_logging_obj"
_DETAILS = "model_call_details"
_TRACKING_ID = "embedllm_tracking_id"
_SHORT_ID = 128  # characters; LiteLLM's own ids are UUIDs


def tracking_id_of(data: Mapping[str, Any]) -> str | None:
    """The id under which a request's outcome is awaited; None where LiteLLM has taken its logging object away.

    It is ours, and not LiteLLM's call id, which a client may choose and choose twice. It lies in LiteLLM's logging
    object, which goes with a request through retries, fallbacks and bridges, and not with copies sent elsewhere.

    Args:
        data: A request's body with LiteLLM's additions, or what LiteLLM reports of its end.
    """
    details = getattr(data.get(_LOGGING_OBJECT), _DETAILS, None)
    found = (data if details is None else details).get(_TRACKING_ID)
    return None if found is None else str(found)


def key_id_of(key: object) -> str | None:
    """Id of an API key: its hash, where LiteLLM has one."""
    return getattr(key, "token", None) or getattr(key, "api_key", None)


def _track(data: dict[str, Any]) -> str:
    """Files an id of our own where log hooks find it; returns the call id where there is no such place."""
    data.pop(_TRACKING_ID, None)  # a client's field of this name would be written over ours
    details = getattr(data.get(_LOGGING_OBJECT), _DETAILS, None)
    if details is None:
        return request_id_of(data)
    details[_TRACKING_ID] = token_hex(16)
    return str(details[_TRACKING_ID])


def request_id_of(data: Mapping[str, Any]) -> str:
    """LiteLLM's call id, bounded; a client may choose it."""
    request_id = str(data.get("litellm_call_id"))
    return request_id if len(request_id) <= _SHORT_ID else bounded_id(request_id)


def canary_key(data: Mapping[str, Any]) -> str:
    """Who stays on one side of a canary: the end user if named, else the session by its first turn."""
    user = data.get("user")
    return user if isinstance(user, str) and user else opening(data)


def _user_of(data: Mapping[str, Any], key: object) -> str | None:
    """Id of the end user as LiteLLM or the body names it, else of the key's user."""
    about = data.get("metadata")
    named = (
        getattr(key, "end_user_id", None),
        data.get("user"),
        about.get("user_id") if isinstance(about, dict) else "",
    )
    return next((one for one in (*named, getattr(key, "user_id", None)) if isinstance(one, str) and one), None)


def read_context(name: str, data: dict[str, Any], call_type: str, key: object, snapshot: int) -> RequestContext:
    """When a request came, and from whom; its outcome is awaited from now on.

    Args:
        name: The virtual model it asks for.
        data: The request's body with LiteLLM's additions.
        call_type: LiteLLM's name of the endpoint.
        key: LiteLLM's key object.
        snapshot: Number of the configuration that decides.
    """
    return RequestContext(
        request_id=request_id_of(data),
        tracking_id=_track(data),
        virtual_model=name,
        call_type=call_type,
        at=datetime.now(UTC),
        started=time.perf_counter(),
        snapshot=snapshot,
        key_alias=getattr(key, "key_alias", None),
        team_alias=getattr(key, "team_alias", None),
        key_id=key_id_of(key),
        team_id=getattr(key, "team_id", None),
        parent_span=getattr(key, "parent_otel_span", None),
        user_id=_user_of(data, key),
        private=data.get("no-log") is True,
    )


def names_among(model: object, known: Container[str]) -> list[str]:
    """The known names in a request's `model`, which may be a list of them with commas between."""
    return [name for part in model.split(",") if (name := part.strip()) in known] if isinstance(model, str) else []


def key_overrides(key: object) -> list[Override]:
    """What team and key set, in this order; what sets nothing is left out.

    Args:
        key: LiteLLM's key object, with `metadata` and `team_metadata` where it has them.

    Raises:
        RequestError: One of them is wrong; names it.
    """
    team, own = ((getattr(key, name, None) or {}).get(BODY_FIELD) for name in ("team_metadata", "metadata"))
    return [read_override(source, field) for source, field in (("team", team), ("key", own)) if field is not None]


def client_overrides(data: Mapping[str, Any], body: object) -> list[Override]:
    """What header and body set, in this order; what sets nothing is left out.

    Args:
        data: The request's body with LiteLLM's additions.
        body: The body field `embedllm`, taken out of it.

    Raises:
        RequestError: One of them is wrong; names it.
    """
    headers = (data.get("proxy_server_request") or {}).get("headers") or {}
    found = [header_override(headers)] if COST_WEIGHT_HEADER in headers else []
    return found if body is None else [*found, read_override("body", body)]


def no_candidate_left(decision: Decision, overrides: Overrides, settings: VirtualModelSettings) -> EmbedLLMRouterError:
    """The error of a decision without a choice.

    Args:
        decision: All of whose candidates are excluded.
        overrides: What the request was to be routed by.
        settings: The virtual model's.

    Returns:
        A `RequestError` that lists the reasons, where a rule, the client's own override or the settings forbid that the
        default answers; another error where it shall.
    """
    excluded = {a.name: a.excluded for a in decision.assessments()}
    barred, pool = decision.request.conditions.barred, decision.pool
    teams = {name for name, reason in barred.items() if reason is Exclusion.TEAM}  # another team's: not to be told
    others = {name for name, group in zip(pool.names, pool.groups, strict=True) if group in teams}
    reasons = {name: str(reason) for name, reason in excluded.items() if name not in others}
    by_rule = any(reason is not None and reason.is_a_rule for reason in excluded.values())
    if by_rule or overrides.by_client or settings.on_no_candidate == "refuse":
        return RequestError(BODY_FIELD if overrides.by_client else "model", f"no candidate is left: {reasons}")
    return EmbedLLMRouterError(f"every candidate is excluded: {reasons}")


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Which model groups may answer a request at all, whatever routing says: none that breaks a rule.

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


def eligibility_of(
    settings: VirtualModelSettings,
    overrides: list[Override],
    denied: Mapping[str, Exclusion] | None,
    groups: Mapping[str, ModelGroup] | None,
) -> Eligibility:
    """Puts together what forbids answers.

    Args:
        settings: The virtual model's.
        overrides: What was asked for, as far as it was read.
        denied: Groups the key may not call; None when that is not known.
        groups: The model groups by name; None when they are not known.
    """
    rules: Rules = settings.rules
    for override in overrides:
        rules = rules.and_also(override.rules)
    return Eligibility(rules, {} if settings.access == "inherit" else denied, groups or {})


def bind_fallbacks(data: dict[str, Any], next_best: Sequence[str] | None, eligibility: Eligibility) -> None:
    """Writes fallbacks into a request: the client's own where it names any, else the next best.

    Args:
        data: The request's body; changed.
        next_best: Names of model groups, which keep every rule; None where no other could go on with the request.
        eligibility: Which groups may answer at all.

    Raises:
        RequestError: The client names a fallback that may not answer.
    """
    own = {kind: data[kind] for kind in (*_KINDS, _OF_THE_SDK) if data.get(kind)}
    if not eligibility.binds and next_best is not None:
        if next_best and data.get(_FALLBACKS) is None:
            data[_FALLBACKS] = list(next_best)
        return
    for kind, value in own.items():
        for name in _named(value, 0):
            reason = eligibility.against(name)
            if reason is not None:
                raise RequestError(kind, f"one of them may not answer: {reason}")
    data |= {kind: own.get(kind, []) for kind in _KINDS}
    data[_FALLBACKS] = own.get(_FALLBACKS, list(next_best or ()))


_BARS_THE_DEFAULT = frozenset(
    {
        Exclusion.TOO_EXPENSIVE,
        Exclusion.BLOCKED,
        Exclusion.MODE,
        Exclusion.WILDCARD,
        Exclusion.TEAM,
        Exclusion.TAG,
        Exclusion.OVER_BUDGET,
        Exclusion.RESERVED,
        Exclusion.GUARDED,
    }
)
"""Why not even the default is asked when all others failed: its answer is too dear, or LiteLLM would not send it."""
_BARRING_CODES = frozenset(reason.code for reason in _BARS_THE_DEFAULT)


def last_fallback(decision: Decision, settings: VirtualModelSettings, eligibility: Eligibility) -> str | None:
    """The default, as what is asked when the chosen LLM and the next best ones have failed.

    Args:
        decision: With a choice.
        settings: The virtual model's; without fallbacks there is no last one.
        eligibility: Which groups may answer at all.

    Returns:
        Its name; None where it was chosen, does not exist, or may not answer.
    """
    default, conditions, pool = settings.default, decision.request.conditions, decision.pool
    if settings.max_fallbacks == 0 or default == pool.groups[decision.ranking[0]]:
        return None
    its = [pool.index[name] for name in pool.at_efforts.get(default, (default,)) if name in pool.index]
    if conditions.only is not None:
        its = [i for i in its if pool.names[i] in conditions.only]
    if all(decision.exclusions[i] in _BARRING_CODES for i in its):
        return None
    if conditions.barred.get(default) in _BARS_THE_DEFAULT:
        return None
    return default if eligibility.against(default) is None else None


def carry_efforts(data: dict[str, Any], decision: Decision, call_type: str, router: object) -> dict[str, Any]:
    """Has every fallback of a request carry its own reasoning effort, since LiteLLM hands on that of the first choice.

    Args:
        data: The request's body, which sets no effort itself; its fallbacks are changed. Those that the Router has for
            all requests are written into it where it names none.
        decision: With a choice. A fallback that it weighed at several efforts is asked with the best of them.
        call_type: LiteLLM's name of the endpoint.
        router: LiteLLM's Router.

    Returns:
        The parameters that set the effort of the choice; empty where it has none.
    """

    def asked(group: str) -> dict[str, Any]:
        best = decision.best_of(group)
        effort = None if best is None else decision.pool.candidates[best].effort
        return {"model": group, **_effort_parameters(data, call_type, effort)}

    for kind in _KINDS:
        stated = data.get(kind)
        fallbacks = getattr(router, kind, None) if stated is None else stated
        if fallbacks and isinstance(fallbacks, list):
            data[kind] = _carrying(fallbacks, asked, 0)
    effort = decision.pool.candidates[decision.ranking[0]].effort
    return {} if effort is None else _effort_parameters(data, call_type, effort)


def _effort_parameters(data: Mapping[str, Any], call_type: str, effort: str | None) -> dict[str, Any]:
    """What sets an effort in a body of an endpoint; without one, what leaves the body as the client sent it."""
    if "text_completion" in call_type:
        return {}
    if "responses" in call_type:
        own = data.get("reasoning")
        return {"reasoning": own if effort is None else {**(own if isinstance(own, Mapping) else {}), "effort": effort}}
    if call_type != "anthropic_messages":
        return {"reasoning_effort": effort}
    if effort is None:
        return {"thinking": None}
    thinking = {"type": "enabled", "budget_tokens": THINKING_BUDGETS[effort]} if effort != "none" else None
    return {"thinking": thinking or {"type": "disabled"}}


def _carrying(value: object, asked: Callable[[str], dict[str, Any]], depth: int) -> Any:
    """Fallbacks of any of LiteLLM's shapes, each name with its parameters; what the client set itself stays."""
    if isinstance(value, str):
        return asked(value)
    if isinstance(value, list) and depth < _MAX_DEPTH:
        return [_carrying(one, asked, depth + 1) for one in value]
    if isinstance(value, Mapping) and isinstance(value.get("model"), str):
        return {**asked(value["model"]), **value}
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        return {name: _carrying(its, asked, depth + 1) if isinstance(its, list) else its for name, its in value.items()}
    return value


def drop_fallbacks(data: dict[str, Any]) -> None:
    """Leaves a request without any fallback."""
    data |= {kind: [] for kind in _KINDS}
    data.pop(_OF_THE_SDK, None)


def _named(value: object, depth: int) -> Iterator[str]:
    """Every name in fallbacks of any of LiteLLM's shapes: `[name]`, `[{"model": name, …}]`, `[{name: [name]}]`."""
    if isinstance(value, str):
        yield value
    elif depth >= _MAX_DEPTH:
        yield ""  # no group's name: what nobody can read may not answer
    elif isinstance(value, Mapping):
        of_one = [value[name] for name in ("model", *_KINDS, _OF_THE_SDK) if name in value]
        found = of_one if "model" in value else list(value.values())
        for one in found:
            yield from _named(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _named(one, depth + 1)
    else:
        yield ""
