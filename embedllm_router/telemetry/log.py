"""The routing log: one structlog event per line on stderr; nothing else in the package configures structlog.

The logger is built here and handed down: neither structlog's global state nor the host's logging is touched.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from embedllm_router.config.process import LogSettings

__all__ = ["configure_logging"]


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> FilteringBoundLogger:
    """Builds the routing log.

    Args:
        settings: Format and level.
        stream: Where to write; None takes stderr.

    Returns:
        A logger: `log.info("routing.decided", llm=…)`.
    """
    target = stream or sys.stderr
    renderer: Processor = _render_json
    if settings.format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=target.isatty())
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        renderer,
    ]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(_Unfailing(target)),  # type: ignore[arg-type]  # writing is all it asks of a stream
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return logger


def _render_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    del logger, name
    head: Mapping[str, object] = {k: event.pop(k) for k in ("timestamp", "level", "event")}
    try:
        return orjson.dumps({**head, **event}, default=str).decode()
    except TypeError:  # half a surrogate pair, or a number beyond 64 bits
        return json.dumps({**head, **event}, default=str)


class _Unfailing:
    """A stream that loses what it cannot write: a full disk or a closed pipe must not fail a request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: it is closed, or a character has no encoding
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()
