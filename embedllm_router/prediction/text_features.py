"""What a prompt looks like, as numbers: characters, numbers, words, lines, options, code. Numpy over its bytes.

Meaning is the token vectors' job. Each feature is cheap enough for every request, and on benchmarks the lot predicts
correctness about as well as the token vectors do (docs/experiments.md).
"""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["STYLE_FEATURES", "Surface", "read_surface", "style_features", "style_of"]

_SHARES: Final = ("digit", "capital", "symbol", "space", "non_ascii")
_SHAPES: Final = (
    "log_chars",
    "log_lines",
    "log_line_chars_mean",
    "log_line_chars_max",
    "log_line_chars_spread",
    "log_numbers",
    "log_number_digits_mean",
    "log_number_digits_max",
    "log_words",
    "log_word_letters_mean",
    "log_word_letters_max",
    "log_single_letters",
    "log_capitalised_words",
    "log_sentences",
    "log_chunks",
    "distinct_chunk_share",
    "log_options",
    "log_stem_chars",
    "log_options_chars",
    "question_mark",
    "code",
)
_CHARACTERS: Final = tuple(chr(code) for code in range(33, 127))

STYLE_FEATURES: Final = (
    *_SHAPES,
    *(f"{name}_share" for name in _SHARES),
    *(f"log_count_{character}" for character in _CHARACTERS),
)
"""Names of the features, in order. "log" is the natural logarithm of one plus the value."""

_OPTION = re.compile(r"^[^\S\n]*\(?[A-J][.)]\s", re.MULTILINE)  # a blank that crossed lines made it quadratic
_CODE: Final = tuple(
    (hint, re.compile(pattern, re.MULTILINE))
    for hint, pattern in (
        ("```", r"```"),
        ("def ", r"\bdef \w+\("),
        ("return", r"\breturn\b"),
        ("import ", r"\bimport \w"),
        ("#include", r"#include"),
        ("function", r"\bfunction\b"),
        ("class ", r"\bclass \w+[:({]"),
        ("=>", r"=>"),
        (";", r";[ \t]*$"),
    )
)
"""What code looks like, each with a part of it that is found faster: one pattern of all took half of `style_of`."""
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_OTHER, _LOWER, _UPPER, _DIGIT, _NEWLINE, _SPACE, _SYMBOL, _FOREIGN = range(8)


def _byte_kinds() -> NDArray[np.uint8]:
    kinds = np.full(256, _OTHER, dtype=np.uint8)
    for kind, members in (
        (_LOWER, b"abcdefghijklmnopqrstuvwxyz"),
        (_UPPER, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        (_DIGIT, b"0123456789"),
        (_NEWLINE, b"\n"),
        (_SPACE, b" \t\r"),
        (_SYMBOL, b"#$%&()*+-/<=>@[\\]^_`{|}~"),
    ):
        kinds[list(members)] = kind
    kinds[128:] = _FOREIGN
    return kinds


_KINDS = _byte_kinds()
_SHARED_KINDS = np.array([_DIGIT, _UPPER, _SYMBOL, _SPACE, _FOREIGN])  # of `_SHARES`, in order


@dataclass(frozen=True, slots=True)
class Surface:
    """A text, its bytes and what kind of character each is of.

    Attributes:
        text: The text.
        padded: Its UTF-8 bytes between two zero bytes, uint8 (n_bytes + 2,).
        padded_kinds: Their kinds, uint8 in [0, 8), of the same shape.
    """

    text: str
    padded: NDArray[np.uint8]
    padded_kinds: NDArray[np.uint8]

    @property
    def kinds(self) -> NDArray[np.uint8]:
        """Kinds of the text's own bytes, uint8 (n_bytes,)."""
        return self.padded_kinds[1:-1]


def read_surface(text: str) -> Surface:
    """Looks at the bytes of any text, also an empty one; lone surrogates are allowed."""
    padded = np.frombuffer(b"\0" + text.encode("utf-8", errors="surrogatepass") + b"\0", dtype=np.uint8)
    return Surface(text, padded, _KINDS[padded])


def style_features(text: str, *, n_chars: int | None = None) -> NDArray[np.float32]:
    """Describes the surface of a text.

    Args:
        text: Any text, also empty; lone surrogates are allowed.
        n_chars: Length to report when `text` was clipped; its own otherwise.

    Returns:
        The values named by `STYLE_FEATURES`, float32 (len(STYLE_FEATURES),), finite, none negative. Shares are in
        [0, 1]; they, and all counts of characters but the first, are of UTF-8 bytes.
    """
    return style_of(read_surface(text), n_chars=n_chars)


def style_of(surface: Surface, *, n_chars: int | None = None) -> NDArray[np.float32]:
    """`style_features` of a text whose surface was read already."""
    text, padded, kinds = surface.text, surface.padded, surface.padded_kinds
    n_bytes = len(padded) - 2
    counts = np.bincount(padded, minlength=256)
    chunks = text.split()
    numbers, letters = _runs(kinds == _DIGIT), _runs((kinds == _LOWER) | (kinds == _UPPER))
    options = [match.start() for match in _OPTION.finditer(text)]
    stem_chars = _above_blank_lines(text, options[0]) if options else len(text)
    logs: tuple[float, ...] = (
        len(text) if n_chars is None else n_chars,
        *_line_shape(np.flatnonzero(kinds == _NEWLINE).tolist(), n_bytes),
        *_run_shape(numbers),
        *_run_shape(letters),
        int(np.count_nonzero(letters == 1)),
        int(np.count_nonzero((kinds[:-1] == _UPPER) & (kinds[1:] == _LOWER))),
        len(_SENTENCE_END.findall(text)),
        len(chunks),
    )
    rest = (
        len(set(chunks)) / max(len(chunks), 1),
        math.log1p(len(options)),
        math.log1p(stem_chars),
        math.log1p(len(text) - stem_chars),
        "?" in text,
        any(hint in text and pattern.search(text) for hint, pattern in _CODE),
    )
    of_kind = np.bincount(kinds, minlength=8)[_SHARED_KINDS]
    return np.concatenate([np.log1p(logs), rest, of_kind / max(n_bytes, 1), np.log1p(counts[33:127])], dtype=np.float32)


def _above_blank_lines(text: str, line_start: int) -> int:
    """Start of the first of the blank lines right above a line; the line's own start when there are none."""
    end = len(text[:line_start].rstrip())
    return text.index("\n", end) + 1 if end else 0


def _line_shape(newlines: list[int], n_bytes: int) -> tuple[float, float, float, float]:
    """Line breaks, then mean, largest and standard deviation of the lines' bytes; newlines count from 1."""
    lines = [end - start - 1 for start, end in pairwise([0, *newlines, n_bytes + 1])]
    mean = sum(lines) / len(lines)
    spread = math.sqrt(sum((line - mean) ** 2 for line in lines) / len(lines))
    return len(newlines), mean, max(lines), spread


def _run_shape(runs: NDArray[np.int64]) -> tuple[float, float, float]:
    """How many runs, then mean and largest length; 0 without any."""
    return len(runs), int(runs.sum()) / max(len(runs), 1), int(runs.max(initial=0))


def _runs(member: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the unbroken runs of true, in order, int64 (n_runs,); both ends are false."""
    edges = np.flatnonzero(member[1:] != member[:-1])
    lengths: NDArray[np.int64] = edges[1::2] - edges[::2]
    return lengths
