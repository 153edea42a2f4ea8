"""HTTP requests of the tests over one client: making one, certificates and all, takes 40 ms and a request 1 ms."""

from functools import cache
from typing import Any

import httpx

__all__ = ["client", "get", "post"]


@cache
def client() -> httpx.Client:
    """The client of this process; the SDKs take it too. It keeps no connection, as servers come and go."""
    return httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


def get(url: str, **options: Any) -> httpx.Response:
    """As `httpx.get`."""
    return client().get(url, **options)


def post(url: str, **options: Any) -> httpx.Response:
    """As `httpx.post`."""
    return client().post(url, **options)
