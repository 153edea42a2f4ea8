"""Who may answer: candidates, what they cost and lack, and the reasons that exclude them.

It knows nothing of prompts; policy.py weighs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidate", "CandidatePool", "Capability", "Exclusion"]

Floats = NDArray[np.float64]


class Capability(StrEnum):
    """What a request may need an LLM to take or do, besides text."""

    VISION = "vision"
    AUDIO = "audio"
    PDF = "pdf"
    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"


class Exclusion(StrEnum):
    """Why a candidate could not be chosen."""

    LLM_UNKNOWN = "llm_unknown"
    PRICE_UNKNOWN = "price_unknown"
    NOT_REQUESTED = "not_requested"
    CONTEXT_WINDOW = "context_window"
    TOO_EXPENSIVE = "too_expensive"
    NO_VISION = "no_vision"
    NO_AUDIO = "no_audio"
    NO_PDF = "no_pdf"
    NO_TOOLS = "no_tools"
    NO_JSON_SCHEMA = "no_json_schema"

    @classmethod
    def lacking(cls, capability: Capability) -> "Exclusion":
        """The exclusion of a candidate that lacks a capability."""
        return cls(f"no_{capability}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One LLM that may answer.

    Attributes:
        name: What the caller calls it: a LiteLLM model group, or a canonical id.
        llm: Canonical id of the learned LLM it stands for; None when none does.
        row: That LLM's row in the artifact; None when none does.
        input_usd_per_token: Price of one input token in USD; None when unknown. 0.0 means free.
        output_usd_per_token: Price of one output token in USD; None when unknown.
        max_input_tokens: Context window in tokens; None when unknown.
        lacks: What it is known not to be able to do; what is unknown excludes nobody.
    """

    name: str
    llm: str | None
    row: int | None
    input_usd_per_token: float | None
    output_usd_per_token: float | None
    max_input_tokens: int | None = None
    lacks: frozenset[Capability] = frozenset()

    @property
    def standing_exclusion(self) -> Exclusion | None:
        """Why this candidate can never be chosen, whatever the request."""
        if self.row is None:
            return Exclusion.LLM_UNKNOWN
        if self.input_usd_per_token is None or self.output_usd_per_token is None:
            return Exclusion.PRICE_UNKNOWN
        return None


class CandidatePool:
    """Candidates laid out as arrays once, so that a request costs a handful of vector operations.

    Args:
        candidates: In the order that breaks ties; names are unique.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)
        self.names = tuple(c.name for c in self.candidates)
        self.standing = tuple(c.standing_exclusion for c in self.candidates)
        self.rows = np.array([c.row or 0 for c in self.candidates], dtype=np.intp)
        self.input_price = _column(c.input_usd_per_token for c in self.candidates)
        self.output_price = _column(c.output_usd_per_token for c in self.candidates)
        self.max_input_tokens = _column(c.max_input_tokens for c in self.candidates)
        self.scored = np.array([c.row is not None for c in self.candidates], dtype=bool)
        self.usable = np.array([reason is None for reason in self.standing], dtype=bool)
        self.has_limits = bool(np.isfinite(self.max_input_tokens).any())

    def cost_usd(self, name: str, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost at a candidate's prices; None when it or its price is unknown."""
        if name not in self.names:
            return None
        one = self.candidates[self.names.index(name)]
        if one.input_usd_per_token is None or one.output_usd_per_token is None:
            return None
        return input_tokens * one.input_usd_per_token + output_tokens * one.output_usd_per_token


def _column(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
