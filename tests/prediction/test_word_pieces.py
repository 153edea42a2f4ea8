"""The tokenizer for ASCII text gives the tokens of the library, or leaves a text to it."""

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from embedllm_router.artifact.weights import default_artifact_path
from embedllm_router.prediction.static_encoder import AsciiWordPieces

ASCII = st.text(st.characters(max_codepoint=127), max_size=300)
PRINTED = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)
WORDS = st.lists(
    st.sampled_from(["Water", "unbelievableness", "x1y2", "(a+b)^2", "don't", "snake_case", "\n\n", "```", "e" * 120]),
    max_size=40,
).map(" ".join)


@cache
def shipped_json() -> str:
    return (default_artifact_path() / "tokenizer.json").read_text(encoding="utf-8")


@cache
def library() -> Tokenizer:
    return Tokenizer.from_str(shipped_json())


@cache
def own() -> AsciiWordPieces:
    pieces = AsciiWordPieces.of(shipped_json())
    assert pieces is not None, "the shipped tokenizer is one of these"
    return pieces


def by_library(text: str) -> list[int]:
    ids: list[int] = library().encode(text, add_special_tokens=False).ids
    return ids


@given(PRINTED | WORDS)
def test_printed_ascii_has_the_tokens_of_the_library(text: str) -> None:
    found = own().ids(text)
    assert found == by_library(text) or (found is None and "[" in text)


@given(ASCII | st.text(max_size=50))
def test_a_text_is_tokenized_as_by_the_library_or_left_to_it(text: str) -> None:
    found = own().ids(text)
    if found is None:
        assert not text.isascii() or any(ord(c) < 32 or ord(c) == 127 for c in text) or "[" in text
    else:
        assert found == by_library(text)


@pytest.mark.parametrize("text", ["a [UNK] b", "a [pad] b", "naïve", "日本", "a\0b", "a\x7fb", "\N{NO-BREAK SPACE}"])
def test_special_tokens_and_other_characters_are_the_librarys(text: str) -> None:
    assert own().ids(text) is None


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("  \t\r\n ", []),
        ("Abc abc", [1, 1]),
        ("abcabc", [1, 2]),
        ("abcdabc", [1, 3, 2]),
        ("zzz", [0]),
        ("abcz", [0]),
        ("abc-abc", [1, 4, 1]),
        ("abc" * 4, [0]),
        ("abc" * 3, [1, 2, 2]),
    ],
)
def test_the_longest_known_piece_is_taken_first(text: str, pieces: list[int]) -> None:
    vocabulary = {"[UNK]": 0, "abc": 1, "##abc": 2, "##d": 3, "-": 4, "##ab": 5, "a" * 11: 6}
    assert AsciiWordPieces(vocabulary, 0, 10, ()).ids(text) == pieces


def edited(part: str | None, **change: Any) -> str:
    fields = json.loads(shipped_json())
    if part is None:
        fields.update(change)
    else:
        fields[part].update(change)
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (None, {"normalizer": None}),
        (None, {"pre_tokenizer": {"type": "Whitespace"}}),
        ("normalizer", {"lowercase": False}),
        ("model", {"type": "WordLevel"}),
        ("model", {"continuing_subword_prefix": "@@"}),
        ("model", {"unk_token": "[NONE]"}),
    ],
)
def test_tokenizers_of_another_kind_are_left_to_the_library(part: str | None, change: dict[str, Any]) -> None:
    assert AsciiWordPieces.of(edited(part, **change)) is None


def test_an_added_token_is_the_librarys_in_any_case() -> None:
    added = [{"id": 29525, "content": "EndOfTurn", "normalized": True}]
    pieces = AsciiWordPieces.of(edited(None, added_tokens=added))
    assert pieces is not None
    assert pieces.ids("so it is, endofturn") is None
    assert pieces.ids("so it is") is not None
