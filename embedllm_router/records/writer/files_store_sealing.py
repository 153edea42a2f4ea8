"""Has files sealed by a child process of low priority, so that neither its load nor its death reaches this one."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from embedllm_router.records.writer.segments import OPEN, named
from embedllm_router.records.writer.segments_store_locks import abandoned

__all__ = ["Sealer"]

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
