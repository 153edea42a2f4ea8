"""Which LLM a session is pinned to: sessions are recognised, found and filed. Waits for nothing.

A session is a chain of user turns, each of which later requests repeat. A request is filed under the hash of its whole
chain and looked for under the chain of the request before it, so that two sessions of one user part where they first
differ. Only hashes of who sends and of what was said are filed, in shared state.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedllm_router._hashing import digest_of
from embedllm_router.config.virtual_model import SessionSettings
from embedllm_router.routing.prompt import Bond, bond_of, deployment_in
from embedllm_router.routing.session import Margins, PinnedSession
from embedllm_router.telemetry.decision_record import Outcome, RequestContext

__all__ = [
    "SESSION_HEADER",
    "PinnedLLM",
    "Session",
    "SessionKeys",
    "SessionStore",
    "Sessions",
    "Shared",
    "response_key",
    "session_keys",
]

SESSION_HEADER = "x-embedllm-session"

_MAX_EARLIER = 32  # turns back that are looked for: requests in between may have gone elsewhere
_MOST_TURNS = 512  # user turns that tell a session from others; a longer one is known by these
_MAX_DEPTH = 6
_MAX_OTHER = 1_024  # characters of an image or file that tell it from another
_PASSED_OVER = frozenset({"cache_control", "role", "type"})
_RESULTS = frozenset({"tool_result", "function_call_output"})


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Where a request's session is found and filed.

    Attributes:
        earlier: Keys it may have been filed under before, the latest first.
        key: Key to file it under; None when it has nothing to be recognised by.
    """

    earlier: tuple[str, ...]
    key: str | None


def session_keys(body: Mapping[str, object], headers: Mapping[str, str], scope: str) -> SessionKeys:
    """The keys of a request's session.

    A session that the client names, in the header `x-embedllm-session` or in `metadata.session_id`, is taken as
    named. Else it is the chain of user turns, of the end user in `user` or `metadata.user_id` if there is one.

    Args:
        body: Chat, Anthropic messages, Responses or completions body, as parsed from JSON.
        headers: Request headers, names in lower case.
        scope: Virtual model and API key, within which sessions are apart from all others.
    """
    metadata = body.get("metadata")
    about = metadata if isinstance(metadata, Mapping) else {}
    named = headers.get(SESSION_HEADER) or _text(about.get("session_id"))
    previous = _text(body.get("previous_response_id"))
    stored = (response_key(scope, previous),) if previous else ()
    if named:
        key = digest_of("named", scope, named)
        return SessionKeys((*stored, key), key)
    user = _text(body.get("user")) or _text(about.get("user_id"))
    turns = list(islice(_user_turns(body), _MOST_TURNS))
    chain = _chain(turns, digest_of("user", scope, user))
    if not chain:
        return SessionKeys(stored, None)
    is_new_turn = len(turns) < _MOST_TURNS and _ends_with_user(body)
    before = chain[:-1] if is_new_turn else chain
    return SessionKeys((*stored, *reversed(before[-_MAX_EARLIER:])), chain[-1])


def response_key(scope: str, response_id: str) -> str:
    """Where the session of a stored response is filed, for `previous_response_id`."""
    return digest_of("response", scope, response_id)


def _chain(turns: list[list[str]], start: str) -> list[str]:
    chain, link = [], start
    for turn in turns:
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


_LEAST_CACHED_TOKENS = 1_024
"""Shortest prompt that OpenAI, Anthropic, Google and DeepSeek's larger LLMs cache."""


@dataclass(frozen=True, slots=True)
class PinnedLLM:
    """The LLM that answered a session's last request.

    Attributes:
        name: The model group.
        input_tokens: Tokens of that request.
        at: When, in seconds since the epoch.
    """

    name: str
    input_tokens: int
    at: float

    def cached_tokens(self, input_tokens: int, now: float, cache_s: float) -> int:
        """Tokens its provider probably still has in its prompt cache; none of a prompt too short for any.

        Args:
            input_tokens: Of the request at hand, which repeats the one before.
            now: Seconds since the epoch.
            cache_s: How long providers keep a prompt, in seconds.
        """
        kept = self.input_tokens >= _LEAST_CACHED_TOKENS and now - self.at <= cache_s
        return min(self.input_tokens, input_tokens) if kept else 0


class _Filed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    tokens: Annotated[int, Field(ge=0)]
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SessionStore:
    """Files and finds sessions.

    Args:
        state: Where they are shared with the other proxies.
        ttl_s: How long after its last request a session is remembered, in seconds.
    """

    def __init__(self, state: Shared, ttl_s: float = 3_600.0) -> None:
        self._state = state
        self._ttl_s = ttl_s

    def find(self, keys: SessionKeys) -> PinnedLLM | None:
        """The LLM that answered the latest known request of a session; None when none is known to have."""
        for key in keys.earlier:
            filed = self._state.get(_PREFIX + key)
            pinned = _read(filed) if filed is not None else None
            if pinned is not None:
                return pinned
        return None

    def keep(self, keys: SessionKeys, pinned: PinnedLLM) -> None:
        """Files which LLM is asked, when the request is sent: the next one may come before the bill."""
        if keys.key is not None:
            self._file(keys.key, pinned)

    def answered(self, keys: SessionKeys, scope: str, pinned: PinnedLLM, response_id: str | None) -> None:
        """Files which LLM really answered, after fallbacks, also under the response's id.

        Args:
            keys: The request's.
            scope: As for `session_keys`.
            pinned: The LLM that answered, and the billed input tokens where known.
            response_id: For requests that name it as `previous_response_id`; None when unknown.
        """
        self.keep(keys, pinned)
        if response_id:
            self._file(response_key(scope, response_id), pinned)

    def failed(self, keys: SessionKeys, before: PinnedLLM | None) -> None:
        """Takes back which LLM was asked, since none answered.

        Args:
            keys: The request's.
            before: The LLM that answered the request before, as `find` said.
        """
        if before is not None:
            self.keep(keys, before)
        elif keys.key is not None:
            self._state.forget(_PREFIX + keys.key)

    def _file(self, key: str, pinned: PinnedLLM) -> None:
        filed = {"name": pinned.name, "tokens": pinned.input_tokens, "at": round(pinned.at, 3)}
        self._state.put(_PREFIX + key, orjson.dumps(filed).decode(), self._ttl_s)


def _read(text: str) -> PinnedLLM | None:
    try:
        filed = _Filed.model_validate(orjson.loads(text))
    except (orjson.JSONDecodeError, ValidationError):
        return None
    return PinnedLLM(filed.name, filed.tokens, filed.at)


@dataclass(frozen=True, slots=True)
class Session:
    """The session that one request goes on with.

    Attributes:
        keys: Where it is filed.
        scope: Virtual model and API key, within which it is apart from all others.
        pinned: The LLM that answered the request before; None when none is known to have.
        bond: What ties the request to that LLM; None when any LLM may go on.
        settings: How sessions are kept.
    """

    keys: SessionKeys
    scope: str
    pinned: PinnedLLM | None
    bond: Bond | None
    settings: SessionSettings

    @property
    def pin(self) -> PinnedSession | None:
        """What the pipeline needs to know of it; None for a new one."""
        if self.pinned is None:
            return None
        return PinnedSession(self.pinned.name, self.bond, Margins(self.settings.margin, self.settings.cost_margin))

    def cached_tokens(self, now: float) -> Mapping[str, int]:
        """Input tokens probably in the provider's prompt cache, by candidate; `now` is in seconds since the epoch."""
        pinned = self.pinned
        if pinned is None:
            return {}
        return {pinned.name: pinned.cached_tokens(pinned.input_tokens, now, self.settings.cache_s)}


class Sessions:
    """Keeps sessions on their LLM.

    Args:
        state: Where they are filed, with other proxies.
        clock: Seconds since the epoch.
    """

    def __init__(self, state: Shared, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self.clock = clock

    def find(
        self,
        data: Mapping[str, Any],
        context: RequestContext,
        settings: SessionSettings,
        group_of: Callable[[object], str | None],
    ) -> Session:
        """The session a request goes on with.

        Args:
            data: The request's body with LiteLLM's additions.
            context: Who sends it.
            settings: How sessions are kept.
            group_of: Model group of a deployment's id; None for an unknown one.
        """
        scope = _scope(context)
        keys = session_keys(data, _headers(data), scope)
        pinned = SessionStore(self._state, settings.ttl_s).find(keys)
        deployment = deployment_in(data) if pinned is None else None
        group = group_of(deployment) if deployment is not None else None
        if group is not None:
            pinned = PinnedLLM(group, 0, self.clock())
        return Session(keys, scope, pinned, bond_of(data), settings)

    def place_of(self, data: Mapping[str, Any], context: RequestContext) -> str | None:
        """Where in shared state a request's session is filed; None where it has nothing to be recognised by."""
        key = session_keys(data, _headers(data), _scope(context)).key
        return None if key is None else _PREFIX + key

    def sent(self, session: Session, name: str, input_tokens: int) -> None:
        """Remembers which LLM is asked: the next request may come before the answer is through."""
        store = SessionStore(self._state, session.settings.ttl_s)
        store.keep(session.keys, PinnedLLM(name, input_tokens, self.clock()))

    def ended(self, session: Session, outcome: Outcome, input_tokens: int) -> None:
        """Remembers which LLM really answered, or that none did."""
        store = SessionStore(self._state, session.settings.ttl_s)
        if outcome.served is None:
            store.failed(session.keys, session.pinned)
            return
        pinned = PinnedLLM(outcome.served, outcome.input_tokens or input_tokens, self.clock())
        store.answered(session.keys, session.scope, pinned, outcome.response_id)


def _scope(context: RequestContext) -> str:
    return f"{context.virtual_model}\0{context.key_id or ''}"


def _headers(data: Mapping[str, Any]) -> Mapping[str, str]:
    headers: Mapping[str, str] = (data.get("proxy_server_request") or {}).get("headers") or {}
    return headers
