"""Answers from any source, gathered in columns: about 36 bytes an answer, each prompt's text held once.

A prompt is known by the hash of its text, so the same prompt has the same id in every source and every run. Two scores
for one prompt and LLM are resolved by a named rule. It knows nothing of files.
"""

import hashlib
from array import array
from itertools import repeat
from typing import Final

import numpy as np
import polars as pl

from embedllm_router.data.formats.answer import Answer
from embedllm_router.data.matrix_data_conflicts import Conflicts, OnConflict
from embedllm_router.errors import DataError

__all__ = ["AnswerTable", "item_id"]

_ID_CHARS: Final = 20  # 80 bits: among a million prompts two share an id with a chance of 4e-13
_NAN: Final = float("nan")
_AMOUNTS: Final = ("input_tokens", "output_tokens", "cost_usd", "output_chars", "parsed")
_WHOLE: Final = ("input_tokens", "output_tokens", "output_chars")
_PAIR: Final = ("item", "llm")


def item_id(prompt: str) -> str:
    """The id of a prompt: the first 20 hexadecimal digits of the SHA-256 of its UTF-8 text."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:_ID_CHARS]


class AnswerTable:
    """Grows by one answer at a time; then gives the items and the results."""

    def __init__(self) -> None:
        self._items: dict[str, int] = {}
        self._categories: list[str] = []
        self._splits: list[str] = []
        self._llms: dict[str, int] = {}
        self._item = array("I")
        self._llm = array("I")
        self._score = array("f")
        self._amounts = {name: array("d" if name == "cost_usd" else "f") for name in _AMOUNTS}

    def __len__(self) -> int:
        return len(self._score)

    def add(self, answer: Answer) -> None:
        """Adds an answer; a prompt keeps the first category and split that it came with."""
        item = self._items.get(answer.prompt)
        if item is None:
            item = self._items[answer.prompt] = len(self._items)
            self._categories.append(answer.category)
            self._splits.append(answer.split)
        self._item.append(item)
        self._llm.append(self._llms.setdefault(answer.llm, len(self._llms)))
        self._score.append(answer.score)
        for name, value in zip(_AMOUNTS, answer[5:], strict=True):
            self._append(name, value)

    def items(self) -> pl.DataFrame:
        """Columns item_id, category, prompt, in the order first seen; split where any source names one."""
        frame = pl.DataFrame({"item_id": self._ids(), "category": self._categories, "prompt": list(self._items)})
        if any(self._splits):
            frame = frame.with_columns(pl.Series("split", self._splits))
        return frame

    def results(self, rule: OnConflict) -> tuple[pl.DataFrame, Conflicts]:
        """One row per prompt and LLM, sorted by item and LLM.

        Args:
            rule: What becomes of repeated pairs. `mean` averages all columns, the others take a whole row: the first,
                the last, the first of those with the highest score; `error` refuses conflicts.

        Returns:
            Columns item_id, model, score and what is known of input_tokens, output_tokens, cost_usd, output_chars and
            parsed; n_samples where scores were averaged. And the count of repeated pairs.

        Raises:
            DataError: The rule is `error` and scores conflict.
        """
        frame = self._frame()
        conflicts = Conflicts(0, 0)
        is_repeated = self._is_repeated()
        if is_repeated is not None:
            repeated = frame.filter(is_repeated)
            conflicts = self._count(repeated)
            if rule is OnConflict.ERROR and conflicts.conflicting:
                raise self._conflict(repeated, conflicts)
            frame = pl.concat([frame.filter(~is_repeated), _resolve(repeated, rule)], how="diagonal")
        if "n_samples" in frame.columns:
            frame = frame.with_columns(pl.col("n_samples").fill_null(1))
        return self._named(frame), conflicts

    def _append(self, name: str, value: float | None) -> None:
        values = self._amounts[name]
        if value is None and not values:
            return  # a column no answer has yet costs nothing
        values.extend(repeat(_NAN, len(self) - 1 - len(values)))
        values.append(_NAN if value is None else value)

    def _ids(self) -> list[str]:
        ids = [item_id(prompt) for prompt in self._items]
        if len(set(ids)) != len(ids):
            raise DataError("two different prompts have the same id, which chance does once in 10^12 data sets.")
        return ids

    def _frame(self) -> pl.DataFrame:
        columns = {
            "item": np.frombuffer(self._item, dtype=np.uint32),
            "llm": np.frombuffer(self._llm, dtype=np.uint32),
            "score": np.frombuffer(self._score, dtype=np.float32),
        }
        for name, values in self._amounts.items():
            if values:
                columns[name] = np.frombuffer(values, dtype=np.float64 if name == "cost_usd" else np.float32)
        return pl.DataFrame(columns).with_columns(pl.col(n).fill_nan(None) for n in _AMOUNTS if n in columns)

    def _is_repeated(self) -> pl.Series | None:
        """Which answers share their pair with another; None where none do. Sorting needs less memory than hashing."""
        pairs = np.frombuffer(self._item, dtype=np.uint32).astype(np.uint64) * len(self._llms)
        pairs += np.frombuffer(self._llm, dtype=np.uint32)
        order = np.argsort(pairs, kind="stable")
        is_next = np.diff(pairs[order]) == 0
        if not is_next.any():
            return None
        is_repeated = np.zeros(len(self), dtype=np.bool_)
        is_repeated[order[1:][is_next]] = True
        is_repeated[order[:-1][is_next]] = True
        return pl.Series(is_repeated)

    def _named(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with ids and names for numbers, sorted; amounts that count things as whole numbers."""
        ranks = {llm: rank for rank, llm in enumerate(sorted(self._llms))}
        rank_of = pl.Series([ranks[llm] for llm in self._llms], dtype=pl.UInt32)
        frame = frame.with_columns(rank_of.gather(frame["llm"]).alias("llm")).sort(_PAIR)
        ids, llms = pl.Series(self._ids(), dtype=pl.String), pl.Series(sorted(self._llms), dtype=pl.String)
        whole = [name for name in _WHOLE if name in frame.columns]
        return frame.select(
            ids.gather(frame["item"]).alias("item_id"),
            llms.gather(frame["llm"]).alias("model"),
            "score",
            *(pl.col(name).round().cast(pl.Int64) for name in whole),
            *(name for name in frame.columns if name not in {*_PAIR, "score", *whole}),
        )

    def _count(self, repeated: pl.DataFrame) -> Conflicts:
        pairs = repeated.group_by(_PAIR).agg(pl.col("score").n_unique())
        return Conflicts(repeated.height - pairs.height, pairs.filter(pl.col("score") > 1).height)

    def _conflict(self, repeated: pl.DataFrame, conflicts: Conflicts) -> DataError:
        pairs = repeated.group_by(_PAIR, maintain_order=True).agg(pl.col("score").unique())
        item, llm, scores = pairs.filter(pl.col("score").list.len() > 1).row(0)
        return DataError(
            f"{conflicts.conflicting} pairs of prompt and LLM have several scores; the first is prompt "
            f"{self._ids()[item]}, LLM {list(self._llms)[llm]!r}, scores {sorted(scores)}. Expected one each: mend "
            "the data or choose --on-conflict mean, first, last or max."
        )


def _resolve(repeated: pl.DataFrame, rule: OnConflict) -> pl.DataFrame:
    if rule is OnConflict.MEAN:
        return repeated.group_by(_PAIR, maintain_order=True).agg(
            pl.all().mean(), pl.len().cast(pl.UInt32).alias("n_samples")
        )
    if rule is OnConflict.MAX:
        repeated = repeated.sort("score", descending=True, maintain_order=True)
    return repeated.unique(_PAIR, keep="last" if rule is OnConflict.LAST else "first", maintain_order=True)
