"""Folders and files that appear whole or not at all: written beside their place, then renamed; and locks on them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["draft_beside", "put_in_place", "try_lock", "why_no_place", "why_nothing_fits", "write_whole"]


def why_no_place(folder: Path, mark: str, kind: str) -> str | None:
    """Why nothing may be written to a place: asked before work that takes long, and again before it is written.

    Args:
        folder: The place; it need not exist.
        mark: Name of the file by which a folder shows that it is one of those that are replaced.
        kind: What these are, such as "an artifact".

    Returns:
        A sentence for people; None where it may.
    """
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file, expected a folder to make. Name another."
    if folder.exists() and any(folder.iterdir()) and not (folder / mark).is_file():
        found = f"{folder} is not empty and holds no {mark}: not {kind}, so it is not replaced"
        return f"{found}. Name a new or empty folder."
    above = next(one for one in folder.absolute().parents if one.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        return f"{folder}: cannot be written in {above}. Check the rights there, or name another folder."
    return None


_ROOM_BYTES: Final = 64 << 20  # of records a day of many proxies, and the least that a full disk should have


def why_nothing_fits(folder: Path) -> str | None:
    """Why records or state could not be written in a folder at the moment; None where they could.

    Args:
        folder: Need not exist.
    """
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not place.is_dir():
        return f"{place} is a file, expected a folder"
    if not os.access(place, os.W_OK | os.X_OK) or os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"{place} cannot be written"
    free = shutil.disk_usage(place).free
    return None if free >= _ROOM_BYTES else f"{place} has {free / 1e6:,.0f} MB left"


@contextmanager
def draft_beside(folder: Path) -> Iterator[Path]:
    """A new empty folder beside another one's place; gone afterwards unless it was put in place.

    Args:
        folder: Where the draft shall end up; its parents are made.

    Yields:
        The draft.

    Raises:
        OSError: The draft cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    draft.chmod(0o755)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def put_in_place(draft: Path, folder: Path) -> None:
    """Renames a draft to its place; what was there is removed only once the draft is in.

    Raises:
        OSError: The folder cannot be renamed.
    """
    if not folder.exists():
        draft.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.replace(old)
    draft.rename(folder)
    shutil.rmtree(old)


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a small file: a reader sees the old content or the new one, and so does whoever reads after a crash.

    Raises:
        OSError: It cannot be written; what was there is there still.
    """
    fd, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise


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
