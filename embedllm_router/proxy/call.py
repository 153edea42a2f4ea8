"""A call of our own to a deployment, such as to a judge: what is sent, what came of it, what it may cost. Values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from embedllm_router.routing.pool import Candidate, CandidatePool

__all__ = ["Failure", "Message", "Outcome", "Reply", "bound_usd", "cost_usd", "encodable", "json_object"]

Outcome = Literal[
    "answered",
    "empty",
    "truncated",
    "content_filtered",
    "rate_limited",
    "timeout",
    "connection",
    "server_error",
    "bad_request",
    "not_allowed",
]
"""What became of a request; all but the first are failures of their own kind, and none of them is a wrong answer."""

_TOKENS_PER_MESSAGE: Final = 64  # what chat templates add, generously
_FENCED: Final = re.compile(r"\s*```(?:json)?\s*\n?(.{1,2000}?)\n?\s*```\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: "system", "developer", "user" or "assistant".
        content: Its text.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a deployment answered.

    Attributes:
        outcome: "answered", or why what came is no answer: "empty", "truncated" or "content_filtered".
        text: The answer; empty without one.
        input_tokens: Billed; None where the provider does not say. So is the next one.
        output_tokens: Hidden reasoning included.
        cost_usd: The bill as LiteLLM reckons it; None where it has no price.
        latency_s: Seconds from sending to the last byte.
    """

    outcome: Outcome
    text: str
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float


class Failure(Exception):  # noqa: N818 - its callers catch it and write it down
    """A request that brought no answer.

    Attributes:
        outcome: Its kind.
        billed: False where the provider refused, so that nothing is billed; None where nobody knows.
        retry_after_s: How long the provider asks to wait; None where it does not say.
    """

    def __init__(
        self, outcome: Outcome, message: str, *, billed: bool | None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.outcome, self.billed, self.retry_after_s = outcome, billed, retry_after_s


def encodable(text: str) -> str:
    """A text without lone surrogates, which JSON may escape and no request can carry."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def bound_usd(candidate: Candidate, n_bytes: int, n_messages: int, max_tokens: int) -> float | None:
    """The most that a request can cost, at the highest prices it may come to; None without a price.

    No tokenizer makes more tokens of a text than it has bytes.
    """
    per_input, per_output = candidate.input_usd_per_token, candidate.output_usd_per_token
    if per_input is None or per_output is None:
        return None
    per_input = max(per_input, *(tier.input_usd_per_token for tier in candidate.tiers), 0.0)
    per_output = max(per_output, *(tier.output_usd_per_token for tier in candidate.tiers), 0.0)
    input_tokens = n_bytes + _TOKENS_PER_MESSAGE * n_messages
    return candidate.usd_per_request + input_tokens * per_input + max_tokens * per_output


def cost_usd(candidate: Candidate, input_tokens: int, output_tokens: int) -> float | None:
    """What a request costs by the prices of its deployment, as routing reckons it; None without a price."""
    return CandidatePool((candidate,)).cost_usd(candidate.name, input_tokens, output_tokens)


def billed_usd(candidate: Candidate, reply: Reply) -> float | None:
    """What a reply cost: LiteLLM's bill, else its tokens at the deployment's prices; None where neither is known."""
    if reply.cost_usd:
        return reply.cost_usd
    if reply.input_tokens is None or reply.output_tokens is None:
        return None
    return cost_usd(candidate, reply.input_tokens, reply.output_tokens)


def json_object(text: str) -> Mapping[str, Any] | None:
    """The JSON object that a judge's reply is, bare or in a code fence; None where it is anything else."""
    fenced = _FENCED.fullmatch(text)
    try:
        said = orjson.loads(fenced[1] if fenced else text)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None
