"""One graded answer, checked, or the reason why a row is none.

Every reader ends here, so a score of 1.5 or an empty prompt is refused in the same words whatever the format. It knows
nothing of files beyond their label.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from embedllm_router.routing.prompt import read_body

__all__ = ["Answer", "Input", "Place", "Read", "Reader", "Rejected", "check_answer", "prompt_text"]

_SHOWN_CHARS = 40
_MOST = 1e15  # of tokens, characters or dollars: beyond it a number is no amount
_BOOLEANS = {"true": 1.0, "false": 0.0}


class Answer(NamedTuple):  # millions are made of a large file: half the time of a frozen dataclass
    """One LLM's graded answer to one prompt.

    Attributes:
        prompt: What was asked.
        llm: Who answered, as its source names it.
        score: In [0, 1].
        category: Benchmark or subject; empty where unknown.
        split: Part of the data its source put the prompt in: `train`, `val`, `test`; empty where it says nothing.
        input_tokens: Tokens of the request.
        output_tokens: Tokens of the answer, hidden reasoning included where the source counts it.
        cost_usd: What the answer cost.
        output_chars: Characters of the visible answer.
        parsed: 0 where no verdict could be read from the answer.
    """

    prompt: str
    llm: str
    score: float
    category: str = ""
    split: str = ""
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None
    output_chars: float | None = None
    parsed: float | None = None


class Place(NamedTuple):
    """Where a row stands.

    Attributes:
        file: Label of the file: its path below the source it belongs to.
        row: Data row, from 1: a CSV's header does not count, in JSON the number of the record.
        line: Line of the text file the row starts on, from 1; None where the file has no lines.
    """

    file: str
    row: int
    line: int | None = None


class Rejected(NamedTuple):
    """A row that is not used, and why."""

    place: Place
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read, and what the user chose for it.

    Attributes:
        path: The file; for the canonical long form its folder.
        label: How reports name it.
        metric: Metric or scorer that counts as correctness; None leaves the choice to the reader.
        filter: Answer filter of lm-evaluation-harness; None leaves the choice to the reader.
        note: Called once for each choice the reader made on its own.
    """

    path: Path
    label: str
    metric: str | None = None
    filter: str | None = None
    note: Callable[[str], None] = lambda _: None


Read: TypeAlias = Iterator[Answer | Rejected]
Reader: TypeAlias = Callable[[Input], Read]


class _Bad(Exception):  # noqa: N818 - never leaves this file
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, reason


def check_answer(  # noqa: PLR0913 - the columns of one row
    place: Place,
    *,
    prompt: object,
    llm: object,
    score: object,
    category: object = "",
    split: str = "",
    input_tokens: object = None,
    output_tokens: object = None,
    cost_usd: object = None,
    output_chars: object = None,
    parsed: object = None,
) -> Answer | Rejected:
    """Makes an answer of raw values, or says which of them is wrong.

    Args:
        place: Where the row stands.
        prompt: A text.
        llm: A name.
        score: A number in [0, 1], a boolean, or a text that reads as one.
        category: A name; None is empty.
        split: Part of the data.
        input_tokens: A number of at least 0; None, NaN and the empty text mean unknown, here and below.
        output_tokens: As before.
        cost_usd: As before.
        output_chars: As before.
        parsed: As before.

    Returns:
        The answer, or the first value that is wrong.
    """
    try:
        return Answer(
            _text("prompt", prompt),
            _text("llm", llm).strip(),
            _score(score),
            _label("category", category),
            _label("split", split),
            _amount("input_tokens", input_tokens),
            _amount("output_tokens", output_tokens),
            _amount("cost_usd", cost_usd),
            _amount("output_chars", output_chars),
            _amount("parsed", parsed),
        )
    except _Bad as bad:
        return Rejected(place, bad.column, bad.reason)


def prompt_text(value: object) -> object:
    """The text of a prompt that may be chat messages, as a served request would be read; other values unchanged."""
    if isinstance(value, list) and value:
        return read_body({"messages": value}).text
    return value


def _text(column: str, value: object) -> str:
    if not isinstance(value, str):
        raise _Bad(column, "missing" if value is None else f"expected a text, found {_shown(value)}")
    if not value or value.isspace():
        raise _Bad(column, "missing")
    if not value.isascii() and not _is_unicode(value):
        raise _Bad(column, "bytes that are not UTF-8; save the file as UTF-8")
    return value


def _label(column: str, value: object) -> str:
    """A name that may be missing."""
    text = "" if value is None else str(value)
    if not text.isascii() and not _is_unicode(text):
        raise _Bad(column, "bytes that are not UTF-8; save the file as UTF-8")
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: how undecodable bytes are carried this far
        return False
    return True


def _score(value: object) -> float:
    number = _number("score", value)
    if number is None:
        raise _Bad("score", "missing")
    if not 0 <= number <= 1:  # NaN too
        raise _Bad("score", f"expected a number in [0, 1], found {_shown(value)}")
    return number


def _amount(column: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    number = _number(column, value)
    if number is None or math.isnan(number):
        return None
    if not 0 <= number <= _MOST:
        raise _Bad(column, f"expected a number of at least 0, found {_shown(value)}")
    return number


def _number(column: str, value: object) -> float | None:
    if isinstance(value, int | float):
        return _as_float(value)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Bad(column, f"expected a number, found {_shown(value)}")
    try:
        return float(value)
    except ValueError:
        pass
    word = value.strip().lower()
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    raise _Bad(column, f"expected a number, found {_shown(value)}")


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
