"""Reads prompts that nobody answered yet: one per line of a text file, or one per JSON object of a JSON lines file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import DataError

__all__ = ["read_prompts"]

_LINES: Final = frozenset({".jsonl", ".ndjson", ".json"})


def read_prompts(file: Path) -> CorrectnessMatrix:
    """Reads a file of prompts as a matrix without LLMs.

    Args:
        file: JSON lines with `prompt`, and `item_id` and `category` where known; any other name is plain text with one
            prompt per line. Empty lines are left out.

    Returns:
        The prompts, in the file's order; ids are line numbers where the file has none.

    Raises:
        DataError: The file cannot be read, or a line is no prompt.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8 text ({error}). Expected a file of prompts.") from error
    read = _objects(file, lines) if file.suffix in _LINES else _texts(lines)
    rows = list(read)
    if not rows:
        raise DataError(f"{file}: no prompt in it. Expected one per line, or JSON lines with the key `prompt`.")
    n = len(rows)
    return CorrectnessMatrix(
        prompts=tuple(prompt for _, _, prompt in rows),
        prompt_ids=tuple(item for item, _, _ in rows),
        categories=tuple(category for _, category, _ in rows),
        datasets=(file.stem,) * n,
        llm_ids=(),
        correctness=np.zeros((n, 0), dtype=np.float32),
        observed=np.zeros((n, 0), dtype=np.bool_),
        output_tokens=np.zeros((n, 0), dtype=np.float32),
        counted=np.zeros((n, 0), dtype=np.bool_),
        input_tokens=np.full(n, np.nan, dtype=np.float32),
    )


def _texts(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield str(number), "ungraded", line


def _objects(file: Path, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}, line {number}: expected one JSON object per line ({error}).") from error
        prompt = one.get("prompt") if isinstance(one, dict) else None
        if not isinstance(prompt, str) or not prompt.strip():
            raise DataError(f"{file}, line {number}: expected a JSON object with a text under the key `prompt`.")
        yield str(one.get("item_id", number)), str(one.get("category", "ungraded")), prompt
