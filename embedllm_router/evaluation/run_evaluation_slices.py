"""Which slice of traffic a prompt belongs to: by language, by whether it is about code, by length. Pure.

Languages come from py3langid, which carries its own table, uses no network and has no randomness. The rest is read
from the text. It knows nothing of labels or LLMs.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

__all__ = ["LENGTHS", "SLICES", "UNDETERMINED", "content_of", "language_of", "length_of", "slice_names"]

UNDETERMINED: Final = "undetermined"
"""The language of a text that tells too little, such as a sum."""

_SURE: Final = 0.5
_NO_LANGUAGE: Final = "zxx"  # ISO 639-2
_READ_CHARS: Final = 2_000
_HOLDS_CODE: Final = re.compile(
    r"\bdef \w+\(|^\s*from [\w.]+ import |^\s*import [\w.]+(?: as \w+)?;?\s*$|#include\s*[<\"]|^\s*assert \w+\(|"
    r"\bclass \w+(?:\([\w., ]*\))?:\s*$|\bclass \w+ ?\{|\bfunction \w*\([^)]*\) ?\{|\bSELECT\b.+\bFROM\b|"
    r"```(?:python|py|js|javascript|typescript|java|c|cpp|go|rust|sql|bash|sh|html)\b|(?:[;{}][ \t]*\n[^\n]*){2}[;{}]",
    re.MULTILINE,
)
_ASKS_FOR_CODE: Final = re.compile(
    r"\b(?:write|implement|create|complete) (?:\w+ ){0,3}(?:function|program|script|query|class|method)\b"
    r"|\bin (?:python|javascript|typescript|java|rust|golang|c\+\+|sql|bash)\b",
    re.IGNORECASE,
)
_SHORTER_THAN: Final = (200, 1_000, 4_000)
LENGTHS: Final = ("under 200 characters", "200 to 999", "1,000 to 3,999", "4,000 or more")
"""The classes of length, the shortest first."""


def language_of(prompt: str) -> str:
    """The ISO 639 code of a text's language, judged by its start; `UNDETERMINED` below an even chance."""
    code, probability = _identifier().classify(prompt[:_READ_CHARS])
    return str(code) if probability >= _SURE and code != _NO_LANGUAGE else UNDETERMINED


def content_of(prompt: str) -> str:
    """`code` if a text holds some, `asks for code` if it wants some and holds none, else `prose`."""
    if _HOLDS_CODE.search(prompt):
        return "code"
    return "asks for code" if _ASKS_FOR_CODE.search(prompt) else "prose"


def length_of(prompt: str) -> str:
    """The class of a text's number of characters."""
    return LENGTHS[sum(len(prompt) >= limit for limit in _SHORTER_THAN)]


SLICES: Final[dict[str, Callable[[str], str]]] = {"language": language_of, "content": content_of, "length": length_of}
"""The ways to slice, each from a prompt to the name of its slice."""


def slice_names(prompts: Sequence[str], kind: str) -> NDArray[np.str_]:
    """The slice of every prompt, (n_prompts,), by one of `SLICES`."""
    return np.array([SLICES[kind](prompt) for prompt in prompts])


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
