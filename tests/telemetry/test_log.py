"""The routing log is one event per line, in the format and from the level that was asked for."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO

import pytest
import structlog

from embedllm_router.config.process import LogSettings
from embedllm_router.routing.pool import Exclusion
from embedllm_router.telemetry.log import configure_logging


def test_json_lines_lead_with_time_level_and_event() -> None:
    out = io.StringIO()
    configure_logging(LogSettings(), out).info("routing.decided", chosen="wizard", excluded=Exclusion.PRICE_UNKNOWN)
    (line,) = out.getvalue().splitlines()
    event = json.loads(line)
    assert list(event)[:3] == ["timestamp", "level", "event"]
    assert (event["chosen"], event["excluded"]) == ("wizard", "price_unknown")


def test_console_is_for_people() -> None:
    out = io.StringIO()
    configure_logging(LogSettings(format="console"), out).info("routing.decided", chosen="wizard")
    assert "routing.decided" in out.getvalue()
    assert "chosen=wizard" in out.getvalue()


@pytest.mark.parametrize(("level", "n_lines"), [("debug", 2), ("info", 2), ("warning", 1), ("error", 0)])
def test_level(level: str, n_lines: int) -> None:
    out = io.StringIO()
    log = configure_logging(LogSettings.model_validate({"level": level}), out)
    log.info("a")
    log.warning("b")
    assert len(out.getvalue().splitlines()) == n_lines


def test_the_host_s_structlog_is_left_alone() -> None:
    before = structlog.get_config()["processors"]
    configure_logging(LogSettings(), io.StringIO())
    assert structlog.get_config()["processors"] is before


@pytest.fixture(params=["full disk", "closed pipe"])
def hopeless(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    """A stream that nothing can be written to any more."""
    reading, writing = os.pipe()
    os.close(reading)
    places: dict[str, Path | int] = {"full disk": Path("/dev/full"), "closed pipe": writing}
    with suppress(OSError), open(places[request.param], "w", encoding="utf-8") as stream:  # noqa: PTH123 - or a pipe
        yield stream


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_that_cannot_be_written_fails_nobody(hopeless: TextIO, form: Literal["json", "console"]) -> None:
    log = configure_logging(LogSettings(format=form), hopeless)
    for _ in range(3):
        log.info("routing.decided", chosen="wizard")


def test_what_json_cannot_hold_is_logged_all_the_same() -> None:
    out = io.StringIO()
    configure_logging(LogSettings(), out).info("routing.decided", prompt="\ud800", limit=10**30)
    assert json.loads(out.getvalue())["limit"] == 10**30
