"""Deletes record files that are wholly past their time."""

import time
from datetime import timedelta
from pathlib import Path

from embedllm_router.records.writer.segments import OPEN, REJECTED, SEALED, named
from embedllm_router.records.writer.segments_store_locks import abandoned

__all__ = ["delete_old"]


def delete_old(folder: Path, keep: timedelta) -> list[Path]:
    """Deletes the files that were last written to longer ago than records are kept.

    A record is written after it was made, so every record of such a file is older still. Sealing keeps that time.

    Returns:
        The deleted files.

    Raises:
        OSError: The folder cannot be read, or a file cannot be deleted.
    """
    before = time.time() - keep.total_seconds()
    # Open files first: a crash in between must not leave one whose sealed twin, which hid it, is gone.
    found = [path for ending in (OPEN, SEALED, REJECTED) for path in named(folder, ending)]
    old = [path for path in found if path.stat().st_mtime < before and (path.suffix != OPEN or abandoned(path))]
    for path in old:
        path.unlink(missing_ok=True)
    return old
