"""Inside a tool call, with signed reasoning or a stored response, only the LLM that answered before can go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.routing.prompt import Bond, bond_of, deployment_in

ASK = {"role": "user", "content": "What is the weather in Trondheim?"}
SAID = {"role": "assistant", "content": "Rain."}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "12 °C"}

A_THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCgIYAh=="}
A_CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {"signature": "John Hancock"}}
A_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "12 °C"}]}
A_RESULT_AND_MORE = {"role": "user", "content": [*A_RESULT["content"], {"type": "text", "text": "And in Bergen?"}]}
A_SEARCH = {
    "role": "assistant",
    "content": [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "rain"}},
        {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "encrypted_content": "Eo8B"}]},
        {"type": "text", "text": "Rain."},
    ],
}

R_ASK = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is the weather?"}]}
R_CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
R_RESULT = {"type": "function_call_output", "call_id": "c1", "output": "12 °C"}
R_SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]}
R_REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}


def assistant(*parts: object, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(parts), **fields}


FREE: dict[str, dict[str, object]] = {
    "chat, first turn": {"messages": [ASK]},
    "chat, later turn": {"messages": [ASK, SAID, ASK]},
    "chat, a tool call that was answered and talked about": {"messages": [ASK, CALL, RESULT, SAID, ASK]},
    "chat, tools offered": {"messages": [ASK], "tools": [{"type": "function", "function": {"name": "f"}}]},
    "chat, reasoning nobody signed": {"messages": [ASK, {**SAID, "reasoning_content": "Hm."}, ASK]},
    "chat, thinking nobody signed": {
        "messages": [ASK, {**SAID, "thinking_blocks": [{"type": "thinking", "thinking": "Hm."}]}, ASK]
    },
    "chat, a prefilled answer": {"messages": [ASK, {"role": "assistant", "content": "It is"}]},
    "chat, a user who writes of signatures": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "signature": "no LLM's"}]}]
    },
    "anthropic, first turn": {"system": "Be brief.", "messages": [ASK], "max_tokens": 9},
    "anthropic, a tool call that was answered and talked about": {
        "messages": [ASK, assistant(A_CALL), A_RESULT, assistant({"type": "text", "text": "Rain."}), ASK]
    },
    "anthropic, a tool the provider ran itself": {
        "messages": [
            ASK,
            assistant({"type": "code_execution_tool_result", "content": []}, {"type": "text", "text": "Rain."}),
            ASK,
        ]
    },
    "responses, text": {"input": "What is the weather?"},
    "responses, later turn": {"input": [R_ASK, R_SAID, R_ASK]},
    "responses, a call that was answered and talked about": {"input": [R_ASK, R_CALL, R_RESULT, R_SAID, R_ASK]},
    "responses, no previous one": {"input": "hi", "previous_response_id": None, "conversation": ""},
    "completions": {"prompt": "Once upon a time"},
    "completions, token ids": {"prompt": [1, 2, 3]},
    "nothing": {},
}

INSIDE_A_TOOL_CALL: dict[str, dict[str, object]] = {
    "chat, result last": {"messages": [ASK, CALL, RESULT]},
    "chat, one of two results": {"messages": [ASK, CALL, RESULT, {**RESULT, "tool_call_id": "c2"}]},
    "chat, call last": {"messages": [ASK, CALL]},
    "chat, the user adds to the result": {"messages": [ASK, CALL, RESULT, ASK]},
    "chat, a result without its call": {"messages": [ASK, RESULT]},
    "chat, legacy function": {
        "messages": [
            ASK,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "12"},
        ]
    },
    "anthropic, result last": {"messages": [ASK, assistant(A_CALL), A_RESULT]},
    "anthropic, the user adds to the result": {"messages": [ASK, assistant(A_CALL), A_RESULT_AND_MORE]},
    "responses, output last": {"input": [R_ASK, R_CALL, R_RESULT]},
    "responses, computer": {"input": [R_ASK, {"type": "computer_call"}, {"type": "computer_call_output"}]},
    "responses, custom tool": {"input": [R_ASK, {"type": "custom_tool_call"}, {"type": "custom_tool_call_output"}]},
    "responses, approval": {
        "input": [R_ASK, {"type": "mcp_approval_request"}, {"type": "mcp_approval_response", "approve": True}]
    },
}

SIGNED: dict[str, dict[str, object]] = {
    "anthropic, thinking in the turn": {"messages": [ASK, assistant(A_THINKING, A_CALL), A_RESULT]},
    "anthropic, thinking turns ago": {
        "messages": [ASK, assistant(A_THINKING, {"type": "text", "text": "Rain."}), ASK, SAID, ASK]
    },
    "anthropic, redacted": {"messages": [ASK, assistant({"type": "redacted_thinking", "data": "EmwK"}), ASK]},
    "anthropic, search results": {"messages": [ASK, A_SEARCH, ASK]},
    "chat, LiteLLM's thinking blocks": {"messages": [ASK, {**SAID, "thinking_blocks": [A_THINKING]}, ASK]},
    "chat, LiteLLM's reasoning items": {"messages": [ASK, {**SAID, "reasoning_items": [R_REASONING]}, ASK]},
    "chat, Gemini in the call": {
        "messages": [
            ASK,
            {
                **CALL,
                "tool_calls": [{"id": "c1", "extra_content": {"google": {"thought_signature": "CiQB"}}}],
            },
            RESULT,
        ]
    },
    "chat, Gemini by LiteLLM": {
        "messages": [ASK, {**SAID, "provider_specific_fields": {"thought_signatures": ["CiQB"]}}, ASK]
    },
    "chat, Gemini in the id": {"messages": [ASK, {**CALL, "tool_calls": [{"id": "call_1__thought__CiQB"}]}, RESULT]},
    "responses, encrypted": {"input": [R_ASK, R_REASONING, R_CALL, R_RESULT]},
    "responses, turns ago": {"input": [R_ASK, R_REASONING, R_SAID, R_ASK]},
    "responses, by its id alone": {"input": [R_ASK, {"type": "reasoning", "id": "rs_1", "summary": []}, R_SAID, R_ASK]},
}

STORED: dict[str, dict[str, object]] = {
    "previous response": {"input": "And in Bergen?", "previous_response_id": "resp_1"},
    "previous response, tool": {"input": [R_RESULT], "previous_response_id": "resp_1"},
    "conversation": {"input": "And in Bergen?", "conversation": {"id": "conv_1"}},
    "reference": {"input": [{"type": "item_reference", "id": "msg_1"}, R_ASK]},
}


@pytest.mark.parametrize("name", FREE)
def test_any_llm_may_go_on(name: str) -> None:
    assert bond_of(FREE[name]) is None


@pytest.mark.parametrize("name", INSIDE_A_TOOL_CALL)
def test_inside_a_tool_call(name: str) -> None:
    assert bond_of(INSIDE_A_TOOL_CALL[name]) is Bond.TOOL_CALL


@pytest.mark.parametrize("name", SIGNED)
def test_signed_reasoning_ties_wherever_it_is(name: str) -> None:
    assert bond_of(SIGNED[name]) is Bond.SIGNED_REASONING


@pytest.mark.parametrize("name", STORED)
def test_what_a_provider_stores_ties(name: str) -> None:
    assert bond_of(STORED[name]) is Bond.STORED_RESPONSE


def test_only_a_tools_result_can_be_read_by_another_llm() -> None:
    assert [bond for bond in Bond if not bond.forbids_fallbacks] == [Bond.TOOL_CALL]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "type", "content", "tool_calls", "id", "signature", "messages", "input", "x"]),
            inner | st.sampled_from(["assistant", "user", "tool", "reasoning", "tool_use", "item_reference"]),
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(messages=_json, items=_json, previous=_json)
def test_nothing_a_client_sends_raises(messages: object, items: object, previous: object) -> None:
    body = {"messages": messages, "input": items, "previous_response_id": previous}
    assert bond_of(body) in {None, *Bond}
    assert deployment_in(body) is None


def test_nesting_without_end_is_cut_off() -> None:
    deep: object = {"signature": "EqQB"}
    for _ in range(5_000):
        deep = [deep]
    assert bond_of({"messages": [{"role": "assistant", "content": deep}]}) is None


def test_the_deployment_of_a_previous_response_is_what_litellm_wrote_into_its_id() -> None:
    from litellm.responses.utils import ResponsesAPIRequestUtils  # noqa: PLC0415 - seconds to import

    build = ResponsesAPIRequestUtils._build_responses_api_response_id
    told = build(custom_llm_provider="openai", model_id="deployment-7", response_id="resp_abc")
    assert deployment_in({"previous_response_id": told}) == "deployment-7"
    untold = build(custom_llm_provider="openai", model_id=None, response_id="resp_abc")
    assert deployment_in({"previous_response_id": untold}) is None


@pytest.mark.parametrize("previous", [None, 7, "", "resp_", "resp_abc", "resp_ä", "resp_aGVsbG8=", "conv_1"])
def test_an_id_that_is_not_litellms_names_no_deployment(previous: object) -> None:
    assert deployment_in({"previous_response_id": previous}) is None
