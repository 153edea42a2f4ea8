"""Request bodies → the text to embed, and how large the request is. Pure, total and bounded.

Four bodies arrive: chat (`messages`), Anthropic messages (`messages`, `system`), Responses (`input`,
`instructions`) and legacy completions (`prompt`). A client may send anything in them; whatever is not text is
counted and skipped, never an error here: judging a body is the provider's business.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard

from embedllm_router.routing.content import (
    Content,
    is_marked,
    is_unsaid,
    json_bytes,
    n_bytes,
    own_words,
    read_content,
    unsaid,
)
from embedllm_router.routing.pool import PARAMETERS, Capability

__all__ = [
    "CHARS_OF_CONTEXT",
    "THINKING_BUDGETS",
    "Bond",
    "EmbedText",
    "Prompt",
    "bond_of",
    "deployment_in",
    "is_said",
    "opening",
    "read_body",
    "service_tier_in",
]

CHARS_OF_CONTEXT = 200
"""A last user turn shorter than this ("yes, go on") is read with the user turns before it."""

_BYTES_PER_TOKEN = 4
_MOST_TOKENS = 1_000_000_000  # a larger limit on the answer is none, and columns of records have 64 bits
_MOST_ITEMS = 1_024  # messages that are read in full: the first few and the last; of those between only the size counts
_FIRST_ITEMS = 64
_TOKENS_LOOKED_AT = 32  # at either end of a list of token ids, which may have millions
_MOST_ANSWERS = 10_000  # no provider gives as many
_LIMITS = {
    "completion": ("max_completion_tokens", "max_tokens"),
    "text_completion": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "anthropic_messages": ("max_tokens",),
}
THINKING_BUDGETS = {"low": 1_024, "medium": 2_048, "high": 4_096}
"""Tokens of thinking that LiteLLM takes for an effort in a body of Anthropic messages, in rising order.

It has none for other efforts that it would not take for one of these again where another provider's LLM is asked.
"""
_SEVERAL = {"completion": ("n",), "text_completion": ("n", "best_of")}
_NO_EFFORT = frozenset({"none"})
_MAX_DEPTH = 6  # nesting of content parts beyond this is nobody's real request
_SYSTEM_ROLES = frozenset({"system", "developer"})
_CALLED = ("tool_calls", "function_call", "arguments", "output")
_ALSO_READ = ("tools", "functions", "response_format", "text", "prediction")  # an LLM reads these beside the messages
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


class EmbedText(StrEnum):
    """Which part of a request is embedded."""

    LAST_USER = "last_user"
    CONVERSATION = "conversation"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is routed.

    Attributes:
        text: The text to embed; empty when the request has none.
        input_tokens: Estimated tokens of the whole request with system prompt and tools: UTF-8 bytes / 4.
        max_output_tokens: The request's own limit on the answer; None when it sets none.
        needs: What an LLM must be able to do to take the request.
        n_answers: Answers it asks for: `n`, `best_of`, prompts in a list.
        marks_cache: Whether it asks the provider to cache a part of it.
        service_tier: The tier of service it asks for, such as "flex" or "priority"; empty for the usual one.
        sets_effort: Whether it sets a reasoning effort itself, in any form.
        efforts: Reasoning efforts it may be asked with: its own one, else those that its endpoint and its limit on the
            answer leave room for; None allows any.
    """

    text: str
    input_tokens: int
    max_output_tokens: int | None = None
    needs: frozenset[Capability] = frozenset()
    n_answers: int = 1
    marks_cache: bool = False
    service_tier: str = ""
    sets_effort: bool = False
    efforts: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    role: str
    content: Content


def read_body(
    body: Mapping[str, object],
    embed_text: EmbedText = EmbedText.LAST_USER,
    *,
    call_type: str = "",
) -> Prompt:
    """Reads a request body.

    Args:
        body: Chat, Anthropic messages, Responses or completions body, as parsed from JSON.
        embed_text: `last_user` takes the last user turn, with those before it while it is shorter than
            `CHARS_OF_CONTEXT`; `conversation` every user and assistant turn; `all` the system prompt as well.
        call_type: LiteLLM's name of the endpoint; empty goes by the shape of the body.

    Returns:
        The text and the size of the request.
    """
    turns, endpoint = list(_turns(body)), _endpoint(body, call_type)
    also_read = sum(json_bytes(body[field]) for field in _ALSO_READ if body.get(field))
    size = sum(turn.content.n_bytes for turn in turns) + also_read
    limit, effort = _max_output_tokens(body, endpoint), _own_effort(body)
    return Prompt(
        text=_select(turns, embed_text),
        input_tokens=-(-size // _BYTES_PER_TOKEN) + sum(turn.content.n_tokens for turn in turns),
        max_output_tokens=limit,
        needs=_needs_of_body(body).union(_parameters(body, endpoint), *(turn.content.needs for turn in turns)),
        n_answers=_n_answers(body, endpoint),
        marks_cache=_marks_cache(body, turns),
        service_tier=service_tier_in(body),
        sets_effort=effort is not None,
        efforts=_possible_efforts(endpoint if call_type else "", limit) if effort is None else frozenset({effort}),
    )


def _own_effort(body: Mapping[str, object]) -> str | None:
    """The reasoning effort that a body sets, in the form of any endpoint; None where it sets none."""
    thinking = body.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") == "disabled":
        return "none"
    for field in ("reasoning_effort", "reasoning", "output_config"):
        value = body.get(field)
        effort = value.get("effort") if isinstance(value, Mapping) else value
        if isinstance(effort, str) and effort:
            return effort.lower()
    if not isinstance(thinking, Mapping):
        return None
    budget = thinking.get("budget_tokens")
    if not _is_count(budget):
        return "high"  # what providers take where thinking is on and nothing says how much
    return next((one for one, least in reversed(THINKING_BUDGETS.items()) if budget >= least), "minimal")


def _possible_efforts(endpoint: str, limit: int | None) -> frozenset[str] | None:
    """The efforts that a body without one can be asked with; None for any."""
    if endpoint == "text_completion":  # it has no parameter for one
        return _NO_EFFORT
    if endpoint != "anthropic_messages":
        return None
    room = (effort for effort, budget in THINKING_BUDGETS.items() if limit is None or budget < limit)
    return _NO_EFFORT.union(room)


_SERVICE_TIERS = {tier: tier for tier in ("flex", "balanced", "priority", "ultrafast")} | {"fast": "priority"}
"""What providers call a tier of service, and what LiteLLM's prices call it."""


def service_tier_in(body: Mapping[str, object]) -> str:
    """The tier of service that a body, or the parameters of a deployment, ask for; empty for the usual one."""
    asked = body.get("service_tier")
    return _SERVICE_TIERS.get(asked.lower(), "") if isinstance(asked, str) else ""


def _marks_cache(body: Mapping[str, object], turns: list[_Turn]) -> bool:
    if body.get("cache_control") or any(turn.content.marks_cache for turn in turns):
        return True
    return bool(body.get("tools")) and is_marked(body["tools"])


def opening(body: Mapping[str, object]) -> str:
    """The first user turn's text, which later turns of a conversation repeat; empty when there is none."""
    return next((turn.content.text for turn in _turns(body) if turn.role == "user" and turn.content.text), "")


def _select(turns: list[_Turn], embed_text: EmbedText) -> str:
    if embed_text is EmbedText.ALL:
        return "\n\n".join(turn.content.text for turn in turns if turn.content.text)
    if embed_text is EmbedText.CONVERSATION:
        said = (_words(turn) for turn in turns if turn.role in {"user", "assistant"})
        return "\n\n".join(text for text in said if text)
    latest_first = [turn for turn in reversed(turns) if turn.role == "user"]
    return _last_of(map(_words, latest_first)) or _last_of(turn.content.text for turn in latest_first)


def _words(turn: _Turn) -> str:
    """What was said in a turn, by the person or an LLM."""
    text = turn.content.text
    return own_words(text) if turn.role == "user" and "<" in text else text


def _last_of(texts: Iterable[str]) -> str:
    """The last texts, given last first, as far as they give context; empty ones say nothing."""
    taken: list[str] = []
    for text in texts:
        if text:
            taken.append(text)
            if sum(map(len, taken)) >= CHARS_OF_CONTEXT:
                break
    return "\n\n".join(reversed(taken))


def _turns(body: Mapping[str, object]) -> Iterator[_Turn]:
    for field in ("system", "instructions"):
        if body.get(field):
            yield _Turn("system", read_content(body[field]))
    for field in ("messages", "input", "prompt"):
        value = body.get(field)
        if isinstance(value, str):
            yield _Turn("user", read_content(value))
        elif isinstance(value, list):
            yield from _listed_turns(value)


def _listed_turns(items: list[object]) -> Iterator[_Turn]:
    if _is_token_ids(items):
        yield _Turn("user", Content(n_tokens=len(items)))
        return
    if len(items) > _MOST_ITEMS:
        yield from _listed_turns(items[:_FIRST_ITEMS])
        passed_over = items[_FIRST_ITEMS : _FIRST_ITEMS - _MOST_ITEMS]
        yield _Turn("tool", Content(n_bytes=sum(map(_rough_size, passed_over))))
        items = items[_FIRST_ITEMS - _MOST_ITEMS :]
    for item in items:
        if isinstance(item, Mapping):
            yield _message_turn(item)
        elif _is_token_ids(item):
            yield _Turn("user", Content(n_tokens=len(item)))
        elif isinstance(item, str | list):
            yield _Turn("user", read_content(item))


def _is_token_ids(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or not value:
        return False
    ends = value if len(value) <= 2 * _TOKENS_LOOKED_AT else value[:_TOKENS_LOOKED_AT] + value[-_TOKENS_LOOKED_AT:]
    return all(isinstance(token, int) for token in ends)


def _rough_size(item: object) -> int:
    """Bytes of a message's text, without a look at what else it holds; token ids count as four each."""
    content = item.get("content") if isinstance(item, dict) else item
    if isinstance(content, str):
        return n_bytes(content)
    if not isinstance(content, list):
        return 0
    if _is_token_ids(content):
        return _BYTES_PER_TOKEN * len(content)
    texts = (part.get("text") for part in content if isinstance(part, Mapping))
    return sum(n_bytes(text) for text in texts if isinstance(text, str))


def _message_turn(message: Mapping[str, object]) -> _Turn:
    role, kind = message.get("role"), str(message.get("type") or "")
    if not isinstance(role, str):
        if is_unsaid(kind):
            return _Turn("tool", unsaid(message))
        role = "user"
    called = [message[field] for field in _CALLED if message.get(field)]
    return _Turn("system" if role in _SYSTEM_ROLES else role, read_content(message.get("content"), called))


def _needs_of_body(body: Mapping[str, object]) -> frozenset[Capability]:
    needs = set()
    if body.get("tools") or body.get("functions"):
        needs.add(Capability.TOOLS)
    chat_format, responses_text = body.get("response_format"), body.get("text")
    responses_format = responses_text.get("format") if isinstance(responses_text, Mapping) else None
    for wanted in (chat_format, responses_format):
        if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
            needs.add(Capability.JSON_SCHEMA)
    return frozenset(needs)


def _parameters(body: Mapping[str, object], endpoint: str) -> frozenset[Capability]:
    """The parameters for which LiteLLM or the provider may refuse the request, unless it says that they be dropped.

    LiteLLM compares parameters of chat and completions bodies with a list for each LLM. Of the other bodies it
    translates what asks for reasoning, and leaves out or passes on the rest.
    """
    if is_said(body.get("drop_params")):
        return frozenset()
    compared = endpoint in {"completion", "text_completion"}
    names = {name for name in PARAMETERS if body.get(name) is not None} if compared else set()
    if _asks_for_reasoning(body.get("thinking" if endpoint == "anthropic_messages" else "reasoning")):
        names.add(Capability.REASONING_EFFORT)
    if body.get("n") == 1:  # the default, which LiteLLM never refuses
        names.discard(Capability.N)
    excused = [
        name for field in ("additional_drop_params", "allowed_openai_params") for name in _listed(body.get(field))
    ]
    return frozenset(names.difference(excused))


def _asks_for_reasoning(value: object) -> bool:
    if not isinstance(value, Mapping) or value.get("type") == "disabled":
        return False
    return any(one is not None for one in value.values())


def is_said(flag: object) -> bool:
    """Whether a flag of LiteLLM's is set, be it as text."""
    return flag is True or (isinstance(flag, str) and flag.strip().lower() in {"true", "1", "yes", "on"})


def _listed(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _endpoint(body: Mapping[str, object], call_type: str) -> str:
    """LiteLLM's name of the endpoint; where none is given, by the shape of the body."""
    if call_type:
        return call_type if call_type in _LIMITS else call_type.removeprefix("a")  # the asynchronous ones begin with it
    if "messages" in body:
        return "completion"
    return "responses" if "input" in body else "text_completion"


def _max_output_tokens(body: Mapping[str, object], endpoint: str) -> int | None:
    """The limit that binds on this endpoint; the largest of several, as LLMs differ in which of them they read."""
    limits = [body.get(field) for field in _LIMITS.get(endpoint, ())]
    return max((min(limit, _MOST_TOKENS) for limit in limits if _is_count(limit) and limit > 0), default=None)


def _n_answers(body: Mapping[str, object], endpoint: str) -> int:
    prompts = body.get("prompt") if endpoint == "text_completion" else None
    n_prompts = len(prompts) if isinstance(prompts, list) and prompts and not _is_token_ids(prompts) else 1
    several = [body.get(field) for field in _SEVERAL.get(endpoint, ())]
    return min(n_prompts * max((n for n in several if _is_count(n) and n > 1), default=1), _MOST_ANSWERS)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


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
    items = list(_listed_items(body))
    if any(_kind_of(item) == _REFERENCE for item in items):
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
        decoded = base64.b64decode(response.removeprefix(_RESPONSE_PREFIX), validate=True).decode("utf-8")
    except ValueError:
        return None
    fields = dict(part.split(":", 1) for part in decoded.removeprefix("litellm:").split(";") if ":" in part)
    deployment = fields.get("model_id") if decoded.startswith("litellm:") else None
    return deployment if deployment and deployment != "None" else None


def _listed_items(body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The items of a body's lists; of long ones the last."""
    for field in ("messages", "input"):
        value = body.get(field)
        if isinstance(value, list):
            yield from (item for item in value[-_MOST_ITEMS:] if isinstance(item, Mapping))


def _is_inside_tool_call(items: list[Mapping[str, object]]) -> bool:
    """Whether the last thing an LLM said was a tool call, or a tool's result has come since."""
    for item in reversed(items):
        if _is_result(item) or _is_call(item):
            return True
        if _is_by_llm(item):
            return False
    return False


def _is_by_llm(item: Mapping[str, object]) -> bool:
    kind = _kind_of(item)
    return item.get("role") == "assistant" or kind in _REASONING or kind in _CALLS or kind.endswith("_call")


def _is_call(item: Mapping[str, object]) -> bool:
    kind = _kind_of(item)
    if kind in _CALLS or kind.endswith("_call"):
        return True
    if item.get("role") != "assistant":
        return False
    return bool(item.get("tool_calls") or item.get("function_call")) or _has_part(item, _CALLS)


def _is_result(item: Mapping[str, object]) -> bool:
    kind = _kind_of(item)
    if str(item.get("role")) in _RESULT_ROLES or kind in _RESULTS or kind.endswith("_call_output"):
        return True
    return item.get("role") != "assistant" and _has_part(item, _RESULTS)


def _has_part(item: Mapping[str, object], kinds: frozenset[str]) -> bool:
    content = item.get("content")
    parts = content if isinstance(content, list) else []
    return any(isinstance(part, Mapping) and _kind_of(part) in kinds for part in parts)


def _kind_of(item: Mapping[str, object]) -> str:
    return str(item.get("type") or "")


def _is_signed(value: object, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, list):
        return any(_is_signed(one, depth + 1) for one in value)
    if not isinstance(value, Mapping):
        return False
    if _kind_of(value) in _REASONING or any(value.get(field) for field in _SIGNATURES):
        return True
    if _SIGNED_IN_ID in str(value.get("id") or ""):
        return True
    return any(_is_signed(one, depth + 1) for field, one in value.items() if field not in _OPAQUE)
