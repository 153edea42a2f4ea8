"""Shared state in Redis: shares of sums as fields of hashes, entries as one capped stream.

A share is written whole and only over an older version, so sending it twice changes nothing. What Redis lacks, because
it was not sent yet or because Redis lost its memory, every process that has it sends again. Only the background task
calls this file, so no request waits for Redis. No other file imports the client `redis`.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from embedllm_router.config.process import RedisAddress
from embedllm_router.errors import ConfigError
from embedllm_router.serving.state.shared import Entry, ReplicaState, Share

__all__ = ["RedisLink"]

_TIMEOUT_S = 2.0  # of one answer; a whole exchange gets twice as long
_RETRY_S = (1.0, 2.0, 5.0)  # after the first, the second and every further failure
_AT_ONCE = 5_000  # sums, and entries, in one exchange
_KEEP_STREAM_MS = 45 * 86_400_000

_TAKE_NEWER = """
for i = 2, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  local version = known and tonumber(string.match(known, '^%d+')) or 0
  if tonumber(ARGV[i + 1]) > version then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ':' .. ARGV[i + 2])
  end
end
if tonumber(ARGV[1]) > redis.call('PTTL', KEYS[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 0
"""
"""Sets fields `replica` to `version:amount` where the version is newer; arguments: lifetime in ms, then triples."""


_TIME = "return redis.call('TIME')"
"""The time; with a key, so that a cluster knows which node is asked."""


class RedisLink:
    """Exchanges the replica state with every proxy on the same Redis.

    Args:
        address: Where Redis is.
        namespace: What every key begins with.
        state: The sums and entries of this process.
        log: Where the loss of Redis, and its return, is reported.

    Raises:
        ConfigError: The address is not one of Redis.
    """

    def __init__(self, address: RedisAddress, namespace: str, state: ReplicaState, log: FilteringBoundLogger) -> None:
        self._address = address
        self._prefix = f"{{{namespace}}}" if address.cluster else namespace  # in a cluster one node holds all of it
        self._counters = state.counters
        self._entries = state.entries
        self._clock = state.clock
        self._unsent_sums = state.counters.follow()
        self._unsent_entries = state.entries.follow_puts()
        self._log = log
        self._sentinels: list[Redis] = []
        self._client: Redis | RedisCluster | None = self._connected()
        self._theirs: dict[str, dict[str, int]] = {}
        self._read_to: str | None = None
        self._failures = 0
        self._lost_at: float | None = None
        self._retry_at = float("-inf")
        self.last_error: str | None = None

    @property
    def location(self) -> str:
        """Where Redis is, without credentials."""
        return self._address.location

    @property
    def unsent(self) -> int:
        """Number of sums and entries of which Redis lacks the latest."""
        return len(self._unsent_sums) + len(self._unsent_entries)

    def lacks(self, key: str) -> bool:
        """Whether the latest entry under a key has not been sent to Redis yet."""
        return key in self._unsent_entries

    async def exchange(self) -> None:
        """Sends what Redis lacks and reads what is new there; reports instead of raising when it cannot."""
        if time.monotonic() < self._retry_at:
            return
        try:
            async with asyncio.timeout(2 * _TIMEOUT_S):
                self._client = self._client or self._connected()
                await self._exchange(self._client)
        except (RedisError, OSError, TimeoutError, UnicodeError) as error:
            await self._lost(error)
        else:
            self._found()

    async def close(self) -> None:
        """Ends the connection."""
        client, self._client = self._client, None
        clients, self._sentinels = [client, *self._sentinels], []
        for one in clients:
            if one is not None:
                await one.aclose()

    def _connected(self) -> Redis | RedisCluster:
        """A client; it connects when it is first used."""
        address = self._address
        options: dict[str, Any] = {
            "decode_responses": True,
            "protocol": 2,
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        if address.url is None:
            options |= {"username": address.username, "password": address.password, **address.ssl_options}
            if address.cluster:
                nodes = [ClusterNode(host, port) for host, port in address.cluster]
                return RedisCluster(startup_nodes=nodes, ssl=address.ssl, **options)
            if address.sentinels:
                return self._by_sentinels(options)
            return Redis(host=address.host, port=address.port, db=address.db, ssl=address.ssl, **options)
        try:
            return Redis.from_url(address.url, **options)
        except ValueError as error:
            expected = "expected redis://, rediss:// or unix:// with a host and a port"
            raise ConfigError(f"the address of Redis in the state settings cannot be read: {expected}.") from error

    def _by_sentinels(self, options: dict[str, Any]) -> Redis:
        """A client that asks the Sentinels who is the master, whenever it connects."""
        address = self._address
        of_sentinels = {"password": address.sentinel_password, "socket_timeout": _TIMEOUT_S, "protocol": 2}
        sentinel = Sentinel(list(address.sentinels), sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]  # redis leaves it untyped
        self._sentinels = sentinel.sentinels
        master: Redis = sentinel.master_for(address.service, db=address.db, ssl=address.ssl, **options)
        return master

    async def _exchange(self, client: Redis | RedisCluster) -> None:
        keys = list(dict.fromkeys([*self._unsent_sums, *self._counters.wanted()]))[:_AT_ONCE]
        await self._send(client, keys)
        await self._receive(client, keys)
        self._theirs = {key: self._theirs[key] for key in keys}

    async def _send(self, client: Redis | RedisCluster, keys: list[str]) -> None:
        entries = self._entries_to_send()
        now = self._clock()
        async with client.pipeline(transaction=False) as pipe:
            for key in keys:
                shares = self._counters.newer_than(key, self._theirs.get(key, {}))
                triples = [part for who, (version, amount) in shares.items() for part in (who, version, repr(amount))]
                if triples:
                    ttl_ms = math.ceil(self._counters.ttl_s(key) * 1e3)
                    pipe.eval(_TAKE_NEWER, 1, self._key_of(key), ttl_ms, *triples)
            for key, entry in entries:
                left_ms = math.ceil(max(entry.expires_at - now, 0) * 1e3)
                fields: dict[Any, Any] = {"key": key, "value": entry.value, "ms": left_ms}
                pipe.xadd(self._stream, fields, maxlen=self._entries.max_entries, approximate=True)
            if entries:
                pipe.pexpire(self._stream, _KEEP_STREAM_MS)
            if len(pipe):
                await pipe.execute()
        for key, entry in entries:
            if self._entries.entry(key) is entry:  # else it was put again meanwhile
                self._unsent_entries.pop(key, None)

    def _entries_to_send(self) -> list[tuple[str, Entry]]:
        found = ((key, self._entries.entry(key)) for key in islice(self._unsent_entries, _AT_ONCE))
        return [(key, entry) for key, entry in found if entry is not None]

    async def _receive(self, client: Redis | RedisCluster, keys: list[str]) -> None:
        async with client.pipeline(transaction=False) as pipe:
            pipe.eval(_TIME, 1, self._stream)
            if self._read_to is None:
                pipe.xrevrange(self._stream, count=self._entries.max_entries)
            else:
                pipe.xrange(self._stream, min=f"({self._read_to}", count=_AT_ONCE)
            for key in keys:
                pipe.hgetall(self._key_of(key))
                pipe.pttl(self._key_of(key))
            time_now, news, *sums = await pipe.execute()
        self._merge_entries(news if self._read_to else news[::-1], _ms(time_now))
        for key, fields, left_ms in zip(keys, sums[::2], sums[1::2], strict=True):
            self._merge_sum(key, fields, left_ms)

    def _merge_sum(self, key: str, fields: Mapping[str, str], left_ms: int) -> None:
        shares = {who: share for who, text in fields.items() if (share := _share(text))}
        self._theirs[key] = {who: share.version for who, share in shares.items()}
        self._counters.merge(key, shares, self._clock() + max(left_ms, 0) / 1e3, source=self._unsent_sums)
        if self._counters.newer_than(key, self._theirs[key]):
            self._unsent_sums[key] = None
        else:
            self._unsent_sums.pop(key, None)

    def _merge_entries(self, news: list[tuple[str, dict[str, str]]], redis_now_ms: float) -> None:
        """Takes up entries in the order of the stream; at first only those put later than what the disk has kept."""
        now = self._clock()
        at_start = self._read_to is None
        for position, fields in news:
            self._read_to = position
            try:
                age_ms = redis_now_ms - int(position.partition("-")[0])
                left_s = (int(fields["ms"]) - age_ms) / 1e3
                key, entry = fields["key"], Entry(fields["value"], now + left_s, now - age_ms / 1e3)
            except (KeyError, ValueError):
                continue  # not written by the router
            present = self._entries.entry(key) if at_start else None
            later = present is not None and present.stamp > entry.stamp
            if key not in self._unsent_entries and not later:  # an unsent one follows in the stream
                self._entries.overwrite(key, entry)

    async def _lost(self, error: Exception) -> None:
        self.last_error = type(error).__name__
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            consequence = "budgets and sessions go on with what this process knows"
            self._log.warning("state.redis_lost", redis=self.location, reason=self.last_error, consequence=consequence)
        self._retry_at = time.monotonic() + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        self._failures += 1
        with contextlib.suppress(RedisError, OSError):
            await self.close()

    def _found(self) -> None:
        if self._lost_at is not None:
            away_s = round(time.monotonic() - self._lost_at, 1)
            self._log.info("state.redis_back", redis=self.location, away_s=away_s, unsent=self.unsent)
        self._lost_at, self._failures, self.last_error = None, 0, None
        self._retry_at = float("-inf")

    def _key_of(self, key: str) -> str:
        return f"{self._prefix}:sum:{key}"

    @property
    def _stream(self) -> str:
        return f"{self._prefix}:entries"


def _share(text: str) -> Share | None:
    version, _, amount = text.partition(":")
    try:
        share = Share(int(version), float(amount))
    except ValueError:
        return None  # not written by the router
    return share if math.isfinite(share.amount) else None


def _ms(time_now: list[str]) -> float:
    """What Redis's TIME gives, seconds and microseconds, in milliseconds."""
    seconds, micros = map(int, time_now)
    return seconds * 1e3 + micros / 1e3
