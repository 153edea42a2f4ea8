"""What was published of LLMs: a planted factor is found, scores that would leak are not read, bad files are named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embedllm_router.errors import DataError
from embedllm_router.training.fit.facts import Facts, LLMFacts, Price
from embedllm_router.training.fit.published import find_published, kinds, read_published, with_listed_prices

LLMS = tuple(f"llm-{i}" for i in range(24))


def write(folder: Path, *, leak: bool = False) -> np.ndarray:
    """Scores of one factor on eight tests; with a leak, a ninth test that says the opposite."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=len(LLMS))
    rows = [
        {"model": llm, "benchmark": f"test-{t}", "subset": None, "score": 1 / (1 + np.exp(-0.8 * true[i] - 0.3 * t))}
        for i, llm in enumerate(LLMS)
        for t in range(8)
        if rng.random() < 0.7
    ]
    if leak:
        rows += [
            {"model": llm, "benchmark": "exam", "subset": f"part-{part}", "score": 1 / (1 + np.exp(4 * true[i]))}
            for i, llm in enumerate(LLMS)
            for part in range(30)
        ]
    folder.mkdir(parents=True)
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "scores.parquet")
    listed = {
        "model": ["llm-0", "llm-1"],
        "vendor": ["acme", None],
        "released": ["2025-07-31", "2026"],
        "reasoning": [True, None],
        "params_b": [70.0, None],
        "input_usd_per_mtok": [1.0, 0.0],
        "output_usd_per_mtok": [4.0, 0.0],
        "price_source": ["a list", "a trial"],
    }
    pl.DataFrame(listed).write_parquet(folder / "llms.parquet")
    return true


def test_the_common_factor_is_found(tmp_path: Path) -> None:
    true = write(tmp_path / "published_scores")
    found = read_published(tmp_path / "published_scores").factor()
    assert np.corrcoef([found[llm] for llm in LLMS], true)[0, 1] > 0.99
    assert np.mean(np.square(list(found.values()))) == pytest.approx(1, rel=1e-6)


def test_scores_on_the_questions_to_be_predicted_are_not_read(tmp_path: Path) -> None:
    true = write(tmp_path / "published_scores", leak=True)
    published = read_published(tmp_path / "published_scores")
    honest = published.factor(without=["exam"])
    assert np.corrcoef([honest[llm] for llm in LLMS], true)[0, 1] > 0.99
    leaking = published.factor()
    assert np.corrcoef([leaking[llm] for llm in LLMS], true)[0, 1] < 0.5


def test_a_test_of_few_llms_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "published_scores")
    file = tmp_path / "published_scores" / "scores.parquet"
    few = pl.read_parquet(file).filter(pl.col("model").is_in(LLMS[:9]))
    few.write_parquet(file)
    assert read_published(tmp_path / "published_scores").factor() == {}


def test_kinds_join_what_is_known(tmp_path: Path) -> None:
    write(tmp_path / "published_scores")
    published = read_published(tmp_path / "published_scores")
    facts = Facts({"llm-0:high": LLMFacts("umbrella", chat=True, thinking=False)})
    setting, bare, unknown = kinds(["llm-0:high", "llm-1", "mystery-8x7b-2024-06"], facts, published)
    assert (setting.vendor, setting.thinking, setting.size_b, setting.released) == ("umbrella", True, 70.0, "2025-07")
    assert setting.published_other_setting, "its scores are those of llm-0 as it is by default"
    assert bare.vendor == "unknown"
    assert bare.released is None, "a year is no month"
    assert (unknown.size_b, unknown.released, unknown.published) == (7.0, "2024-06", None)


def test_listed_prices_fill_gaps_and_a_trial_is_no_price(tmp_path: Path) -> None:
    write(tmp_path / "published_scores")
    own = Price(input_usd_per_mtok=9.0, output_usd_per_mtok=9.0, source="mine")
    facts = with_listed_prices(
        Facts({}, prices={"llm-0:low": own}),
        read_published(tmp_path / "published_scores"),
        ["llm-0", "llm-0:high", "llm-0:low", "llm-1", "llm-2"],
    )
    assert facts.prices["llm-0"].output_usd_per_mtok == facts.prices["llm-0:high"].output_usd_per_mtok == 4.0
    assert facts.prices["llm-0:low"] is own
    assert set(facts.prices) == {"llm-0", "llm-0:high", "llm-0:low"}


def test_listed_llms_since_a_month_are_found_but_not_those_that_do_not_chat(tmp_path: Path) -> None:
    folder = tmp_path / "published_scores"
    folder.mkdir()
    names = ["new", "old", "text-embed-4", "nobodys", "base-model"]
    pl.DataFrame(
        {
            "model": names,
            "vendor": ["acme", "acme", "acme", None, "acme"],
            "released": ["2026-01-02", "2024-01-02", "2026-01-02", "2026-01-02", "2026-02"],
        }
    ).write_parquet(folder / "llms.parquet")
    facts = Facts({"base-model": LLMFacts("acme", chat=False, thinking=False)})
    assert read_published(folder).released_since("2025-06", facts) == ("new",)
    with pytest.raises(DataError, match="expected a month"):
        read_published(folder).released_since("June", facts)


def test_the_folder_is_found_beside_the_data_and_is_not_needed(tmp_path: Path) -> None:
    assert find_published([tmp_path / "set"]) is None
    assert read_published(None).factor() == {}
    write(tmp_path / "published_scores")
    (tmp_path / "set").mkdir()
    assert find_published([tmp_path / "set"]) == tmp_path / "published_scores"


@pytest.mark.parametrize(
    ("file", "frame", "words"),
    [
        ("scores.parquet", {"model": ["a"], "score": [0.5]}, "benchmark"),
        ("scores.parquet", {"model": ["a"], "benchmark": ["b"], "score": [50.0]}, r"outside \[0, 1\]"),
        ("llms.parquet", {"name": ["a"]}, "model"),
    ],
)
def test_files_of_another_shape_are_named(
    tmp_path: Path, file: str, frame: dict[str, list[object]], words: str
) -> None:
    pl.DataFrame(frame).write_parquet(tmp_path / file)
    with pytest.raises(DataError, match=words):
        read_published(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "llms.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"llms\.parquet"):
        read_published(tmp_path)
