"""Which conversation a request belongs to: hashes of who speaks and of what was said before. Pure, total and bounded.

A conversation is a chain of user turns, each of which later requests repeat. A request is filed under the hash of its
whole chain and looked for under the chain of the request before it, so that two conversations of one user part where
they first differ. Only hashes leave here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from embedllm_router._hashing import digest_of

__all__ = ["SESSION_HEADER", "Conversation", "conversation_of", "response_key"]

SESSION_HEADER = "x-embedllm-session"

_MAX_EARLIER = 32  # turns back that are looked for: requests in between may have gone elsewhere
_MAX_DEPTH = 6
_MAX_OTHER = 1_024  # characters of an image or file that tell it from another
_PASSED_OVER = frozenset({"cache_control", "role", "type"})
_RESULTS = frozenset({"tool_result", "function_call_output"})


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where a request's session is found and filed.

    Attributes:
        earlier: Keys it may have been filed under before, the latest first.
        key: Key to file it under; None when it has nothing to be recognised by.
    """

    earlier: tuple[str, ...]
    key: str | None


def conversation_of(body: Mapping[str, object], headers: Mapping[str, str], speaker: str) -> Conversation:
    """The conversation of a request.

    A session that the client names, in the header `x-embedllm-session` or in `metadata.session_id`, is the
    conversation. Else it is the chain of user turns, of the end user in `user` or `metadata.user_id` if there is one.

    Args:
        body: Chat, Anthropic messages, Responses or completions body, as parsed from JSON.
        headers: Request headers, names in lower case.
        speaker: Virtual model and API key, within which sessions are apart from all others.
    """
    metadata = body.get("metadata")
    about = metadata if isinstance(metadata, Mapping) else {}
    named = headers.get(SESSION_HEADER) or _text(about.get("session_id"))
    previous = _text(body.get("previous_response_id"))
    told = (response_key(speaker, previous),) if previous else ()
    if named:
        key = digest_of("named", speaker, named)
        return Conversation((*told, key), key)
    user = _text(body.get("user")) or _text(about.get("user_id"))
    chain = _chain(body, digest_of("user", speaker, user))
    if not chain:
        return Conversation(told, None)
    before = chain[:-1] if _ends_with_user(body) else chain
    return Conversation((*told, *reversed(before[-_MAX_EARLIER:])), chain[-1])


def response_key(speaker: str, response_id: str) -> str:
    """Where the session of a stored response is filed, for `previous_response_id`."""
    return digest_of("response", speaker, response_id)


def _chain(body: Mapping[str, object], start: str) -> list[str]:
    chain, link = [], start
    for turn in _user_turns(body):
        link = digest_of(link, *turn)
        chain.append(link)
    return chain


def _user_turns(body: Mapping[str, object]) -> Iterator[list[str]]:
    """What the user said in each turn, in pieces; a turn of tool results alone is none."""
    for field in ("messages", "input"):
        value = body.get(field)
        if isinstance(value, str) and value:
            yield [value]
        elif isinstance(value, list):
            yield from (said for item in value if _is_by_user(item) and (said := list(_said(item, 0))))


def _is_by_user(item: object) -> bool:
    return isinstance(item, Mapping) and item.get("role") == "user"


def _ends_with_user(body: Mapping[str, object]) -> bool:
    """Whether the last item is a new turn of the user's, which no request before this one had."""
    items = body.get("messages") or body.get("input")
    if not isinstance(items, list) or not items:
        return True
    return _is_by_user(items[-1]) and bool(list(_said(items[-1], 0)))


def _said(value: object, depth: int, most: int | None = None) -> Iterator[str]:
    """Every text in a turn, one after the other; of a text inside an image or file only so many characters."""
    if isinstance(value, str):
        if value:
            yield value[:most]
    elif depth >= _MAX_DEPTH:
        return
    elif isinstance(value, list):
        for one in value:
            yield from _said(one, depth + 1, most)
    elif isinstance(value, Mapping) and str(value.get("type")) not in _RESULTS:
        known = value.get("content", value.get("text"))
        if known is not None:
            yield from _said(known, depth + 1, most)
        else:
            for field in sorted(str(name) for name in value if name not in _PASSED_OVER):
                yield from _said(value.get(field), depth + 1, _MAX_OTHER)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
