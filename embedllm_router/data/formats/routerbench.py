"""RouterBench's wide frame (Hu et al., 2024; huggingface.co/datasets/withmartian/routerbench): one row per prompt.

    sample_id, prompt, eval_name, and for every LLM: <llm> (score), <llm>|model_response, <llm>|total_cost

It is published as a pickle. Unpickling runs whatever code the file holds, so it is never done here; a CSV or parquet
export is read. Prompts and answers are the text of a Python list of strings, which is taken apart.
"""

import ast
import warnings
from typing import Final

from embedllm_router.data.formats.rows import Input, Read, Rejected, check_answer, open_table
from embedllm_router.errors import DataError

__all__ = ["HOW_TO_CONVERT", "is_wide", "read_routerbench"]

_COST: Final = "|total_cost"
_RESPONSE: Final = "|model_response"
HOW_TO_CONVERT: Final = (
    "a pickle can run any code when read, so it is never read here. If you trust the file, convert it once: "
    "python -c \"import pandas; pandas.read_pickle('routerbench_0shot.pkl').to_parquet('routerbench_0shot.parquet')\""
)


def is_wide(columns: tuple[str, ...]) -> bool:
    """Whether a table has an LLM's column with its cost or response beside it."""
    return "prompt" in columns and bool(_llms(columns))


def read_routerbench(source: Input) -> Read:
    """Reads a CSV or parquet export; each row becomes one answer per LLM. An empty cell is an answer never graded.

    Raises:
        DataError: The file cannot be read, or has no LLM's columns.
    """
    table = open_table(source.path, source.label)
    table.require(source.label, "prompt")
    llms = _llms(table.columns)
    if not llms:
        raise DataError(
            f"{source.label}: no LLM found, expected columns such as 'gpt-4' with 'gpt-4{_COST}' beside it, "
            f"found {list(table.columns)}."
        )
    for row in table.rows:
        if isinstance(row, Rejected):
            yield row
            continue
        prompt = _text(row.fields["prompt"])
        for llm in llms:
            if row.fields[llm] is None or row.fields[llm] == "":
                continue
            response = _text(row.fields.get(llm + _RESPONSE))
            checked = check_answer(
                row.place,
                prompt=prompt,
                llm=llm,
                score=row.fields[llm],
                category=row.fields.get("eval_name"),
                cost_usd=row.fields.get(llm + _COST),
                output_chars=len(response) if isinstance(response, str) and response else None,
            )
            yield checked._replace(column=f"{llm} {checked.column}") if isinstance(checked, Rejected) else checked


def _llms(columns: tuple[str, ...]) -> list[str]:
    known = set(columns)
    return [c for c in columns if "|" not in c and (c + _COST in known or c + _RESPONSE in known)]


def _text(value: object) -> object:
    """`"['a', 'b']"`, the text of a list of strings, as its strings in paragraphs; other values unchanged."""
    if not (isinstance(value, str) and value.startswith(("['", '["')) and value.endswith("]")):
        return value
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes in what is no list of strings after all
            parts = ast.literal_eval(value)  # literals only: nothing is run
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    return "\n\n".join(parts) if isinstance(parts, list) and all(isinstance(p, str) for p in parts) else value
