"""Whether a conversation stays on its LLM: numbers in, an index and a reason out. Pure.

Another LLM must be better by more than a margin, and by more than the sticky one saves because its provider still
has the conversation in its prompt cache.

Whether a request can only go on with the LLM that answered before. Pure, total and bounded.

Providers sign or encrypt an LLM's reasoning, and accept it back from no other LLM; they keep stored responses to
themselves; and a tool's result belongs to the LLM that called the tool. Request bodies of chat, Anthropic messages and
Responses are read as `messages.py` does: whatever is none of this is passed over.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from embedllm_router.routing.decision import Decision

__all__ = ["Bond", "Margins", "SessionReason", "Stay", "bond_of", "deployment_in", "keeps_up", "stay"]

_MAX_DEPTH = 6
_SIGNATURES = frozenset({"signature", "thought_signature", "thought_signatures", "encrypted_content"})
_SIGNED_IN_ID = "__thought__"  # LiteLLM puts a Gemini signature into the id of the tool call
_OPAQUE = frozenset({"input", "arguments", "text", "thinking", "summary"})  # the LLM's own words: no signature there
_REASONING = frozenset({"reasoning", "redacted_thinking"})
_RESULT_ROLES = frozenset({"tool", "function"})
_CALLS = frozenset({"tool_use", "mcp_approval_request"})
_RESULTS = frozenset({"tool_result", "mcp_approval_response"})
_STORED = ("previous_response_id", "conversation")
_REFERENCE = "item_reference"  # to an item of a stored response
_RESPONSE_PREFIX = "resp_"


class Bond(StrEnum):
    """What ties a request to the LLM that answered before."""

    STORED_RESPONSE = "stored_response"
    SIGNED_REASONING = "signed_reasoning"
    TOOL_CALL = "tool_call"

    @property
    def forbids_fallbacks(self) -> bool:
        """Whether another LLM could not even read the request; a tool's result it could."""
        return self is not Bond.TOOL_CALL


def bond_of(body: Mapping[str, object]) -> Bond | None:
    """What ties a request to an LLM; None when any LLM may go on.

    Signed reasoning ties wherever in the conversation it is: providers check the signatures of earlier turns too.

    Args:
        body: Chat, Anthropic messages, Responses or completions body, as parsed from JSON.
    """
    if any(body.get(field) for field in _STORED):
        return Bond.STORED_RESPONSE
    items = list(_items(body))
    if any(_kind(item) == _REFERENCE for item in items):
        return Bond.STORED_RESPONSE
    if any(_is_by_llm(item) and _is_signed(item, 0) for item in items):
        return Bond.SIGNED_REASONING
    return Bond.TOOL_CALL if _is_inside_tool_call(items) else None


def deployment_in(body: Mapping[str, object]) -> str | None:
    """The deployment that a previous response came from, which LiteLLM writes into the response's id; None without."""
    response = body.get("previous_response_id")
    if not isinstance(response, str) or not response.startswith(_RESPONSE_PREFIX):
        return None
    try:
        told = base64.b64decode(response.removeprefix(_RESPONSE_PREFIX), validate=True).decode("utf-8")
    except ValueError:
        return None
    fields = dict(part.split(":", 1) for part in told.removeprefix("litellm:").split(";") if ":" in part)
    deployment = fields.get("model_id") if told.startswith("litellm:") else None
    return deployment if deployment and deployment != "None" else None


def _items(body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for field in ("messages", "input"):
        value = body.get(field)
        if isinstance(value, list):
            yield from (item for item in value if isinstance(item, Mapping))


def _is_inside_tool_call(items: list[Mapping[str, object]]) -> bool:
    """Whether the last thing an LLM said was a tool call, or a tool's result has come since."""
    for item in reversed(items):
        if _is_result(item) or _is_call(item):
            return True
        if _is_by_llm(item):
            return False
    return False


def _is_by_llm(item: Mapping[str, object]) -> bool:
    kind = _kind(item)
    return item.get("role") == "assistant" or kind in _REASONING or kind in _CALLS or kind.endswith("_call")


def _is_call(item: Mapping[str, object]) -> bool:
    kind = _kind(item)
    if kind in _CALLS or kind.endswith("_call"):
        return True
    if item.get("role") != "assistant":
        return False
    return bool(item.get("tool_calls") or item.get("function_call")) or _has_part(item, _CALLS)


def _is_result(item: Mapping[str, object]) -> bool:
    kind = _kind(item)
    if str(item.get("role")) in _RESULT_ROLES or kind in _RESULTS or kind.endswith("_call_output"):
        return True
    return item.get("role") != "assistant" and _has_part(item, _RESULTS)


def _has_part(item: Mapping[str, object], kinds: frozenset[str]) -> bool:
    content = item.get("content")
    parts = content if isinstance(content, list) else []
    return any(isinstance(part, Mapping) and _kind(part) in kinds for part in parts)


def _kind(item: Mapping[str, object]) -> str:
    return str(item.get("type") or "")


def _is_signed(value: object, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, list):
        return any(_is_signed(one, depth + 1) for one in value)
    if not isinstance(value, Mapping):
        return False
    if _kind(value) in _REASONING or any(value.get(field) for field in _SIGNATURES):
        return True
    if _SIGNED_IN_ID in str(value.get("id") or ""):
        return True
    return any(_is_signed(one, depth + 1) for field, one in value.items() if field not in _OPAQUE)


class SessionReason(StrEnum):
    """Why a conversation's LLM answers, or another."""

    NEW = "session_new"
    KEPT = "session_kept"
    SWITCHED = "session_switched"
    LOCKED = "session_locked"


@dataclass(frozen=True, slots=True)
class Margins:
    """How much better another LLM must be.

    Attributes:
        utility: In utility, that is in accuracy; at least 0.
        cost: For an objective with a floor: how much cheaper, as a share of the cheapest's cost; at least 0.
    """

    utility: float = 0.02
    cost: float = 0.1


@dataclass(frozen=True, slots=True)
class Stay:
    """Who answers.

    Attributes:
        index: Of a candidate in the decision's ranking.
        reason: Why.
    """

    index: int
    reason: SessionReason


_DEFAULT = Margins()


def stay(
    decision: Decision,
    sticky: int | None,
    *,
    bond: Bond | None = None,
    margins: Margins = _DEFAULT,
    saving_usd: float = 0.0,
) -> Stay:
    """Decides whether a conversation stays on its LLM.

    Args:
        decision: With a ranking that is not empty.
        sticky: Index of the candidate that answered before; None when nobody is known to have.
        bond: What ties the request to it; a tie holds as long as it can be chosen at all.
        margins: How much better another must be.
        saving_usd: What its prompt cache saves and its expected cost does not count yet, in USD.

    Returns:
        Who answers, and why.
    """
    best = decision.ranking[0]
    if sticky is None:
        return Stay(best, SessionReason.NEW)
    if sticky not in decision.ranking:
        return Stay(best, SessionReason.SWITCHED)
    if bond is not None:
        return Stay(sticky, SessionReason.LOCKED)
    if keeps_up(decision, sticky, margins, saving_usd=saving_usd):
        return Stay(sticky, SessionReason.KEPT)
    return Stay(best, SessionReason.SWITCHED)


def keeps_up(decision: Decision, index: int, margins: Margins = _DEFAULT, *, saving_usd: float = 0.0) -> bool:
    """Whether a candidate is as good as the best but for the margins: a tie, as far as one cares.

    Args:
        decision: What was weighed.
        index: Of a candidate in its ranking.
        margins: How much better another must be to count as better.
        saving_usd: What it saves and its expected cost does not count yet, in USD.
    """
    best, objective = decision.ranking[0], decision.request.objective
    if index == best:
        return True
    if decision.floor_met is None or objective.cost_weight > 0:  # under a budget a floor gives way to the utility
        gap = decision.utility[best] - decision.utility[index] - objective.cost_weight * saving_usd
        return bool(gap <= margins.utility)
    p_correct, cost_usd = decision.p_correct, decision.cost_usd
    if not decision.floor_met:
        return bool(p_correct[index] >= p_correct[best] - margins.utility)
    cheap_enough = cost_usd[index] - saving_usd <= cost_usd[best] * (1 + margins.cost)
    return bool(cheap_enough and p_correct[index] >= _floor(decision) - margins.utility)


def _floor(decision: Decision) -> float:
    objective = decision.request.objective
    if objective.within is not None:
        return float(max(decision.p_correct[i] for i in decision.ranking)) - objective.within
    return objective.min_p_correct or 0.0
