"""The names of record files, and which of them to read.

    requests-20260101T000000000000Z-4711-0a1b2c3d.jsonl      being written, or left behind by a dead process
    requests-20260101T000000000000Z-4711-0a1b2c3d.parquet    sealed: the same records, sorted by time

Sealing writes the second, then removes the first. Between the two both exist, so a reader takes the Parquet file of a
stem and never both.

    requests-20260101T000000000000Z-day-4c5d6e7f.merged      names the files that were merged to one
    requests-20260101T000000000000Z-day-4c5d6e7f.parquet     that one

Merging writes the first, then the second, then removes the files that it names, then the first. While both are there,
a reader leaves out the files that are named. It opens no other file.
"""

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

__all__ = [
    "KINDS",
    "MERGED",
    "OPEN",
    "REJECTED",
    "SEALED",
    "Kind",
    "Segments",
    "merged_into",
    "named",
    "new_name",
    "readable",
    "superseded",
]

Kind = Literal["requests", "feedback"]
"""What a file or a table holds."""

KINDS: tuple[Kind, ...] = ("requests", "feedback")

OPEN, SEALED, REJECTED, MERGED = ".jsonl", ".parquet", ".rejected", ".merged"
"""Endings: one JSON object per line; sealed; lines that were no records when the file was sealed; see above."""


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


def named(folder: Path, ending: str) -> list[Path]:
    """Files of records in a folder whose names end so, sorted; none when there is no such folder."""
    try:
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in paths if path.suffix == ending and path.name.startswith(tuple(f"{k}-" for k in KINDS))]


def readable(folder: Path) -> Segments:
    """What a reader should read; empty when there is no such folder.

    A file may be sealed or merged, and so be gone, after it was listed: a reader that misses one lists again.
    """
    # In this order: what is sealed or merged between two listings is then seen twice, never missed.
    found = [*named(folder, OPEN), *named(folder, SEALED), *named(folder, MERGED)]
    left_out = superseded(found)
    paths = {
        (kind, ending): tuple(
            path for path in found if path.suffix == ending and path.name.startswith(kind) and path not in left_out
        )
        for kind in KINDS
        for ending in (OPEN, SEALED)
    }
    return Segments(*(paths[kind, ending] for kind in KINDS for ending in (OPEN, SEALED)))


def superseded(paths: Iterable[Path]) -> set[Path]:
    """Which of some files must not be read, since others among them hold the same records."""
    given = set(paths)
    sealed = {path for path in given if path.suffix == SEALED and path.with_suffix(OPEN) in given}
    merged = {path for path in given if path.suffix == MERGED and path.with_suffix(SEALED) in given}
    parts = {part for path in merged for part in merged_into(path)}
    return {path.with_suffix(OPEN) for path in sealed} | {part for part in parts if part in given}


def merged_into(path: Path) -> list[Path]:
    """The files that a `.merged` file names; none when it is gone meanwhile, and they with it.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return [path.with_name(str(name)) for name in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
