"""What a prompt looks like, as numbers: length, digits, code, options. Pure; one pass over the bytes.

It knows nothing of meaning: that is the encoder's job. Each feature is cheap enough for every request.
"""

import re

import numpy as np
from numpy.typing import NDArray

__all__ = ["STYLE_FEATURES", "style_features"]

STYLE_FEATURES = (
    "log_chars",
    "log_lines",
    "digit_share",
    "capital_share",
    "symbol_share",
    "comma_share",
    "space_share",
    "non_ascii_share",
    "question_mark",
    "options",
    "code",
)

_OPTION = re.compile(r"^\s*\(?[A-J][.):]\s", re.MULTILINE)
_CODE = re.compile(
    r"```|\bdef \w+\(|\breturn\b|\bimport \w|#include|\bfunction\b|\bclass \w+[:({]|=>|;[ \t]*$",
    re.MULTILINE,
)
_MANY = 8  # options beyond this say nothing more


def _byte_classes() -> NDArray[np.int8]:
    classes = np.zeros(256, dtype=np.int8)
    upper = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for index, members in enumerate((b"\n", b"0123456789", upper, b",", b" "), start=1):
        classes[list(members)] = index
    symbols = [b for b in range(33, 127) if not chr(b).isalnum() and chr(b) not in ",.?!'\""]
    classes[symbols] = 6
    classes[128:] = 7
    return classes


_CLASSES = _byte_classes()


def style_features(text: str) -> NDArray[np.float32]:
    """Describes the surface of a text.

    Args:
        text: Any text, also empty.

    Returns:
        The values named by `STYLE_FEATURES`, float32 (len(STYLE_FEATURES),), finite. Shares are in [0, 1] and
        counted in UTF-8 bytes; logarithms are natural and of one plus the count.
    """
    data = text.encode("utf-8", errors="surrogatepass")
    counts = np.bincount(_CLASSES[np.frombuffer(data, dtype=np.uint8)], minlength=8)
    lines, digits, capitals, commas, spaces, symbols, foreign = counts[1:].tolist()
    n_bytes = max(len(data), 1)
    options = min(len(_OPTION.findall(text)), _MANY)
    return np.array(
        [
            np.log1p(len(text)),
            np.log1p(lines),
            digits / n_bytes,
            capitals / n_bytes,
            symbols / n_bytes,
            commas / n_bytes,
            spaces / n_bytes,
            foreign / n_bytes,
            1.0 if "?" in text else 0.0,
            options / _MANY,
            1.0 if _CODE.search(text) else 0.0,
        ],
        dtype=np.float32,
    )
