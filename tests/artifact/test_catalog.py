"""Names find the LLM they mean, and never another one."""

import pytest

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.errors import ConfigError

IDS = (
    "gpt-4o-2024-05-13",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini-2024-07-18",
    "claude-3-5-sonnet-20241022",
    "claude-3-7-sonnet-20250219",
    "claude-3-7-sonnet-20250219:thinking",
    "llama-3.3-70b-instruct",
    "gemini-1.5-pro-001",
    "gemini-1.5-pro-exp-0827",
    "acme-chat-2025-11-01",
    "acme-chat-2026-02-01",
)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog([LearnedLLM(id=i, vendor="", thinking=False, n_labels=1, mean_correctness=0.5) for i in IDS])


@pytest.mark.parametrize(
    ("name", "llm", "how"),
    [
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13", "exact"),
        ("openai/GPT-4o-2024-05-13", "gpt-4o-2024-05-13", "spelling"),
        ("gpt-4o", "gpt-4o-2024-08-06", "alias"),
        ("openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18", "alias"),
        ("claude-3.5-sonnet", "claude-3-5-sonnet-20241022", "alias"),
        ("anthropic/claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", "alias"),
        ("claude-3-7-sonnet", "claude-3-7-sonnet-20250219", "alias"),
        ("claude-3.7-sonnet:thinking", "claude-3-7-sonnet-20250219:thinking", "alias"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct", "spelling"),
        ("groq/llama-3.3-70b-versatile", "llama-3.3-70b-instruct", "spelling"),
        ("acme-chat", "acme-chat-2026-02-01", "newest release"),
    ],
)
def test_match(catalog: Catalog, name: str, llm: str, how: str) -> None:
    match = catalog.match(name)
    assert (match.llm, match.how) == (llm, how)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gpt-4o-2024-11-20", ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13")),
        ("gpt-5-mini", ("gpt-4o-mini-2024-07-18",)),
        ("gemini-1.5-pro", ("gemini-1.5-pro-001", "gemini-1.5-pro-exp-0827")),  # it stands for 002 by now
        ("acme-chat-latest", ("acme-chat-2026-02-01",)),
        ("ft:gpt-4o-2024-08-06:acme::1", ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13")),
        ("replicate/meta/llama-3.3-70b", ("llama-3.3-70b-instruct",)),  # the base model
        ("claude-3-5-haiku", ()),
        ("qwen3-32b", ()),
        ("", ()),
        ("my-deployment", ()),
    ],
)
def test_no_guess(catalog: Catalog, name: str, nearest: tuple[str, ...]) -> None:
    """Another release or another LLM is no match; what is said to be near is of the same vendor and family."""
    match = catalog.match(name)
    assert (match.llm, match.how, match.nearest) == (None, "none", nearest)


@pytest.mark.parametrize(
    ("name", "effort", "llm"),
    [
        ("claude-3-7-sonnet-20250219", "thinking", "claude-3-7-sonnet-20250219:thinking"),
        ("anthropic/claude-3-7-sonnet-20250219", "high", "claude-3-7-sonnet-20250219:thinking"),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "low", "claude-3-7-sonnet-20250219:thinking"),
        ("claude-3-7-sonnet-20250219", None, "claude-3-7-sonnet-20250219"),
        ("gpt-4o-2024-08-06", "high", "gpt-4o-2024-08-06"),
    ],
)
def test_an_effort_selects_the_variant_that_is_known(catalog: Catalog, name: str, effort: str | None, llm: str) -> None:
    assert catalog.match(name, effort).llm == llm


def test_an_undated_id_that_has_always_been_one_release_is_found_by_its_date() -> None:
    one = Catalog([LearnedLLM(id="gpt-5.4", vendor="", thinking=False, n_labels=1, mean_correctness=0.5)])
    assert one.match("azure/gpt-5.4-2026-03-05").llm == "gpt-5.4"
    assert one.match("azure/gpt-5.4-2026-04-05").llm is None


def test_nearest_of_a_typo_comes_first(catalog: Catalog) -> None:
    assert catalog.match("claude-3-5-sonet-20241022").nearest[0] == "claude-3-5-sonnet-20241022"


def test_row_of_an_unknown_id_names_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match=r"llama-3\.3-70b-instruct"):
        catalog.row("llama-3.3-70b")


def test_rows_follow_the_artifact(catalog: Catalog) -> None:
    assert [catalog.row(i) for i in IDS] == list(range(len(IDS)))
