"""A real Redis on 127.0.0.1 that tests can kill and start again."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

from embedllm_router.config.process import RedisAddress

__all__ = ["LocalRedis", "local_redis"]

_START_S = 10.0


class LocalRedis:
    """One redis-server in its own folder.

    Args:
        folder: Where it keeps what it keeps.
        keeps: Whether it writes every change to disk, or forgets everything when it dies.
        password: What it asks for; None for nothing.
        options: More of the command line.
    """

    def __init__(
        self, folder: Path, *, keeps: bool = False, password: str | None = None, options: Sequence[str] = ()
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder, self._keeps, self._password, self._options = folder, keeps, password, list(options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> RedisAddress:
        return RedisAddress(host="127.0.0.1", port=self.port, password=self._password)

    @property
    def url(self) -> str:
        return f"redis://:{self._password or ''}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, password=self._password, decode_responses=True)

    def start(self) -> None:
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if self._keeps else ["--appendonly", "no"]
        asks = ["--requirepass", self._password] if self._password else []
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *durable, *asks]
        command += self._options
        self._process = subprocess.Popen([*command, "--dir", str(self._folder)], stdout=subprocess.DEVNULL)
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            with contextlib.suppress(redis.ConnectionError), contextlib.closing(self.client()) as client:
                if client.ping():
                    return
            time.sleep(0.02)
        raise TimeoutError("redis-server did not answer")

    def kill(self) -> None:
        """Kills it the hard way."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_START_S)
            self._process = None


@contextlib.contextmanager
def local_redis(folder: Path, **options: object) -> Iterator[LocalRedis]:
    """A running Redis; skips the test where none is installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = LocalRedis(folder, **options)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.kill()
