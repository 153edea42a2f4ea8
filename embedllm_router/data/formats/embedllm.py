"""The EmbedLLM release (Zhuang et al., ICLR 2025; huggingface.co/datasets/RZ412/EmbedLLM).

    train.csv, val.csv, test.csv   prompt_id, model_id, category_id, category, label, model_name, prompt
    question_order.csv             prompt_id, prompt
    model_order.csv                model_id, model_name

The texts in the rows count; the two order files stand in where a file has ids only. The part a prompt came in is kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from embedllm_router.data.formats.rows import Input, Read, Rejected, Row, Table, check_answer, kind, open_table
from embedllm_router.errors import DataError

__all__ = ["ORDER_FILES", "PART_FILES", "read_embedllm"]

PART_FILES: Final = ("train.csv", "val.csv", "test.csv")
ORDER_FILES: Final = ("question_order.csv", "model_order.csv")
_PARTS: Final = tuple(name.removesuffix(".csv") for name in PART_FILES)


def read_embedllm(source: Input) -> Read:
    """Reads one part of the release.

    Raises:
        DataError: The file cannot be read, a column is missing and the order file beside it does not help.
    """
    table = open_table(source.path, source.label)
    table.require(source.label, "label")
    prompts = _texts(source, table, text="prompt", key="prompt_id", order=ORDER_FILES[0])
    llms = _texts(source, table, text="model_name", key="model_id", order=ORDER_FILES[1])
    stem = source.path.name.partition(".")[0]
    split = stem if stem in _PARTS else ""
    for row in table.rows:
        if isinstance(row, Rejected):
            yield row
            continue
        yield check_answer(
            row.place,
            prompt=row.fields["prompt"] if prompts is None else prompts.get(str(row.fields["prompt_id"])),
            llm=row.fields["model_name"] if llms is None else llms.get(str(row.fields["model_id"])),
            score=row.fields["label"],
            category=row.fields.get("category") or row.fields.get("category_id"),
            split=split,
        )


def _texts(source: Input, table: Table, *, text: str, key: str, order: str) -> Mapping[str, str] | None:
    """Texts by id from an order file; None where the table has them itself."""
    if text in table.columns:
        return None
    beside = _beside(source.path, order)
    if key not in table.columns or beside is None:
        raise DataError(
            f"{source.label}: column {text!r} is missing, and there is no {order} beside the file to look "
            f"{key!r} up in. Expected the release's columns, found {list(table.columns)}."
        )
    source.note(f"{source.label}: {text} read from {order} by {key}")
    label = f"{source.label}'s {order}"
    orders = open_table(beside, label)
    orders.require(label, key, text)
    return {str(row.fields[key]): str(row.fields[text]) for row in orders.rows if isinstance(row, Row)}


def _beside(path: Path, order: str) -> Path | None:
    candidates = (path.with_name(order), path.with_name(f"{order}.gz"))
    return next((c for c in candidates if c.is_file() and kind(c) == "csv"), None)
