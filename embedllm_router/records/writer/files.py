"""Records in files of JSON lines, one per kind and process; full or old ones are sealed as Parquet."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

from embedllm_router.config.store_options import StoreOptions
from embedllm_router.records.writer.files_store_retention import delete_old
from embedllm_router.records.writer.files_store_sealing import Sealer
from embedllm_router.records.writer.segments import Kind
from embedllm_router.records.writer.segments_store_segment_file import SegmentFile

__all__ = ["FileSink"]

_RETENTION_EVERY_S = 600.0
_IDLE_S, _WHILE_SEALING_S = 30.0, 1.0


class FileSink:
    """Writes lines to files. Holds at most one open file per kind, and none before the first line."""

    kind: Literal["files", "postgres"] = "files"

    def __init__(self, folder: Path, options: StoreOptions) -> None:
        self._options = options
        self._folder = folder
        self._files: dict[Kind, SegmentFile] = {}
        self._sealer = Sealer(self._folder)
        self._retained_at = float("-inf")

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
        for kind in [kind for kind, file in self._files.items() if self._full(file)]:
            self._let_go(kind)
        days = self._options.retention_days
        if days is not None and time.monotonic() - self._retained_at > _RETENTION_EVERY_S:
            self._retained_at = time.monotonic()
            delete_old(self._folder, timedelta(days=days))
        self._sealer.tend()
        return _WHILE_SEALING_S if self._sealer.at_work else min(_IDLE_S, self._options.rotate_s)

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
        return file.size >= self._options.rotate_mb * 1e6 or file.age_s >= self._options.rotate_s

    def _let_go(self, kind: Kind) -> None:
        self._files.pop(kind).close()
        self._sealer.look()
