"""Two proxies and one real Redis agree, and go on agreeing when it dies and comes back, with its memory or without."""

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from local_redis import LocalRedis, local_redis

from embedllm_router.config.process import LogSettings
from embedllm_router.config.state_options import RedisAddress, StateOptions
from embedllm_router.errors import ConfigError
from embedllm_router.serving.state.shared import SharedState, open_state
from embedllm_router.telemetry.log import configure_logging

HOUR = 3_600.0
SOON_S = 8.0


@pytest.fixture(params=[False, True], ids=["forgetful", "durable"])
def redis_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalRedis]:
    with local_redis(tmp_path, keeps=request.param) as server:
        yield server


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[LocalRedis]:
    with local_redis(tmp_path) as server:
        yield server


class Proxy:
    """Shared state that runs in the background as in a proxy."""

    def __init__(self, address: RedisAddress, path: Path | None = None) -> None:
        self.heard = io.StringIO()
        options = StateOptions(path=path, redis=address, refresh_s=0.05)
        self.state: SharedState = open_state(options, configure_logging(LogSettings(), self.heard))
        self._task = asyncio.create_task(self.state.run())

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.heard.getvalue().splitlines()]

    async def stop(self) -> None:
        self.state.end()
        await asyncio.wait_for(self._task, SOON_S)
        await self.state.aclose()


@contextlib.asynccontextmanager
async def proxies(*addresses: RedisAddress, path: Path | None = None) -> AsyncIterator[list[Proxy]]:
    running = [Proxy(address, path) for address in addresses]
    try:
        yield running
    finally:
        for one in running:
            await one.stop()


async def soon(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end, "never happened"
        await asyncio.sleep(0.02)


async def test_both_know_what_either_added_and_put(forgetful: LocalRedis) -> None:
    async with proxies(forgetful.address, forgetful.address) as (one, two):
        for _ in range(50):
            one.state.add("spend", 0.01, HOUR)
            two.state.add("spend", 0.03, HOUR)
            await asyncio.sleep(0.002)
        one.state.put("session", "llm-a", HOUR)
        await soon(lambda: one.state.total("spend") == two.state.total("spend") == pytest.approx(2.0))
        await soon(lambda: two.state.get("session") == "llm-a")
        two.state.put("session", "llm-b", HOUR)
        await soon(lambda: one.state.get("session") == "llm-b")
        two.state.forget("session")
        await soon(lambda: one.state.get("session") is None)
        await soon(lambda: one.state.health().unsent == two.state.health().unsent == 0)
        assert one.state.health().connected
        assert one.events == two.events == []


async def test_whoever_starts_later_knows_it_all(forgetful: LocalRedis) -> None:
    async with proxies(forgetful.address) as (one,):
        one.state.add("spend", 2.0, HOUR)
        one.state.put("session", "llm-a", HOUR)
        await soon(lambda: one.state.health().unsent == 0)
    async with proxies(forgetful.address) as (late,):
        await soon(lambda: late.state.total("spend") == 2.0)
        await soon(lambda: late.state.get("session") == "llm-a")


async def test_when_redis_dies_they_go_on_and_nothing_is_lost_or_doubled(redis_server: LocalRedis) -> None:
    """Killed again and again while both write; with its memory and without."""
    address = redis_server.address
    async with proxies(address, address) as (one, two):

        async def both_know(amount: float) -> None:
            await soon(lambda: one.state.total("spend") == two.state.total("spend") == amount)

        added = 0.0
        for round_ in range(3):
            for amount in (0.5, 0.25, -0.125):
                one.state.add("spend", amount, HOUR)
                two.state.add("spend", amount * 2, HOUR)
                added += amount * 3
                await asyncio.sleep(0.01)
            await both_know(added)
            redis_server.kill()
            mine = one.state.total("spend")
            one.state.add("spend", 1.0, HOUR)
            added += 1.0
            assert one.state.total("spend") == mine + 1.0, "memory answers at once"
            one.state.put(f"session-{round_}", "llm-a", HOUR)
            await soon(lambda: not one.state.health().connected and not two.state.health().connected)
            redis_server.start()
            await both_know(added)
            await soon(lambda: two.state.get(f"session-{round_}") == "llm-a")  # noqa: B023 - called in this round
            await soon(lambda: one.state.health().connected and two.state.health().connected)
        assert one.events == ["state.redis_lost", "state.redis_back"] * 3, "said once, not at every attempt"


async def test_a_redis_that_lost_its_memory_is_told_again_by_those_who_know(forgetful: LocalRedis) -> None:
    async with proxies(forgetful.address) as (witness,):
        async with proxies(forgetful.address) as (gone,):
            gone.state.add("spend", 3.0, HOUR)
            await soon(lambda: witness.state.total("spend") == 3.0)
        forgetful.kill()
        forgetful.start()
        async with proxies(forgetful.address) as (late,):
            await soon(lambda: late.state.total("spend") == 3.0)
            assert witness.state.total("spend") == 3.0


async def test_what_could_not_be_sent_before_a_restart_is_sent_after(forgetful: LocalRedis, tmp_path: Path) -> None:
    forgetful.kill()
    async with proxies(forgetful.address, path=tmp_path / "state") as (one,):
        one.state.add("spend", 3.0, HOUR)
        await soon((tmp_path / "state").exists)
    forgetful.start()
    async with proxies(forgetful.address, path=tmp_path / "state"), proxies(forgetful.address) as (elsewhere,):
        await soon(lambda: elsewhere.state.total("spend") == 3.0)


@contextlib.asynccontextmanager
async def mute_server() -> AsyncIterator[int]:
    """Accepts connections and says nothing; yields its port."""
    ended = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended.set()
        server.close()
        await asyncio.sleep(0.05)


async def test_a_request_never_waits_for_redis() -> None:
    """Even for one that accepts the connection and then says nothing."""
    async with mute_server() as port, proxies(RedisAddress(host="127.0.0.1", port=port)) as (stuck,):
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        for i in range(1_000):
            stuck.state.add("spend", 1.0, HOUR)
            stuck.state.put(f"k{i}", "v", HOUR)
            stuck.state.get(f"k{i}")
        assert time.perf_counter() - started < 0.5
        assert stuck.state.total("spend") == 1_000
        await soon(lambda: stuck.state.health().last_error == "TimeoutError")


async def test_a_password_is_used_and_never_told(tmp_path: Path) -> None:
    with local_redis(tmp_path, password="s3cret-word") as server:
        wrong = RedisAddress(host="127.0.0.1", port=server.port, password="wr0ng-word")
        async with proxies(RedisAddress(url=server.url), server.address, wrong) as (by_url, by_parts, refused):
            by_url.state.add("spend", 1.0, HOUR)
            await soon(lambda: by_parts.state.total("spend") == 1.0)
            await soon(lambda: refused.state.health().last_error == "AuthenticationError")
            told = "".join(p.heard.getvalue() for p in (by_url, by_parts, refused)) + repr(
                [by_url.state.health(), RedisAddress(url=server.url), wrong]
            )
        assert "s3cret-word" not in told
        assert "wr0ng-word" not in told
        assert f"127.0.0.1:{server.port}" in told


@pytest.mark.parametrize("url", ["postgres://user:s3cret-word@host/db", "redis://host:s3cret-word", "host:6379"])
def test_an_address_that_is_none_of_redis_is_refused_at_the_start(url: str) -> None:
    log = configure_logging(LogSettings(), io.StringIO())
    with pytest.raises(ConfigError, match="expected redis://") as refused:
        open_state(StateOptions(path=None, redis=RedisAddress(url=url)), log)
    assert "s3cret-word" not in str(refused.value)


async def test_a_cluster_that_sends_elsewhere_or_bytes_of_others_do_not_end_the_background(
    forgetful: LocalRedis,
) -> None:
    with contextlib.closing(forgetful.client()) as client:
        client.set("embedllm:sum:spend", "a string is in the way")
        async with proxies(forgetful.address) as (one,):
            one.state.add("spend", 1.0, HOUR)
            await soon(lambda: one.state.health().last_error == "ResponseError")
            client.delete("embedllm:sum:spend")
            await soon(lambda: one.state.health().connected and one.state.health().unsent == 0)
            client.hset("embedllm:sum:other", b"\xff\xfe", b"\xff")
            one.state.total("other")
            await soon(lambda: one.state.health().last_error == "UnicodeDecodeError")
            client.delete("embedllm:sum:other")
            await soon(lambda: one.state.health().connected)
            assert one.state.total("spend") == 1.0


async def test_sums_and_entries_leave_redis_when_their_time_is_over(forgetful: LocalRedis) -> None:
    async with proxies(forgetful.address) as (one,):
        one.state.add("spend", 1.0, 0.3)
        one.state.put("session", "llm-a", 0.3)
        await soon(lambda: one.state.health().unsent == 0)
        with contextlib.closing(forgetful.client()) as client:
            await soon(lambda: client.exists("embedllm:sum:spend") == 0)
        async with proxies(forgetful.address) as (late,):
            await asyncio.sleep(0.2)
            assert late.state.get("session") is None


async def test_what_others_wrote_under_our_keys_is_passed_over(forgetful: LocalRedis) -> None:
    with contextlib.closing(forgetful.client()) as client:
        client.hset("embedllm:sum:spend", mapping={"x": "nonsense", "y": "3:inf", "z": "2:4.5"})
        client.xadd("embedllm:entries", {"what": "is this"})
        client.xadd("embedllm:entries", {"key": "k", "value": "v", "ms": "soon"})
    async with proxies(forgetful.address) as (one,):
        await soon(lambda: one.state.total("spend") == 4.5)
        one.state.add("spend", 0.5, HOUR)
        await soon(lambda: one.state.health().unsent == 0)
        assert one.events == []


async def test_namespaces_do_not_meet(forgetful: LocalRedis) -> None:
    log = configure_logging(LogSettings(), io.StringIO())
    ours, theirs = (
        open_state(StateOptions(path=None, redis=forgetful.address, namespace=name), log) for name in ("ours", "theirs")
    )
    ours.add("spend", 1.0, HOUR)
    theirs.total("spend")
    for state in (ours, theirs, theirs):
        await state.exchange()
    assert theirs.total("spend") == 0.0
    for state in (ours, theirs):
        await state.aclose()


async def test_the_stream_of_entries_stays_bounded(forgetful: LocalRedis) -> None:
    log = configure_logging(LogSettings(), io.StringIO())
    state = open_state(StateOptions(path=None, redis=forgetful.address, max_entries=100), log)
    for batch in range(20):
        for i in range(100):
            state.put(f"{batch}-{i}", "v", HOUR)
        await state.exchange()
    await state.aclose()
    with contextlib.closing(forgetful.client()) as client:
        assert client.xlen("embedllm:entries") < 400
    assert state.health().entries == 100
