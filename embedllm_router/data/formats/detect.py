"""Which format a file is in, by its name, columns and outermost keys; and which files of a folder to read.

Only the beginning of a file is read.
"""

import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from embedllm_router.data.formats.embedllm import ORDER_FILES, PART_FILES, read_embedllm
from embedllm_router.data.formats.inspect_ai import read_inspect
from embedllm_router.data.formats.llmrouterbench import read_llmrouterbench
from embedllm_router.data.formats.lm_eval import is_samples, read_lm_eval
from embedllm_router.data.formats.long import is_canonical, read_canonical, read_long
from embedllm_router.data.formats.routerbench import HOW_TO_CONVERT, is_wide, read_routerbench
from embedllm_router.data.formats.rows import Reader, clear_read_errors, kind, open_table
from embedllm_router.data.ingest_options import Format
from embedllm_router.errors import DataError

__all__ = ["detect", "files_of", "reader_of"]


READERS: Final[Mapping[Format, Reader]] = {
    Format.EMBEDLLM: read_embedllm,
    Format.ROUTERBENCH: read_routerbench,
    Format.LLMROUTERBENCH: read_llmrouterbench,
    Format.LM_EVAL: read_lm_eval,
    Format.INSPECT: read_inspect,
    Format.LONG: read_long,
}

_KINDS: Final[Mapping[Format, frozenset[str]]] = {
    Format.EMBEDLLM: frozenset({"csv", "parquet"}),
    Format.ROUTERBENCH: frozenset({"csv", "parquet"}),
    Format.LLMROUTERBENCH: frozenset({"json", "jsonl", "ndjson"}),
    Format.LM_EVAL: frozenset({"jsonl"}),
    Format.INSPECT: frozenset({"json", "eval"}),
    Format.LONG: frozenset({"csv", "parquet", "json", "jsonl", "ndjson"}),
}
_PICKLES: Final = frozenset({"pkl", "pickle"})
_BEGINNING: Final = 2**16  # bytes in which a JSON document's outermost keys are looked for
_RESULTS: Final = re.compile(r"results.*\.json")  # what the harness writes beside its samples
_OWN_REPORTS: Final = frozenset({"ingest.json", "rejected.jsonl"})


def reader_of(path: Path, chosen: Format) -> Reader:
    """The function that reads a file, or a canonical folder, of the format."""
    return read_canonical if path.is_dir() else READERS[chosen]


def files_of(source: Path, wanted: Format | None) -> list[Path]:
    """The files of a source that may hold answers: itself, or what lies in the folder.

    Args:
        source: A file or a folder.
        wanted: Only files of the types this format comes in; None: of any.

    Returns:
        Sorted paths; a canonical folder stands for itself.

    Raises:
        DataError: There is no such path, or the folder holds no such file.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder.")
    if is_canonical(source) and wanted in {None, Format.LONG}:
        return [source]
    kinds = _KINDS[wanted] if wanted else frozenset[str]().union(*_KINDS.values(), _PICKLES)
    with clear_read_errors(str(source)):
        below = sorted(f for f in source.rglob("*") if f.is_file() and kind(f) in kinds and not _is_auxiliary(f))
    if wanted is Format.LM_EVAL:
        below = [f for f in below if is_samples(f)]
    if not below:
        raise DataError(f"{source}: no file to read, expected some of {sorted(kinds)} (text also .gz).")
    parts = [f for f in below if f.name.removesuffix(".gz") in PART_FILES and f.parent == source]
    if parts and wanted in {None, Format.EMBEDLLM} and detect(parts[0]) is Format.EMBEDLLM:
        return parts  # the release's folder also holds subsets of its own parts
    if wanted in {None, Format.LONG}:
        return sorted({f.parent if is_canonical(f.parent) else f for f in below})
    return below


def detect(path: Path) -> Format | None:
    """The format of a file, or None when it looks like none of them.

    Raises:
        DataError: It is a pickle, or cannot be read.
    """
    match kind(path):
        case "pkl" | "pickle":
            raise DataError(f"{path.name}: {HOW_TO_CONVERT}")
        case "eval":
            return Format.INSPECT
        case "csv" | "parquet" | "jsonl" | "ndjson":
            return Format.LM_EVAL if is_samples(path) else _by_columns(open_table(path, path.name).columns)
        case "json":
            return _by_keys(path)
    return Format.LONG if path.is_dir() else None


def _is_auxiliary(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    beside_samples = _RESULTS.fullmatch(name) is not None and any(path.parent.glob("samples_*.jsonl*"))
    hidden = name.startswith(".")
    return name in ORDER_FILES or name in _OWN_REPORTS or beside_samples or hidden


def _by_columns(columns: tuple[str, ...]) -> Format | None:
    known = set(columns)
    if "label" in known and known & {"prompt_id", "prompt"} and known & {"model_id", "model_name"}:
        return Format.EMBEDLLM
    if {"origin_query", "score"} <= known:
        return Format.LLMROUTERBENCH
    if {"doc_id", "resps"} <= known:
        return Format.LM_EVAL
    if {"prompt", "score"} <= known and known & {"llm", "model"}:
        return Format.LONG
    return Format.ROUTERBENCH if is_wide(columns) else None


def _by_keys(path: Path) -> Format | None:
    with clear_read_errors(path.name), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        start = file.read(_BEGINNING).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        return _by_columns(open_table(path, path.name).columns)
    if re.search(rb'"records"\s*:\s*\[', start):
        return Format.LLMROUTERBENCH
    return Format.INSPECT if re.search(rb'"eval"\s*:\s*\{', start) else None
