"""State in a folder: each process writes what it knows to one file of its own and reads the others'.

A file is replaced whole or not at all. A process that lives renews its file's time; the file of one that died is taken
up by another and deleted, so a restart loses nothing that was written and the folder stays small. It knows nothing of
Redis.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from embedllm_router.serving.state.replica_state import Known, Saved, dumps, pack, take_up, unpack

__all__ = ["FileLink"]

_RENEW_S = 60.0
_DEAD_S = 600.0  # a file that was not renewed so long belongs to nobody
_DRAFT = ".state-"
_MAX_BYTES = 64_000_000  # a larger file is not ours

Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    saved: Saved
    dead: bool


class FileLink:
    """Shares what is known with the other processes of one machine, and with those to come.

    Args:
        folder: Where the files are; made when something is first written.
        known: What this process knows.
        log: Where trouble is reported.
    """

    def __init__(self, folder: Path, known: Known, log: FilteringBoundLogger) -> None:
        self._folder = folder.expanduser().absolute()
        self._known = known
        self._log = log
        self._own = self._folder / f"{known.counters.replica}.json"
        self._seen: dict[Path, Stamp] = {}
        self._taken_up: dict[Path, float] = {}
        self._unusable: set[Path] = set()
        self._saved_changes = (0, 0)
        self._tended_at = float("-inf")
        self.last_error: str | None = None

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._folder)

    @property
    def unsaved(self) -> int:
        """Changes of this process that are not in its file yet."""
        return sum(self._known.changes) - sum(self._saved_changes)

    def load(self) -> None:
        """Reads every file, once, before anything else happens."""
        with self._reporting():
            self._take_up(self._read())

    async def exchange(self) -> None:
        """Writes what is new here, reads what is new there, takes over the files of the dead."""
        with self._reporting():
            found = await asyncio.to_thread(self._read)
            self._take_up(found)
            dead = [one.path for one in found if one.dead]
            changes = self._known.changes
            if dead or changes != self._saved_changes:
                await asyncio.to_thread(self._write, pack(self._known))
                self._saved_changes = changes
            await asyncio.to_thread(self._tend, dead)

    def save(self) -> None:
        """Writes what is new here, without an event loop: for the end of the process."""
        changes = self._known.changes
        if changes == self._saved_changes:
            return
        with self._reporting():
            self._write(pack(self._known))
            self._saved_changes = changes

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
            self.last_error = None
        except OSError as error:
            if self.last_error is None:
                consequence = "budgets and sessions are not kept across a restart"
                self._log.warning("state.files_unusable", reason=type(error).__name__, consequence=consequence)
            self.last_error = type(error).__name__

    def _take_up(self, found: list[_Found]) -> None:
        for one in found:
            self._taken_up[one.path] = take_up(one.saved, self._known, self._taken_up.get(one.path, 0.0))

    def _read(self) -> list[_Found]:
        found: list[_Found] = []
        for path in sorted(self._folder.glob("*.json")):
            if path == self._own:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process has just taken it over
                stat = path.stat()
                dead = stat.st_mtime < time.time() - _DEAD_S
                stamp = (stat.st_mtime_ns, stat.st_size)
                known = self._seen.get(path) == stamp and (not dead or path in self._unusable)
                if known or stat.st_size > _MAX_BYTES:
                    continue
                self._seen[path] = stamp
                found += self._unpacked(path, dead=dead)
        return found

    def _unpacked(self, path: Path, *, dead: bool) -> list[_Found]:
        try:
            return [_Found(path, unpack(path.read_bytes()), dead)]
        except ValueError:
            self._unusable.add(path)
            self._log.warning("state.file_unusable", file=path.name, consequence="what it holds is not counted")
            return []

    def _write(self, packed: dict[str, object]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, draft = tempfile.mkstemp(dir=self._folder, prefix=_DRAFT)
        try:
            with os.fdopen(fd, "wb") as opened:
                opened.write(dumps(packed))
                opened.flush()
                os.fsync(opened.fileno())
            Path(draft).replace(self._own)
        except OSError:
            Path(draft).unlink(missing_ok=True)
            raise

    def _tend(self, dead: list[Path]) -> None:
        for path in dead:
            path.unlink(missing_ok=True)
            self._seen.pop(path, None)
            self._taken_up.pop(path, None)
        if time.monotonic() - self._tended_at > _RENEW_S:
            self._tended_at = time.monotonic()
            if self._own.exists():
                os.utime(self._own)
            self._sweep()

    def _sweep(self) -> None:
        """Deletes what a crash left half written."""
        for draft in self._folder.glob(f"{_DRAFT}*"):
            with contextlib.suppress(FileNotFoundError):
                if draft.stat().st_mtime < time.time() - _DEAD_S:
                    draft.unlink()
