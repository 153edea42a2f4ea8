"""Records in files of JSON lines, one per kind and process: written, rotated, sealed and deleted.

Full or old files are sealed as Parquet by a child process of low priority, so that neither its load nor a crash in
native code reaches this process. Files that are wholly older than records are kept are deleted.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.writer.segments import (
    OPEN,
    REJECTED,
    SEALED,
    Kind,
    SegmentFile,
    abandoned,
    asked_to_let_go,
    named,
)

__all__ = ["FileSink", "Sealer", "delete_old", "old_files"]


def old_files(folder: Path, keep: timedelta) -> list[Path]:
    """The files that were last written to longer ago than records are kept.

    A record is written after it was made, so every record of such a file is older still. Sealing keeps that time.

    Raises:
        OSError: The folder or a file cannot be read.
    """
    before = time.time() - keep.total_seconds()
    # Open files first: a crash in between must not leave one whose sealed twin, which hid it, is gone.
    found = [path for ending in (OPEN, SEALED, REJECTED) for path in named(folder, ending)]
    return [path for path in found if path.stat().st_mtime < before and (path.suffix != OPEN or abandoned(path))]


def delete_old(folder: Path, keep: timedelta) -> list[Path]:
    """Deletes the files whose records are all older than records are kept.

    Returns:
        The deleted files.

    Raises:
        OSError: The folder cannot be read, or a file cannot be deleted.
    """
    old = old_files(folder, keep)
    for path in old:
        path.unlink(missing_ok=True)
    return old


_LOOK_EVERY_S = 600.0
_FILES_AT_ONCE = 20
_ATTEMPTS = 3
"""How often a file is tried; it can be read as it is, too."""
_LONGEST_S = 600.0


class Sealer:
    """Finds files that nobody writes to any more, and lets one child process at a time seal them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[str] | None = None
        self._started = 0.0
        self._tried: Counter[Path] = Counter()
        self._problem: str | None = None
        self._look_at = 0.0

    @property
    def at_work(self) -> bool:
        """Whether a child is sealing."""
        return self._child is not None

    def look(self) -> None:
        """There is something to seal: does not wait for the usual time to look."""
        self._look_at = 0.0

    def tend(self) -> None:
        """Takes note of a child that has ended, and starts one when there is something to seal.

        Raises:
            OSError: No child can be started, or the last one had a problem; the message says which.
        """
        if self._child is not None:
            self._reap(self._child)
        if not self.at_work and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            found = [path for path in named(self._folder, OPEN) if abandoned(path)]
            self._tried = Counter({path: self._tried[path] for path in found})
            if todo := [path for path in found if self._tried[path] < _ATTEMPTS][:_FILES_AT_ONCE]:
                self._start(todo)
        if self._problem is not None:
            raise OSError(self._problem)

    def close(self) -> None:
        """Ends a child that is at work; what it had not finished is sealed another time."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _start(self, files: list[Path]) -> None:
        self._tried.update(files)
        self._started = time.monotonic()
        self._child = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "embedllm_router.records.writer.seal", *map(str, files)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        )

    def _reap(self, child: subprocess.Popen[str]) -> None:
        if child.poll() is None:
            if time.monotonic() - self._started > _LONGEST_S:
                child.kill()
            return
        self._child = None
        said = child.communicate()[1].strip().splitlines()
        if child.returncode == 0:
            self._problem = None
            self.look()
        else:
            self._problem = said[-1] if said else f"sealing ended with {child.returncode}"


_RETENTION_EVERY_S = 600.0
_IDLE_S, _WHILE_SEALING_S = 5.0, 1.0


class FileSink:
    """Writes lines to files. Holds at most one open file per kind, and none before the first line."""

    kind: Literal["files", "postgres"] = "files"

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self._settings = settings
        self._folder = folder
        self._files: dict[Kind, SegmentFile] = {}
        self._sealer = Sealer(self._folder)
        self._retain_at = time.monotonic() + settings.first_deletion_s
        self._asked = asked_to_let_go(folder)

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._folder)

    def write(self, kind: Kind, lines: Sequence[bytes]) -> int:
        """Appends all lines to the open file of their kind and waits until they are on disk.

        Raises:
            OSError: They could not be written; none of them is in a file.
        """
        file = self._files.get(kind)
        if file is not None and (file.gone or self._full(file)):
            self._let_go(kind)
            file = None
        if file is None:
            file = self._files[kind] = SegmentFile(self._folder, kind)
        try:
            file.append(b"".join(lines))
        except OSError:
            self._let_go(kind)  # its end is doubtful, or it can grow no more: the next try gets another
            raise
        return len(lines)

    def tend(self) -> float:
        """Lets go of full and old files, has files of dead processes sealed, deletes what is past its time.

        Returns:
            After how many seconds at most it wants to be called again.

        Raises:
            OSError: Something could not be done; it will be tried again.
        """
        before, self._asked = self._asked, asked_to_let_go(self._folder)
        for kind in [kind for kind, file in self._files.items() if self._full(file) or self._asked != before]:
            self._let_go(kind)
        days = self._settings.retention_days
        if days is not None and time.monotonic() >= self._retain_at:
            self._retain_at = time.monotonic() + _RETENTION_EVERY_S
            delete_old(self._folder, timedelta(days=days))
        self._sealer.tend()
        return _WHILE_SEALING_S if self._sealer.at_work else min(_IDLE_S, self._settings.rotate_s)

    def close(self) -> None:
        """Closes the files; the next process that writes here seals them."""
        for kind in list(self._files):
            self._let_go(kind)
        self._sealer.close()

    def abandon(self) -> None:
        """In a forked child: closes the child's share in the parent's files."""
        for file in self._files.values():
            file.forget()
        self._files = {}
        self._sealer = Sealer(self._folder)

    def _full(self, file: SegmentFile) -> bool:
        return file.size >= self._settings.rotate_mb * 1e6 or file.age_s >= self._settings.rotate_s

    def _let_go(self, kind: Kind) -> None:
        self._files.pop(kind).close()
        self._sealer.look()
