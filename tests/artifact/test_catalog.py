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
)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog([LearnedLLM(id=i, vendor="", thinking=False, n_labels=1, mean_correctness=0.5) for i in IDS])


@pytest.mark.parametrize(
    ("name", "llm", "how"),
    [
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13", "exact"),
        ("openai/GPT-4o-2024-05-13", "gpt-4o-2024-05-13", "spelling"),
        ("gpt-4o", "gpt-4o-2024-08-06", "newest release"),
        ("openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18", "newest release"),
        ("claude-3.5-sonnet", "claude-3-5-sonnet-20241022", "newest release"),
        ("anthropic/claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", "newest release"),
        ("claude-3-7-sonnet", "claude-3-7-sonnet-20250219", "newest release"),
        ("claude-3.7-sonnet:thinking", "claude-3-7-sonnet-20250219:thinking", "newest release"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct", "spelling"),
        ("gemini-1.5-pro", "gemini-1.5-pro-001", "newest release"),
    ],
)
def test_match(catalog: Catalog, name: str, llm: str, how: str) -> None:
    match = catalog.match(name)
    assert (match.llm, match.how) == (llm, how)


@pytest.mark.parametrize("name", ["gpt-4o-2024-11-20", "gpt-5", "claude-3-5-haiku", "", "my-deployment"])
def test_no_guess(catalog: Catalog, name: str) -> None:
    """Another release or another LLM is no match; what is near is said."""
    match = catalog.match(name)
    assert (match.llm, match.how) == (None, "none")
    assert set(match.nearest) <= set(IDS)
    assert match.nearest


def test_nearest_of_a_typo_comes_first(catalog: Catalog) -> None:
    assert catalog.match("claude-3-5-sonet-20241022").nearest[0] == "claude-3-5-sonnet-20241022"


def test_row_of_an_unknown_id_names_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match=r"llama-3\.3-70b-instruct"):
        catalog.row("llama-3.3-70b")


def test_rows_follow_the_artifact(catalog: Catalog) -> None:
    assert [catalog.row(i) for i in IDS] == list(range(len(IDS)))
