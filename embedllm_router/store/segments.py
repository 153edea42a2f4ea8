"""The names of record files, and which of them to read.

    requests-20260101T000000000000Z-4711-0a1b2c3d.jsonl      being written, or left behind by a dead process
    requests-20260101T000000000000Z-4711-0a1b2c3d.parquet    sealed: the same records, sorted by time

Sealing writes the second, then removes the first. Between the two both exist, so a reader takes the Parquet file of a
stem and never both. It opens no file.
"""

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

__all__ = ["KINDS", "OPEN", "REJECTED", "SEALED", "Kind", "Segments", "new_name", "readable", "unsealed"]

Kind = Literal["requests", "feedback"]
"""What a file or a table holds."""

KINDS: tuple[Kind, ...] = ("requests", "feedback")

OPEN, SEALED, REJECTED = ".jsonl", ".parquet", ".rejected"
"""Endings: one JSON object per line; sealed; lines that were no records when the file was sealed."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The files of one folder that hold every record once, each list in the order of their names.

    Attributes:
        requests_jsonl: Files of one request per line. The last line of each may be torn: skip it.
        requests_parquet: Sealed files of requests.
        feedback_jsonl: Files of one piece of feedback per line, likewise.
        feedback_parquet: Sealed files of feedback.
    """

    requests_jsonl: tuple[Path, ...] = ()
    requests_parquet: tuple[Path, ...] = ()
    feedback_jsonl: tuple[Path, ...] = ()
    feedback_parquet: tuple[Path, ...] = ()


def new_name(kind: Kind) -> str:
    """A name that no other file has: the time in UTC, this process and something random."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{kind}-{stamp}-{os.getpid()}-{secrets.token_hex(4)}{OPEN}"


def unsealed(folder: Path) -> list[Path]:
    """Files of JSON lines in a folder, sealed beside or not; none when there is no such folder."""
    return [path for kind in KINDS for path in _named(folder, kind, OPEN)]


def readable(folder: Path) -> Segments:
    """What a reader should read; empty when there is no such folder.

    A file may be sealed, and so be gone, after it was listed: a reader that misses one lists again.
    """
    # Open files are listed first: one that is sealed in between is then seen twice, never missed.
    lines = {kind: _named(folder, kind, OPEN) for kind in KINDS}
    sealed = {kind: _named(folder, kind, SEALED) for kind in KINDS}
    stems = {path.stem for paths in sealed.values() for path in paths}
    left = {kind: tuple(path for path in paths if path.stem not in stems) for kind, paths in lines.items()}
    return Segments(left["requests"], tuple(sealed["requests"]), left["feedback"], tuple(sealed["feedback"]))


def _named(folder: Path, kind: Kind, ending: str) -> list[Path]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names if name.startswith(f"{kind}-") and name.endswith(ending)]
