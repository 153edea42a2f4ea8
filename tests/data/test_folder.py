import math
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pytest
from synthetic import LLMS, write_set

from embedllm_router.data.folder import SetFacts, find_set_facts, read_folder, read_folders
from embedllm_router.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "made_up", n=12)


def rewrite(file: Path, *columns: pl.Expr) -> None:
    pl.read_parquet(file).with_columns(*columns).write_parquet(file)


def test_every_score_lands_on_its_prompt_and_llm(folder: Path) -> None:
    matrix = read_folder(folder)
    assert matrix.llm_ids == LLMS
    assert set(matrix.datasets) == {"made_up"}
    for row in pl.read_parquet(folder / "results.parquet").iter_rows(named=True):
        at = matrix.prompt_ids.index(row["item_id"]), matrix.llm_ids.index(row["model"])
        assert matrix.observed[at]
        assert matrix.correctness[at] == row["score"]
        assert matrix.output_tokens[at] == pytest.approx(row["output_chars"] / 4)


def test_the_order_of_result_rows_has_no_say(folder: Path) -> None:
    before = read_folder(folder)
    file = folder / "results.parquet"
    pl.read_parquet(file).sample(fraction=1, shuffle=True, seed=1).write_parquet(file)
    after = read_folder(folder)
    assert after.llm_ids == before.llm_ids
    np.testing.assert_array_equal(after.correctness, before.correctness)


def test_pairs_without_a_row_are_unobserved(tmp_path: Path) -> None:
    matrix = read_folder(write_set(tmp_path / "sparse", n=30, density=0.5))
    assert 0 < matrix.observed.mean() < 1
    assert not matrix.correctness[~matrix.observed].any()


NOT_PARSED: Final = (0.0, 0, False, "0", "0.0", "false", " False ", "no")
PARSED: Final = (1.0, 3, 0.25, True, "1", "true", "TRUE", "yes", None, math.nan, "")


@pytest.mark.parametrize(("column", "value"), [("graded", "none"), *(("parsed", value) for value in NOT_PARSED)])
def test_unparsed_answers_are_unobserved_unless_asked_for(folder: Path, column: str, value: object) -> None:
    rewrite(folder / "results.parquet", pl.lit(value).alias(column))
    assert not read_folder(folder).observed.any()
    assert read_folder(folder, keep_unparsed=True).observed.all()


@pytest.mark.parametrize("value", PARSED)
@pytest.mark.parametrize("dtype", [None, pl.Categorical])
def test_parsed_answers_are_observed_whatever_the_column_is_made_of(
    folder: Path, value: object, dtype: type[pl.DataType] | None
) -> None:
    column = pl.lit(value) if dtype is None else pl.lit(None if value is None else str(value)).cast(dtype)
    rewrite(folder / "results.parquet", column.alias("parsed"))
    assert read_folder(folder).observed.all()


def test_only_the_rows_of_a_boolean_column_that_are_false_are_unobserved(folder: Path) -> None:
    rewrite(folder / "results.parquet", (pl.col("model") != LLMS[1]).alias("parsed"))
    assert read_folder(folder).observed.all(axis=0).tolist() == [True, False, True]


def table(folder: Path, text: str) -> None:
    (folder.parent / "sets.csv").write_text(text, encoding="utf-8")


def test_a_sets_table_decides_from_which_score_an_answer_is_right(folder: Path) -> None:
    rewrite(folder / "results.parquet", pl.lit(0.8).cast(pl.Float32).alias("score"))
    assert read_folder(folder).labels().all()
    table(folder, "set,domain,label_threshold\nother,poems,0.9\n")
    assert read_folder(folder).labels().all()
    table(folder, "set,domain,label_threshold\nmade_up,poems,0.8\n")
    assert read_folder(folder).labels().all(), "0.8 in float32 still reaches 0.8"
    table(folder, "set,domain,label_threshold\nmade_up,poems,0.81\n")
    assert not read_folder(folder).labels().any()
    assert find_set_facts(folder) == SetFacts(0.81, "poems")


def test_a_sets_table_without_thresholds_changes_nothing(folder: Path) -> None:
    before = read_folder(folder).labels()
    table(folder, "set,domain\nmade_up,poems\n")
    np.testing.assert_array_equal(read_folder(folder).labels(), before)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("set,label_threshold\nmade_up,high\n", ["line 2", "label_threshold", "high"]),
        ("set,label_threshold\nmade_up,0\n", [r"\(0, 1\]", "'0'"]),
        ("set,label_threshold\nmade_up,0.5\nmade_up,0.6\n", [r"lines \[2, 3\]", "expected one"]),
    ],
)
def test_a_bad_sets_table_is_named(folder: Path, text: str, words: list[str]) -> None:
    table(folder, text)
    with pytest.raises(DataError, match=r"sets\.csv") as caught:
        read_folder(folder)
    for word in words:
        assert caught.match(word)


def test_each_set_keeps_its_threshold_when_several_are_merged(tmp_path: Path) -> None:
    folders = [write_set(tmp_path / "a", n=6), write_set(tmp_path / "b", n=9)]
    for folder in folders:
        rewrite(folder / "results.parquet", pl.lit(0.6).alias("score"))
    table(folders[0], "set,label_threshold\nb,0.7\n")
    assert read_folders(folders).labels().all(axis=1).tolist() == [True] * 6 + [False] * 9


def test_lengths_of_a_set_of_one_letter_answers_are_unknown(folder: Path) -> None:
    rewrite(folder / "results.parquet", pl.lit(1).alias("output_chars"))
    assert np.isnan(read_folder(folder).output_tokens).all()


def test_recorded_tokens_come_before_characters_and_are_marked_as_counted(folder: Path) -> None:
    every_third = pl.int_range(pl.len()) % 3 == 0
    rewrite(folder / "results.parquet", pl.when(every_third).then(pl.int_range(pl.len()) + 500).alias("output_tokens"))
    matrix = read_folder(folder)
    for row in pl.read_parquet(folder / "results.parquet").iter_rows(named=True):
        at = matrix.prompt_ids.index(row["item_id"]), matrix.llm_ids.index(row["model"])
        recorded = row["output_tokens"]
        assert matrix.counted[at] == (recorded is not None)
        assert matrix.output_tokens[at] == pytest.approx(recorded or row["output_chars"] / 4)


@pytest.mark.parametrize(("tokens", "known"), [(2, False), (4, False), (5, True)])
def test_token_counts_of_a_set_of_one_letter_answers_are_unknown(folder: Path, tokens: int, known: object) -> None:
    rewrite(folder / "results.parquet", pl.lit(tokens).alias("output_tokens"), pl.lit(1).alias("output_chars"))
    matrix = read_folder(folder)
    assert np.isfinite(matrix.output_tokens).all() == known
    assert matrix.counted.all() == known


def test_recorded_input_tokens_are_averaged_by_prompt(folder: Path) -> None:
    assert np.isnan(read_folder(folder).input_tokens).all()
    tokens = pl.when(pl.col("model") == LLMS[0]).then(10).when(pl.col("model") == LLMS[1]).then(20)
    first = pl.col("item_id") == "made_up/0"
    rewrite(folder / "results.parquet", pl.when(first).then(tokens).alias("input_tokens"))
    matrix = read_folder(folder)
    assert matrix.input_tokens[matrix.prompt_ids.index("made_up/0")] == 15
    assert np.isnan(matrix.input_tokens).sum() == 11


def test_an_unparsed_answer_has_no_length(folder: Path) -> None:
    rewrite(folder / "results.parquet", pl.lit(700).alias("output_tokens"), pl.lit(0.0).alias("parsed"))
    matrix = read_folder(folder)
    assert np.isnan(matrix.output_tokens).all()
    assert not matrix.counted.any()


def test_several_sets_are_merged(tmp_path: Path) -> None:
    matrix = read_folders([write_set(tmp_path / "a", n=6), write_set(tmp_path / "b", n=9)])
    assert matrix.datasets == ("a",) * 6 + ("b",) * 9


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("results.parquet", pl.lit(1.5).alias("score"), ["row 0", "score", r"\[0, 1\]", "1.5", "36 such rows"]),
        ("results.parquet", pl.lit(float("nan")).alias("score"), ["score", "nan"]),
        ("results.parquet", pl.lit(None, dtype=pl.Float64).alias("score"), ["score", "a value", "None"]),
        ("results.parquet", pl.lit("ghost").alias("item_id"), ["item_id", "items.parquet", "ghost"]),
        ("results.parquet", pl.lit(-3).alias("output_tokens"), ["row 0", "output_tokens", "at least 0", "-3"]),
        ("results.parquet", pl.lit(float("inf")).alias("output_chars"), ["output_chars", "inf", "36 such rows"]),
        ("results.parquet", pl.lit("many").alias("input_tokens"), ["input_tokens is String, expected numbers"]),
        ("results.parquet", pl.lit("perhaps").alias("parsed"), ["row 0", "parsed", "true, false", "perhaps"]),
        ("results.parquet", pl.lit(-1).alias("parsed"), ["row 0", "parsed", "-1"]),
        ("results.parquet", pl.concat_list(pl.lit(1)).alias("parsed"), ["parsed is List", "booleans"]),
        ("results.parquet", pl.lit("one").alias("model"), ["row 1", "model", "one row per item and model"]),
        ("items.parquet", pl.lit("same").alias("item_id"), ["row 1", "item_id", "not repeated", "same"]),
        ("items.parquet", pl.lit(None, dtype=pl.String).alias("prompt"), ["prompt", "a value"]),
    ],
)
def test_bad_values_are_named_with_file_row_column_expected_and_found(
    folder: Path, file: str, change: pl.Expr, words: list[str]
) -> None:
    rewrite(folder / file, change)
    with pytest.raises(DataError, match=file) as caught:
        read_folder(folder)
    for word in words:
        assert caught.match(word)


def test_a_missing_column_is_named(folder: Path) -> None:
    file = folder / "items.parquet"
    pl.read_parquet(file).drop("prompt").write_parquet(file)
    with pytest.raises(DataError, match=r"\['prompt'\] are missing"):
        read_folder(folder)


def test_a_missing_file_and_a_damaged_file_are_told_apart(folder: Path) -> None:
    (folder / "items.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not readable as parquet"):
        read_folder(folder)
    (folder / "items.parquet").unlink()
    with pytest.raises(DataError, match="no such file"):
        read_folder(folder)
