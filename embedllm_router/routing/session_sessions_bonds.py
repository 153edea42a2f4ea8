"""Whether a request can only go on with the LLM that answered before. Pure, total and bounded.

Providers sign or encrypt an LLM's reasoning, and accept it back from no other LLM; they keep stored responses to
themselves; and a tool's result belongs to the LLM that called the tool. Request bodies of chat, Anthropic messages and
Responses are read as `messages.py` does: whatever is none of this is passed over.
"""

import base64
from collections.abc import Iterator, Mapping
from enum import StrEnum

__all__ = ["Bond", "bond_of", "deployment_in"]

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
