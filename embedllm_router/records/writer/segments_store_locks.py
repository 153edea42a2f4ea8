"""Locks on files that the system releases when their process dies."""

import importlib.util
import os
from pathlib import Path

from embedllm_router.errors import ConfigError

__all__ = ["abandoned", "require_locks", "try_lock"]


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


def try_lock(fd: int) -> bool:
    """Takes the lock on an open file, until it is closed; returns whether nobody else held it.

    Raises:
        OSError: The file system has no locks.
    """
    import fcntl  # noqa: PLC0415 - absent on Windows, where files are refused before this is reached

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
