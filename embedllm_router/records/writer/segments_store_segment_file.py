"""One file of JSON lines that this process alone writes to: whole lines or nothing, durable when a call returns.

It holds a lock on the file for as long as it lives; the system releases it when the process dies, however it dies. So
whoever can lock such a file knows that nobody writes to it any more.
"""

import contextlib
import os
import time
from pathlib import Path

from embedllm_router.records.writer.segments import Kind, new_name
from embedllm_router.records.writer.segments_store_locks import try_lock

__all__ = ["SegmentFile", "sync_folder"]


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
