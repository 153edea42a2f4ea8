"""The server that stands in for LLMs, where it stands in for a judge."""

import pytest
from starlette.testclient import TestClient

from embedllm_router.cli.upstream import create_app
from embedllm_router.proxy.call import Message
from embedllm_router.proxy.comparing import comparison_messages, read_scores

ANSWERS = ("four", "five", "four")


def _said(messages: tuple[Message, ...], *, scores: bool) -> str:
    body = {"model": "umpire", "messages": [{"role": one.role, "content": one.content} for one in messages]}
    reply = TestClient(create_app(scores=scores)).post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(reply["choices"][0]["message"]["content"])


def test_made_up_scores_go_by_the_answer_and_not_by_its_place() -> None:
    asked = (Message("user", "2 + 2?"),)
    forth = read_scores(_said(comparison_messages(asked, ANSWERS, None), scores=True), 3)
    back = read_scores(_said(comparison_messages(asked, ANSWERS[::-1], None), scores=True), 3)

    assert forth is not None
    assert back == forth[::-1]
    assert forth[0] == forth[2] != forth[1]


@pytest.mark.parametrize("prompt", ["2 + 2?", '{"answers": ["four"]}', '{"answers": {"A": "four"}}', "[1]"])
def test_who_is_no_judge_gets_no_scores(prompt: str) -> None:
    assert "no LLM was called" in _said((Message("user", prompt),), scores=True)


def test_without_the_option_a_judge_gets_an_answer_like_any_other() -> None:
    case = comparison_messages((Message("user", "2 + 2?"),), ANSWERS, None)

    assert read_scores(_said(case, scores=False), 3) is None
