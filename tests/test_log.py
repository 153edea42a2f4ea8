"""The routing log is one event per line, in the format and from the level that was asked for."""

import io
import json

import pytest
import structlog

from embedllm_router.candidates import Exclusion
from embedllm_router.log import configure_logging
from embedllm_router.process_settings import LogSettings


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
