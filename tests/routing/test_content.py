"""Everything in a message is counted as what it is, wherever it stands; only what a person says is embedded."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.routing.content import json_bytes, own_words
from embedllm_router.routing.pool import Capability
from embedllm_router.routing.prompt import EmbedText, Prompt, read_body

DATA = "A" * 1_400_000  # base64 of about 1 MB
TEXT = "word " * 80_000
SCREENSHOT = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}


def asked(*content: object) -> Prompt:
    return read_body({"messages": [{"role": "user", "content": list(content)}]}, call_type="anthropic_messages")


def pdf(n_pages: int) -> str:
    pages = b"".join(b"<< /Type /Page /Parent 1 0 R >>" for _ in range(n_pages))
    return base64.b64encode(b"%PDF-1.4 << /Type /Pages /Count 9 >>" + pages).decode()


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [SCREENSHOT]}]}]},
        {"messages": [{"role": "tool", "tool_call_id": "c", "content": [{"type": "image_url", "image_url": DATA}]}]},
        {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": DATA}]}]},
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": DATA}}]},
        {"input": [{"type": "custom_tool_call_output", "output": [{"type": "input_image", "image_url": DATA}]}]},
    ],
)
def test_a_picture_that_a_tool_returns_is_a_picture(body: dict[str, object]) -> None:
    prompt = read_body(body)
    assert 1_000 <= prompt.input_tokens < 1_050
    assert prompt.needs == {Capability.VISION}
    assert not prompt.text


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": TEXT}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": TEXT}]}},
        {"type": "search_result", "source": "https://example.org", "title": "t", "content": [{"text": TEXT}]},
        {"type": "tool_result", "content": TEXT},
        {"type": "mcp_tool_result", "content": [{"type": "text", "text": TEXT}]},
        {"type": "file", "file": {"file_data": "data:text/csv;base64," + "A" * (len(TEXT) * 4 // 3)}},
    ],
)
def test_text_counts_the_same_wherever_it_stands(part: dict[str, object]) -> None:
    prompt = asked(part, {"type": "text", "text": "summarise"})
    assert len(TEXT) // 4 <= prompt.input_tokens < len(TEXT) // 4 + 50
    assert Capability.PDF not in prompt.needs


@pytest.mark.parametrize(
    "kind", ["custom_tool_call", "function_call", "local_shell_call", "mcp_call", "web_search_call"]
)
def test_tool_calls_of_every_kind_count(kind: str) -> None:
    item = {"type": kind, "call_id": "c", "name": "apply_patch", "input": "x" * 400_000}
    prompt = read_body({"input": [{"role": "user", "content": "patch"}, item]})
    assert prompt.text == "patch"
    assert 100_000 < prompt.input_tokens < 100_100


def test_a_character_of_three_bytes_counts_as_three() -> None:
    results = [{"type": "tool_result", "content": "汉" * 100_000}, {"type": "text", "text": "汉" * 100_000}]
    for part in results:
        assert 75_000 <= asked(part).input_tokens < 75_030
    tools = [{"type": "function", "function": {"name": "f", "description": "汉" * 4_000}}]
    assert 3_000 < read_body({"messages": [], "tools": tools}).input_tokens < 3_050


@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking", "reasoning"])
def test_reasoning_is_counted_and_not_embedded(kind: str) -> None:
    thought = {"type": kind, "thinking": "x" * 4_000}
    for body in ({"messages": [{"role": "assistant", "content": [thought]}]}, {"input": [{**thought, "content": []}]}):
        prompt = read_body(body, EmbedText.CONVERSATION)
        assert (prompt.text, prompt.needs) == ("", set())
        assert 1_000 < prompt.input_tokens < 1_020


@pytest.mark.parametrize(("n_pages", "n_tokens"), [(1, 2_000), (12, 24_000)])
def test_pages_of_a_pdf_are_counted(n_pages: int, n_tokens: int) -> None:
    data = pdf(n_pages)
    whole = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}
    for part in (whole, {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}"}}):
        prompt = asked(part)
        assert (prompt.input_tokens, prompt.needs) == (n_tokens, {Capability.PDF})


def test_a_pdf_whose_pages_are_compressed_goes_by_its_size() -> None:
    data = base64.b64encode(b"x" * 500_000).decode()
    part = {"type": "input_file", "file_data": f"data:application/pdf;base64,{data}"}
    assert asked(part).input_tokens == 10 * 2_000
    assert asked({"type": "input_file", "file_data": "not base64!"}).input_tokens == 2_000
    assert asked({"type": "file", "file": {"file_id": "f-1"}}).input_tokens == 1_000


@pytest.mark.parametrize(
    "field",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"description": "x" * 4_000}}}},
        {"text": {"format": {"type": "json_schema", "schema": {"description": "x" * 4_000}}}},
        {"prediction": {"type": "content", "content": "x" * 4_000}},
        {"functions": [{"name": "f", "description": "x" * 4_000}]},
    ],
)
def test_what_is_read_beside_the_messages_counts(field: dict[str, object]) -> None:
    assert 1_000 < read_body({"messages": [{"role": "user", "content": "hi"}], **field}).input_tokens < 1_050


NOTES = (
    "<system-reminder>\nThe list of tasks is empty.\n</system-reminder>",
    '<environment_context cwd="/src">\n<shell>zsh</shell>\n</environment_context>',
    "<environment_details>\n# Visible files\na.py\n</environment_details>",
    "<permissions instructions>\nread only\n</permissions instructions>",
    "<REPOSITORY_INSTRUCTIONS>lint first</REPOSITORY_INSTRUCTIONS>",
)


@pytest.mark.parametrize("note", NOTES)
def test_notes_of_coding_agents_are_counted_and_not_embedded(note: str) -> None:
    for parts in (("Fix the test", note), (note, "Fix the test"), (f"{note}\nFix the test\n{note}",)):
        prompt = asked(*({"type": "text", "text": part} for part in parts))
        assert prompt.text == "Fix the test"
        assert prompt.input_tokens >= sum(map(len, parts)) // 4


def test_the_frame_around_the_request_gives_the_request() -> None:
    text = f"<rules>\nlint first\n</rules>\n{NOTES[0]}\n<user_query>\nFix the test\n</user_query>"
    assert own_words(text) == "Fix the test"


def test_a_turn_of_notes_alone_gives_way_to_the_turn_before() -> None:
    turns = [{"role": "user", "content": "Fix the test"}, {"role": "user", "content": NOTES[0]}]
    assert read_body({"messages": turns}).text == "Fix the test"
    assert read_body({"messages": turns}, EmbedText.CONVERSATION).text == "Fix the test"
    assert read_body({"messages": turns}, EmbedText.ALL).text == f"Fix the test\n\n{NOTES[0]}"
    assert read_body({"messages": turns[1:]}).text == NOTES[0]


@pytest.mark.parametrize(
    "text",
    [
        "x < y and y > z",
        "<system-reminder> unclosed",
        "<context>mine</context> explain",
        "</system-reminder>",
        "<b>hi</b>",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert own_words(text) == text


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert own_words(f"{NOTES[0]}{text}").find("list of tasks") < 0
    assert json_bytes({"a": text}) >= len(text)


def test_json_that_no_library_writes_has_a_size() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert json_bytes(deep) >= 0
    assert json_bytes({"n": 10**30, "s": "\ud800" * 9}) > 9


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, False),
        ({"system": [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}], "messages": []}, True),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
                    },
                    {"role": "user", "content": "b"},
                ]
            },
            True,
        ),
        ({"messages": [], "tools": [{"name": "f"}, {"name": "g", "cache_control": {"type": "ephemeral"}}]}, True),
        ({"messages": [], "tools": [{"name": "f"}], "cache_control": {"type": "ephemeral"}}, True),
        ({"messages": [], "tools": {"cache_control": 1}}, False),
    ],
)
def test_a_request_that_asks_for_caching_says_so(body: dict[str, object], *, marks: bool) -> None:
    assert read_body(body).marks_cache == marks
