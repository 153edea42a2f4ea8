"""Conversations around a decision: who answered before, whether that one goes on, who is remembered. Never waits.

Which conversation a request belongs to: hashes of who speaks and of what was said before. Pure, total and bounded.

A conversation is a chain of user turns, each of which later requests repeat. A request is filed under the hash of its
whole chain and looked for under the chain of the request before it, so that two conversations of one user part where
they first differ. Only hashes leave here.

Who answered which conversation, for a while: filed in shared state under hashes. Waits for nothing.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedllm_router._hashing import digest_of
from embedllm_router.config.virtual_model import SessionSettings
from embedllm_router.routing.decision import Decision, Reason
from embedllm_router.routing.session import Bond, Margins, SessionReason, bond_of, deployment_in, stay
from embedllm_router.telemetry.events import Outcome
from embedllm_router.telemetry.record_builder import Arrival

__all__ = [
    "SESSION_HEADER",
    "Conversation",
    "Conversing",
    "Sessions",
    "Shared",
    "Sticky",
    "Talk",
    "conversation_of",
    "response_key",
]

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


_PREFIX = "session:"


class Shared(Protocol):
    """What of shared state sessions need; `state.SharedState` is one."""

    def put(self, key: str, value: str, ttl_s: float) -> None:
        """Puts a text under a key."""

    def get(self, key: str) -> str | None:
        """The text under a key."""

    def forget(self, key: str) -> None:
        """Takes a text back."""


@dataclass(frozen=True, slots=True)
class Sticky:
    """Who answered a conversation's last request.

    Attributes:
        name: The model group.
        input_tokens: Tokens of that request.
        at: When, in seconds since the epoch.
    """

    name: str
    input_tokens: int
    at: float

    def cached_tokens(self, input_tokens: int, now: float, cache_s: float) -> int:
        """Tokens its provider probably still has in its prompt cache.

        Args:
            input_tokens: Of the request at hand, which repeats the one before.
            now: Seconds since the epoch.
            cache_s: How long providers keep a prompt, in seconds.
        """
        return min(self.input_tokens, input_tokens) if now - self.at <= cache_s else 0


class _Filed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    tokens: Annotated[int, Field(ge=0)]
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sessions:
    """Files and finds sessions.

    Args:
        state: Where they are shared with the other proxies.
        ttl_s: How long after its last request a conversation is remembered, in seconds.
    """

    def __init__(self, state: Shared, ttl_s: float = 3_600.0) -> None:
        self._state = state
        self._ttl_s = ttl_s

    def find(self, conversation: Conversation) -> Sticky | None:
        """Who answered the latest known request of a conversation; None when nobody is known to have."""
        for key in conversation.earlier:
            filed = self._state.get(_PREFIX + key)
            sticky = _read(filed) if filed is not None else None
            if sticky is not None:
                return sticky
        return None

    def keep(self, conversation: Conversation, sticky: Sticky) -> None:
        """Files who is asked, when the request is sent: the next one may come before the bill."""
        if conversation.key is not None:
            self._file(conversation.key, sticky)

    def answered(self, conversation: Conversation, speaker: str, sticky: Sticky, response_id: str | None) -> None:
        """Files who really answered, after fallbacks, also under the response's id.

        Args:
            conversation: The request's.
            speaker: As for `conversation_of`.
            sticky: Who answered, and the billed input tokens where known.
            response_id: For requests that name it as `previous_response_id`; None when unknown.
        """
        self.keep(conversation, sticky)
        if response_id:
            self._file(response_key(speaker, response_id), sticky)

    def failed(self, conversation: Conversation, before: Sticky | None) -> None:
        """Takes back who was asked, since nobody answered.

        Args:
            conversation: The request's.
            before: Who answered the request before, as `find` said.
        """
        if before is not None:
            self.keep(conversation, before)
        elif conversation.key is not None:
            self._state.forget(_PREFIX + conversation.key)

    def _file(self, key: str, sticky: Sticky) -> None:
        filed = {"name": sticky.name, "tokens": sticky.input_tokens, "at": round(sticky.at, 3)}
        self._state.put(_PREFIX + key, orjson.dumps(filed).decode(), self._ttl_s)


def _read(text: str) -> Sticky | None:
    try:
        filed = _Filed.model_validate(orjson.loads(text))
    except (orjson.JSONDecodeError, ValidationError):
        return None
    return Sticky(filed.name, filed.tokens, filed.at)


_REASONS = {SessionReason.KEPT: Reason.SESSION_KEPT, SessionReason.LOCKED: Reason.SESSION_LOCKED}


@dataclass(frozen=True, slots=True)
class Talk:
    """The conversation one request goes on with.

    Attributes:
        conversation: Where it is filed.
        speaker: Virtual model and API key, within which it is apart from all others.
        before: Who answered the request before; None when nobody is known to have.
        bond: What ties the request to that one; None when any LLM may go on.
        cached_tokens: Input tokens probably in a provider's prompt cache, by candidate.
        settings: How conversations are kept.
    """

    conversation: Conversation
    speaker: str
    before: Sticky | None
    bond: Bond | None
    cached_tokens: Mapping[str, int]
    settings: SessionSettings

    @property
    def is_new(self) -> bool:
        """Whether nobody is known to have answered before."""
        return self.before is None

    @property
    def allows_fallbacks(self) -> bool:
        """Whether another LLM could read the request at all."""
        return self.bond is None or not self.bond.forbids_fallbacks


class Conversing:
    """Keeps conversations on their LLM.

    Args:
        state: Where they are filed, with other proxies.
        clock: Seconds since the epoch.
    """

    def __init__(self, state: Shared, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock

    def find(
        self,
        data: Mapping[str, Any],
        arrival: Arrival,
        settings: SessionSettings,
        group_of: Callable[[object], str | None],
    ) -> Talk | None:
        """The conversation a request goes on with.

        Args:
            data: The request's body with LiteLLM's additions.
            arrival: Who asks.
            settings: How conversations are kept.
            group_of: Model group of a deployment's id; None for an unknown one.

        Returns:
            The conversation; None where sessions are off.
        """
        if not settings.enabled:
            return None
        headers = (data.get("proxy_server_request") or {}).get("headers") or {}
        speaker = f"{arrival.virtual_model}\0{arrival.key_id or ''}"
        conversation = conversation_of(data, headers, speaker)
        before = self._sessions(settings).find(conversation)
        deployment = deployment_in(data) if before is None else None
        group = group_of(deployment) if deployment is not None else None
        now = self._clock()
        if group is not None:
            before = Sticky(group, 0, now)
        cached = {before.name: before.cached_tokens(before.input_tokens, now, settings.cache_s)} if before else {}
        return Talk(conversation, speaker, before, bond_of(data), cached, settings)

    @staticmethod
    def keep(decision: Decision, talk: Talk | None) -> Decision:
        """Leaves a conversation on its LLM while that one keeps up, and where another could not go on."""
        if talk is None or talk.before is None or not decision.ranking:
            return decision
        sticky = decision.pool.index.get(talk.before.name)
        margins = Margins(talk.settings.margin, talk.settings.cost_margin)
        who = stay(decision, sticky, bond=talk.bond, margins=margins)
        if who.reason not in _REASONS or who.index == decision.ranking[0]:
            return decision
        return decision.putting_first(who.index, _REASONS[who.reason])

    def sent(self, talk: Talk | None, name: str, input_tokens: int) -> None:
        """Remembers who is asked: the next request may come before the answer is through."""
        if talk is not None:
            self._sessions(talk.settings).keep(talk.conversation, Sticky(name, input_tokens, self._clock()))

    def ended(self, talk: Talk | None, outcome: Outcome, input_tokens: int) -> None:
        """Remembers who really answered, or that nobody did."""
        if talk is None:
            return
        sessions = self._sessions(talk.settings)
        if outcome.served is None:
            sessions.failed(talk.conversation, talk.before)
            return
        sticky = Sticky(outcome.served, outcome.input_tokens or input_tokens, self._clock())
        sessions.answered(talk.conversation, talk.speaker, sticky, outcome.response_id)

    def _sessions(self, settings: SessionSettings) -> Sessions:
        return Sessions(self._state, settings.ttl_s)
