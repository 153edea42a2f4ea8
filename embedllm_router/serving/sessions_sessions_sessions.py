"""Who answered which conversation, for a while: filed in shared state under hashes. Waits for nothing."""

from dataclasses import dataclass
from typing import Annotated, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedllm_router.serving.sessions_sessions_identity import Conversation, response_key

__all__ = ["Sessions", "Shared", "Sticky"]

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
