"""Opens shared state as the options ask for it."""

import importlib.util
import secrets

from structlog.typing import FilteringBoundLogger

from embedllm_router.config.state_options import StateOptions
from embedllm_router.errors import ConfigError
from embedllm_router.serving.state.files import FileLink
from embedllm_router.serving.state.replica_state_state_counters import Counters
from embedllm_router.serving.state.replica_state_state_entries import Entries
from embedllm_router.serving.state.replica_state_state_known import Known
from embedllm_router.serving.state.shared import SharedState

__all__ = ["open_state"]

_REPLICA_BYTES = 6


def open_state(options: StateOptions, log: FilteringBoundLogger) -> SharedState:
    """Opens shared state and reads the folder. Redis is first called by `SharedState.run`; nothing is made on disk yet.

    Args:
        options: Where it is kept.
        log: Where trouble is reported, once per trouble.

    Returns:
        The state.

    Raises:
        ConfigError: Redis is asked for, and its client is not installed or its address cannot be read.
    """
    counters = Counters(secrets.token_hex(_REPLICA_BYTES), options.clock)
    known = Known(counters, Entries(options.max_entries, options.clock), options.clock)
    files = FileLink(options.path, known, log) if options.path else None
    if files is not None:
        files.load()
    if options.redis is None:
        return SharedState(options, known, files, None)
    if importlib.util.find_spec("redis") is None:
        raise ConfigError(
            "the state settings ask for Redis, but its client cannot be imported: pip install 'embedllm-router[proxy]'."
        )
    from embedllm_router.serving.state.redis_link import RedisLink  # noqa: PLC0415 - needs the extra `proxy`

    redis = RedisLink(options.redis, options.namespace, known, log)
    return SharedState(options, known, files, redis)
