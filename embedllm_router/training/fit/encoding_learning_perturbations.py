"""Small changes to training prompts that leave their meaning, so that the decoder learns to overlook them. Pure.

Phrases, frames, wordings and kinds of typo are others than those that evaluation/stability.py measures with (a test
compares the lists): otherwise the measurement would only ask for what was learned by heart. It knows nothing of labels.
"""

import random
import re
from collections.abc import Callable
from typing import Final

__all__ = ["PHRASES", "WORDINGS", "perturbed_copy"]

_OPENINGS: Final = (
    "Hello. ",
    "Hey there, ",
    "Quick one: ",
    "I need some help here. ",
    "Task: ",
    "Q: ",
    "Consider the problem below.\n\n",
    "You are an expert.\n",
    "Can you work this out? ",
    "Respond to this prompt: ",
    "I was asked this today and am not sure: ",
)
_CLOSINGS: Final = (
    " Cheers!",
    "\n\nMuch appreciated.",
    "\n\nGive the result.",
    " Let me know.",
    "\n\nReply:",
    " Show your work.",
    " Think it through.",
    "\n\nBe brief.",
    "\n\nKind regards",
)
PHRASES: Final = (*_OPENINGS, *_CLOSINGS)
"""What is put before or after a prompt."""

WORDINGS: Final = (
    ("What are", "Name"),
    ("Which", "What"),
    ("Calculate", "Compute"),
    ("Choose", "Pick"),
    ("Suppose", "Assume"),
    ("How much", "What amount of"),
    ("are not", "aren't"),
    ("do not", "don't"),
    ("will not", "won't"),
    ("such as", "like"),
    ("therefore", "so"),
    ("However", "But"),
)
"""Words, and others that mean the same there."""

_WORDING_PATTERNS: Final = tuple((re.compile(rf"\b{words}\b"), others) for words, others in WORDINGS)
_LONG_WORD: Final = re.compile(r"[A-Za-z]{4,}")
_CAPITALISED: Final = re.compile(r"\b[A-Z][a-z]+")
_BREAK: Final = re.compile(r"[ \n]")
_LAST_MARK: Final = re.compile(r"[.?!:]+\s*$")
_TYPO_SHARES: Final = (0.01, 0.03)
_BREAK_SHARES: Final = (0.02, 0.1)
_N_CHANGES: Final = (1, 1, 2)
_KEYS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def perturbed_copy(text: str, rng: random.Random) -> str:
    """The prompt after one or two changes of case, letters, white space, punctuation, phrases around it or wording.

    Args:
        text: Any text.
        rng: Decides the changes; the same state makes the same copy.

    Returns:
        A text that asks the same; sometimes the same text.
    """
    for change in rng.sample(_CHANGES, rng.choice(_N_CHANGES)):
        text = change(text, rng)
    return text


def _lower(text: str, _: random.Random) -> str:
    return text.lower()


def _lower_some(text: str, rng: random.Random) -> str:
    """Capitalised words lose their capital, each with the same chance."""
    share = rng.random()
    return _CAPITALISED.sub(lambda word: word[0].lower() if rng.random() < share else word[0], text)


def _typos(text: str, rng: random.Random) -> str:
    """Letters left out, doubled, or the key beside them struck."""
    words = list(_LONG_WORD.finditer(text))
    share, letters = rng.choice(_TYPO_SHARES), list(text)
    for word in rng.sample(words, min(len(words), max(1, round(share * len(words))))):
        at = rng.randrange(word.start(), word.end())
        letters[at] = rng.choice(("", letters[at] * 2, _key_beside(letters[at])))
    return "".join(letters)


def _key_beside(letter: str) -> str:
    """The letter to the right on the keyboard, or to the left at the end of a row; case is kept."""
    row = next(keys for keys in _KEYS if letter.lower() in keys)
    at = row.index(letter.lower())
    other = row[at + 1] if at + 1 < len(row) else row[at - 1]
    return other.upper() if letter.isupper() else other


def _spaces(text: str, rng: random.Random) -> str:
    """Spaces and line breaks doubled here and there, and something at the end or the beginning."""
    share = rng.choice(_BREAK_SHARES)
    wider = _BREAK.sub(lambda found: found[0] * 2 if rng.random() < share else found[0], text)
    return rng.choice(("", "", "", "\n", "  ")) + wider + rng.choice(("", "  ", "\n", " \n"))


def _last_mark(text: str, rng: random.Random) -> str:
    """The last mark left out, doubled or another; without one, one more or none."""
    mark = rng.choice(("", "!", "..", ".", "??"))
    return _LAST_MARK.sub(mark, text) if _LAST_MARK.search(text) else text + mark


def _wording(text: str, _: random.Random) -> str:
    for pattern, others in _WORDING_PATTERNS:
        text = pattern.sub(others, text)
    return text


def _opening(text: str, rng: random.Random) -> str:
    return rng.choice(_OPENINGS) + text


def _closing(text: str, rng: random.Random) -> str:
    return text + rng.choice(_CLOSINGS)


_CHANGES: Final[tuple[Callable[[str, random.Random], str], ...]] = (
    _lower,
    _lower_some,
    _typos,
    _spaces,
    _last_mark,
    _wording,
    _opening,
    _opening,
    _closing,
    _closing,
)
