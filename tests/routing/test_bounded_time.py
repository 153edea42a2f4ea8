"""Time on the request path is linear in a bounded text: hostile bodies cost no more than plain ones of their size."""

import json
import time
from collections.abc import Callable
from functools import cache

import pytest

from embedllm_router import Router
from embedllm_router.routing.prompt import Bond, EmbedText, bond_of, opening, read_body
from embedllm_router.serving.sessions import session_keys

SIZES = (16_384, 1_000_000)
PLAIN = "some plain words, as people write them, and then a few more of 1 or 2 kinds.\n"
SHAPES = {
    "newlines": "\n",
    "carriage returns": "\r\n",
    "spaces": " ",
    "tabs": "\t",
    "wide spaces": "\u2003",
    "vertical tabs": "\x0b",
    "no-break spaces": "\u00a0",
    "line separators": "\u2028",
    "open brackets": "(",
    "nested brackets": "([{",
    "backticks": "`",
    "semicolons": "; ",
    "options": "A. ",
    "digits": "7",
    "dots": ".",
    "one long word": "a",
    "hyphens": "a-",
    "combining marks": "e\u0301\u0302\u0303",
    "zero width joiners": "\u200d",
    "emoji": "👩‍👩‍👧",
    "ideographs": "漢字",
    "class heads": "class a",
    "lone surrogates": "\ud800",
    "open notes of agents": "<system-reminder>",
    "open notes of many agents": "<system-reminder><user_info><MEMORIES><git_status>",
    "notes of agents": "<system-reminder>a</system-reminder>",
    "half tags": "<user_info ",
    "closing tags": "</system-reminder>",
}


@cache
def shipped() -> Router:
    return Router.load()


def seconds(act: Callable[[], object]) -> float:
    """Processor time, the best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        act()
        best = min(best, time.process_time() - started)
    return best


@cache
def seconds_of_plain_text(size: int, *, ascii_alone: bool) -> float:
    """ASCII text has a tokenizer of its own, several times as fast; other plain text has one accent."""
    plain = chat(("" if ascii_alone else "é") + (PLAIN * size)[:size])
    handled(plain)
    return seconds(lambda: handled(plain))


def chat(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def handled(body: dict[str, object]) -> None:
    """Everything that looks at a body before the decision, and the decision."""
    prompt = read_body(body)
    bond_of(body)
    session_keys(body, {}, "auto")
    shipped().route(prompt)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_hostile_text_takes_little_longer_than_a_plain_one(shape: str, size: int) -> None:
    hostile = chat((shape * size)[:size])
    assert seconds(lambda: handled(hostile)) < 8 * seconds_of_plain_text(size, ascii_alone=shape.isascii())


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}] * 50_000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}] * 50_000},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}] * 100_000},
        {"input": [{"type": "reasoning", "encrypted_content": "x"}] * 50_000},
        {"prompt": ["hello"] * 100_000},
        {"prompt": list(range(2_000_000))},
        {"prompt": [list(range(100))] * 10_000},
    ],
    ids=["turns", "parts", "tool results", "reasoning", "prompts", "token ids", "lists of token ids"],
)
def test_a_body_of_many_items_takes_no_longer_than_a_few_parses_of_its_json(body: dict[str, object]) -> None:
    """The proxy has parsed it before: what comes on top is of that order."""
    text = json.dumps(body)

    def read() -> None:
        read_body(body)
        bond_of(body)
        session_keys(body, {}, "auto")
        opening(body)

    assert seconds(read) < 4 * seconds(lambda: json.loads(text)) + 0.02


def test_a_long_conversation_is_read_at_its_ends_and_its_size_is_counted() -> None:
    turns = [{"role": "user", "content": f"turn {i} " + "x" * 92} for i in range(5_000)]
    read = read_body({"messages": turns}, EmbedText.CONVERSATION)
    assert read.text.startswith("turn 0 ")
    assert "turn 4999 " in read.text
    assert "turn 2000 " not in read.text
    assert read.input_tokens == pytest.approx(5_000 * 100 / 4, rel=0.03)


def test_token_ids_are_told_from_messages_by_their_ends() -> None:
    assert read_body({"prompt": list(range(100_000))}).input_tokens == 100_000
    assert read_body({"prompt": [*range(40), "text"]}).text == "text"


def test_a_session_of_thousands_of_turns_goes_on() -> None:
    turns = [{"role": "user", "content": f"turn {i}"} for i in range(3_000)]
    for n in (10, 511, 512, 513, 514, 2_000):
        sent = session_keys({"messages": turns[:n]}, {}, "auto")
        following = session_keys(
            {"messages": [*turns[:n], {"role": "assistant", "content": "yes"}, turns[n]]}, {}, "auto"
        )
        assert sent.key in following.earlier, n


def test_signed_reasoning_near_the_end_of_a_long_conversation_still_binds() -> None:
    turns: list[dict[str, object]] = [{"role": "user", "content": "hello"}] * 3_000
    signed = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}]}
    assert bond_of({"messages": [*turns, signed, {"role": "user", "content": "go on"}]}) is Bond.SIGNED_REASONING
