"""Where a command looks for records: what it is told, else where the proxy's settings put them."""

from collections.abc import Sequence
from pathlib import Path

from embedllm_router.config.settings import read_proxy_config, read_store_settings
from embedllm_router.config.store_options import default_store_path

__all__ = ["places"]


def places(origin: Sequence[str] | None, config: Path | None) -> list[str]:
    """Folders, files, globs, or one database.

    Args:
        origin: What the command was told; empty or None for nothing.
        config: A proxy configuration whose setting `store` counts then; None takes the environment and the defaults.

    Raises:
        ConfigError: The configuration is not usable.
    """
    if origin:
        return list(origin)
    store = read_proxy_config(config).store if config is not None else read_store_settings()
    if store.url is not None:
        return [store.url.get_secret_value()]
    return [str(store.path or default_store_path())]
