"""Verdicts over HTTP: stored as sent, or refused whole with the field named."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import httpx
import orjson
import pytest
from fastapi import FastAPI, Header, HTTPException, Request

from embedllm_router.errors import DataError
from embedllm_router.records.owners import Giver, Owners
from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.web.feedback import MOST_AT_ONCE, PATH, feedback_router

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Post = Callable[..., Awaitable[httpx.Response]]


@dataclass
class Key:
    key_alias: str | None = "team-a"
    admin: bool = True


class Owned(Owners):
    """Every request but "unknown" is on record; "foreign" is of another key."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("reads nothing"), 0.0)

    async def refused(self, ids: Collection[str], giver: Giver) -> list[str]:
        if "unreadable" in ids:
            raise DataError("the database is away.")
        return [one for one in ids if one == "unknown" or (one == "foreign" and not giver.admin)]


def giver_of(key: object) -> Giver:
    return Giver("hash", getattr(key, "key_alias", None), getattr(key, "admin", False))


async def check_key(request: Request, authorization: Annotated[str, Header()] = "") -> object:
    """As LiteLLM's check: it reads the body too, cannot do with a list, and what it returns may lack an alias."""
    try:
        assert isinstance(orjson.loads(await request.body()), dict)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, "invalid JSON") from error
    if authorization == "Bearer anonymous":
        return object()
    if authorization == "Bearer user":
        return Key(admin=False)
    if authorization != "Bearer good":
        raise HTTPException(401, "no key")
    return Key()


@pytest.fixture
def stored() -> list[FeedbackRecord]:
    return []


@pytest.fixture
async def post(stored: list[FeedbackRecord]) -> Post:
    async def send(content: object, key: str = "good", *, keeps: bool = True) -> httpx.Response:
        app = FastAPI()
        owners = Owned() if keeps else None
        app.include_router(
            feedback_router(auth=check_key, put=stored.append, clock=lambda: NOW, giver=giver_of, owners=owners)
        )
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(PATH, content=body, headers={"Authorization": f"Bearer {key}"})

    return send


def record(request_id: str = "r", score: float = 1.0, **changes: object) -> FeedbackRecord:
    fields: dict[str, object] = {"source": "user", "key_alias": "team-a", **changes}
    return FeedbackRecord(at=NOW, request_id=request_id, score=score, **fields)  # type: ignore[arg-type]  # as above


async def test_one_verdict_is_stored_as_sent(post: Post, stored: list[FeedbackRecord]) -> None:
    answer = await post({"request_id": "r", "score": 0.25, "source": "judge:strict"})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    assert stored == [record("r", 0.25, source="judge:strict")]


@pytest.mark.parametrize(("thumb", "score"), [("up", 1.0), ("down", 0.0)])
async def test_thumbs_are_scores(post: Post, stored: list[FeedbackRecord], thumb: str, score: float) -> None:
    await post({"request_id": "r", "thumb": thumb})
    assert stored == [record("r", score)]


@pytest.mark.parametrize("form", ["list", "object"])
async def test_several_come_as_a_list_or_an_object(post: Post, stored: list[FeedbackRecord], form: str) -> None:
    verdicts = [{"request_id": f"r{i}", "score": i} for i in (0, 1)]
    answer = await post({"feedback": verdicts} if form == "object" else verdicts)
    assert answer.json() == {"accepted": 2}
    assert stored == [record("r0", 0.0), record("r1", 1.0)]


async def test_as_many_as_allowed_and_not_one_more(post: Post, stored: list[FeedbackRecord]) -> None:
    one = {"request_id": "r", "score": 1}
    assert (await post([one] * MOST_AT_ONCE)).status_code == 202
    assert len(stored) == MOST_AT_ONCE
    answer = await post([one] * (MOST_AT_ONCE + 1))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "feedback")
    assert len(stored) == MOST_AT_ONCE


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"score": 1}, "request_id"),
        ({"request_id": "", "score": 1}, "request_id"),
        ({"request_id": 7, "score": 1}, "request_id"),
        ({"request_id": "r" * 1025, "score": 1}, "request_id"),
        ({"request_id": "r", "score": 1.01}, "score"),
        ({"request_id": "r", "score": -0.01}, "score"),
        ({"request_id": "r", "score": True}, "score"),
        ({"request_id": "r", "score": "1"}, "score"),
        ({"request_id": "r", "thumb": "sideways"}, "thumb"),
        ({"request_id": "r", "thumb": "up", "source": ""}, "source"),
        ({"request_id": "r", "score": 1, "prompt": "secret"}, "prompt"),
        ([{"request_id": "r", "score": 1}, {"request_id": "r", "score": 2}], "feedback[1].score"),
        ({"feedback": [{"request_id": "r", "score": 1}], "score": 1}, "score"),
        ([], "feedback"),
        ([1], "feedback[0]"),
        ({"request_id": "r"}, None),
        ({"request_id": "r", "score": 1, "thumb": "up"}, None),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_stored(
    post: Post, stored: list[FeedbackRecord], body: object, field: str | None
) -> None:
    answer = await post(body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, field, "invalid_request_error")
    assert field is None or field in error["message"]
    assert "secret" not in answer.text  # what was sent is never sent back
    assert stored == []


@pytest.mark.parametrize("body", [b"", b"   ", b"null", b'"x"', b"7", b"[1", b'{"request_id": "r", "score": NaN}'])
async def test_what_is_no_json_object_or_list_is_refused(post: Post, stored: list[FeedbackRecord], body: bytes) -> None:
    assert (await post(body)).status_code == 400
    assert stored == []


async def test_a_body_beyond_a_megabyte_is_refused(post: Post, stored: list[FeedbackRecord]) -> None:
    answer = await post(b'{"request_id": "r", "score": 1}' + b" " * 1_000_000)
    assert answer.status_code == 413
    assert stored == []


async def test_without_a_key_nothing_is_taken(post: Post, stored: list[FeedbackRecord]) -> None:
    assert (await post({"request_id": "r", "score": 1}, key="stolen")).status_code == 401
    assert stored == []


async def test_a_key_without_alias_is_fine(post: Post, stored: list[FeedbackRecord]) -> None:
    assert (await post({"request_id": "r", "score": 1}, key="anonymous")).status_code == 202
    assert stored == [record("r", 1.0, key_alias=None)]


@pytest.mark.parametrize("body", [{"request_id": "r", "score": 1}, [{"request_id": "r", "thumb": "up"}], {"no": "id"}])
async def test_where_nothing_is_kept_it_says_so(post: Post, stored: list[FeedbackRecord], body: object) -> None:
    answer = await post(body, keeps=False)
    assert answer.status_code == 404
    assert "store.enabled" in answer.json()["error"]["message"]
    assert (await post(body, key="stolen", keeps=False)).status_code == 401
    assert stored == []


async def test_only_administrators_speak_for_others(post: Post, stored: list[FeedbackRecord]) -> None:
    judged = {"request_id": "r", "score": 1, "source": "judge:strict"}
    answer = await post(judged, key="user")
    assert (answer.status_code, answer.json()["error"]["param"]) == (403, "source")
    assert (await post({**judged, "source": "user"}, key="user")).status_code == 202
    assert stored == [record("r")]


@pytest.mark.parametrize(("one", "key"), [("unknown", "user"), ("unknown", "good"), ("foreign", "user")])
async def test_feedback_is_on_requests_of_one_s_own(
    post: Post, stored: list[FeedbackRecord], one: str, key: str
) -> None:
    """An unknown id and another key's are answered alike: nobody learns which ids exist."""
    answer = await post([{"request_id": "r", "score": 1}, {"request_id": one, "score": 1}], key=key)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"no request of this key has the id {one!r}. Nothing was stored."
    assert stored == []


async def test_while_records_cannot_be_read_the_client_is_told_to_come_again(
    post: Post, stored: list[FeedbackRecord]
) -> None:
    answer = await post({"request_id": "unreadable", "score": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "the database is away" in answer.json()["error"]["message"]
    assert stored == []
