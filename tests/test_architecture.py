"""Functions stay short, nothing heavy is loaded early, and public names exist.

Which room may import which, and where each library may be used, stands in pyproject.toml under `[tool.importlinter]`;
`scripts/test` checks it.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import embedllm_router

PACKAGE = Path(embedllm_router.__file__).parent
MOST_STATEMENT_LINES = 50
COLUMN_LISTS = ("records.writer.migrations.versions.records_0001._requests",)
"""A table's columns one by one; cutting them in two would hide that none is missing."""


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


def test_functions_stay_short() -> None:
    """Their statements do: a command's options and a docstring may take what they need."""
    lengths = {
        f"{module_name(file)}.{node.name}": length_of(node)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: n for name, n in lengths.items() if n > MOST_STATEMENT_LINES and name not in COLUMN_LISTS}


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from a function's first statement, its docstring aside, to its last."""
    start = function.body[1 if ast.get_docstring(function) and len(function.body) > 1 else 0]
    return (function.end_lineno or start.lineno) - start.lineno + 1


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import embedllm_router", {"numpy", "pydantic", "tokenizers", "litellm", "torch", "structlog"}),
        ("from embedllm_router import Router; Router.load().route('hi')", {"torch", "litellm", "transformers"}),
        ("from embedllm_router.cli.main import app", {"torch", "litellm", "polars", "sklearn", "openai", "uvicorn"}),
    ],
)
def test_nothing_heavy_is_loaded(statement: str, absent: set[str]) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not absent & set(done.stdout.split())


def test_public_names_exist() -> None:
    for name in embedllm_router.__all__:
        if name != "proxy_handler":  # built only inside a proxy
            assert getattr(embedllm_router, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = embedllm_router.nonsense
