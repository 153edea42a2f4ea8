"""Conversations around a decision: who answered before, whether that one goes on, who is remembered. Never waits."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embedllm_router.config.virtual_model import SessionSettings
from embedllm_router.routing.decision import Decision, Reason
from embedllm_router.routing.session import Margins, SessionReason, stay
from embedllm_router.routing.session_sessions_bonds import Bond, bond_of, deployment_in
from embedllm_router.serving.sessions_sessions_identity import Conversation, conversation_of
from embedllm_router.serving.sessions_sessions_sessions import Sessions, Shared, Sticky
from embedllm_router.telemetry.events import Outcome
from embedllm_router.telemetry.record_builder import Arrival

__all__ = ["Conversing", "Talk"]

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
