"""Has weights learn from the verdicts of live traffic: counts them, and starts a process that learns when it is time.

Requests never wait for it: verdicts are counted in a thread, and learning is another process of the lowest priority. Of
all proxies and workers that share a folder one learns at a time; the others, and this one, take up what was learned as
they take up any changed weights. Nothing that goes wrong here changes what decides.
"""

import asyncio
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError
from structlog.typing import FilteringBoundLogger

from embedllm_router.artifact.versions import Attempt
from embedllm_router.config.process import AdaptationSettings
from embedllm_router.config.settings import RouterSettings
from embedllm_router.errors import ArtifactError, ConfigError, DataError
from embedllm_router.records.reader.source import LateSource
from embedllm_router.records.reader.verdicts import new_verdicts
from embedllm_router.serving.snapshot import LiveSnapshot, versions_of
from embedllm_router.telemetry.status import AdaptationStatus

__all__ = ["Adapting"]

_AFTER_FAILURE_S: Final = 600.0
_POLL_S: Final = 0.2
_GRACE_S: Final = 10.0
"""The process ends itself in time; what is left of it this much later is killed."""
_SHOWN: Final = 10
_LIBRARIES: Final = ("polars", "scipy")
_Process = subprocess.Popen[bytes]


class Adapting:
    """Learning by itself. Off, it does nothing.

    Args:
        live: What decides; its settings say whether and when to learn.
        records: The verdicts.
        log: Where attempts are reported.
    """

    def __init__(self, live: LiveSnapshot, records: LateSource, log: FilteringBoundLogger) -> None:
        self._live, self._records, self._log = live, records, log
        self._child: _Process | None = None
        self._n_new: int | None = None
        self._attempts: tuple[Attempt, ...] = ()
        self._error: str | None = None
        self._not_before = 0.0

    def status(self) -> AdaptationStatus | None:
        """How it is doing, as last seen; None where it is off."""
        settings = self._live.snapshot.settings.adaptation
        if settings.every is None:
            return None
        return AdaptationStatus(
            every=settings.every,
            n_new=self._n_new,
            folder=str(settings.folder),
            learning=self._child is not None,
            attempts=self._attempts[: -_SHOWN - 1 : -1],
            error=self._error,
        )

    async def run(self) -> None:
        """Counts verdicts, and learns, for as long as the proxy runs."""
        while True:
            settings = self._live.snapshot.settings
            if settings.adaptation.every is not None:
                await self._look(settings, settings.adaptation.every)
            await asyncio.sleep(settings.adaptation.check_s)

    def close(self) -> None:
        """Ends a process that is learning: what decides is as it was."""
        if (child := self._child) is not None:
            child.kill()

    async def _look(self, settings: RouterSettings, every: int) -> None:
        try:
            await asyncio.to_thread(self._count, settings)
            if (self._n_new or 0) >= every and time.monotonic() >= self._not_before:
                await self._learn(settings, every)
                await asyncio.to_thread(self._count, settings)
        except (ArtifactError, ConfigError, DataError) as error:
            self._failed(str(error))
        except OSError as error:
            self._failed(f"{settings.adaptation.folder}: {error.strerror or type(error).__name__}")

    def _count(self, settings: RouterSettings) -> None:
        _require_libraries()
        versions = versions_of(settings)
        self._attempts = versions.attempts()
        self._n_new, _ = new_verdicts(self._records(), versions.seen_until(), settings.adaptation.sources)
        if time.monotonic() >= self._not_before:
            self._error = None

    async def _learn(self, settings: RouterSettings, every: int) -> None:
        """Learns, unless another process does."""
        with versions_of(settings).lock() as held:
            if held is None:
                return
            child = self._child = await asyncio.to_thread(_started, settings, every, held)
        try:
            await _ended(child, settings.adaptation.timeout_s + _GRACE_S)
        finally:
            self._child = None
            if child.poll() is None:
                child.kill()
            said, problem = await asyncio.to_thread(child.communicate)
        if child.returncode:
            self._failed(_reason(child.returncode, problem, settings.adaptation))
        else:
            self._report(said)

    def _report(self, said: bytes) -> None:
        try:
            made = TypeAdapter(Attempt | None).validate_json(said)
        except ValidationError:
            self._failed("the process that learns said nothing that can be read")
            return
        if made is None:  # another proxy was faster
            return
        level = "warning" if made.outcome == "refused" else "info"
        getattr(self._log, level)(f"adaptation.{made.outcome}", **_fields(made))

    def _failed(self, problem: str) -> None:
        """Reports a failure once, and waits before the next attempt."""
        if problem != self._error:
            consequence = f"what decides stays as it is; tried again in {_AFTER_FAILURE_S:.0f} s"
            self._log.error("adaptation.failed", error=problem, consequence=consequence)
        self._error = problem
        self._not_before = time.monotonic() + _AFTER_FAILURE_S


def _require_libraries() -> None:
    """Checks for what the process that learns imports.

    Raises:
        ConfigError: Something is not installed.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"learning needs {', '.join(missing)}: pip install 'embedllm-router[learn]'.")


def _started(settings: RouterSettings, every: int, lock: int) -> _Process:
    """Starts the process that learns, which holds the lock as long as it lives."""
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "embedllm_router.training.update.unasked"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(lock,),
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert child.stdin is not None
    with child.stdin as told:
        told.write(_job(settings, every))
    child.stdin = None  # or communicate() would flush it
    return child


def _job(settings: RouterSettings, every: int) -> bytes:
    """What unasked.py reads, as JSON; its module would load what learning needs into the proxy."""
    one = settings.adaptation
    job: dict[str, object] = {
        "store": settings.store.place,
        "artifact": None if settings.artifact is None else str(settings.artifact.absolute()),
        "folder": str(one.folder),
        "every": every,
        "keep": one.keep,
        "sources": one.sources,
        "max_requests": one.max_requests,
        "timeout_s": one.timeout_s,
        "memory_mb": one.memory_mb,
    }
    return TypeAdapter(dict[str, object]).dump_json(job)


async def _ended(child: _Process, timeout_s: float) -> None:
    for _ in range(round(timeout_s / _POLL_S)):  # a thread that waited would keep a proxy from ending
        if child.poll() is not None:
            return
        await asyncio.sleep(_POLL_S)


def _reason(returncode: int, problem: bytes, settings: AdaptationSettings) -> str:
    said = problem.decode(errors="replace").strip().splitlines()
    if returncode > 0 and said:
        return said[-1][:500]
    ended = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
    return f"learning ended with {ended}; it may take {settings.timeout_s:,} s and {settings.memory_mb:,} MB"


def _fields(made: Attempt) -> dict[str, object]:
    """What the log says of an attempt; what is unknown is left out."""
    said = {name: getattr(made, name) for name in made.__slots__ if name not in {"at", "outcome"}}
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in said.items()
        if value is not None and value != ()
    }
