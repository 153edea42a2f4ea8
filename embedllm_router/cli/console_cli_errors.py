"""A user's mistake on the command line: one message on stderr and an exit code, never a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from embedllm_router.errors import ConfigError, DataError, EmbedLLMRouterError, RequestError

__all__ = ["clear_errors"]

_WRONG_INPUT = (ConfigError, DataError, RequestError)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the command with 2 when its input is wrong, with 1 when it failed otherwise."""
    try:
        yield
    except EmbedLLMRouterError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise typer.Exit(2 if isinstance(error, _WRONG_INPUT) else 1) from None
    except ImportError as error:
        message = f"error: {error.name} is not installed: pip install 'embedllm-router[learn]'."
        typer.secho(message, err=True, fg="red")
        raise typer.Exit(1) from None
