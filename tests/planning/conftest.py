"""The command line in this process."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from embedllm_router.cli import app


@pytest.fixture
def run_command() -> Callable[..., str]:
    """Runs a command; what it wrote to stdout."""

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.stdout

    return run
