"""State files of versions before the database: one JSON file for each process, read once and then deleted."""

import contextlib
import time
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from structlog.typing import FilteringBoundLogger

from embedllm_router.serving.state.shared import Entry, ReplicaState, Share

__all__ = ["JsonFiles"]

_MAX_BYTES = 64_000_000  # a larger file was not written by the router
_DRAFT_S = 600.0  # a draft older than this was left by a crash

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Version = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Sum(_Part):
    expires_at: _Number
    shares: dict[str, tuple[_Version, _Number]]


class _Text(_Part):
    value: str
    expires_at: _Number
    stamp: _Number


class _Saved(_Part):
    """The sums and entries of one process, with the shares of every replica it had heard of."""

    format: Literal[1]
    replica: str
    sums: dict[str, _Sum]
    entries: dict[str, _Text]


class JsonFiles:
    """The JSON files of a state folder.

    Args:
        folder: The folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[Path, int] = {}

    @property
    def loaded(self) -> bool:
        """Whether files were loaded that have not been deleted."""
        return bool(self._loaded)

    def load(self, state: ReplicaState, log: FilteringBoundLogger) -> None:
        """Merges every file into the replica state.

        Args:
            state: The sums and entries of this process.
            log: Where a file that cannot be read is reported.

        Raises:
            OSError: The folder or a file in it cannot be read.
        """
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):  # another process has just deleted it
                stat = path.stat()
                if stat.st_size > _MAX_BYTES:
                    continue
                saved = _saved(path.read_bytes())
                if saved is None:
                    log.warning("state.file_unusable", file=path.name, consequence="what it holds is not counted")
                    continue
                _merge(saved, state)
                self._loaded[path] = stat.st_mtime_ns

    def delete(self) -> None:
        """Deletes the files that were loaded, except those that a process of an earlier version has written since.

        Raises:
            OSError: One cannot be deleted.
        """
        if not self._loaded:
            return
        for path, mtime_ns in self._loaded.items():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime_ns == mtime_ns:
                    path.unlink()
        for draft in self._folder.glob(".state-*"):
            with contextlib.suppress(FileNotFoundError):
                if draft.stat().st_mtime < time.time() - _DRAFT_S:
                    draft.unlink()
        self._loaded.clear()


def _saved(data: bytes) -> _Saved | None:
    """The content of a file; None where it is not a state file."""
    try:
        return _Saved.model_validate(orjson.loads(data))
    except (orjson.JSONDecodeError, ValidationError):
        return None


def _merge(saved: _Saved, state: ReplicaState) -> None:
    for key, one in saved.sums.items():
        state.counters.merge(key, {who: Share(*share) for who, share in one.shares.items()}, one.expires_at)
    for key, text in saved.entries.items():
        state.entries.merge(key, Entry(text.value, text.expires_at, text.stamp))
