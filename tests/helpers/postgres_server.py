"""A real PostgreSQL server for tests, on 127.0.0.1, with a password, which can be stopped and started again."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "proxy", "p@ss/word"
_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_SETTINGS = "-c fsync=off -c max_connections=20 -c shared_buffers=16MB -c log_min_messages=fatal"


def why_absent() -> str | None:
    """Why no server can run here; None when one can."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"PostgreSQL is not installed: no {', '.join(missing)}"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres"
    return None


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server of this test's own.

    Attributes:
        folder: Its data, in a folder of the account that runs it.
        port: On 127.0.0.1.
    """

    folder: Path
    port: int

    def url(self, database: str = "postgres") -> str:
        """Address of one of its databases, password and all."""
        return f"postgresql://{USER}:p%40ss%2Fword@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"{_SETTINGS} -c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        log = str(self.folder / "log")
        _run("pg_ctl", "start", "-w", "-t", "30", "-D", str(self.folder / "data"), "-l", log, "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stops it; "immediate" is what a crash would do."""
        _run("pg_ctl", "stop", "-w", "-t", "30", "-D", str(self.folder / "data"), "-m", mode)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Runs a fresh server; afterwards it is stopped and its data are gone."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a test's own folder is closed to the account that runs the server
    try:
        if account := _account():
            os.chown(folder, account.pw_uid, account.pw_gid)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        login = ("-U", USER, "--pwfile", str(folder / "password"), "--auth", "scram-sha-256")
        _run("initdb", "-D", str(folder / "data"), "-E", "UTF8", "--no-sync", "--no-instructions", *login)
        server = PostgresServer(folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Whom to run it as; None to stay who we are, or when there is no such user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


def _run(*command: str) -> None:
    account = _account()
    subprocess.run(
        command,
        check=True,
        timeout=60,
        cwd="/",
        stdout=subprocess.DEVNULL,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
