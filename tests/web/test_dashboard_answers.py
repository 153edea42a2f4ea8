"""Answers are computed few at a time and kept for a moment, so that no number of pages starves the proxy."""

import threading
import time

import anyio
import anyio.to_thread
import pytest

from embedllm_router.web.dashboard import Answers

SOON_S = 10.0


async def test_an_answer_is_computed_once_and_then_kept() -> None:
    answers, calls = Answers(keep_s=SOON_S), []

    def compute() -> dict[str, int]:
        calls.append(threading.get_ident())
        return {"n": len(calls)}

    assert [await answers.answer("a", compute) for _ in range(3)] == [b'{"n":1}'] * 3
    assert await answers.answer("b", compute) == b'{"n":2}'
    assert threading.get_ident() not in calls


async def test_a_kept_answer_goes_stale() -> None:
    answers = Answers(keep_s=0.0, keep_most_s=0.0)
    numbers = iter(range(9))
    assert [await answers.answer("a", lambda: next(numbers)) for _ in range(2)] == [b"0", b"1"]


async def test_an_answer_that_took_long_is_kept_longer() -> None:
    answers = Answers(keep_s=0.0)
    numbers = iter(range(9))

    def slow() -> int:
        time.sleep(0.05)
        return next(numbers)

    assert [await answers.answer("a", slow) for _ in range(3)] == [b"0"] * 3


@pytest.mark.parametrize("at_once", [1, 2])
async def test_no_more_than_so_many_at_once_and_the_same_question_only_once(at_once: int) -> None:
    answers, lock = Answers(at_once=at_once, keep_s=SOON_S), threading.Lock()
    running, most, done = 0, 0, 0

    def compute() -> int:
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
            done += 1
        return done

    async with anyio.create_task_group() as tasks:
        for number in range(24):
            tasks.start_soon(answers.answer, number % 8, compute)
    assert most == at_once
    assert done in range(8, 8 + at_once)


async def test_the_event_loop_goes_on_meanwhile() -> None:
    """The slow question waits for the loop: were the loop blocked by it, it would wait in vain."""
    answers, begun, release, gaps_s = Answers(), threading.Event(), threading.Event(), []

    def slow() -> bool:
        begun.set()
        return release.wait(2.0)

    async def tick() -> None:
        await anyio.to_thread.run_sync(begun.wait, 2.0)
        for _ in range(10):
            started = time.monotonic()
            await anyio.sleep(0.001)
            gaps_s.append(time.monotonic() - started)
        release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        assert await answers.answer("slow", slow) == b"true"
    assert len(gaps_s) == 10
    assert max(gaps_s) < 2.0


async def test_who_waits_too_long_is_told() -> None:
    answers, release = Answers(at_once=1), threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answers.answer, "slow", lambda: release.wait(SOON_S))
        await anyio.sleep(0.05)
        with pytest.raises(TimeoutError):
            await answers.answer("other", lambda: 1, wait_s=0.05)
        release.set()
    assert await answers.answer("other", lambda: 1) == b"1"


async def test_a_failure_is_told_and_not_kept() -> None:
    answers = Answers(keep_s=SOON_S)

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await answers.answer("a", fails)
    assert await answers.answer("a", lambda: 7) == b"7"


async def test_only_so_many_are_kept() -> None:
    answers = Answers(keep_s=SOON_S, most=2)
    for key in "abc":
        await answers.answer(key, lambda: 1)
    assert await answers.answer("c", lambda: 2) == b"1"
    assert await answers.answer("a", lambda: 2) == b"2"
