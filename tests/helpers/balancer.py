"""A real nginx on 127.0.0.1 with the shipped deploy/nginx.conf; only paths and port are this test's own."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import http_calls
import httpx
import pytest
from waiting import until

__all__ = ["CONFIGURATION", "LocalNginx", "local_nginx", "require_nginx"]

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
_START_S = 10.0


def require_nginx() -> None:
    """Skips the test where no nginx is installed."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")


class LocalNginx:
    """One nginx in its own folder.

    Args:
        folder: Its configuration, logs and temporary files.
        proxies: Name and port of each proxy.
    """

    def __init__(self, folder: Path, proxies: Mapping[str, int]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder, self._proxies = folder, folder / "proxies"
        self._proxies.mkdir(parents=True)
        for name, port in proxies.items():
            shipped = (CONFIGURATION.parent / "proxies" / "proxy-1.conf").read_text()
            (self._proxies / f"{name}.conf").write_text(shipped.replace("proxy-1:4000", f"127.0.0.1:{port}"))
        (folder / "nginx.conf").write_text(self._own(CONFIGURATION.read_text()))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """One JSON object for each request."""
        return self._folder / "access.log"

    def checked(self) -> subprocess.CompletedProcess[str]:
        """What `nginx -t` says."""
        return subprocess.run([*self._command, "-t"], capture_output=True, text=True, timeout=30, check=False)

    def start(self) -> None:
        self._process = subprocess.Popen([*self._command, "-g", f"daemon off; {_USER}"])
        until(self._answers, _START_S)

    def take_out(self, name: str) -> None:
        """Sends a proxy nothing new; returns when that holds."""
        file = self._proxies / f"{name}.conf"
        file.rename(file.with_suffix(".conf.out"))
        self.reload()

    def put_in(self, name: str) -> None:
        """Sends a proxy requests again."""
        file = self._proxies / f"{name}.conf"
        file.with_suffix(".conf.out").rename(file)
        self.reload()

    def reload(self) -> None:
        """Reads the configuration again; returns when new workers have taken over, while old ones finish."""
        assert self._process is not None
        before = _children(self._process.pid)
        self._process.send_signal(signal.SIGHUP)
        until(lambda: True if _children(self._process.pid) - before else None, _START_S)  # type: ignore[union-attr]
        time.sleep(0.2)  # the old ones are told after the new ones have started

    def stop(self) -> None:
        """Ends it at once."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_START_S)
            self._process = None

    def _own(self, text: str) -> str:
        own = {
            "listen 8080": f"listen 127.0.0.1:{self.port}",
            "/etc/nginx/proxies/": f"{self._proxies}/",
            "/dev/stdout": str(self.log),
            "/dev/stderr": str(self._folder / "error.log"),
            " /tmp/": f" {self._folder}/",
        }
        assert all(theirs in text for theirs in own)
        return re.sub("|".join(map(re.escape, own)), lambda found: own[found[0]], text)  # at once: ours may hold theirs

    @property
    def _command(self) -> list[str]:
        return ["nginx", "-p", str(self._folder), "-c", str(self._folder / "nginx.conf"), "-e", "stderr"]

    def _answers(self) -> bool | None:
        assert self._process is None or self._process.poll() is None, "nginx ended"
        try:
            return http_calls.get(f"{self.url}/balancer/healthz").is_success or None
        except httpx.TransportError:
            return None


_USER = "user root;" if os.geteuid() == 0 else ""


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@contextmanager
def local_nginx(folder: Path, proxies: Mapping[str, int]) -> Iterator[LocalNginx]:
    """A running nginx; skips the test where none is installed."""
    require_nginx()
    server = LocalNginx(folder, proxies)
    try:
        server.start()
        yield server
    finally:
        server.stop()
