"""Routes each prompt to the LLM that will answer it best for the money, and says why.

Importing this package does nothing and loads nothing heavy; names are resolved when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedllm_router.plugin import proxy_handler as proxy_handler
    from embedllm_router.policy import Decision as Decision
    from embedllm_router.router import Router as Router

__version__ = "0.1.0"

__all__ = ["Decision", "Router", "__version__", "proxy_handler"]

_HOME = {
    "Decision": "embedllm_router.policy",
    "Router": "embedllm_router.router",
    "proxy_handler": "embedllm_router.plugin",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
