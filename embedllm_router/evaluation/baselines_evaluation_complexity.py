"""How complex a prompt looks, by rules: a re-statement of the heuristic scoring of LiteLLM's complexity router.

LiteLLM 1.106 adds up weighted signs (length, code, reasoning and technical words, simple questions, steps, several
question marks) and cuts the sum into four tiers. The signs, weights and cuts here are its; the word lists are shorter
ones of our own, and mathematics counts as technical. It knows nothing of LLMs.
"""

import re
from typing import Final

__all__ = ["N_TIERS", "complexity_score", "complexity_tier"]

N_TIERS: Final = 4
"""Simple, medium, complex, reasoning."""

_CUTS: Final = (0.15, 0.35, 0.60)
_SHORT_TOKENS, _LONG_TOKENS = 15, 400
_CHARS_PER_TOKEN: Final = 4
_MANY_QUESTIONS: Final = 3
_OVERRIDE: Final = 2  # this many reasoning words make a prompt a reasoning one if it is not simple


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(alternatives) + r")\b")


_CODE: Final = _words(
    "functions?", "class", "def", "import", "return", "algorithms?", "python", "java(?:script)?", "sql", "api", "debug",
    "exception", "compile", "database", "query", "array", "refactor", "implement",
)  # fmt: skip
_REASONING: Final = _words(
    "step by step", "think (?:through|carefully)", "show your work", "explain your reasoning", "logical(?:ly)?",
    "deduce", "infer", "conclude", "evaluate", "prove", "chain of thought", "pros and cons", "compare and contrast",
)  # fmt: skip
_TECHNICAL: Final = _words(
    "architecture", "distributed", "neural", "machine learning", "protocol", "memory", "cpu", "parallel", "latency",
    "encryption", "integral", "derivative", "equation", "theorem", "matrix", "probability", "polynomial", "vector",
)  # fmt: skip
_SIMPLE: Final = _words(
    "what is", "what's", "who (?:is|was)", "when (?:did|was)", "where (?:is|was)", "how (?:many|much)", "define",
    "definition of", "true or false", "yes or no", "hello", "hi", "thanks",
)  # fmt: skip
_STEPS: Final = re.compile(r"first.*?then|step\s*\d|\d+\.\s|[a-z]\)\s")


def complexity_tier(prompt: str) -> int:
    """Tier of a prompt: 0 simple, 1 medium, 2 complex, 3 reasoning."""
    score = complexity_score(prompt)
    if score >= _CUTS[0] and _count(_REASONING, prompt.lower()) >= _OVERRIDE:
        return N_TIERS - 1
    return sum(score >= cut for cut in _CUTS)


def complexity_score(prompt: str) -> float:
    """Weighted sum of signs, between about -0.15 and 1."""
    text, tokens = prompt.lower(), len(prompt) // _CHARS_PER_TOKEN
    length = (tokens > _LONG_TOKENS) - (tokens < _SHORT_TOKENS)
    return (
        0.10 * length
        + 0.30 * _graded(_count(_CODE, text), (1, 2), (0.5, 1.0))
        + 0.25 * _graded(_count(_REASONING, text), (1, 2), (0.7, 1.0))
        + 0.25 * _graded(_count(_TECHNICAL, text), (2, 4), (0.5, 1.0))
        - 0.05 * (_count(_SIMPLE, text) > 0)
        + 0.03 * 0.5 * bool(_STEPS.search(text))
        + 0.02 * 0.5 * (prompt.count("?") > _MANY_QUESTIONS)
    )


def _count(pattern: re.Pattern[str], text: str) -> int:
    """How many different words of a list occur."""
    return len(set(pattern.findall(text)))


def _graded(count: int, at: tuple[int, int], values: tuple[float, float]) -> float:
    return values[1] if count >= at[1] else values[0] if count >= at[0] else 0.0
