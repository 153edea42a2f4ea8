"""Feedback in a request's metadata: read when it is there, refused by name when it is wrong."""

from datetime import UTC, datetime

import pytest

from embedllm_router.errors import RequestError
from embedllm_router.records.feedback import feedback_in
from embedllm_router.records.owners import Giver
from embedllm_router.records.schema import FeedbackRecord

AT = datetime(2026, 1, 1, tzinfo=UTC)


def read(metadata: object, *, admin: bool = False) -> FeedbackRecord | None:
    return feedback_in(metadata, at=AT, giver=Giver("hash", "team-a", admin))


@pytest.mark.parametrize("metadata", [None, {}, [], "text", 7, {"user": "x", "tags": ["y"]}])
def test_a_request_without_feedback_has_none(metadata: object) -> None:
    assert read(metadata) is None


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ({"embedllm_thumb": "up"}, 1.0),
        ({"embedllm_thumb": "down"}, 0.0),
        ({"embedllm_score": "0.8"}, 0.8),
        ({"embedllm_score": 0.5}, 0.5),
        ({"embedllm_score": 1}, 1.0),
    ],
)
def test_a_thumb_or_a_score_is_feedback_on_the_named_answer(said: dict[str, object], score: float) -> None:
    expected = FeedbackRecord(at=AT, request_id="chatcmpl-1", score=score, source="user", key_alias="team-a")
    assert read({"embedllm_feedback_for": "chatcmpl-1", "other": "kept", **said}) == expected


def test_an_administrator_may_name_a_source() -> None:
    given = {"embedllm_feedback_for": "x", "embedllm_thumb": "up", "embedllm_source": "judge"}
    with pytest.raises(RequestError, match="only an administrator's key"):
        read(given)
    said = read(given, admin=True)
    assert said is not None
    assert said.source == "judge"


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"embedllm_thumb": "up"}, "embedllm_feedback_for"),
        ({"embedllm_thumb": "up", "embedllm_feedback_for": ""}, "embedllm_feedback_for"),
        ({"embedllm_thumb": "up", "embedllm_feedback_for": "x" * 1025}, "embedllm_feedback_for"),
        ({"embedllm_feedback_for": "x"}, "embedllm_score"),
        ({"embedllm_feedback_for": "x", "embedllm_thumb": "up", "embedllm_score": "1"}, "embedllm_score"),
        ({"embedllm_feedback_for": "x", "embedllm_thumb": "sideways"}, "embedllm_thumb"),
        ({"embedllm_feedback_for": "x", "embedllm_thumb": 1}, "embedllm_thumb"),
        ({"embedllm_feedback_for": "x", "embedllm_score": "1.5"}, "embedllm_score"),
        ({"embedllm_feedback_for": "x", "embedllm_score": "nan"}, "embedllm_score"),
        ({"embedllm_feedback_for": "x", "embedllm_score": True}, "embedllm_score"),
        ({"embedllm_feedback_for": "x", "embedllm_score": 10**400}, "embedllm_score"),
        ({"embedllm_feedback_for": "x", "embedllm_score": None}, "embedllm_score"),
        ({"embedllm_feedback_for": "x", "embedllm_thumb": "up", "embedllm_source": ""}, "embedllm_source"),
    ],
)
def test_what_is_wrong_is_named(metadata: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(metadata)
    assert refused.value.field == f"metadata.{field}"
