"""Which requests judged evaluation takes up, and what is asked of others in their place.

A request is left alone unless everything in it is known to leave things as they are: an LLM that acts is never asked
twice.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedllm_router.config.virtual_model import JudgingSettings
from embedllm_router.proxy.call import Message, encodable
from embedllm_router.records.schema import RequestRecord
from embedllm_router.routing.decision import Decision
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome

__all__ = ["Conversation", "Job", "NotJudged", "conversation_of", "job_of"]

_MOST_CHARS: Final = 100_000
_CALL_TYPES: Final = frozenset({"acompletion", "completion"})
_HANDED_ON: Final = frozenset(
    {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "response_format"}
    | {"reasoning_effort", "verbosity"}
)
"""Parameters of a request that other candidates get as well."""
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_WITHOUT_EFFECT: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "user", "metadata", "n", "store", "service_tier", "timeout"}
    | {"safety_identifier", "prompt_cache_key", "num_retries", "fallbacks", "context_window_fallbacks"}
    | {"content_policy_fallbacks", "tags", "embedllm", "no-log", "drop_params", "cache"}
)
"""Parameters that change nothing about what is answered. A request with any other is left alone: it may be a tool."""
_OF_LITELLM: Final = ("litellm_", "_litellm_")
_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_REDACTED: Final = "redacted-by-litellm"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was asked and answered, as far as another LLM can be asked the same.

    Attributes:
        messages: What was asked.
        parameters: What else was said.
        max_tokens: The request's own limit on the answer; None when it set none.
        answer: What the user got.
    """

    messages: tuple[Message, ...]
    parameters: Mapping[str, object]
    max_tokens: int | None
    answer: str

    @property
    def n_bytes(self) -> int:
        """Size of what was asked."""
        return sum(len(one.content.encode()) for one in self.messages)


@dataclass(frozen=True, slots=True)
class Job:
    """One request to be judged.

    Attributes:
        row: Its record.
        decision: The decision.
        conversation: What was asked and answered.
        settings: How it is judged.
        contenders: The other candidates that answer; none for a double.
        odds: Probability with which each candidate that could have been chosen is a contender.
    """

    row: RequestRecord
    decision: Decision
    conversation: Conversation
    settings: JudgingSettings
    contenders: tuple[str, ...]
    odds: float


class NotJudged(Exception):  # noqa: N818 - no error: a request that is left alone, and why
    """A request is not judged."""


def job_of(
    record: DecisionRecord,
    outcome: Outcome,
    settings: JudgingSettings,
    conversation: Conversation,
    draws: random.Random,
) -> Callable[[RequestRecord], Job]:
    """What is to be done for a request that was drawn.

    Args:
        record: Where it was sent and why.
        outcome: What became of it.
        settings: How it is judged.
        conversation: What was asked and answered.
        draws: Random generator.

    Returns:
        The job, once the record is there.

    Raises:
        NotJudged: It may not be judged, or cannot.
    """
    decision, context = record.decision, record.context
    if context.private:
        raise NotJudged("no-log")
    if decision is None or outcome.served is None or outcome.from_cache:
        raise NotJudged("not_routed")
    if outcome.cut:
        raise NotJudged("cut_off")
    if context.call_type not in _CALL_TYPES:
        raise NotJudged("endpoint")
    served = decision.answered_by(outcome.served)
    others = [decision.pool.names[i] for i in decision.ranking if decision.pool.names[i] != served]
    if draws.random() < settings.doubles:
        contenders, odds = tuple[str, ...](), 1.0
    elif others:
        contenders = tuple(draws.sample(others, min(settings.candidates, len(others))))
        odds = len(contenders) / len(others)
    else:
        raise NotJudged("no_other_candidate")
    return lambda row: Job(row, decision, conversation, settings, contenders, odds)


def conversation_of(kwargs: Mapping[str, Any], response: object) -> Conversation:
    """What was asked and answered.

    Raises:
        NotJudged: Another LLM cannot be asked the same, or shall not.
    """
    request = (kwargs.get("litellm_params") or {}).get("proxy_server_request") or {}
    body = request.get("body")
    if not isinstance(body, Mapping):
        raise NotJudged("unknown_body")
    given = {str(name): value for name, value in body.items() if value is not None}
    if given.get("n", 1) != 1 or given.get("store") is True:
        raise NotJudged("several_or_stored")
    given = {name: value for name, value in given.items() if not name.startswith(_OF_LITELLM)}
    if given.keys() - _HANDED_ON - _WITHOUT_EFFECT - set(_LIMITS):
        raise NotJudged("tools_or_other_parameters")
    messages = tuple(_message(one) for one in kwargs.get("messages") or ())
    answer = _answer_in(response)
    if not messages or not answer or _REDACTED in {answer, *(one.content for one in messages)}:
        raise NotJudged("no_text")
    if sum(len(one.content) for one in messages) + len(answer) > _MOST_CHARS:
        raise NotJudged("too_long")
    limits = (given.get(name) for name in _LIMITS)
    limit = next((one for one in limits if isinstance(one, int) and one > 0), None)
    parameters = {name: value for name, value in given.items() if name in _HANDED_ON}
    return Conversation(messages, parameters, limit, answer)


def _message(one: object) -> Message:
    """A message of text alone.

    Raises:
        NotJudged: It is of something else.
    """
    if not isinstance(one, Mapping):
        raise NotJudged("not_text")
    role = one.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise NotJudged("not_text")
    if one.get("tool_calls") or one.get("function_call"):
        raise NotJudged("not_text")
    content = one.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content
        ]
        content = None if None in parts else "\n".join(map(str, parts))
    if not isinstance(content, str):
        raise NotJudged("not_text")
    return Message(one["role"], content)


def _answer_in(response: object) -> str:
    """The text of an answer that is nothing but text; else empty."""
    choices = getattr(response, "choices", None)
    if not isinstance(choices, list) or len(choices) != 1:
        return ""
    message = getattr(choices[0], "message", None)
    if getattr(message, "tool_calls", None) or getattr(message, "function_call", None):
        return ""
    content = getattr(message, "content", None)
    return encodable(content) if isinstance(content, str) else ""
