"""The plain long form: one row per prompt and LLM, in one table; or the canonical folder of two parquet files.

one table          prompt, llm (or model), score; where known category, input_tokens, output_tokens, cost_usd, …
canonical folder   items.parquet (item_id, category, prompt), results.parquet (item_id, model, score, …)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from embedllm_router.data.formats.rows import (
    Answer,
    Input,
    Place,
    Read,
    Rejected,
    Row,
    Table,
    check_answer,
    clear_read_errors,
    open_table,
    prompt_text,
)
from embedllm_router.errors import DataError

__all__ = ["is_canonical", "read_canonical", "read_long"]

ITEMS: Final = "items.parquet"
RESULTS: Final = "results.parquet"


def is_canonical(folder: Path) -> bool:
    """Whether a folder holds the two parquet files of the canonical form."""
    return (folder / ITEMS).is_file() and (folder / RESULTS).is_file()


def read_long(source: Input) -> Read:
    """Reads one table of prompt, llm, score.

    Raises:
        DataError: The file cannot be read, or a column is missing.
    """
    table = open_table(source.path, source.label)
    llm = "model" if "llm" not in table.columns and "model" in table.columns else "llm"
    table.require(source.label, "prompt", llm, "score")
    for row in table.rows:
        yield row if isinstance(row, Rejected) else _answer(row.place, row.fields, llm)


def _answer(place: Place, fields: Mapping[str, object], llm: str) -> Answer | Rejected:
    get = fields.get
    return check_answer(
        place,
        prompt=prompt_text(get("prompt")),
        llm=get(llm),
        score=get("score"),
        category=get("category"),
        split=str(get("split") or ""),
        input_tokens=get("input_tokens"),
        output_tokens=get("output_tokens"),
        cost_usd=get("cost_usd"),
        output_chars=get("output_chars"),
        parsed=get("parsed"),
    )


def read_canonical(source: Input) -> Read:
    """Reads a folder of items.parquet and results.parquet.

    Raises:
        DataError: A file cannot be read, a column is missing, or an item id occurs twice.
    """
    items = _items(source.path / ITEMS, f"{source.label}/{ITEMS}")
    label = f"{source.label}/{RESULTS}"
    table = open_table(source.path / RESULTS, label)
    table.require(label, "item_id", "model", "score")
    for row in table.rows:
        if isinstance(row, Rejected):
            yield row
            continue
        item = items.get(str(row.fields["item_id"]))
        if item is None:
            yield Rejected(row.place, "item_id", f"{row.fields['item_id']!r} is not in {ITEMS}")
        else:
            yield _answer(row.place, {**row.fields, **item, "parsed": _parsed(row)}, "model")


def _items(path: Path, label: str) -> dict[str, dict[str, object]]:
    with clear_read_errors(label):
        columns = tuple(pl.read_parquet_schema(path))
        Table(columns, iter(())).require(label, "item_id", "prompt")
        kept: list[str] = [name for name in ("item_id", "prompt", "category", "split") if name in columns]
        frame = pl.read_parquet(path, columns=kept)
    if frame["item_id"].is_duplicated().any():
        raise DataError(f"{label}: an item_id occurs twice. Give each item its own.")
    return {str(fields.pop("item_id")): fields for fields in frame.iter_rows(named=True)}


def _parsed(row: Row) -> object:
    return 0 if row.fields.get("graded") == "none" else row.fields.get("parsed")
