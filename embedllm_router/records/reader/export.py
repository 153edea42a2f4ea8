"""Records → one file for other programs: CSV, Parquet or JSON lines. Memory stays bounded."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, get_type_hints

import duckdb
import orjson

from embedllm_router.errors import ConfigError
from embedllm_router.records.reader.file_source import FileSource
from embedllm_router.records.reader.source import Filters, Limits, RecordSource
from embedllm_router.records.schema import REQUEST_COLUMNS, RequestRecord
from embedllm_router.records.writer.seal import quoted, quoted_path

__all__ = ["FORMATS", "defused", "export"]

FORMATS: Final = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
"""Ending of a file → its format."""

_COPY: Final = {
    "csv": "FORMAT csv, HEADER",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "jsonl": "FORMAT json, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%f+00:00'",
}
_PAGE: Final = 2000
_SLICE: Final = 50_000  # requests that are sorted and written at once
_STARTS: Final = """
SELECT min(minute) AS start FROM (
  SELECT minute, floor((sum(n) OVER (ORDER BY minute) - n) / {slice}) AS slice
  FROM (SELECT date_trunc('minute', "at") AS minute, count(*) AS n FROM requests WHERE {where} GROUP BY 1)
) GROUP BY slice ORDER BY 1
"""
_COLUMNS: Final = ", ".join(f'"{name}"' for name in REQUEST_COLUMNS)

_KINDS: Final = get_type_hints(RequestRecord)
_TEXTS: Final = tuple(name for name in REQUEST_COLUMNS if _KINDS[name] in {str, str | None} and name != "embedding")
_FORMULA_STARTS: Final = "=+-@\t\r"
_DEFUSED: Final = (
    f"""CASE WHEN left("{{name}}", 1) IN ({", ".join(f"chr({ord(one)})" for one in _FORMULA_STARTS)}) """
    """THEN '''' || "{name}" """
    """ELSE "{name}" END AS "{name}\""""
)
"""A text that a spreadsheet would take for a formula, with an apostrophe in front, as OWASP recommends."""


def defused(text: str) -> str:
    """A text as CSV may hold it: one that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{text}" if text.startswith(tuple(_FORMULA_STARTS)) else text


def export(source: RecordSource, filters: Filters, out: Path, limits: Limits | None = None) -> int:
    """Writes the requests that meet some filters, by time.

    Args:
        source: The records.
        filters: Which requests are meant.
        out: The file, which is replaced; whole or not at all, and for its owner alone. JSON lines can be read as
            records again; in CSV a text that a spreadsheet would take for a formula has an apostrophe in front.
        limits: What converting records of a database may take.

    Returns:
        How many were written.

    Raises:
        ConfigError: The ending is none of `FORMATS`, or the file cannot be written.
        DataError: The records cannot be read.
    """
    kind = FORMATS.get(out.suffix)
    if kind is None:
        raise ConfigError(f"--out {out}: expected a name that ends in {', '.join(FORMATS)}.")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as draft:
            part = Path(draft, out.name)
            n = _write(source, filters, part, kind, limits or Limits())
            part.chmod(0o600)  # records may hold prompts
            part.replace(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}). Name another file.") from error
    return n


def _write(source: RecordSource, filters: Filters, out: Path, kind: str, limits: Limits) -> int:
    if isinstance(source, FileSource):
        return _copy(source, filters, out, kind)
    lines = out.with_name("requests-pages.jsonl")
    with lines.open("wb") as file:
        for page in _pages(source, filters):
            file.writelines(orjson.dumps(row, option=_LINE) for row in page)
    files = FileSource([str(lines)], limits)
    try:
        return _copy(files, Filters(), out, kind)
    finally:
        files.close()


_LINE: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_APPEND_NEWLINE


def _copy(source: FileSource, filters: Filters, out: Path, kind: str) -> int:
    """Writes slice by slice: sorting millions of rows with their candidates at once takes gigabytes."""
    parts: list[Path] = []
    n = 0
    for number, bounds in enumerate(_slices(source, filters)):
        parts.append(out.with_name(f"{number:06d}.{kind}"))
        n += _copy_slice(source, filters, bounds, parts[-1], kind)
        if kind != "parquet":
            _append(parts.pop(), out)
    if len(parts) == 1:
        parts[0].replace(out)
    elif parts:
        _join(source, parts, out)
    return n


def _slices(source: FileSource, filters: Filters) -> Iterator[tuple[datetime | None, datetime | None]]:
    """From when to when each slice reaches, in the order of time; the outer ends are open."""
    where, parameters = filters.where()
    found = source.rows(_STARTS.format(where=where, slice=_SLICE), parameters)
    return pairwise([None, *(row["start"] for row in found[1:]), None])


def _copy_slice(
    source: FileSource, filters: Filters, bounds: tuple[datetime | None, datetime | None], part: Path, kind: str
) -> int:
    where, parameters = filters.where()
    start, end = bounds
    if start is not None:
        where, parameters = f'{where} AND "at" >= $slice_start', {**parameters, "slice_start": start}
    if end is not None:
        where, parameters = f'{where} AND "at" < $slice_end', {**parameters, "slice_end": end}
    query = f'SELECT {_COLUMNS} FROM requests WHERE {where} ORDER BY "at"'  # noqa: S608 - our own columns and conditions
    if kind == "csv":
        flat = [f'to_json("{name}") AS "{name}"' for name in ("candidates", "needs", "failed_attempts")]
        replaced = ", ".join([*flat, *(_DEFUSED.format(name=name) for name in _TEXTS)])
        query = f"SELECT * REPLACE ({replaced}) FROM ({query})"  # noqa: S608 - as above
    how = _COPY[kind] + (" false" if kind == "csv" and start is not None else "")  # one header
    return source.read(f"COPY ({query}) TO {quoted(str(part))} ({how})", parameters, _counted)


def _append(part: Path, out: Path) -> None:
    with part.open("rb") as piece, out.open("ab") as whole:
        shutil.copyfileobj(piece, whole)
    part.unlink()


def _join(source: FileSource, parts: Sequence[Path], out: Path) -> None:
    listed = ", ".join(map(quoted_path, parts))
    source.read(f"COPY (FROM read_parquet([{listed}])) TO {quoted(str(out))} ({_COPY['parquet']})", None, _counted)


def _counted(cursor: duckdb.DuckDBPyConnection) -> int:
    (n,) = cursor.fetchone() or (0,)
    return int(n)


def _pages(source: RecordSource, filters: Filters) -> Iterator[list[dict[str, Any]]]:
    """Rows by time, some at once: each page begins after the last row of the one before."""
    where, parameters = filters.where()
    order = 'ORDER BY "at", request_id'
    after = ""
    while True:
        sql = f"SELECT {_COLUMNS} FROM requests WHERE {where}{after} {order} LIMIT {_PAGE}"  # noqa: S608 - as above
        page = source.rows(sql, parameters)
        if page:
            yield page
        if len(page) < _PAGE:
            return
        after = ' AND ("at", request_id) > ($after_at, $after_id)'
        parameters |= {"after_at": page[-1]["at"], "after_id": page[-1]["request_id"]}
