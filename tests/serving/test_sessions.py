"""SessionStore are filed and found again, here and, through a real Redis, on another proxy; only hashes are stored."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from local_redis import local_redis

from embedllm_router.config.process import LogSettings, RedisAddress, StateSettings
from embedllm_router.serving.sessions import PinnedLLM, SessionStore, session_keys
from embedllm_router.serving.state.opening import open_state
from embedllm_router.serving.state.shared import ReplicaState, SharedState
from embedllm_router.telemetry.log import configure_logging

SPEAKER = "auto\0key-1"
NOW = 1_767_614_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def state(
    clock: Callable[[], float] | None = None, *, max_entries: int = 10_000, redis: RedisAddress | None = None
) -> SharedState:
    replica = ReplicaState.new(max_entries=max_entries, clock=clock or Clock())
    log = configure_logging(LogSettings(level="error"))
    return open_state(StateSettings(), log, redis=redis, on_disk=False, state=replica)


def turns(*texts: str) -> dict[str, object]:
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]}


FIRST, SECOND = turns("hello"), turns("hello", "Hi.", "go on")


def test_the_next_turn_finds_who_answered() -> None:
    sessions = SessionStore(state())
    first, second = (session_keys(body, {}, SPEAKER) for body in (FIRST, SECOND))
    assert sessions.find(first) is None
    sessions.keep(first, PinnedLLM("llm-a", 100, NOW))
    assert sessions.find(first) is None, "the same question anew is a new conversation"
    assert sessions.find(second) == PinnedLLM("llm-a", 100, NOW)


def test_who_really_answered_replaces_who_was_asked_and_is_found_by_the_responses_id() -> None:
    sessions = SessionStore(state())
    first, second = (session_keys(body, {}, SPEAKER) for body in (FIRST, SECOND))
    sessions.keep(first, PinnedLLM("llm-a", 100, NOW))
    sessions.answered(first, SPEAKER, PinnedLLM("llm-b", 104, NOW + 2), "resp_1")
    assert sessions.find(second) == PinnedLLM("llm-b", 104, NOW + 2)
    by_id = session_keys({"input": "go on", "previous_response_id": "resp_1"}, {}, SPEAKER)
    stranger = session_keys({"input": "go on", "previous_response_id": "resp_1"}, {}, "auto\0key-2")
    assert sessions.find(by_id) == PinnedLLM("llm-b", 104, NOW + 2)
    assert sessions.find(stranger) is None


def test_a_request_that_failed_leaves_the_session_with_whom_it_was() -> None:
    sessions = SessionStore(state())
    named = session_keys(FIRST, {"x-embedllm-session": "s1"}, SPEAKER)
    sessions.keep(named, PinnedLLM("llm-b", 1, NOW))
    sessions.failed(named, None)
    assert sessions.find(named) is None
    before = PinnedLLM("llm-a", 1, NOW)
    sessions.keep(named, PinnedLLM("llm-b", 2, NOW))
    sessions.failed(named, before)
    assert sessions.find(named) == before


def test_a_conversation_is_remembered_for_its_time() -> None:
    clock = Clock()
    sessions = SessionStore(state(clock), ttl_s=600)
    first, second = (session_keys(body, {}, SPEAKER) for body in (FIRST, SECOND))
    sessions.keep(first, PinnedLLM("llm-a", 100, NOW))
    clock.now += 599
    assert sessions.find(second) is not None
    clock.now += 2
    assert sessions.find(second) is None


def test_many_conversations_push_out_those_not_used_longest() -> None:
    kept = state(max_entries=50)
    sessions = SessionStore(kept)
    for i in range(500):
        sessions.keep(session_keys(turns(f"question {i}"), {}, SPEAKER), PinnedLLM("llm-a", 1, NOW))
    found = [sessions.find(session_keys(turns(f"question {i}", "a", "b"), {}, SPEAKER)) for i in range(500)]
    assert [i for i, one in enumerate(found) if one] == list(range(450, 500))
    assert kept.health().entries == 50


def test_the_prompt_cache_is_believed_in_for_a_while_and_as_far_as_the_prompt_goes() -> None:
    sticky = PinnedLLM("llm-a", 2_000, NOW)
    assert sticky.cached_tokens(3_000, NOW + 299, 300) == 2_000
    assert sticky.cached_tokens(1_400, NOW + 299, 300) == 1_400
    assert sticky.cached_tokens(3_000, NOW + 301, 300) == 0
    assert PinnedLLM("llm-a", 1_023, NOW).cached_tokens(3_000, NOW, 300) == 0, "no provider caches so short a prompt"


@pytest.mark.parametrize(
    "filed", ["{", "[]", '"llm-a"', '{"name":"","tokens":1,"at":0}', '{"name":"a","tokens":-1,"at":0}']
)
def test_what_cannot_be_read_is_no_session(filed: str) -> None:
    kept = state()
    named = session_keys(FIRST, {"x-embedllm-session": "s1"}, SPEAKER)
    kept.put(f"session:{named.key}", filed, 60)
    assert SessionStore(kept).find(named) is None


def exchanged(runner: asyncio.Runner, *states: SharedState) -> None:
    """Shares both ways, as soon as Redis is there; one that was away is tried again after a second."""
    for _ in range(2):
        while True:
            for one in states:
                runner.run(one.exchange())
            if all(one.health().connected for one in states):
                break
            runner.run(asyncio.sleep(0.2))


def test_a_conversation_goes_on_at_another_proxy_and_redis_holds_no_word_of_it(tmp_path: Path) -> None:
    texts = ("hunter2", "Hi.", "go on", "Well.", "and on")
    first, second, third = (session_keys(turns(*texts[:n]), {}, SPEAKER) for n in (1, 3, 5))
    with local_redis(tmp_path) as redis, asyncio.Runner() as runner, contextlib.ExitStack() as opened:
        one, two = (state(redis=redis.address, clock=time.time) for _ in range(2))

        def close(shared: SharedState) -> None:
            runner.run(shared.aclose())

        for shared in (one, two):
            opened.callback(close, shared)
        SessionStore(one).keep(first, PinnedLLM("llm-a", 100, NOW))
        exchanged(runner, one, two)
        assert SessionStore(two).find(second) == PinnedLLM("llm-a", 100, NOW)
        redis.kill()
        SessionStore(two).keep(second, PinnedLLM("llm-b", 200, NOW))
        assert SessionStore(two).find(third) == PinnedLLM("llm-b", 200, NOW), "it goes on without Redis"
        assert SessionStore(one).find(third) == PinnedLLM("llm-a", 100, NOW), (
            "the turn before the last is better than none"
        )
        redis.start()
        exchanged(runner, one, two)
        assert SessionStore(one).find(third) == PinnedLLM("llm-b", 200, NOW)
        with contextlib.closing(redis.client()) as client:
            stored = repr(client.xrange("embedllm:entries")) + repr(client.keys("*"))
    assert "llm-b" in stored
    for word in ("hunter2", "go on", "key-1", "auto"):
        assert word not in stored
