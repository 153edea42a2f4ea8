"""Proxies and simulated LLMs forked from a process that has imported LiteLLM: seconds less for each start."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import pytest

from embedllm_router.cli import demo

__all__ = ["forked_starts"]

_READ_WHEN_RUN = (
    *("EMBEDLLM_ROUTER_", "UPSTREAM_", "REDIS_"),
    *("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "PYTEST_CURRENT_TEST"),
)
"""Variables that nothing reads on import. With any other difference a process is started anew."""
_POLL_S = 0.05


class ForkedProcess:
    """What `subprocess.Popen` offers of a process, of one that another process forked."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server, self.pid, self.returncode = server, pid, None

    returncode: int | None

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs. Of one process, one thread asks at a time."""
        if self.returncode is None:
            found = self._server.ask({"poll": self.pid})["returncode"]
            self.returncode = None if found is None else int(found)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(_POLL_S)
        return code

    def terminate(self) -> None:
        """Sends SIGTERM, to a process that still runs."""
        if self.poll() is None:
            os.kill(self.pid, 15)

    def kill(self) -> None:
        """Sends SIGKILL, to a process that still runs."""
        if self.poll() is None:
            os.kill(self.pid, 9)


class ForkServer:
    """A process that forks others; it starts with the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._environment: dict[str, str] = {}
        self._one_at_a_time = threading.Lock()

    def starts(self, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a command would run forked as it does started anew."""
        if "--workers" in command or os.environ.get("COVERAGE_PROCESS_START"):
            return False
        if self._process is None:
            self._environment = dict(environment)
        names = {*environment, *self._environment}
        other = {name for name in names if environment.get(name) != self._environment.get(name)}
        return all(name.startswith(_READ_WHEN_RUN) for name in other)

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> ForkedProcess:
        """Forks a process that runs the command."""
        asked = {"argv": list(command), "environment": dict(environment), "cwd": str(Path.cwd()), "log": str(log)}
        return ForkedProcess(self, int(self.ask(asked)["pid"] or 0))

    def ask(self, request: Mapping[str, object]) -> dict[str, int | None]:
        """Sends one request and reads the answer; any thread may."""
        with self._one_at_a_time:
            process = self._running()
            stdin, stdout = _open(process.stdin), _open(process.stdout)
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            answer: dict[str, int | None] = json.loads(stdout.readline())
        return answer

    def stop(self) -> None:
        """Ends it; what it forked has been stopped before."""
        if self._process is not None:
            _open(self._process.stdin).close()
            self._process.wait(10)
            _open(self._process.stdout).close()

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self._environment)
        return self._process


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def forked_starts() -> Iterator[None]:
    """Lets `running_proxy` fork what it starts, wherever that comes to the same."""
    server, anew = ForkServer(), demo._start

    def start(
        command: Sequence[str], environment: Mapping[str, str], output: BinaryIO
    ) -> "subprocess.Popen[bytes] | ForkedProcess":
        if server.starts(command, environment):
            return server.start(command, environment, Path(output.name))
        return anew(command, environment, output)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_start", start)
        try:
            yield
        finally:
            server.stop()
