"""How and where records are kept, as plain values. Reads no setting itself."""

from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_state_path

__all__ = ["StoreOptions", "default_store_path"]


def default_store_path() -> Path:
    """Folder of the record files when the settings name none: in the user's state folder."""
    return user_state_path("embedllm-router") / "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """What a store needs to know.

    Attributes:
        enabled: Whether records are kept at all.
        path: Folder of the record files, and of the hash key.
        url: PostgreSQL instead of files: `postgresql://user:password@host/database`.
        flush_s: Longest time a record waits before it is on disk, in seconds: what a crash may lose.
        rotate_mb: Size at which a file is closed and sealed as Parquet, in MB of 1,000,000 bytes.
        rotate_s: Age at which it is, in seconds.
        retention_days: Records older than this are deleted; None keeps them.
        prompt: Whether the text of prompts is kept. Off, it is taken out of every record.
        embedding: Whether prompt embeddings are kept; likewise.
        hash_key: Key of the prompt hash; None makes one per folder, and with `url` one per process.
        queue_mb: Memory that records may take while they wait for a full disk or a dead database, in MB, estimated.
        close_s: Longest time that closing may take, in seconds.
    """

    enabled: bool = True
    path: Path = field(default_factory=default_store_path)
    url: str | None = field(default=None, repr=False)
    flush_s: float = 1.0
    rotate_mb: float = 64
    rotate_s: float = 3600
    retention_days: float | None = None
    prompt: bool = False
    embedding: bool = False
    hash_key: str | None = field(default=None, repr=False)
    queue_mb: float = 64
    close_s: float = 5.0
