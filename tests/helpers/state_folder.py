"""Shared state in a folder, opened as a proxy opens it, with what it logs."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from embedllm_router.config.process import LogSettings, StateSettings
from embedllm_router.serving.state.opening import open_state
from embedllm_router.serving.state.shared import ReplicaState, SharedState
from embedllm_router.telemetry.log import configure_logging

__all__ = ["HOUR", "Heard", "database_in", "names", "opened"]

HOUR = 3_600.0


class Heard(io.StringIO):
    """A log and what was written to it."""

    @property
    def log(self) -> FilteringBoundLogger:
        return configure_logging(LogSettings(), self)

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.getvalue().splitlines()]


def opened(folder: Path, heard: Heard, clock: Callable[[], float] = time.time) -> SharedState:
    return open_state(StateSettings(path=folder), heard.log, state=ReplicaState.new(clock=clock))


def database_in(folder: Path) -> Path:
    return folder / "state.sqlite3"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())
