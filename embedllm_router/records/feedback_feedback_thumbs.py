"""Feedback inside the metadata of an OpenAI-style request: a client that cannot call another endpoint sends it along.

    metadata={"embedllm_feedback_for": "<id of an earlier answer>", "embedllm_thumb": "up"}

OpenAI's metadata are strings, so a score may be one: `"embedllm_score": "0.8"`. Pure.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from embedllm_router.errors import RequestError
from embedllm_router.records.schema import LONGEST_ID, FeedbackRecord

__all__ = ["FIELDS", "feedback_in"]

_FOR, _THUMB, _SCORE, _SOURCE = FIELDS = (
    "embedllm_feedback_for",
    "embedllm_thumb",
    "embedllm_score",
    "embedllm_source",
)
"""Names of the metadata that are ours."""

_THUMBS: Final = {"up": 1.0, "down": 0.0}
_LONGEST_SOURCE = 64


def feedback_in(metadata: object, *, at: datetime, key_alias: str | None) -> FeedbackRecord | None:
    """Reads feedback on an earlier answer out of a request's metadata.

    Args:
        metadata: What the request sent as `metadata`; anything that is no mapping holds no feedback.
        at: When it came, UTC.
        key_alias: Alias of the API key; None when it has none.

    Returns:
        The feedback; None when there is none.

    Raises:
        RequestError: It is incomplete or wrong; names the field.
    """
    if not isinstance(metadata, Mapping) or not any(name in metadata for name in FIELDS):
        return None
    if (_THUMB in metadata) == (_SCORE in metadata):
        raise RequestError(f"metadata.{_SCORE}", f"expected either {_SCORE} or {_THUMB}")
    score = _thumb(metadata[_THUMB]) if _THUMB in metadata else _score(metadata[_SCORE])
    return FeedbackRecord(
        at=at,
        request_id=_text(metadata.get(_FOR), _FOR, LONGEST_ID),
        score=score,
        source=_text(metadata.get(_SOURCE, "user"), _SOURCE, _LONGEST_SOURCE),
        key_alias=key_alias,
    )


def _thumb(value: object) -> float:
    if not isinstance(value, str) or value not in _THUMBS:
        raise RequestError(f"metadata.{_THUMB}", "expected up or down")
    return _THUMBS[value]


def _score(value: object) -> float:
    problem = RequestError(f"metadata.{_SCORE}", "expected a number between 0 and 1")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise problem
    try:
        score = float(value)
    except (ValueError, OverflowError):
        raise problem from None
    if not math.isfinite(score) or not 0 <= score <= 1:
        raise problem
    return score


def _text(value: object, name: str, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise RequestError(f"metadata.{name}", f"expected a text of 1 to {longest} characters")
    return value
