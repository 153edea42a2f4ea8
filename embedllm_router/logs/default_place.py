"""Where a command looks for records: what it is told, else where the proxy's settings put them."""

from collections.abc import Sequence
from pathlib import Path

from embedllm_router.settings import RouterSettings, read_proxy_config, read_settings
from embedllm_router.store import default_store_path

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
    settings = read_proxy_config(config) if config is not None else _from_environment()
    if settings.store.url is not None:
        return [settings.store.url.get_secret_value()]
    return [str(settings.store.path or default_store_path())]


def _from_environment() -> RouterSettings:
    """Settings without a configuration file: `EMBEDLLM_ROUTER_STORE__PATH` and the like, and defaults."""
    return read_settings({"virtual_models": {"any": {"default": "any"}}})
