"""Where shared state is kept, as plain values. Reads no setting itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from urllib.parse import urlsplit

from platformdirs import user_state_path

__all__ = ["RedisAddress", "StateHealth", "StateOptions", "default_state_path"]


def default_state_path() -> Path:
    """Folder of the state files when the settings name none: in the user's state folder."""
    return user_state_path("embedllm-router") / "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is, and how to be let in.

    Attributes:
        url: `redis://`, `rediss://` or `unix://` with everything in it; when set, the others are not read.
        host: Name or address.
        port: Port.
        username: None for Redis's default user.
        password: None when it asks for none.
        ssl: Whether the connection is encrypted.
        db: Number of the database.
    """

    url: str | None = field(default=None, repr=False)
    host: str = "localhost"
    port: int = 6379
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl: bool = False
    db: int = 0

    @property
    def location(self) -> str:
        """Where it is, without credentials."""
        if self.url is None:
            return f"{self.host}:{self.port}"
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path


@dataclass(frozen=True, slots=True, kw_only=True)
class StateOptions:
    """What shared state needs to know.

    Attributes:
        path: Folder of the state files; None keeps nothing across a restart and shares nothing but through Redis.
        redis: Where several machines share it; None shares it through the folder, on one machine.
        refresh_s: How often others' changes are looked up, in seconds.
        max_entries: Most entries kept in memory; beyond it the least recently used are dropped.
        namespace: What every Redis key begins with; proxies that share state share it.
        clock: Seconds since the epoch.
    """

    path: Path | None = field(default_factory=default_state_path)
    redis: RedisAddress | None = None
    refresh_s: float = 1.0
    max_entries: int = 10_000
    namespace: str = "embedllm"
    clock: Callable[[], float] = time


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHealth:
    """How shared state is doing.

    Attributes:
        kind: "local" or "redis".
        location: Folder, or Redis's address without credentials; None when nothing is kept.
        connected: Whether the last exchange succeeded; with "local", whether the files could be read and written.
        unsent: Sums and entries of which others do not know the latest yet.
        sums: Sums known here.
        entries: Entries known here.
        last_error: Class of the latest failure; None since the last success.
    """

    kind: str
    location: str | None
    connected: bool
    unsent: int
    sums: int
    entries: int
    last_error: str | None
