"""LLMRouterBench's result files (github.com/ynulihao/LLMRouterBench): one JSON document per benchmark and LLM.

    <dataset>/<split>/<llm>/<dataset>-<split>-<llm>-<date>_<time>.json
    {"model_name", "dataset_name", "split", "demo", "records": [{"index", "origin_query", "prompt", "score",
     "prompt_tokens", "completion_tokens", "cost", "prediction", "raw_output", …}]}

Also bare records, as a JSON array or JSON lines. `prompt` is what the LLM was asked and is used; `origin_query` where
there is none. A record without a score was never graded and is rejected, not counted as wrong.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from embedllm_router.data.formats.rows import (
    Answer,
    Input,
    Place,
    Read,
    Rejected,
    as_mapping,
    check_answer,
    kind,
    open_table,
    prompt_text,
    read_json,
)

__all__ = ["latest_runs", "read_llmrouterbench"]

_TIME: Final = re.compile(r"[-_]?(\d{8}_\d{6})(?=\.json)")


def latest_runs(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Parts files into those to read and older runs of the same benchmark and LLM, told by the time in their names."""
    newest: dict[Path, Path] = {}
    older: list[Path] = []
    for file in sorted(files, key=lambda f: (_TIME.sub("", str(f)), *_TIME.findall(f.name))):
        run = file.with_name(_TIME.sub("", file.name))
        if run in newest:
            older.append(newest[run])
        newest[run] = file
    return sorted(newest.values()), older


def read_llmrouterbench(source: Input) -> Read:
    """Reads one result file.

    Raises:
        DataError: The file cannot be read.
    """
    if kind(source.path) == "json":
        document = as_mapping(read_json(source.path, source.label))
        records = document.get("records")
        if isinstance(records, list):
            if document.get("demo") is True:
                source.note(f"{source.label}: a demonstration run, left out")
                return
            for number, record in enumerate(records, start=1):
                yield _answer(Place(source.label, number), as_mapping(record), document, source.path)
            return
    for row in open_table(source.path, source.label).rows:
        yield row if isinstance(row, Rejected) else _answer(row.place, row.fields, {}, source.path)


def _answer(place: Place, record: Mapping[str, object], header: Mapping[str, object], path: Path) -> Answer | Rejected:
    raw = record.get("raw_output")
    return check_answer(
        place,
        prompt=prompt_text(record.get("prompt") or record.get("origin_query")),
        llm=record.get("model_name") or record.get("model") or header.get("model_name") or path.parent.name,
        score=record.get("score"),
        category=record.get("dataset_name") or header.get("dataset_name"),
        input_tokens=record.get("prompt_tokens"),
        output_tokens=record.get("completion_tokens"),
        cost_usd=record.get("cost"),
        output_chars=len(raw) if isinstance(raw, str) and raw else None,
    )
