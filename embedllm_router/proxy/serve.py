"""`embedllm-router serve`: checks the configuration, then becomes the LiteLLM proxy.

What `litellm --config` would only report in a traceback is said here in one sentence, before anything starts.
"""

import importlib.util
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from embedllm_router.config.settings import RouterSettings, load_config, read_proxy_config
from embedllm_router.errors import ConfigError

__all__ = ["check_config", "check_port", "proxy_command", "proxy_environment"]

_MASTER_KEY = "LITELLM_MASTER_KEY"
_WORKER_ANSWERS_S = 60
"""Time in which a worker must answer uvicorn before it is taken for dead; its own 5 s are too few on a busy machine."""


def check_config(path: Path) -> RouterSettings:
    """Checks everything of a proxy configuration that is this package's business.

    Args:
        path: The YAML file.

    Returns:
        The plugin's settings.

    Raises:
        ConfigError: The file, the plugin's section or the LiteLLM installation is not usable.
    """
    settings = read_proxy_config(path)
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("litellm") is None:
        raise ConfigError('the LiteLLM proxy is not installed. Install it with: pip install "embedllm-router[proxy]"')
    return settings


def proxy_command(config: Path, host: str, port: int, *, workers: int = 1) -> list[str]:
    """The command line that runs the proxy in this interpreter, with so many processes that answer requests."""
    options = ["--host", host, "--port", str(port)]
    if workers > 1:
        options += ["--num_workers", str(workers), "--timeout_worker_healthcheck", str(_WORKER_ANSWERS_S)]
    return [sys.executable, "-m", "litellm.proxy.proxy_cli", "--config", str(config), *options]


def check_port(host: str, port: int) -> None:
    """Checks that nothing else listens where the proxy shall.

    Raises:
        ConfigError: Something does, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the proxy's server does
        try:
            tried.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}, port {port}: {error.strerror}. Choose another --port."
            ) from None
        except OverflowError:
            raise ConfigError(f"--port takes a number from 0 to 65535; found {port}.") from None


def proxy_environment(config: Path, environment: Mapping[str, str] | None = None) -> tuple[dict[str, str], str | None]:
    """The proxy's environment: prices from the installed package, and a master key when none is set.

    Args:
        config: The proxy configuration, which may hold a master key itself.
        environment: What to start from; None takes this process's.

    Returns:
        The environment, and the master key if one was made.
    """
    given = dict(os.environ if environment is None else environment)
    given.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    general = load_config(config).get("general_settings")
    stated = general.get("master_key") if isinstance(general, Mapping) else None
    if given.get(_MASTER_KEY) or (stated and stated != f"os.environ/{_MASTER_KEY}"):
        return given, None
    given[_MASTER_KEY] = f"sk-{secrets.token_urlsafe(24)}"
    return given, given[_MASTER_KEY]
