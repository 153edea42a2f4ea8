"""Anything that says whether an answer was right → a score in [0, 1]. Pure."""

import math
import re
from dataclasses import dataclass
from typing import Final

from embedllm_router.errors import ConfigError

__all__ = ["Scale", "to_score"]

_GOOD: Final = frozenset({"up", "true", "yes", "y", "correct", "right", "pass", "passed", "good", "\N{THUMBS UP SIGN}"})
_BAD: Final = frozenset(
    {"down", "false", "no", "n", "incorrect", "wrong", "fail", "failed", "bad", "\N{THUMBS DOWN SIGN}"}
)


@dataclass(frozen=True, slots=True)
class Scale:
    """What numbers are measured in.

    Attributes:
        worst: The number of a wrong answer.
        best: The number of a right one; may be the smaller of the two.
    """

    worst: float = 0.0
    best: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Scale":
        """Reads `1:10`, worst first.

        Raises:
            ConfigError: It is something else.
        """
        try:
            worst, best = (float(part) for part in text.split(":"))
        except ValueError:
            worst = best = math.nan
        if not (math.isfinite(worst) and math.isfinite(best)) or worst == best:
            raise ConfigError(f"--scale takes two different numbers, worst:best, for example 1:10; found {text!r}.")
        return cls(worst, best)

    def score(self, number: float) -> float | None:
        """The score of a number; None when it lies outside."""
        score = (number - self.worst) / (self.best - self.worst)
        return score if 0 <= score <= 1 else None


def to_score(verdict: object, scale: Scale, pattern: re.Pattern[str] | None = None) -> tuple[float | None, str]:
    """Reads a verdict.

    Args:
        verdict: A boolean, a number, or a text: a number or a word such as "up", "yes", "correct", "pass".
        scale: What numbers are measured in.
        pattern: Looked for in a text; its first group is the verdict.

    Returns:
        The score, or None and why there is none.
    """
    if isinstance(verdict, bool):
        return float(verdict), ""
    if isinstance(verdict, str):
        return _read_text(verdict, scale, pattern)
    if isinstance(verdict, int | float):
        return _in_scale(float(verdict), scale)
    return None, "missing" if verdict is None else f"expected a number or a word, found {type(verdict).__name__}"


def _read_text(text: str, scale: Scale, pattern: re.Pattern[str] | None) -> tuple[float | None, str]:
    if pattern is not None:
        found = pattern.search(text)
        if found is None or found[1] is None:
            return None, f"the pattern is not found in {text[:40]!r}"
        text = found[1]
    word = text.strip().strip(".!\"'").casefold()
    if word in _GOOD or word in _BAD:
        return float(word in _GOOD), ""
    try:
        return _in_scale(float(word), scale)
    except ValueError:
        return None, f"expected a number or a word such as up, yes or correct, found {text[:40]!r}"


def _in_scale(number: float, scale: Scale) -> tuple[float | None, str]:
    score = scale.score(number)
    if score is None:
        return None, f"expected a number from {scale.worst:g} to {scale.best:g}, found {number:g}"
    return score, ""
