"""Every error this package raises on purpose.

    EmbedLLMRouterError
    ├── ArtifactError   a weights folder is missing, damaged or does not fit
    ├── ConfigError     a setting, option or proxy configuration is wrong
    ├── DataError       correctness data cannot be used as given
    ├── EncoderError    a prompt was not embedded, or not in time; the request goes to the default
    └── RequestError    the client's request is wrong; becomes an HTTP 400

Each message says what is wrong, what was expected, what was found and what to do about it.
"""

from pathlib import Path

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DataError",
    "EmbedLLMRouterError",
    "EncoderError",
    "RequestError",
    "safe_message",
    "where",
]


class EmbedLLMRouterError(Exception):
    """Base of every error raised on purpose by this package."""


class ArtifactError(EmbedLLMRouterError):
    """A weights folder is missing, damaged or does not fit its manifest."""


class ConfigError(EmbedLLMRouterError):
    """A setting, a command-line option or the proxy configuration is wrong."""


class DataError(EmbedLLMRouterError):
    """Correctness data cannot be used as given."""


class EncoderError(EmbedLLMRouterError):
    """A prompt was not embedded, or not in time. A class of its own, since records say why the default answered."""


class RequestError(EmbedLLMRouterError):
    """The client asked for something this router cannot do.

    Attributes:
        field: The request's field or header at fault, as the client wrote it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


def safe_message(error: BaseException) -> str | None:
    """An error's message where we wrote it ourselves; None where it may hold anything, a prompt for one."""
    return str(error) if isinstance(error, EmbedLLMRouterError) else None


def where(error: BaseException) -> str | None:
    """File and line an error was raised at; None when it never was."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else None
