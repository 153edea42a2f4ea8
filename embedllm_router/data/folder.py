"""Reads a correctness data set from its folder: items.parquet, results.parquet, and where there is one sets.csv.

items.parquet     item_id (unique), category, prompt
results.parquet   item_id, model, score in [0, 1]; where known output_tokens, output_chars, input_tokens, graded,
                  parsed (a boolean, a number or a text that means one: whether a verdict could be read)
sets.csv          set, label_threshold, domain: in the folder or beside it, one row per data set. An answer counts as
                  right from a score of label_threshold; from 0.5 in a set without a row.
"""

import csv
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.data.matrix import DEFAULT_THRESHOLD, CorrectnessMatrix, Merged, merge
from embedllm_router.errors import DataError

__all__ = [
    "DEFAULT_THRESHOLD",
    "SetFacts",
    "check_folders",
    "find_beside",
    "find_set_facts",
    "merge_folders",
    "read_folder",
    "read_folders",
]

CHARS_PER_TOKEN: Final = 4
"""Characters of English per token of a current LLM's tokenizer, roughly; for lengths given in characters only."""

_MIN_ANSWER: Final = 5
"""A set whose median answer has fewer characters or tokens grades a letter, and says nothing of answers in words: four
tokens are a letter and what closes it."""
_AMOUNTS: Final = ("output_tokens", "output_chars", "input_tokens")
_TRUE: Final = ("true", "yes", "y", "t")
_FALSE: Final = ("false", "no", "n", "f")
_ITEMS: Final = {"item_id": pl.String, "category": pl.String, "prompt": pl.String}
_RESULTS: Final = {"item_id": pl.String, "model": pl.String, "score": pl.Float32}


@dataclass(frozen=True, slots=True)
class SetFacts:
    """One row of sets.csv: what a data set's files do not say.

    Attributes:
        label_threshold: Lowest score of an answer that counts as right, in (0, 1].
        domain: What the set is about, in a few words; empty where nothing is said.
    """

    label_threshold: float = DEFAULT_THRESHOLD
    domain: str = ""


def find_beside(folders: Sequence[Path], name: str, is_wanted: Callable[[Path], bool]) -> Path | None:
    """What lies in or beside the first data folder that has it, or None.

    Args:
        folders: Of data sets.
        name: Of the file or folder that is looked for.
        is_wanted: Which of both it is.
    """
    places = (place / name for folder in folders for place in (folder, folder.resolve().parent))
    return next((place for place in places if is_wanted(place)), None)


def find_set_facts(folder: Path) -> SetFacts:
    """What sets.csv, in a data set's folder or beside it, says of the set.

    Args:
        folder: The data set's.

    Returns:
        Its row; the defaults without a file or a row.

    Raises:
        DataError: The file cannot be read, or its row is not as described.
    """
    place = folder.resolve()
    file = find_beside([place], "sets.csv", Path.is_file)
    if file is None:
        return SetFacts()
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read ({error}). Mend or remove the file.") from error
    if rows and ("set" not in rows[0] or rows[0].keys().isdisjoint({"label_threshold", "domain"})):
        found = ", ".join(map(str, rows[0]))
        raise DataError(
            f"{file}: expected the columns set, label_threshold and domain in its first line, found {found}."
        )
    mine = [(line, row) for line, row in enumerate(rows, start=2) if row.get("set") == place.name]
    if len(mine) > 1:
        raise DataError(f"{file}: lines {[line for line, _ in mine]} are all of set {place.name}; expected one.")
    return _set_facts(file, *mine[0]) if mine else SetFacts()


def _set_facts(file: Path, line: int, row: Mapping[str, str | None]) -> SetFacts:
    text = row.get("label_threshold") or str(DEFAULT_THRESHOLD)
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if not 0 < threshold <= 1:
        raise DataError(f"{file}: line {line}, column label_threshold: expected a number in (0, 1], found {text!r}.")
    return SetFacts(threshold, row.get("domain") or "")


def check_folders(folders: Sequence[Path]) -> None:
    """Refuses what is no data folder at once, and says how to make one.

    Args:
        folders: As the command line names them.

    Raises:
        DataError: One is a file, is not there, or holds no items.parquet.
    """
    for folder in folders:
        if folder.is_file():
            found = f"{folder} is a file"
        elif not folder.is_dir():
            raise DataError(
                f"{folder}: no such file or folder. Expected a folder with items.parquet and results.parquet."
            )
        elif not (folder / "items.parquet").exists():
            found = f"{folder} has no items.parquet (no such file)"
        else:
            continue
        source = shlex.quote(str(folder))
        raise DataError(
            f"{found}: expected a data folder with items.parquet and results.parquet. Make one of graded answers in "
            f"CSV, JSON lines or another known format: embedllm-router ingest {source} --out data/mine"
        )


def read_folders(folders: Sequence[Path], *, keep_unparsed: bool = False) -> CorrectnessMatrix:
    """Reads several data sets into one matrix.

    Args:
        folders: One folder per data set; its name becomes the data set's.
        keep_unparsed: See `read_folder`.

    Returns:
        The merged matrix.

    Raises:
        DataError: A folder cannot be used.
    """
    return merge([read_folder(folder, keep_unparsed=keep_unparsed) for folder in folders]).matrix


def merge_folders(folders: Sequence[Path], rule: OnConflict, *, max_prompts: int | None = None) -> Merged:
    """Reads several data sets into one matrix by a named rule, and says what it resolved.

    Args:
        folders: As for `read_folders`.
        rule: What becomes of several answers of one LLM to one prompt; see `merging.merge`.
        max_prompts: Most prompts that are taken of each; see `CorrectnessMatrix.thinned`. None takes all.

    Returns:
        The merged matrix and the counts.

    Raises:
        DataError: A folder cannot be used, or the rule is `error` and scores conflict.
    """
    return merge([read_folder(folder).thinned(max_prompts) for folder in folders], rule)


def read_folder(folder: Path, *, keep_unparsed: bool = False) -> CorrectnessMatrix:
    """Reads one data set.

    Args:
        folder: Holds items.parquet and results.parquet.
        keep_unparsed: Keep answers no verdict could be read from (`graded` "none", `parsed` 0), which count as wrong.
            By default they are unobserved: they measure obedience to an answer format, not ability.

    Returns:
        Prompts in the file's order, LLMs sorted by id.

    Raises:
        DataError: A file, column, type or value is not as described; the message names file, row, column, expected
            and found.
    """
    check_folders([folder])
    items = _read(folder / "items.parquet", _ITEMS)
    results = _read(folder / "results.parquet", _RESULTS)
    _check_items(folder / "items.parquet", items)
    _check_results(folder / "results.parquet", results, items)
    rows = dict(zip(items["item_id"].to_list(), range(items.height), strict=True))
    llm_ids = sorted(results["model"].unique().to_list())
    columns = {llm: i for i, llm in enumerate(llm_ids)}
    at = (
        results["item_id"].replace_strict(rows, return_dtype=pl.Int64).to_numpy(),
        results["model"].replace_strict(columns, return_dtype=pl.Int64).to_numpy(),
    )
    shape = (items.height, len(llm_ids))
    file = folder / "results.parquet"
    keep = np.ones(results.height, dtype=np.bool_) if keep_unparsed else _parsed(file, results)
    score = np.where(keep, results["score"].to_numpy(), 0.0)
    amounts = {name: _amount(file, results, name) for name in _AMOUNTS}
    tokens, counted = _lengths(amounts["output_tokens"], amounts["output_chars"])
    return CorrectnessMatrix(
        prompts=tuple(items["prompt"].to_list()),
        prompt_ids=tuple(items["item_id"].to_list()),
        categories=tuple(items["category"].to_list()),
        datasets=(folder.resolve().name,) * items.height,
        llm_ids=tuple(llm_ids),
        correctness=_dense(shape, at, score, 0.0),
        observed=_dense(shape, at, keep, 0.0).astype(np.bool_),
        output_tokens=_dense(shape, at, np.where(keep, tokens, np.nan), np.nan),
        counted=_dense(shape, at, counted & keep, 0.0).astype(np.bool_),
        input_tokens=_mean_by_row(at[0], amounts["input_tokens"], items.height),
        thresholds=np.full(items.height, find_set_facts(folder).label_threshold, dtype=np.float32),
    )


def _dense(
    shape: tuple[int, int],
    at: tuple[NDArray[np.int64], NDArray[np.int64]],
    values: NDArray[np.generic],
    default: float,
) -> NDArray[np.float32]:
    matrix = np.full(shape, default, dtype=np.float32)
    matrix[at] = values.astype(np.float32)
    return matrix


def _parsed(file: Path, results: pl.DataFrame) -> NDArray[np.bool_]:
    keep = np.ones(results.height, dtype=np.bool_)
    if "graded" in results.columns:
        keep &= (results["graded"].cast(pl.String).fill_null("") != "none").to_numpy()
    if "parsed" in results.columns:
        keep &= (_share_parsed(file, results) > 0).fill_null(value=True).to_numpy()
    return keep


def _share_parsed(file: Path, results: pl.DataFrame) -> pl.Series:
    """Column parsed as numbers of at least 0; null where it says nothing."""
    try:
        words = results.select(pl.col("parsed").cast(pl.String).str.strip_chars().str.to_lowercase())
    except pl.exceptions.PolarsError as error:
        dtype = results["parsed"].dtype
        raise DataError(f"{file}: column parsed is {dtype}, expected booleans, numbers or texts like true.") from error
    word = pl.col("parsed")
    meant = pl.when(word.is_in(_TRUE)).then(1.0).when(word.is_in(_FALSE)).then(0.0)
    numbers = words.select(meant.otherwise(word.cast(pl.Float64, strict=False))).to_series()
    silent = words.select(word.is_null() | word.is_in(["", "nan", "none", "null"])).to_series()
    bad = ~silent & ~(numbers.is_finite() & (numbers >= 0)).fill_null(value=False)
    _refuse_first(file, results, "parsed", pl.lit(bad), "true, false or a number of at least 0")
    return numbers.set(silent, None)


def _amount(file: Path, results: pl.DataFrame, name: str) -> NDArray[np.float32]:
    """A column that a set may have, float32 (n_results,); NaN where it says nothing."""
    if name not in results.columns:
        return np.full(results.height, np.nan, dtype=np.float32)
    try:
        values = results[name].cast(pl.Float32)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file}: column {name} is {results[name].dtype}, expected numbers.") from error
    bad = values.is_infinite() | (values < 0)
    _refuse_first(file, results, name, pl.lit(bad.fill_null(value=False)), "a finite number of at least 0")
    return values.fill_null(float("nan")).to_numpy()


def _lengths(tokens: NDArray[np.float32], chars: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Output tokens, recorded ones before those estimated from characters, and which were recorded."""
    counted = np.isfinite(tokens) & _says_length(tokens)
    estimated = np.where(_says_length(chars), chars / CHARS_PER_TOKEN, np.nan)
    lengths = np.where(counted, tokens, estimated)
    return np.maximum(lengths, 1.0, where=np.isfinite(lengths), out=lengths).astype(np.float32), counted


def _says_length(amounts: NDArray[np.float32]) -> bool:
    known = amounts[np.isfinite(amounts)]
    return bool(known.size) and float(np.median(known)) >= _MIN_ANSWER


def _mean_by_row(row: NDArray[np.int64], values: NDArray[np.float32], n_rows: int) -> NDArray[np.float32]:
    known = np.isfinite(values)
    n_known = np.bincount(row[known], minlength=n_rows)
    total = np.bincount(row[known], values[known], minlength=n_rows)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan).astype(np.float32)


def _read(file: Path, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "no such file" if not file.exists() else f"not readable as parquet ({error})"
        raise DataError(f"{file}: {reason}. Expected a folder with items.parquet and results.parquet.") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{file}: columns {missing} are missing, expected {list(columns)}, found {frame.columns}.")
    for name, dtype in columns.items():
        try:
            frame = frame.with_columns(pl.col(name).cast(dtype))
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{file}: column {name} is {frame[name].dtype}, expected {dtype}.") from error
        _refuse_first(file, frame, name, pl.col(name).is_null(), "a value")
    return frame


def _check_items(file: Path, items: pl.DataFrame) -> None:
    if not items.height:
        raise DataError(f"{file}: no rows, expected at least one.")
    _refuse_first(file, items, "item_id", ~pl.col("item_id").is_first_distinct(), "an id that is not repeated")


def _check_results(file: Path, results: pl.DataFrame, items: pl.DataFrame) -> None:
    if not results.height:
        raise DataError(f"{file}: no rows, expected at least one.")
    in_range = pl.col("score").is_finite() & pl.col("score").is_between(0, 1)
    _refuse_first(file, results, "score", ~in_range, "a number in [0, 1]")
    known = pl.col("item_id").is_in(items["item_id"].implode())
    _refuse_first(file, results, "item_id", ~known, "an id of items.parquet")
    repeated = ~pl.struct("item_id", "model").is_first_distinct()
    _refuse_first(file, results, "model", repeated, "one row per item and model")


def _refuse_first(file: Path, frame: pl.DataFrame, column: str, bad: pl.Expr, expected: str) -> None:
    rows = frame.select(bad.arg_true()).to_series()
    if rows.len():
        row = int(rows[0])
        raise DataError(
            f"{file}: row {row}, column {column}: expected {expected}, found {frame[column][row]!r} "
            f"({rows.len()} such rows). Mend the file."
        )
