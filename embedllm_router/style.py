"""What a prompt looks like, as numbers: characters, numbers, words, lines, options, code. Pure; numpy over its bytes.

It knows nothing of meaning: that is the token vectors' job. Each feature is cheap enough for every request, and on
benchmarks the lot predicts correctness about as well as the token vectors do (docs/experiments.md).
"""

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["STYLE_FEATURES", "style_features"]

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

_OPTION = re.compile(r"^\s*\(?[A-J][.)]\s", re.MULTILINE)
_CODE = re.compile(
    r"```|\bdef \w+\(|\breturn\b|\bimport \w|#include|\bfunction\b|\bclass \w+[:({]|=>|;[ \t]*$",
    re.MULTILINE,
)
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


def style_features(text: str, *, n_chars: int | None = None) -> NDArray[np.float32]:
    """Describes the surface of a text.

    Args:
        text: Any text, also empty; lone surrogates are allowed.
        n_chars: Length to report when `text` was clipped; its own otherwise.

    Returns:
        The values named by `STYLE_FEATURES`, float32 (len(STYLE_FEATURES),), finite, none negative. Shares are in
        [0, 1]; they, and all counts of characters but the first, are of UTF-8 bytes.
    """
    data = np.frombuffer(text.encode("utf-8", errors="surrogatepass"), dtype=np.uint8)
    counts = np.bincount(data, minlength=256)
    kinds = _KINDS[data]
    chunks = text.split()
    numbers, letters = _runs(kinds == _DIGIT), _runs((kinds == _LOWER) | (kinds == _UPPER))
    lines = np.diff(np.flatnonzero(kinds == _NEWLINE), prepend=-1, append=len(data)) - 1
    options = [match.start() for match in _OPTION.finditer(text)]
    stem_chars = options[0] if options else len(text)
    logs: tuple[float, ...] = (
        len(text) if n_chars is None else n_chars,
        len(lines) - 1,
        float(lines.mean()),
        int(lines.max()),
        float(lines.std()),
        len(numbers),
        int(numbers.sum()) / max(len(numbers), 1),
        int(numbers.max(initial=0)),
        len(letters),
        int(letters.sum()) / max(len(letters), 1),
        int(letters.max(initial=0)),
        int(np.count_nonzero(letters == 1)),
        int(np.count_nonzero((kinds[:-1] == _UPPER) & (kinds[1:] == _LOWER))),
        len(_SENTENCE_END.findall(text)),
        len(chunks),
    )
    rest = (
        len(set(chunks)) / max(len(chunks), 1),
        np.log1p(len(options)),
        np.log1p(stem_chars),
        np.log1p(len(text) - stem_chars),
        "?" in text,
        _CODE.search(text) is not None,
    )
    of_kind = np.bincount(kinds, minlength=8)[[_DIGIT, _UPPER, _SYMBOL, _SPACE, _FOREIGN]]
    return np.concatenate(
        [np.log1p(logs), rest, of_kind / max(len(data), 1), np.log1p(counts[33:127])], dtype=np.float32
    )


def _runs(member: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the unbroken runs of true, in order, int64 (n_runs,)."""
    edges = np.flatnonzero(np.diff(member.view(np.int8), prepend=0, append=0))
    lengths: NDArray[np.int64] = edges[1::2] - edges[::2]
    return lengths
