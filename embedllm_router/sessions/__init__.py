"""Conversations that stay on their LLM: while it keeps up, and always where another could not go on.

conversation = conversation_of(body, headers, speaker)
sticky = sessions.find(conversation)                       # microseconds, memory only
who = stay(decision, index_of_sticky, bond=bond_of(body))
sessions.keep(conversation, Sticky(name, input_tokens, now))
"""

from embedllm_router.sessions.bonds import Bond, bond_of, deployment_in
from embedllm_router.sessions.identity import SESSION_HEADER, Conversation, conversation_of, response_key
from embedllm_router.sessions.sessions import Sessions, Sticky
from embedllm_router.sessions.staying import Margins, SessionReason, Stay, keeps_up, stay

__all__ = [
    "SESSION_HEADER",
    "Bond",
    "Conversation",
    "Margins",
    "SessionReason",
    "Sessions",
    "Stay",
    "Sticky",
    "bond_of",
    "conversation_of",
    "deployment_in",
    "keeps_up",
    "response_key",
    "stay",
]
