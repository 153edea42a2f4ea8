"""Merges the many small sealed files of a past day to one, since a query opens every file.

Four workers that seal every hour make a hundred files a day. `segments` says in which order this happens, so that it
may end at any moment: what is left then is finished by the next who merges.
"""

import json
import os
import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

from embedllm_router.records.writer.seal_store_parquet import put_in_place, quoted_path, scratch, write_sorted
from embedllm_router.records.writer.segments import MERGED, OPEN, SEALED, merged_into, named
from embedllm_router.records.writer.segments_store_locks import try_lock

__all__ = ["merge_days"]

_SMALL, _LARGEST = 4_000_000, 16_000_000
"""Bytes of a file that is worth merging, and of all that are merged to one."""
_FEWEST = 4
"""Files that are worth merging."""


def merge_days(folder: Path, today: date | None = None) -> list[Path]:
    """Merges the small sealed files of each day before today.

    Args:
        folder: Of the record files.
        today: In UTC; None asks the clock.

    Returns:
        The files that were made; none when another process is merging here.

    Raises:
        OSError: A file cannot be read, written or removed.
        duckdb.Error: The files of a day cannot be merged; they stay as they are.
    """
    with _lock(folder) as ours:
        if not ours:
            return []
        for manifest in named(folder, MERGED):
            _finish(manifest)
        before = f"{today or datetime.now(UTC).date():%Y%m%d}"
        return [_merge(parts) for parts in _days(folder, before) if len(parts) >= _FEWEST]


def _days(folder: Path, before: str) -> list[list[Path]]:
    """Small sealed files by kind and day, no more of a day than are to make one file."""
    days: defaultdict[str, list[Path]] = defaultdict(list)
    sizes: defaultdict[str, int] = defaultdict(int)
    for path in named(folder, SEALED):
        kind, _, rest = path.stem.partition("-")
        day, size = rest[:8], path.stat().st_size
        # A file that still hides its lines must not go: they would be back.
        if not day.isdigit() or day >= before or size > _SMALL or path.with_suffix(OPEN).exists():
            continue
        if sizes[kind + day] + size <= _LARGEST:
            sizes[kind + day] += size
            days[kind + day].append(path)
    return list(days.values())


def _merge(parts: list[Path]) -> Path:
    kind, day = parts[0].stem.split("-")[0], parts[0].stem.split("-")[1][:8]
    merged = parts[0].with_name(f"{kind}-{day}T000000000000Z-day-{secrets.token_hex(4)}{SEALED}")
    manifest = merged.with_suffix(MERGED)
    last_written = max(path.stat().st_mtime for path in parts)
    with scratch(merged.with_name(f"{kind}-{day}-day")) as draft:
        files = ", ".join(map(quoted_path, parts))
        write_sorted(f"SELECT * FROM read_parquet([{files}], union_by_name = true)", draft / merged.name)  # noqa: S608
        (draft / manifest.name).write_text(json.dumps([path.name for path in parts]), encoding="utf-8")
        put_in_place(draft / manifest.name, merged.parent, last_written)
        put_in_place(draft / merged.name, merged.parent, last_written)
    _finish(manifest)
    return merged


def _finish(manifest: Path) -> None:
    """Removes the files that were merged, if the merged one is there, and then the list of them."""
    if manifest.with_suffix(SEALED).exists():
        for part in merged_into(manifest):
            part.unlink(missing_ok=True)
    manifest.unlink()


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """The right to merge in a folder; the system takes it back from a process that dies."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield try_lock(fd)
    finally:
        os.close(fd)
