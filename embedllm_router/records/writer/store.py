"""Opens the store that the options ask for."""

import importlib.util
from typing import Protocol

from embedllm_router.config.store_options import StoreOptions
from embedllm_router.errors import ConfigError
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.files import FileSink
from embedllm_router.records.writer.queue import BackgroundStore, PromptHasher, StoreHealth
from embedllm_router.records.writer.segments import require_locks

__all__ = ["RecordStore", "open_store"]


class RecordStore(Protocol):
    """Where records go."""

    def put(self, record: RequestRecord | FeedbackRecord) -> None:
        """Hands a record over to be written soon; never blocks, never raises. What cannot be kept is counted."""

    def health(self) -> StoreHealth:
        """How the store is doing."""

    def prompt_hash(self, text: str) -> str:
        """Keyed hash of a prompt, 24 hexadecimal digits; equal prompts have equal hashes. Never raises."""

    def close(self) -> None:
        """Writes what waits, within the options' `close_s`; later records are counted as dropped."""


def open_store(options: StoreOptions) -> RecordStore:
    """Opens a store. Nothing is made on disk, and no database is called, before the first record.

    Raises:
        ConfigError: The URL is none of PostgreSQL, what PostgreSQL needs is not installed, or this system cannot
            lock files.
    """
    if not options.enabled:
        return _NoStore(PromptHasher(options.hash_key, None))
    if options.url is None:
        require_locks()
        folder = options.path.expanduser().absolute()
        return BackgroundStore(options, FileSink(folder, options), PromptHasher(options.hash_key, folder))
    missing = [name for name in ("sqlalchemy", "alembic", "psycopg") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"store.url asks for PostgreSQL, but {', '.join(missing)} cannot be imported: "
            "pip install 'embedllm-router[postgres]'."
        )
    from embedllm_router.records.writer.postgres import PostgresSink  # noqa: PLC0415 - needs the extra `postgres`

    return BackgroundStore(options, PostgresSink(options), PromptHasher(options.hash_key, None))


class _NoStore:
    """Keeps nothing."""

    def __init__(self, hasher: PromptHasher) -> None:
        self._hasher = hasher

    def put(self, record: RequestRecord | FeedbackRecord) -> None:
        """Keeps nothing."""

    def health(self) -> StoreHealth:
        """Says that the store is off."""
        return StoreHealth()

    def prompt_hash(self, text: str) -> str:
        """A hash that is good for this process."""
        return self._hasher(text)

    def close(self) -> None:
        """Does nothing."""
