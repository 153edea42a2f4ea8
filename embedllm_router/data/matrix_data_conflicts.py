"""Several scores for one prompt and LLM: the rules that resolve them, and what is counted. Values only."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Conflicts", "OnConflict"]


class OnConflict(StrEnum):
    """What becomes of several scores for one prompt and LLM."""

    MEAN = "mean"
    FIRST = "first"
    LAST = "last"
    MAX = "max"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Conflicts:
    """What was found of repeated prompt and LLM pairs.

    Attributes:
        repeated: Answers beyond the first of their pair.
        conflicting: Pairs whose scores differ.
    """

    repeated: int
    conflicting: int
