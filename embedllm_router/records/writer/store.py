"""Opens the store that the settings ask for."""

import importlib.util
from collections.abc import Callable
from typing import Protocol

from embedllm_router.config.process import StoreSettings
from embedllm_router.errors import ConfigError
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.files import FileSink
from embedllm_router.records.writer.queue import CLOSE_S, QUEUE_MB, BackgroundStore, PromptHasher, Sink, StoreHealth
from embedllm_router.records.writer.segments import require_locks

__all__ = ["RecordStore", "open_store"]


class RecordStore(Protocol):
    """Where records go."""

    def put(self, record: RequestRecord | FeedbackRecord) -> None:
        """Hands a record over to be written soon; never blocks, never raises. What cannot be kept is counted."""

    def health(self) -> StoreHealth:
        """How the store is doing."""

    prompt_hash: Callable[[str], str]
    """Keyed hash of a prompt, 24 hexadecimal digits; equal prompts have equal hashes. Never raises."""

    def close(self) -> None:
        """Writes what waits, within the `close_s` it was opened with; later records are counted as dropped."""


def open_store(settings: StoreSettings, *, queue_mb: float = QUEUE_MB, close_s: float = CLOSE_S) -> RecordStore:
    """Opens a store. Nothing is made on disk, and no database is called, before the first record.

    Args:
        settings: Where and how records are kept.
        queue_mb: Memory that records may take while they wait for a full disk or a dead database, in MB, estimated.
        close_s: Longest time that closing may take, in seconds.

    Raises:
        ConfigError: The URL is none of PostgreSQL, what PostgreSQL needs is not installed, or this system cannot
            lock files.
    """
    hash_key = settings.hash_key.get_secret_value() if settings.hash_key is not None else None
    if not settings.enabled:
        return _NoStore(PromptHasher(hash_key, None))
    sink: Sink
    if settings.url is None:
        require_locks()
        folder = settings.folder.expanduser().absolute()
        sink, hasher = FileSink(folder, settings), PromptHasher(hash_key, folder)
    else:
        sink, hasher = _postgres_sink(settings), PromptHasher(hash_key, None)
    return BackgroundStore(settings, sink, hasher, queue_mb=queue_mb, close_s=close_s)


def _postgres_sink(settings: StoreSettings) -> Sink:
    missing = [name for name in ("sqlalchemy", "alembic", "psycopg") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"store.url asks for PostgreSQL, but {', '.join(missing)} cannot be imported: "
            "pip install 'embedllm-router[postgres]'."
        )
    from embedllm_router.records.writer.postgres import PostgresSink  # noqa: PLC0415 - needs the extra `postgres`

    return PostgresSink(settings)


class _NoStore:
    """Keeps nothing."""

    def __init__(self, hasher: PromptHasher) -> None:
        self.prompt_hash: Callable[[str], str] = hasher
        """A hash that is good for this process."""

    def put(self, record: RequestRecord | FeedbackRecord) -> None:
        """Keeps nothing."""

    def health(self) -> StoreHealth:
        """Says that the store is off."""
        return StoreHealth()

    def close(self) -> None:
        """Does nothing."""
