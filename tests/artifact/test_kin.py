"""What names say of LLMs, and the figures made of it."""

import pytest

from embedllm_router.artifact.kin import COVARIATES, LLMKind, family_of, is_small, month_in_name, size_in_name


@pytest.mark.parametrize(
    ("llm", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt"),
        ("gpt-4o-mini-2024-07-18", "gpt-mini"),
        ("gpt-5-2025-08-07:high", "gpt"),
        ("o4-mini:high", "gpt-mini"),
        ("o3-2025-04-16", "o"),
        ("claude-sonnet-4-5-20250929:thinking", "claude-sonnet"),
        ("claude-3-haiku-20240307", "claude-haiku"),
        ("claude-2.1", "claude-old"),
        ("gemini-2.5-flash", "gemini-flash"),
        ("gemini-2.5-pro", "gemini-pro"),
        ("qwen3-30b-a3b", "qwen"),
        ("llama-3.3-70b-instruct", "llama"),
    ],
)
def test_families(llm: str, family: str) -> None:
    assert family_of(llm) == family


@pytest.mark.parametrize(
    ("llm", "size", "month", "small"),
    [
        ("llama-3.3-70b-instruct", 70.0, None, False),
        ("mixtral-8x7b-instruct-v0.1", 7.0, None, False),
        ("qwen2.5-1.5b", 1.5, None, False),
        ("gpt-4o-mini-2024-07-18", None, "2024-07", True),
        ("claude-3-7-sonnet-20250219", None, "2025-02", False),
        ("phi-3-mini-4k-instruct", None, None, True),
        ("gemini-3-flash", None, None, True),
    ],
)
def test_sizes_and_dates(llm: str, size: float | None, month: str | None, small: object) -> None:
    assert size_in_name(llm) == size
    assert month_in_name(llm) == month
    assert is_small(llm) is small


def test_an_unknown_figure_is_zero_and_says_so() -> None:
    bare = LLMKind(vendor="unknown", family="x", thinking=False, small=False).figures()
    assert tuple(bare) == COVARIATES
    assert {name for name, value in bare.items() if value} == {
        "released_unknown",
        "size_unknown",
        "price_unknown",
        "published_unknown",
    }


def test_figures_are_in_their_units() -> None:
    kind = LLMKind(
        vendor="acme",
        family="x",
        thinking=True,
        small=False,
        released="2026-07",
        size_b=30.0,
        output_usd_per_mtok=2.0,
        published=-0.4,
    )
    figures = kind.figures()
    assert figures["released"] == pytest.approx(1.5)
    assert figures["log_size"] == figures["log_price"] == 0
    assert (figures["size_unknown"], figures["price_unknown"], figures["published"]) == (0, 0, -0.4)
    names = ("one", "ability", "thinking", "released", "released_unknown", "small", "vendor:acme", "vendor:other")
    assert kind.features(0.7, names) == pytest.approx((1, 0.7, 1, 1.5, 0, 0, 1, 0))


def test_a_price_of_nothing_is_unknown() -> None:
    free = LLMKind(vendor="a", family="b", thinking=False, small=False, output_usd_per_mtok=0.0)
    assert free.figures()["price_unknown"] == 1
