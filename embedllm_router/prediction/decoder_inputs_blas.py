"""Small products on one thread, whatever the process allows BLAS elsewhere.

Waking a second OpenBLAS thread for a product of one prompt was seen to cost 15 ms in a process that does other work
in between. threadpoolctl's own `limit` does the same as this, and more: 7 µs in a loop and 50 in a busy proxy.
"""

from collections.abc import Callable
from typing import TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["OneThread"]

T = TypeVar("T")


class OneThread:
    """Runs a product with one BLAS thread: `one_thread(lambda: a @ b)`."""

    def __init__(self) -> None:
        self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers

    def __call__(self, product: Callable[[], T]) -> T:
        """The product; afterwards BLAS has as many threads as before."""
        before = [library.get_num_threads() for library in self._libraries]
        for library in self._libraries:
            library.set_num_threads(1)
        try:
            return product()
        finally:
            for library, n_threads in zip(self._libraries, before, strict=True):
                library.set_num_threads(n_threads)
