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


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_request_s_own_limit_on_the_answer(field: str) -> None:
    assert read_body({"prompt": "hello", field: 7}).max_output_tokens == 7
    assert read_body({"prompt": "hello", field: "seven"}).max_output_tokens is None


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
    ("body", "several"),
    [
        ({"n": 2}, True),
        ({"best_of": 3}, True),
        ({"prompt": ["a", "b"]}, True),
        ({"n": 1}, False),
        ({"n": True}, False),
        ({"n": "2"}, False),
        ({"prompt": ["a"]}, False),
        ({"prompt": [1, 2, 3]}, False),
    ],
)
def test_several_answers_are_noticed(body: dict[str, object], *, several: bool) -> None:
    assert read_body(body).wants_several is several


@pytest.mark.parametrize("field", ["tools", "messages", "input", "content"])
def test_no_depth_raises(field: str) -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    part = {"type": "tool_use", "input": deep}
    read_body({field: deep, "prompt": [{"role": "user", "content": [part], "tool_calls": deep}]})
