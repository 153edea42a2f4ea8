"""Whatever a client sends, the right text is embedded and nothing raises."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedllm_router.routing.pool import Capability
from embedllm_router.routing.prompt import CHARS_OF_CONTEXT, EmbedText, read_body

LONG = "Prove that the harmonic series diverges, and say what that has to do with bridges. " * 4

BODIES: dict[str, tuple[dict[str, object], str]] = {
    "chat, string": ({"messages": [{"role": "user", "content": "hello"}]}, "hello"),
    "chat, system prompt excluded": (
        {"messages": [{"role": "system", "content": LONG}, {"role": "user", "content": "hi"}]},
        "hi",
    ),
    "chat, developer prompt excluded": (
        {"messages": [{"role": "developer", "content": LONG}, {"role": "user", "content": "hi"}]},
        "hi",
    ),
    "chat, parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
        "a\nb",
    ),
    "chat, image beside text": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}},
                        {"type": "text", "text": "what is this?"},
                    ],
                }
            ]
        },
        "what is this?",
    ),
    "chat, audio only": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA"}}]}]},
        "",
    ),
    "chat, None with tool calls, then a tool answer": (
        {
            "messages": [
                {"role": "user", "content": LONG},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "42"},
            ]
        },
        LONG,
    ),
    "chat, legacy function message": (
        {"messages": [{"role": "user", "content": LONG}, {"role": "function", "name": "f", "content": "42"}]},
        LONG,
    ),
    "chat, short turn takes the one before": (
        {
            "messages": [
                {"role": "user", "content": LONG},
                {"role": "assistant", "content": "Shall I?"},
                {"role": "user", "content": "yes"},
            ]
        },
        f"{LONG}\n\nyes",
    ),
    "chat, long turn stands alone": (
        {"messages": [{"role": "user", "content": "earlier"}, {"role": "user", "content": LONG}]},
        LONG,
    ),
    "chat, empty": ({"messages": []}, ""),
    "chat, unicode": ({"messages": [{"role": "user", "content": "数学の問題 🧮"}]}, "数学の問題 🧮"),
    "chat, refusal part": ({"messages": [{"role": "user", "content": [{"type": "refusal", "text": "no"}]}]}, "no"),
    "responses, string": ({"input": "hello", "instructions": LONG}, "hello"),
    "responses, items": (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]},
        "hello",
    ),
    "responses, typed message and tool output": (
        {
            "input": [
                {"type": "message", "role": "user", "content": LONG},
                {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
                {"type": "function_call_output", "call_id": "1", "output": "42"},
            ]
        },
        LONG,
    ),
    "anthropic, system excluded": (
        {"system": [{"type": "text", "text": LONG}], "messages": [{"role": "user", "content": "hi"}]},
        "hi",
    ),
    "anthropic, tool result is no user turn": (
        {
            "messages": [
                {"role": "user", "content": LONG},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "42"}]},
            ]
        },
        LONG,
    ),
    "completions, string": ({"prompt": "hello"}, "hello"),
    "completions, strings": ({"prompt": ["hello", "there"]}, "hello\n\nthere"),
    "completions, token ids": ({"prompt": [1, 2, 3]}, ""),
    "completions, lists of token ids": ({"prompt": [[1, 2], [3]]}, ""),
    "nothing at all": ({}, ""),
}


@pytest.mark.parametrize("name", BODIES)
def test_text_of_body(name: str) -> None:
    body, expected = BODIES[name]
    assert read_body(body).text == expected


def test_conversation_leaves_the_system_prompt_out() -> None:
    body = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ]
    }
    assert read_body(body, EmbedText.CONVERSATION).text == "one\n\ntwo\n\nthree"


def test_all_takes_the_system_prompt_too() -> None:
    body = {"system": "Be brief.", "messages": [{"role": "user", "content": "one"}]}
    assert read_body(body, EmbedText.ALL).text == "Be brief.\n\none"


def test_context_is_only_as_long_as_needed() -> None:
    turns = [{"role": "user", "content": f"{i:03d}" * 50} for i in range(10)]
    text = read_body({"messages": turns}).text
    assert text == "\n\n".join(["008" * 50, "009" * 50])
    assert len(text) >= CHARS_OF_CONTEXT


def test_tokens_count_everything_that_is_billed() -> None:
    user = {"role": "user", "content": "x" * 400}
    alone = read_body({"messages": [user]}).input_tokens
    assert alone == 100
    assert read_body({"messages": [{"role": "system", "content": "y" * 800}, user]}).input_tokens == 300
    assert read_body({"messages": [user], "tools": [{"type": "function"}]}).input_tokens > alone


def test_an_image_counts_as_an_attachment_not_as_its_base64() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    assert read_body({"messages": [{"role": "user", "content": [image]}]}).input_tokens == 1_000


def test_token_ids_are_counted() -> None:
    assert read_body({"prompt": [[1, 2], [3]]}).input_tokens == 3


@pytest.mark.parametrize(
    ("call_type", "limits", "binding"),
    [
        ("acompletion", {"max_tokens": 7}, 7),
        ("acompletion", {"max_tokens": 1, "max_completion_tokens": 9_000}, 9_000),
        ("acompletion", {"max_output_tokens": 1}, None),
        ("acompletion", {"max_output_tokens": 1, "max_tokens": 70, "input": "x"}, 70),
        ("aresponses", {"max_tokens": 1, "max_output_tokens": 70}, 70),
        ("responses", {"max_completion_tokens": 1}, None),
        ("anthropic_messages", {"max_tokens": 70, "max_completion_tokens": 1}, 70),
        ("atext_completion", {"max_tokens": 70, "max_completion_tokens": 100}, 70),
        ("", {"messages": [], "max_output_tokens": 1, "max_completion_tokens": 70}, 70),
        ("", {"input": "x", "max_tokens": 1, "max_output_tokens": 70}, 70),
        ("", {"prompt": "x", "max_tokens": 70}, 70),
        ("", {"prompt": "x", "max_tokens": "seven"}, None),
    ],
)
def test_a_limit_on_the_answer_counts_where_it_binds(
    call_type: str, limits: dict[str, object], binding: int | None
) -> None:
    assert read_body(limits, call_type=call_type).max_output_tokens == binding


def user(*parts: dict[str, object]) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, set()),
        (user({"type": "image_url", "image_url": {"url": "u"}}), {Capability.VISION}),
        (user({"type": "image", "source": {}}), {Capability.VISION}),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, {Capability.VISION}),
        (user({"type": "input_audio", "input_audio": {}}), {Capability.AUDIO}),
        (user({"type": "document"}, {"type": "image"}), {Capability.PDF, Capability.VISION}),
        ({"prompt": "hi", "tools": [{"type": "function"}]}, {Capability.TOOLS}),
        ({"prompt": "hi", "tools": []}, set()),
        ({"prompt": "hi", "response_format": {"type": "json_schema"}}, {Capability.JSON_SCHEMA}),
        ({"prompt": "hi", "response_format": {"type": "text"}}, set()),
        ({"input": "hi", "text": {"format": {"type": "json_schema"}}}, {Capability.JSON_SCHEMA}),
    ],
)
def test_what_an_llm_must_be_able_to_do(body: dict[str, object], needs: set[Capability]) -> None:
    assert read_body(body).needs == needs


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "role", "content"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_fields = st.sampled_from(["messages", "input", "prompt", "system", "tools", "max_tokens", "text"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(body=st.dictionaries(_fields, _json, max_size=4), embed_text=st.sampled_from(EmbedText))
def test_no_body_raises(body: dict[str, object], embed_text: EmbedText) -> None:
    prompt = read_body(body, embed_text)
    assert prompt.input_tokens >= 0


@pytest.mark.parametrize("said", [True, 0, -1, "5", 1.5, None])
def test_what_is_no_limit_on_the_answer_sets_none(said: object) -> None:
    assert read_body({"prompt": "x", "max_tokens": said}).max_output_tokens is None


def test_a_limit_is_never_more_than_a_record_can_hold() -> None:
    assert read_body({"prompt": "x", "max_tokens": 10**400}).max_output_tokens == 10**9


@pytest.mark.parametrize(
    ("call_type", "body", "n_answers"),
    [
        ("acompletion", {"n": 2}, 2),
        ("acompletion", {"n": 10**400}, 10_000),
        ("acompletion", {"n": 2, "best_of": 9, "prompt": ["a", "b"]}, 2),
        ("atext_completion", {"best_of": 3}, 3),
        ("atext_completion", {"prompt": ["a", "b"]}, 2),
        ("atext_completion", {"prompt": [[1, 2], [3], [4]], "n": 2, "best_of": 5}, 15),
        ("atext_completion", {"prompt": ["a"]}, 1),
        ("atext_completion", {"prompt": [1, 2, 3]}, 1),
        ("atext_completion", {"prompt": []}, 1),
        ("anthropic_messages", {"n": 5}, 1),
        ("aresponses", {"n": 5}, 1),
        ("", {"prompt": ["a", "b"]}, 2),
        ("acompletion", {"n": 1}, 1),
        ("acompletion", {"n": -4}, 1),
        ("acompletion", {"n": True}, 1),
        ("acompletion", {"n": "2"}, 1),
    ],
)
def test_answers_are_counted(call_type: str, body: dict[str, object], n_answers: int) -> None:
    assert read_body(body, call_type=call_type).n_answers == n_answers


@pytest.mark.parametrize("field", ["tools", "messages", "input", "content"])
def test_no_depth_raises(field: str) -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    part = {"type": "tool_use", "input": deep}
    read_body({field: deep, "prompt": [{"role": "user", "content": [part], "tool_calls": deep}]})
