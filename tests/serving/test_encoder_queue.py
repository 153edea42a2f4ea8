"""A transformer beside the event loop: batches of what came meanwhile, a time limit, and nobody held up."""

import asyncio
import gc
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from planted_transformer import MINILM, needs_minilm

from embedllm_router.artifact.manifest import TransformerSpec
from embedllm_router.errors import EncoderError
from embedllm_router.prediction.static_encoder import EncodedPrompt
from embedllm_router.prediction.transformer_encoder import TransformerEncoder
from embedllm_router.serving import encoder_queue
from embedllm_router.serving.encoder_queue import EncoderQueue

SOON_S = 10.0


class Gate:
    """Embeds a text as its length, once the gate is open; keeps the batches it was given."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Event()
        self.open = threading.Event()
        if is_open:
            self.open.set()

    @property
    def spec(self) -> TransformerSpec:
        raise NotImplementedError

    def encode_all(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        self.batches.append(list(texts))
        self.begun.set()
        assert self.open.wait(SOON_S)
        if "broken" in texts:
            raise ValueError("broken")
        return [EncodedPrompt(np.array([len(text)], dtype=np.float32), len(text)) for text in texts]


def queue_of(encoder: Gate, *, max_batch: int = 32, timeout_s: float = SOON_S) -> EncoderQueue:
    return EncoderQueue(encoder, max_batch=max_batch, timeout_s=timeout_s)


async def under_way(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.wait, SOON_S)


async def test_what_came_while_it_was_busy_is_one_batch_in_order() -> None:
    gate = Gate(is_open=False)
    queue = queue_of(gate, max_batch=3)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    first = asyncio.create_task(queue.encode_soon(texts[0]))
    await under_way(gate)
    rest = [asyncio.create_task(queue.encode_soon(text)) for text in texts[1:]]
    await asyncio.sleep(0)
    gate.open.set()
    found = await asyncio.gather(first, *rest)
    assert [one.n_tokens for one in found] == [1, 2, 3, 4, 5]
    assert gate.batches == [["a"], ["bb", "ccc", "dddd"], ["eeeee"]], "no window is waited for, and 3 are the most"


async def test_an_embedding_that_is_late_is_an_error_and_is_not_made_later() -> None:
    gate = Gate(is_open=False)
    queue = queue_of(gate, timeout_s=0.05)
    first = asyncio.create_task(queue.encode_soon("first"))
    await under_way(gate)
    with pytest.raises(EncoderError, match=r"within encoder\.timeout_ms = 50"):
        await queue.encode_soon("given up")
    with pytest.raises(EncoderError):
        await first
    gate.open.set()
    assert (await asyncio.to_thread(queue.encode, "last")).n_tokens == 4
    assert gate.batches == [["first"], ["last"]]


async def test_a_failure_is_its_batch_s_alone() -> None:
    gate = Gate(is_open=False)
    queue = queue_of(gate, max_batch=2)
    first = asyncio.create_task(queue.encode_soon("first"))
    await under_way(gate)
    rest = [asyncio.create_task(queue.encode_soon(text)) for text in ("broken", "beside", "after")]
    await asyncio.sleep(0)
    gate.open.set()
    found = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(one).__name__ for one in found] == ["EncodedPrompt", "ValueError", "ValueError", "EncodedPrompt"]


async def test_too_many_that_wait_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_queue, "_MAX_WAITING", 2)
    gate = Gate(is_open=False)
    queue = queue_of(gate)
    tasks = [asyncio.create_task(queue.encode_soon("busy"))]
    await under_way(gate)
    tasks += [asyncio.create_task(queue.encode_soon(text)) for text in ("one", "two")]
    await asyncio.sleep(0)
    with pytest.raises(EncoderError, match="2 prompts wait"):
        await queue.encode_soon("three")
    gate.open.set()
    assert [one.n_tokens for one in await asyncio.gather(*tasks)] == [4, 3, 3]


async def test_many_threads_and_tasks_get_each_their_own() -> None:
    queue = queue_of(Gate(), max_batch=7)
    texts = ["x" * n for n in range(1, 200)]
    soon = [queue.encode_soon(text) for text in texts]
    waiting = [asyncio.to_thread(queue.encode, text) for text in texts]
    found = await asyncio.gather(*soon, *waiting)
    assert [one.n_tokens for one in found] == [len(text) for text in texts] * 2


def test_its_thread_ends_with_it() -> None:
    before = set(threading.enumerate())
    queue = queue_of(Gate())
    queue.encode("hello")
    (thread,) = set(threading.enumerate()) - before
    del queue
    gc.collect()
    thread.join(SOON_S)
    assert not thread.is_alive()


@needs_minilm
async def test_other_work_goes_on_while_a_transformer_reads_a_long_text() -> None:
    """Steps of 1 ms that a loop takes meanwhile; embedding in the loop itself would leave it none."""
    queue = EncoderQueue(TransformerEncoder(MINILM, device="cpu", threads=1), max_batch=8, timeout_s=SOON_S)
    steps = 0
    started = time.perf_counter()
    task = asyncio.create_task(queue.encode_soon("The reservoir is filled by two pumps. " * 80))
    while not task.done():
        await asyncio.sleep(1e-3)
        steps += 1
    taken_ms = (time.perf_counter() - started) * 1e3
    assert (await task).n_tokens > 600
    assert steps > taken_ms / 20, f"{steps} steps in {taken_ms:.0f} ms"
