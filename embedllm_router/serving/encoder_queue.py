"""Embeds prompts beside the event loop: one thread per transformer, which takes at once what came while it was busy.

No window is waited for: an idle encoder begins with the first prompt, a busy one finds its next batch ready. The larger
the load the larger the batches, up to a limit, which is how a GPU is used well (Crankshaw et al., "Clipper: a
low-latency online prediction serving system", NSDI 2017, batch adaptively, too).
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from embedllm_router.artifact.manifest import TransformerSpec
from embedllm_router.errors import EncoderError
from embedllm_router.prediction.static_encoder import EncodedPrompt

__all__ = ["BatchEncoder", "EncoderQueue"]

_MAX_WAITING = 4096

_Waiting = tuple[str, Future[EncodedPrompt]]


class BatchEncoder(Protocol):
    """What embeds many texts at once; `TransformerEncoder` is one."""

    @property
    def spec(self) -> TransformerSpec:
        """What the manifest says of it."""

    def encode_all(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Embeds texts, in their order."""


class EncoderQueue:
    """A prompt encoder that never holds up the event loop.

    Args:
        encoder: What embeds; it is called from one thread, with one batch at a time.
        max_batch: Most prompts in a batch, at least 1.
        timeout_s: How long `encode_soon` waits for an embedding, above 0.
    """

    def __init__(self, encoder: BatchEncoder, *, max_batch: int, timeout_s: float) -> None:
        self._encoder, self._max_batch, self._timeout_s = encoder, max_batch, timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedllm-encoder")
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._busy = False

    @property
    def spec(self) -> TransformerSpec:
        """What the manifest says of the encoder."""
        return self._encoder.spec

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text; for threads, which may wait. The event loop calls `encode_soon`.

        Raises:
            EncoderError: Too many prompts wait already.
        """
        return self._submit(text).result()

    async def encode_soon(self, text: str) -> EncodedPrompt:
        """Embeds one text; other requests go on meanwhile.

        Raises:
            EncoderError: There is no embedding in time, or too many prompts wait already.
        """
        future = self._submit(text)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(future)  # where it is given up, the batch leaves it out
        except TimeoutError as error:
            raise EncoderError(
                f"the prompt encoder gave no embedding within encoder.timeout_ms = {self._timeout_s * 1e3:g}; "
                f"{len(self._waiting)} prompts wait. Use a faster device or a smaller model, or allow more time."
            ) from error

    def _submit(self, text: str) -> Future[EncodedPrompt]:
        future: Future[EncodedPrompt] = Future()
        with self._lock:
            if len(self._waiting) >= _MAX_WAITING:
                raise EncoderError(f"{_MAX_WAITING} prompts wait for the prompt encoder already; it is too slow.")
            self._waiting.append((text, future))
            if not self._busy:
                self._begin()
        return future

    def _begin(self) -> None:
        """Gives the thread its next batch, if there is one; the lock is held."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            text, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                batch.append((text, future))
        self._busy = bool(batch)
        if batch:
            work = self._thread.submit(self._encoder.encode_all, [text for text, _ in batch])
            self._thread.submit(self._hand_out, [future for _, future in batch], work)

    def _hand_out(self, futures: Sequence[Future[EncodedPrompt]], work: Future[list[EncodedPrompt]]) -> None:
        """Gives each its embedding, or the error that all of a batch share; then begins with what came meanwhile.

        It runs in the encoder's thread after the batch, so the work is done.
        """
        error = work.exception()
        if error is not None:
            for future in futures:
                future.set_exception(error)
        else:
            for future, encoded in zip(futures, work.result(), strict=True):
                future.set_result(encoded)
        with self._lock:
            self._begin()
