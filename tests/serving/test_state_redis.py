"""Two proxies and one real Redis agree, and go on agreeing when it dies and comes back, with its memory or without."""

import asyncio
import contextlib
import io
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_redis import LocalRedis, local_redis

from embedllm_router.config.process import LogSettings, RedisAddress, StateSettings
from embedllm_router.errors import ConfigError
from embedllm_router.serving.state.opening import open_state
from embedllm_router.serving.state.shared import ReplicaState
from embedllm_router.telemetry.log import configure_logging

HOUR = 3_600.0
SOON_S = 8.0
REDIS_TIMEOUT_S = 2.0  # of one answer


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
        log = configure_logging(LogSettings(), self.heard)
        self.state = open_state(StateSettings(path=path), log, redis=address, on_disk=path is not None)
        self._task = asyncio.create_task(self.state.run(refresh_s=0.05))

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


async def test_whoever_starts_later_gets_it_all(forgetful: LocalRedis) -> None:
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


async def test_a_redis_that_lost_its_memory_gets_the_sums_again_from_those_who_have_them(forgetful: LocalRedis) -> None:
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
        await soon(lambda: one.state.health().last_error is not None)
    forgetful.start()
    async with proxies(forgetful.address, path=tmp_path / "state"), proxies(forgetful.address) as (elsewhere,):
        await soon(lambda: elsewhere.state.total("spend") == 3.0)


class MuteServer:
    """Accepts connections and says nothing."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Set when somebody waits for an answer."""
        self._ended = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def say_nothing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        if await reader.read(1):
            self.asked.set()
        await self._ended.wait()
        writer.close()

    async def end(self) -> None:
        self._ended.set()
        await asyncio.gather(*self._connections)


@contextlib.asynccontextmanager
async def mute_server() -> AsyncIterator[tuple[MuteServer, RedisAddress]]:
    mute = MuteServer()
    server = await asyncio.start_server(mute.say_nothing, "127.0.0.1", 0)
    try:
        yield mute, RedisAddress(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    finally:
        await mute.end()
        server.close()


async def test_a_request_never_waits_for_redis() -> None:
    """Even for one that accepts the connection and then says nothing.

    The server shares the event loop, so a request that waited for it would wait for the client's timeout.
    """
    async with mute_server() as (mute, address), proxies(address) as (stuck,):
        await asyncio.wait_for(mute.asked.wait(), SOON_S)
        started = time.perf_counter()
        for i in range(1_000):
            stuck.state.add("spend", 1.0, HOUR)
            stuck.state.put(f"k{i}", "v", HOUR)
            assert stuck.state.get(f"k{i}") == "v"
        assert time.perf_counter() - started < REDIS_TIMEOUT_S
        assert stuck.state.total("spend") == 1_000
        assert stuck.state.health().unsent == 1_001
        await soon(lambda: stuck.state.health().last_error == "TimeoutError")


async def test_a_password_is_used_and_never_shown(tmp_path: Path) -> None:
    with local_redis(tmp_path, password="s3cret-word") as server:
        wrong = RedisAddress(host="127.0.0.1", port=server.port, password="wr0ng-word")
        async with proxies(RedisAddress(url=server.url), server.address, wrong) as (by_url, by_parts, refused):
            by_url.state.add("spend", 1.0, HOUR)
            await soon(lambda: by_parts.state.total("spend") == 1.0)
            await soon(lambda: refused.state.health().last_error == "AuthenticationError")
            shown = "".join(p.heard.getvalue() for p in (by_url, by_parts, refused)) + repr(
                [by_url.state.health(), RedisAddress(url=server.url), wrong]
            )
        assert "s3cret-word" not in shown
        assert "wr0ng-word" not in shown
        assert f"127.0.0.1:{server.port}" in shown


@pytest.mark.parametrize("url", ["postgres://user:s3cret-word@host/db", "redis://host:s3cret-word", "host:6379"])
def test_an_address_that_is_none_of_redis_is_refused_at_the_start(url: str) -> None:
    log = configure_logging(LogSettings(), io.StringIO())
    with pytest.raises(ConfigError, match="expected redis://") as refused:
        open_state(StateSettings(), log, redis=RedisAddress(url=url), on_disk=False)
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


async def test_redis_is_told_how_long_a_sum_and_an_entry_live(forgetful: LocalRedis) -> None:
    async with proxies(forgetful.address) as (one,):
        one.state.add("spend", 1.0, HOUR)
        one.state.put("session", "llm-a", HOUR)
        await soon(lambda: one.state.health().unsent == 0)
    with contextlib.closing(forgetful.client()) as client:
        assert 0 < client.pttl("embedllm:sum:spend") <= HOUR * 1e3
        entries: Any = client.xrange("embedllm:entries")
        assert [0 < int(fields["ms"]) <= HOUR * 1e3 for _, fields in entries] == [True]
        assert client.pttl("embedllm:entries") > HOUR * 1e3


async def test_an_expired_entry_of_the_stream_is_passed_over(forgetful: LocalRedis) -> None:
    async with proxies(forgetful.address) as (one,):
        one.state.put("short", "llm-a", 0.05)
        one.state.put("long", "llm-b", HOUR)
        await soon(lambda: one.state.health().unsent == 0)
        await soon(lambda: one.state.get("short") is None)
        async with proxies(forgetful.address) as (late,):
            await soon(lambda: late.state.get("long") == "llm-b")
            assert late.state.get("short") is None


async def test_at_the_start_the_later_of_disk_and_redis_wins(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with local_redis(tmp_path, keeps=True) as durable:
        async with proxies(durable.address, path=state) as (one,):
            one.state.put("replaced", "before", HOUR)
            one.state.put("kept", "before", HOUR)
            await soon(lambda: one.state.health().unsent == 0)
            durable.kill()
            one.state.put("replaced", "while Redis was away", HOUR)
            one.state.put("kept", "while Redis was away", HOUR)
        durable.start()
        async with proxies(durable.address) as (elsewhere,):
            elsewhere.state.put("replaced", "from elsewhere", HOUR)
            elsewhere.state.put("marker", "sent", HOUR)
            await soon(lambda: elsewhere.state.health().unsent == 0)
        async with proxies(durable.address, path=state) as (again,):
            await soon(lambda: again.state.get("marker") == "sent")
            assert again.state.get("replaced") == "from elsewhere"
            assert again.state.get("kept") == "while Redis was away"


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
        open_state(StateSettings(namespace=name), log, redis=forgetful.address, on_disk=False)
        for name in ("ours", "theirs")
    )
    ours.add("spend", 1.0, HOUR)
    ours.put("session", "llm-a", HOUR)
    theirs.total("spend")
    for state in (ours, theirs, theirs):
        await state.exchange()
    assert all(state.health().connected and not state.health().unsent for state in (ours, theirs))
    assert (theirs.total("spend"), theirs.get("session")) == (0.0, None)
    with contextlib.closing(forgetful.client()) as client:
        assert set(client.keys()) == {"ours:sum:spend", "ours:entries"}
    for state in (ours, theirs):
        await state.aclose()


async def test_the_stream_of_entries_stays_bounded(forgetful: LocalRedis) -> None:
    log = configure_logging(LogSettings(), io.StringIO())
    replica = ReplicaState.new(max_entries=100)
    state = open_state(StateSettings(), log, redis=forgetful.address, on_disk=False, state=replica)
    for batch in range(20):
        for i in range(100):
            state.put(f"{batch}-{i}", "v", HOUR)
        await state.exchange()
    await state.aclose()
    with contextlib.closing(forgetful.client()) as client:
        assert 100 <= client.xlen("embedllm:entries") < 400
    assert state.health().entries == 100


# The kinds of Redis that companies run

SENTINEL = """
port {port}
bind 127.0.0.1
sentinel monitor the-master 127.0.0.1 {master} 1
sentinel down-after-milliseconds the-master 5000
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisAddress]:
    """A cluster of one node, which owns all slots; clients ask for them as in a large one."""
    bus = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with local_redis(tmp_path, options=bus) as server:
        with contextlib.closing(server.client()) as client:
            ask: Any = client.execute_command
            ask("CLUSTER ADDSLOTSRANGE", 0, 16383)
            end = time.monotonic() + SOON_S
            while ask("CLUSTER INFO")["cluster_state"] != "ok":
                assert time.monotonic() < end, "the cluster never came up"
                time.sleep(0.05)
        yield RedisAddress(cluster=(("127.0.0.1", server.port),))


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[RedisAddress]:
    port = free_port()
    with local_redis(tmp_path) as server:
        file = tmp_path / "sentinel.conf"
        file.write_text(SENTINEL.format(port=port, master=server.port))
        with subprocess.Popen(["redis-server", str(file), "--sentinel"], stdout=subprocess.DEVNULL) as process:
            try:
                yield RedisAddress(sentinels=(("127.0.0.1", port),), service="the-master")
            finally:
                process.kill()


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[RedisAddress]:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    tls += ["--tls-auth-clients", "no"]
    with local_redis(tmp_path, options=tls):
        yield RedisAddress(host="127.0.0.1", port=port, ssl=True, ssl_options={"ssl_ca_certs": str(certificate)})


@pytest.mark.parametrize("kind", ["cluster", "sentinels", "encrypted"])
async def test_two_proxies_agree_through_it(kind: str, request: pytest.FixtureRequest) -> None:
    address: RedisAddress = request.getfixturevalue(kind)
    async with proxies(address, address) as (one, other):
        one.state.add("spend", 1.5, HOUR)
        one.state.put("session", "wizard", HOUR)
        await soon(lambda: other.state.total("spend") == 1.5)
        await soon(lambda: other.state.get("session") == "wizard")
        assert not one.events
