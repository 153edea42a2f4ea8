"""Every provider's spelling of an LLM is read as the same LLM, and never as another."""

import csv
from collections.abc import Mapping
from datetime import date
from importlib import import_module
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.manifest import Manifest
from embedllm_router.artifact.names import aliases_of, read_name
from embedllm_router.artifact.weights import MANIFEST, default_artifact_path


@pytest.mark.parametrize(
    ("name", "spelling", "release"),
    [
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-sonnet-3-5", "20241022"),
        ("bedrock/global.anthropic.claude-opus-4-6-v1", "claude-opus-4-6", ""),
        ("bedrock/eu-central-1/6-month-commitment/anthropic.claude-v2:1", "claude-2-1", ""),
        (
            "bedrock/arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-20250514-v1:0",
            "claude-sonnet-4",
            "20250514",
        ),
        ("bedrock/us-gov-west-1/meta.llama3-70b-instruct-v1:0", "llama-3-70b-instruct", ""),
        ("mistral.mistral-7b-instruct-v0:2", "mistral-7b-instruct-v0-2", ""),
        ("us.deepseek.r1-v1:0", "deepseek-r1", ""),
        ("openai.gpt-oss-120b-1:0", "gpt-oss-120b", ""),
        ("azure/eu/gpt-4o-2024-08-06", "gpt-4o", "20240806"),
        ("azure/gpt-35-turbo-0125", "gpt-3-5-turbo", "0125"),
        ("azure_ai/FW-GLM-5", "glm-5", ""),
        ("vertex_ai/claude-3-sonnet@20240229", "claude-sonnet-3", "20240229"),
        ("vertex_ai/claude-3-5-sonnet-v2@20241022", "claude-sonnet-3-5", "20241022"),
        ("vertex_ai/claude-opus-4-6@default", "claude-opus-4-6", ""),
        ("vertex_ai/meta/llama-3.1-70b-instruct-maas", "llama-3-1-70b-instruct", ""),
        ("groq/llama-3.3-70b-versatile", "llama-3-3-70b", ""),
        ("groq/llama-3.1-8b-instant", "llama-3-1-8b", ""),
        ("together_ai/meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", "llama-3-1-8b-instruct", ""),
        ("together_ai/openai/gpt-4-turbo", "gpt-4-turbo", ""),
        ("fireworks_ai/accounts/fireworks/models/llama-v3p1-405b-instruct", "llama-3-1-405b-instruct", ""),
        ("fireworks_ai/accounts/fireworks/models/kimi-k2p6", "kimi-k2-6", ""),
        ("ollama/llama3.1:8b", "llama-3-1-8b", ""),
        ("ollama_chat/llama3.1:8b-instruct-q4_K_M", "llama-3-1-8b-instruct", ""),
        ("hosted_vllm/meta-llama/Llama-3.3-70B-Instruct", "llama-3-3-70b-instruct", ""),
        ("openrouter/qwen/qwen-2.5-72b-instruct:free", "qwen2-5-72b-instruct", ""),
        ("databricks/databricks-meta-llama-3-3-70b-instruct", "llama-3-3-70b-instruct", ""),
        ("snowflake/snowflake-llama-3.1-405b", "snowflake-llama-3-1-405b", ""),  # their own fine-tune
        ("heroku/claude-4-sonnet", "claude-sonnet-4", ""),
        ("command-r-plus-08-2024", "command-r-plus", "202408"),
        ("mistral/mistral-large-latest", "mistral-large", "latest"),
        ("my deployment", "my-deployment", ""),
        ("", "", ""),
    ],
)
def test_one_spelling(name: str, spelling: str, release: str) -> None:
    read = read_name(name)
    assert (read.spelling, read.release) == (spelling, release)


@pytest.mark.parametrize(
    ("name", "vendor", "family", "size_b", "released", "thinking"),
    [
        ("gpt-5-mini-2025-08-07:high", "openai", "gpt-mini", None, "2025-08", True),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic", "claude-haiku", None, "2025-10", False),
        ("openrouter/anthropic/claude-3.7-sonnet:thinking", "anthropic", "claude-sonnet", None, None, True),
        ("gemini/gemini-2.5-flash-lite-preview-09-2025", "google", "gemini-flash-lite", None, "2025-09", False),
        ("deepinfra/Qwen/Qwen3-235B-A22B-Thinking-2507", "qwen", "qwen", 235, "2025-07", True),
        ("ollama/mixtral:8x7b", "mistral", "mixtral", 56, None, False),
        ("xai/grok-4-1-fast-non-reasoning", "xai", "grok-fast", None, None, False),
        ("deepseek/deepseek-reasoner", "deepseek", "deepseek", None, None, True),
        ("o4-mini", "openai", "o-mini", None, None, True),
        ("watsonx/meta-llama/llama-3-2-90b-vision-instruct", "meta", "llama-vision", 90, None, False),
        ("fireworks_ai/accounts/fireworks/models/qwen3-1p7b", "qwen", "qwen", 1.7, None, False),
        ("zai/glm-4-7-251222", "zhipu", "glm", None, "2025-12", False),
        ("my-deployment", None, "", None, None, False),
    ],
)
def test_what_a_name_says(  # noqa: PLR0913, PLR0917 - one row of the table
    name: str, vendor: str | None, family: str, size_b: float | None, released: str | None, thinking: object
) -> None:
    read = read_name(name)
    assert (read.vendor, read.family, read.size_b) == (vendor, family, size_b)
    assert (read.released, read.thinking) == (released, thinking)


@given(st.text(max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert read_name(text) == read_name(text)
    aliases_of(text)


def test_aliases_are_dated_releases_in_order() -> None:
    rows = list(csv.DictReader((files("embedllm_router.artifact") / "aliases.csv").read_text().splitlines()))
    assert rows == sorted(rows, key=lambda row: ("/" in row["alias"], row["alias"], row["since"]))
    for row in rows:
        date.fromisoformat(row["since"])
        place = "ollama/" if row["alias"].startswith("ollama/") else ""
        assert row["stands_for"] in {one.stands_for for one in aliases_of(place + row["alias"].removeprefix(place))}
        assert read_name(row["stands_for"]).key != read_name(row["alias"]).key


def test_an_alias_stands_for_its_newest_release() -> None:
    assert [one.stands_for for one in aliases_of("openai/gpt-4o")] == ["gpt-4o-2024-05-13", "gpt-4o-2024-08-06"]
    assert aliases_of("anthropic/claude-3-5-sonnet-latest")[-1].stands_for == "claude-3-5-sonnet-20241022"
    assert aliases_of("ollama/mistral")[-1].stands_for == "mistral-7b-instruct-v0.3"
    assert aliases_of("mistral") == ()


def shipped() -> Catalog:
    return Catalog(Manifest.model_validate_json((default_artifact_path() / MANIFEST).read_bytes()).llms)


@pytest.fixture(scope="module")
def matched() -> dict[str, str]:
    """Every chat entry of LiteLLM's price map that the shipped weights know, with the LLM it was matched to."""
    prices: Mapping[str, Any] = import_module("litellm").model_cost
    catalog = shipped()
    chat = [name for name, entry in prices.items() if entry.get("mode") in {"chat", "completion", "responses"}]
    return {name: llm for name in chat if (llm := catalog.match(name).llm)}


def test_no_match_contradicts_what_both_names_say(matched: dict[str, str]) -> None:
    assert len(matched) > 400
    for name, llm in matched.items():
        read, known = read_name(name), read_name(llm)
        assert read.vendor == known.vendor, (name, llm)
        assert read.size_b in {None, known.size_b} or known.size_b is None, (name, llm)
        assert read.release in {"", "latest", known.release} or not known.release, (name, llm)
        assert read.thinking in {known.thinking, False}, (name, llm)


def test_every_learned_llm_is_found_by_its_own_id() -> None:
    catalog = shipped()
    assert [catalog.match(llm_id).llm for llm_id in catalog.ids] == list(catalog.ids)
    assert all(catalog.match(f"openrouter/any/{llm_id}").llm == llm_id for llm_id in catalog.ids)
    assert {name.vendor for name in catalog.names} >= {"openai", "anthropic", "google", "meta"}
    read = [name.vendor is not None for name in catalog.names]
    assert sum(read) / len(read) > 0.95, "an LLM whose vendor nobody reads has no relatives"
