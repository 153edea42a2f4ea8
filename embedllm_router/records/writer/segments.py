"""Record files: their names, which of them to read, their locks, and the one that a process writes to.

    requests-20260101T000000000000Z-4711-0a1b2c3d.jsonl      being written, or left behind by a dead process
    requests-20260101T000000000000Z-4711-0a1b2c3d.parquet    sealed: the same records, sorted by time

Sealing writes the second, then removes the first. Between the two both exist, so a reader takes the Parquet file of a
stem and never both.

    requests-20260101T000000000000Z-day-4c5d6e7f.merged      names the files that were merged to one
    requests-20260101T000000000000Z-day-4c5d6e7f.parquet     that one

Merging writes the first, then the second, then removes the files that it names, then the first. While both are there,
a reader leaves out the files that are named.

A process locks the file it writes to for as long as it lives; the system releases the lock however the process ends.
So a file that can be locked has no writer any more. Whole lines are written or nothing, durable when a call returns.
"""

import contextlib
import importlib.util
import json
import os
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from embedllm_router._files import try_lock
from embedllm_router.errors import ConfigError

__all__ = [
    "KINDS",
    "MERGED",
    "OPEN",
    "REJECTED",
    "SEALED",
    "Kind",
    "SegmentFile",
    "abandoned",
    "ask_to_let_go",
    "asked_to_let_go",
    "merged_into",
    "named",
    "new_name",
    "require_locks",
    "superseded",
    "sync_folder",
]


def require_locks() -> None:
    """Checks that this system has such locks.

    Raises:
        ConfigError: It has none.
    """
    if importlib.util.find_spec("fcntl") is None:
        raise ConfigError(
            "records in files need a system with POSIX file locks, which this one lacks: set store.url to a "
            "PostgreSQL database, or store.enabled to false."
        )


def abandoned(path: Path) -> bool:
    """Whether a file exists and nobody holds its lock.

    Raises:
        OSError: The file system has no locks, or the file may not be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return try_lock(fd)
    finally:
        os.close(fd)


_LET_GO = "let-go"
"""A file by whose time those who write learn that somebody waits for the files they have open."""


def ask_to_let_go(folder: Path) -> None:
    """Asks everybody who writes in a folder to close their files and go on in others, within seconds.

    Raises:
        OSError: The folder cannot be written to.
    """
    path = folder / _LET_GO
    path.touch(mode=0o600)
    os.utime(path)


def asked_to_let_go(folder: Path) -> int:
    """When somebody last asked for that, in nanoseconds since 1970; 0 for never."""
    try:
        return (folder / _LET_GO).stat().st_mtime_ns
    except OSError:
        return 0


Kind = Literal["requests", "feedback"]
"""What a file or a table holds."""

KINDS: tuple[Kind, ...] = ("requests", "feedback")

OPEN, SEALED, REJECTED, MERGED = ".jsonl", ".parquet", ".rejected", ".merged"
"""Endings: one JSON object per line; sealed; lines that were no records when the file was sealed; see above."""


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


class SegmentFile:
    """An open file of records.

    Attributes:
        path: Where it is.
        size: Bytes of whole, durable lines in it.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        """Makes the folder, readable by this user alone, and a new file in it.

        Raises:
            OSError: One of them cannot be made, or the file cannot be locked.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / new_name(kind)
        self.size = 0
        self._made = time.monotonic()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(self._fd):
                raise BlockingIOError(f"{self.path.name} is locked by another process")
            self._inode = os.fstat(self._fd).st_ino
            sync_folder(folder)
        except OSError:
            self.close()
            raise

    @property
    def age_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._made

    @property
    def gone(self) -> bool:
        """Whether somebody removed or replaced it: what is written would be lost."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    def append(self, lines: bytes) -> None:
        """Writes whole lines and waits until they are on disk.

        Raises:
            OSError: They could not be written, and none of them is in the file, unless it could not even be cut back.
                Close it then: after a failed sync the system may have forgotten what it had not written.
        """
        try:
            _write_all(self._fd, lines)
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        self.size += len(lines)

    def close(self) -> None:
        """Lets go of the file and its lock, and removes it if nothing was written to it."""
        if self.size == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Closes the file and does nothing else: in a forked child, the lock stays the parent's."""
        os.close(self._fd)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, such as that of a new or renamed file, where the file system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
