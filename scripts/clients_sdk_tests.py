"""Runs tests of OpenAI's SDK for scripts/clients.py: `clients_sdk_tests.py BASE_URL MODEL SDIST_FOLDER`.

The key is in API_KEY. The tests run from a copy in which every call that names an LLM names MODEL, calls of the
Responses API that have neither LLM nor input get both, and nothing is tried twice. Each test is announced to BEGIN_URL.
Prints one JSON object: by test, `passed` or what it failed with, to the class and status of the error.
"""

import ast
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

TESTS = (
    "test_completions.py",
    "test_responses.py",
    "test_models.py",
    "chat/test_completions.py",
)
"""Below tests/api_resources."""
KEY = "My API Key"
ASKS_AN_LLM = re.compile(r"\bresponses\.(with_(raw|streaming)_response\.)?(create|compact)$")
"""Calls of the Responses API that need an LLM and an input."""


class Named(ast.NodeTransformer):
    """Puts one name wherever a call names an LLM.

    Attributes:
        model: The name.
    """

    def __init__(self, model: str) -> None:
        self.model = model

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Changes the keyword `model` and the one argument of a model's own calls; an empty name stays empty."""
        self.generic_visit(node)
        called = ast.unparse(node.func)
        if called in {"OpenAI", "AsyncOpenAI"}:
            node.keywords.append(ast.keyword("max_retries", ast.Constant(0)))
        for one in node.keywords:
            if one.arg == "model" and isinstance(one.value, ast.Constant):
                one.value = ast.Constant(self.model)
        if ASKS_AN_LLM.search(called):
            needed, given = {"model": self.model, "input": "This is a test."}, {one.arg for one in node.keywords}
            node.keywords += [
                ast.keyword(arg, ast.Constant(value)) for arg, value in needed.items() if arg not in given
            ]
        if ".models." in called and node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value:
            node.args[0] = ast.Constant(self.model)
        return node


def renamed(source: str, model: str) -> str:
    """The source of tests, for one LLM."""
    return ast.unparse(ast.fix_missing_locations(Named(model).visit(ast.parse(source))))


def copied(sdist: Path, to: Path, model: str) -> list[str]:
    """Copies the tests and what they need, for one LLM; their paths below `to`."""
    shutil.copytree(sdist / "tests", to / "tests")
    shutil.copy(sdist / "pyproject.toml", to)
    paths = [f"tests/api_resources/{name}" for name in TESTS]
    for path in (*paths, "tests/conftest.py"):
        source = renamed((to / path).read_text(encoding="utf-8"), model)
        # The key is read where it is used, and never written to a file.
        (to / path).write_text(source.replace(repr(KEY), "os.environ['API_KEY']"), encoding="utf-8")
    return paths


def failed_with(error: BaseException | None) -> str:
    """The class of an error, and the status of the answer where it has one."""
    return f"{type(error).__name__} {getattr(error, 'status_code', '')}".strip()


class Outcomes:
    """A pytest plugin that announces each test and keeps what came of it.

    Attributes:
        found: By test, what came of it.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Announces a test."""
        name = urllib.parse.quote(self.named(item.nodeid))
        with urllib.request.urlopen(f"{os.environ['BEGIN_URL']}/openai-tests/{name}", timeout=10):  # noqa: S310 - our own
            pass

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
        """Keeps what came of a test: the first of its phases that failed."""
        name, error = self.named(item.nodeid), call.excinfo.value if call.excinfo else None
        skipped = isinstance(error, pytest.skip.Exception)
        if call.when == "call" or error is not None:
            said = "skipped" if skipped else "passed" if error is None else failed_with(error)
            if self.found.get(name, "passed") == "passed":
                self.found[name] = said

    @staticmethod
    def named(test: str) -> str:
        """A test's name without the folder that all share."""
        return test.removeprefix("tests/api_resources/")


def main() -> None:
    """Runs the tests."""
    base_url, model, sdist = sys.argv[1:]
    os.environ["TEST_API_BASE_URL"] = base_url
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(prefix="embedllm-openai-tests-") as name:
        paths = copied(Path(sdist), Path(name), model)
        os.chdir(name)
        sys.path.insert(0, name)
        options = ["--override-ini=addopts=", "-p", "no:cacheprovider", "--tb=no", "-q"]
        with contextlib.redirect_stdout(sys.stderr):
            code = pytest.main([*options, *paths], plugins=[outcomes])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        sys.exit(f"pytest ended with {code!r}: the tests of the SDK did not run")
    json.dump({"openai-tests": outcomes.found}, sys.stdout)


if __name__ == "__main__":
    main()
