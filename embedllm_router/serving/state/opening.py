"""Opens shared state as the settings say."""

import importlib.util

from structlog.typing import FilteringBoundLogger

from embedllm_router.config.process import RedisAddress, StateSettings
from embedllm_router.errors import ConfigError
from embedllm_router.serving.state.shared import Link, ReplicaState, SharedState
from embedllm_router.serving.state.sqlite import SqliteLink

__all__ = ["open_state"]


def open_state(
    settings: StateSettings,
    log: FilteringBoundLogger,
    *,
    redis: RedisAddress | None = None,
    on_disk: bool = True,
    state: ReplicaState | None = None,
) -> SharedState:
    """Opens shared state and reads its folder. Redis is first called by `SharedState.run`; nothing is made on disk yet.

    Args:
        settings: Where it is kept.
        log: Where trouble is reported, once until it is over.
        redis: The Redis through which several hosts share it; None shares it through the folder, on one host.
        on_disk: Whether the folder is used; without it nothing survives a restart.
        state: The sums and entries to begin with; None for none.

    Returns:
        The state.

    Raises:
        ConfigError: Redis is asked for, and its client is not installed or its address cannot be read.
    """
    state = state or ReplicaState.new()
    link = _redis_link(redis, settings.namespace, state, log) if redis else None
    disk = SqliteLink(settings.folder, state, log) if on_disk else None
    if disk is not None:
        disk.load()
    return SharedState(state, disk, link)


def _redis_link(address: RedisAddress, namespace: str, state: ReplicaState, log: FilteringBoundLogger) -> Link:
    if importlib.util.find_spec("redis") is None:
        raise ConfigError(
            "the state settings ask for Redis, but its client cannot be imported: pip install 'embedllm-router[proxy]'."
        )
    from embedllm_router.serving.state.redis import RedisLink  # noqa: PLC0415 - needs the extra `proxy`

    return RedisLink(address, namespace, state, log)
