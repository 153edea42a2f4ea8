"""Routes each prompt to the LLM that will answer it best for the money, and says why.

Importing this package does nothing and loads nothing heavy; names are resolved when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedllm_router.proxy.plugin import ProxyHandler
    from embedllm_router.routing.decision import Decision
    from embedllm_router.routing.router import Router

    proxy_handler: ProxyHandler

__version__ = "0.1.0"

__all__ = ["Decision", "Router", "__version__", "proxy_handler"]

_HOME = {"Decision": "embedllm_router.routing.decision", "Router": "embedllm_router.routing.router"}


def _start_plugin() -> "ProxyHandler":
    """Builds the handler from LiteLLM's configuration, adds our routes to the proxy's application, starts watching."""
    rooms = ("proxy.plugin", "proxy.litellm_state", "web.app")
    plugin, state, web = (import_module(f"{__name__}.{room}") for room in rooms)
    handler: ProxyHandler = plugin.create_proxy_handler()
    doors = web.Doors(
        key=state.any_key,
        admin=state.admin_only,
        viewer=state.viewers_too,
        metrics_need_a_key=state.metrics_need_a_key,
        is_admin=state.is_admin,
    )
    app = state.application()
    counting = web.counting_router(app, auth=state.any_key, check=handler.check_unrouted)
    listing = web.listing_router(app, virtual_models=lambda: web.deciding(handler.container))
    web.mount(app, [counting, listing, *web.routers_of(handler.container, doors)])
    handler.start()
    return handler


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "proxy_handler":  # what the proxy's `callbacks` names: built once, when first asked for
        globals()[name] = handler = _start_plugin()
        return handler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
