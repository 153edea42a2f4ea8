"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until"]

T = TypeVar("T")


def until(found: Callable[[], T | None], within_s: float, every_s: float = 0.05) -> T:
    """Waits, a bounded time, for something to be there."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if (one := found()) is not None:
            return one
        time.sleep(every_s)
    raise AssertionError(f"nothing came within {within_s:.0f} s")
