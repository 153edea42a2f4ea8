"""A later turn finds the turn before; other conversations, users, keys and virtual models do not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.serving.sessions import SESSION_HEADER, SessionKeys, response_key, session_keys

SPEAKER = "auto\0key-1"
ASK, MORE = "What is the weather in Trondheim?", "And in Bergen?"


def chat(*texts: str, **body: object) -> dict[str, object]:
    """User and assistant in turns."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)], **body}


def of(body: dict[str, object], *, speaker: str = SPEAKER, **headers: str) -> SessionKeys:
    return session_keys(body, {name.replace("_", "-"): value for name, value in headers.items()}, speaker)


def follows(later: dict[str, object], earlier: dict[str, object]) -> bool:
    """Whether the later request finds what the earlier one filed."""
    key = of(earlier).key
    return key is not None and key in of(later).earlier


def test_the_next_turn_finds_the_turn_before_first_of_all() -> None:
    first, second, third = chat(ASK), chat(ASK, "Rain.", MORE), chat(ASK, "Rain.", MORE, "Rain too.", "Thanks.")
    assert of(first).earlier == ()
    assert of(second).earlier == (of(first).key,)
    assert of(third).earlier == (of(second).key, of(first).key)


def test_two_conversations_part_where_they_first_differ() -> None:
    assert not follows(chat(ASK, "Rain.", "Thanks.", "Bye.", "Hello?"), chat(ASK, "Rain.", MORE))
    assert not follows(chat(MORE, "Rain.", "Thanks."), chat(ASK))


def test_what_the_llm_said_does_not_matter_clients_trim_it() -> None:
    assert follows(chat(ASK, "Rain, rain, rain.", MORE), chat(ASK))


def test_the_system_prompt_does_not_matter_it_may_tell_the_time() -> None:
    body = chat(ASK, "Rain.", MORE)
    body["messages"] = [{"role": "system", "content": "It is 12:01."}, *body["messages"]]  # type: ignore[misc]
    assert follows(body, chat(ASK))


def test_a_turn_is_the_same_as_text_or_as_parts_wherever_the_cache_is_marked() -> None:
    parts = [{"type": "text", "text": ASK, "cache_control": {"type": "ephemeral"}}]
    body = chat("", "Rain.", MORE)
    body["messages"][0]["content"] = parts  # type: ignore[index]
    assert follows(body, chat(ASK))
    assert follows(chat(ASK, "Rain.", MORE), {"messages": [{"role": "user", "content": parts}]})


def test_steps_of_a_tool_call_are_one_turn() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "c1"}]}
    steps: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": ASK}, call, {"role": "tool", "tool_call_id": "c1", "content": "12"}]},
        {
            "messages": [
                {"role": "user", "content": ASK},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t1"}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "12"}]},
            ]
        },
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": ASK}]},
                {"type": "function_call", "call_id": "c1"},
                {"type": "function_call_output", "call_id": "c1", "output": "12"},
            ]
        },
    ]
    for step in steps:
        assert of(step).key == of(chat(ASK)).key == of(step).earlier[0]


@pytest.mark.parametrize(
    "body",
    [
        {"input": ASK},
        {"input": [{"role": "user", "content": ASK}]},
        {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASK}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}], "system": "Be brief."},
    ],
)
def test_every_endpoint_says_the_same(body: dict[str, object]) -> None:
    assert of(body).key == of(chat(ASK)).key


def test_the_same_question_asked_anew_is_a_new_conversation() -> None:
    assert of(chat(ASK)).earlier == ()


def test_other_images_make_other_conversations() -> None:
    bodies: list[dict[str, object]] = [
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}],
                }
            ]
        }
        for url in ("https://a.example/1.png", "https://a.example/2.png")
    ]
    one, other = bodies
    assert of(one).key != of(other).key


def test_end_users_keys_and_virtual_models_are_apart() -> None:
    keys = {
        of(chat(ASK)).key,
        of(chat(ASK, user="ada")).key,
        of(chat(ASK, user="bob")).key,
        of(chat(ASK, metadata={"user_id": "user_1_session_2"})).key,
        of(chat(ASK), speaker="auto\0key-2").key,
        of(chat(ASK), speaker="cheap\0key-1").key,
    }
    assert len(keys) == 6
    assert None not in keys


def test_a_session_that_the_client_names_is_the_conversation_whatever_is_said() -> None:
    by_header = of(chat(ASK), x_embedllm_session="s1")
    assert SESSION_HEADER == "x-embedllm-session"
    assert by_header.earlier == (by_header.key,)
    assert of(chat("Something else."), x_embedllm_session="s1") == by_header
    assert of(chat(ASK), x_embedllm_session="s2").key != by_header.key
    assert of(chat(ASK), speaker="auto\0key-2", x_embedllm_session="s1").key != by_header.key
    by_body = of(chat(ASK, metadata={"session_id": "s1"}))
    assert by_body.key == by_header.key
    assert of(chat(ASK, metadata={"session_id": "s2"}), x_embedllm_session="s1") == by_header, "the header counts first"


def test_a_stored_response_is_found_by_its_id() -> None:
    conversation = of({"input": MORE, "previous_response_id": "resp_1"})
    assert conversation.earlier[0] == response_key(SPEAKER, "resp_1") != response_key("auto\0key-2", "resp_1")
    assert of({"input": [{"type": "function_call_output"}], "previous_response_id": "resp_1"}).key is None


@pytest.mark.parametrize("body", [{}, {"prompt": "Once"}, {"prompt": [1, 2]}, {"messages": []}, {"input": []}])
def test_what_is_no_conversation_is_filed_nowhere(body: dict[str, object]) -> None:
    assert of(body) == SessionKeys((), None)


def test_keys_tell_nothing_and_depend_on_every_piece() -> None:
    conversation = of(chat("hunter2", "Hm.", MORE, user="ada"))
    assert "hunter2" not in repr(conversation)
    assert "ada" not in repr(conversation)
    assert of(chat("ab", "", "c")).key != of(chat("a", "", "bc")).key


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "type", "content", "text", "user"]), inner | st.just("user"), max_size=4
        )
    ),
    max_leaves=25,
)


@given(messages=_json, items=_json, user=_json, metadata=_json)
def test_nothing_a_client_sends_raises_and_the_same_body_has_the_same_key(
    messages: object, items: object, user: object, metadata: object
) -> None:
    body = {"messages": messages, "input": items, "user": user, "metadata": metadata}
    assert of(body) == of(body)


def test_a_conversation_of_many_turns_and_images_takes_a_few_milliseconds() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 2_000_000}}
    turns = [{"role": "user", "content": [{"type": "text", "text": "x" * 1_000}, image]} for _ in range(200)]
    started = time.process_time()
    conversation = of({"messages": turns})
    assert time.process_time() - started < 0.2
    assert len(conversation.earlier) == 32
