"""Three real proxies behind a real nginx, with a real Redis and a real PostgreSQL, on 127.0.0.1; each can be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import http_calls
import httpx
import psycopg
import yaml
from balancer import LocalNginx, local_nginx
from local_redis import LocalRedis, local_redis
from postgres_server import PostgresServer, postgres_server
from proxied import planted_config
from waiting import until

from embedllm_router.cli import demo

__all__ = ["KEY", "NAMES", "Death", "Fleet", "LocalProxy", "fleet"]

KEY = "sk-one-key-for-the-whole-fleet"
NAMES = ("proxy-1", "proxy-2", "proxy-3")
_START_S, _END_S = 120.0, 60.0


@dataclass(slots=True)
class LocalProxy:
    """One `embedllm-router serve`.

    Attributes:
        port: On 127.0.0.1.
        folder: Its log, and the state that only it has.
        environment: What it is given besides this process's.
    """

    port: int
    folder: Path
    environment: Mapping[str, str]
    crashed: bool = field(default=False, init=False)
    """Whether it ended by SIGSEGV, which nobody sent."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self, config: Path) -> float:
        """Starts it, and waits until it routes. Returns how long that took, in seconds."""
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "embedllm_router", "serve", "--config", str(config), "--port", str(self.port)]
        state = {"EMBEDLLM_ROUTER_STATE__PATH": str(self.folder / "state")}
        begun = time.monotonic()
        with (self.folder / "log").open("ab") as output:
            self._process = demo._start(command, {**os.environ, **self.environment, **state}, output)
        until(self._ready, _START_S)
        return time.monotonic() - begun

    def end(self) -> int:
        """Tells it to end (SIGTERM); returns its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(_END_S)
        self.crashed |= code == -signal.SIGSEGV
        self._process = None
        return code

    def kill(self) -> None:
        """Kills it the hard way; nothing happens where it does not run."""
        if self._process is not None:
            self._process.kill()
            self.crashed |= self._process.wait(_END_S) == -signal.SIGSEGV
            self._process = None

    def _ready(self) -> bool | None:
        assert self._process is not None
        assert self._process.poll() is None, f"the proxy ended:\n{self.log[-3000:]}"
        try:
            return http_calls.get(f"{self.url}/embedllm/readyz").is_success or None
        except httpx.TransportError:
            return None


@dataclass(frozen=True, slots=True)
class Death:
    """A proxy was ended while it was asked.

    Attributes:
        proxy: Its address, as nginx names it.
        at: When, on the monotonic clock.
        abrupt: By SIGKILL, and not by SIGTERM.
    """

    proxy: str
    at: float
    abrupt: bool


@dataclass(slots=True)
class Fleet:
    """The parts, and what was done to them."""

    folder: Path
    artifact: Path
    proxies: dict[str, LocalProxy]
    nginx: LocalNginx
    redis: LocalRedis
    postgres: PostgresServer
    deaths: list[Death] = field(default_factory=list)

    def configuration(self, cost_weight: float) -> Path:
        """A configuration of the planted LLMs; each has a file of its own, which no running proxy takes up."""
        config: dict[str, Any] = planted_config(self.artifact)
        config["router_settings"] |= {"redis_url": "os.environ/REDIS_URL", "model_group_alias": {"auto": "sprinter"}}
        ours = config["callback_settings"]["embedllm_router"]
        ours["virtual_models"] = {"auto": {"default": "sprinter", "cost_weight": cost_weight}}
        file = self.folder / f"proxy_config-{cost_weight:g}.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    def start(self, config: Path, *names: str) -> list[float]:
        """Starts proxies at once; returns how long each took, in seconds."""
        with ThreadPoolExecutor(len(names)) as at_once:
            return list(at_once.map(lambda name: self.proxies[name].start(config), names))

    def kill(self, name: str) -> None:
        """Kills a proxy with SIGKILL while it is asked, and notes that."""
        self.deaths.append(Death(self._address(name), time.monotonic(), abrupt=True))
        self.proxies[name].kill()

    def end_unannounced(self, name: str) -> int:
        """Tells a proxy to end (SIGTERM) while it is asked, and notes that; returns its exit code."""
        self.deaths.append(Death(self._address(name), time.monotonic(), abrupt=False))
        return self.proxies[name].end()

    def end(self, name: str) -> int:
        """Takes a proxy out, then tells it to end (SIGTERM); returns its exit code."""
        self.nginx.take_out(name)
        return self.proxies[name].end()

    def roll(self, name: str, config: Path) -> int:
        """Takes a proxy out, ends it, starts it anew and puts it in again; returns the exit code of the old one."""
        code = self.end(name)
        self.proxies[name].start(config)
        self.nginx.put_in(name)
        return code

    def records(self) -> dict[str, list[float]]:
        """The cost weight of each record, by request."""
        found: dict[str, list[float]] = {}
        with psycopg.connect(self.postgres.url()) as sql:
            if sql.execute("SELECT to_regclass('requests')").fetchone() == (None,):
                return found
            for request, cost_weight in sql.execute("SELECT request_id, cost_weight FROM requests"):
                found.setdefault(request, []).append(cost_weight)
        return found

    def crashed(self) -> list[str]:
        """Proxies that ended by SIGSEGV, which nobody sent; those that still run are ended to learn it."""
        for proxy in self.proxies.values():
            proxy.kill()
        return [name for name, proxy in self.proxies.items() if proxy.crashed]

    def _address(self, name: str) -> str:
        return f"127.0.0.1:{self.proxies[name].port}"


@contextmanager
def fleet(folder: Path, artifact: Path, upstream: str) -> Iterator[Fleet]:
    """The parts; the proxies are not started yet. Afterwards nothing runs any more.

    Args:
        folder: Where everything is kept.
        artifact: Weights of the planted LLMs.
        upstream: Base URL of what stands in for LLMs.
    """
    with ExitStack() as stack:
        redis = stack.enter_context(local_redis(folder, keeps=True))
        postgres = stack.enter_context(postgres_server())
        environment = {
            "UPSTREAM_API_BASE": upstream,
            "UPSTREAM_API_KEY": "simulated",
            "LITELLM_MASTER_KEY": KEY,
            "REDIS_URL": redis.url,
            "EMBEDLLM_ROUTER_STORE__URL": postgres.url(),
            "EMBEDLLM_ROUTER_STORE__HASH_KEY": "one key for the whole fleet",
        }
        proxies = {name: LocalProxy(_free_port(), folder / name, environment) for name in NAMES}
        for proxy in proxies.values():
            stack.callback(proxy.kill)
        ports = {name: proxy.port for name, proxy in proxies.items()}
        nginx = stack.enter_context(local_nginx(folder / "nginx", ports))
        yield Fleet(folder, artifact, proxies, nginx, redis, postgres)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
