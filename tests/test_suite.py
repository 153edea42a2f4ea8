"""The last line of a run says what was skipped; files that use the shared proxy run in one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from skips import skip_line
from suite_hooks import LONG, SHARE_A_PROXY

HELPERS = Path(__file__).parent / "helpers"
CONFTEST = f"import sys; sys.path.insert(0, {str(HELPERS)!r})\nfrom suite_hooks import *"
TESTS = """
import pytest

@pytest.mark.parametrize("n", range(2))
def test_with_redis(n): pytest.skip("redis-server is not installed")

def test_without(): pass
"""


def test_reasons_are_counted_and_the_commonest_comes_first() -> None:
    reasons = ["Skipped: too slow", *["Skipped: redis-server is not installed"] * 2]
    line = skip_line(reasons, 9)
    assert (
        line
        == "skipped: 3 of 9 tests: 2 because redis-server is not installed (Debian: redis-server); 1 because too slow"
    )


def test_nothing_skipped_is_said() -> None:
    assert skip_line([], 9) == "skipped: none of 9 tests"


@pytest.mark.parametrize("processes", [(), ("-p", "xdist", "--numprocesses=2", "--dist=loadfile")], ids=["1", "2"])
def test_it_is_the_last_line_of_a_run(tmp_path: Path, processes: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *processes, str(tmp_path)]
    few_plugins = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path, env=few_plugins
    )
    last = done.stdout.strip().splitlines()[-1]
    assert last == "skipped: 2 of 3 tests: 2 because redis-server is not installed (Debian: redis-server)"


def test_files_that_use_the_shared_proxy_are_listed(request: pytest.FixtureRequest) -> None:
    users = {item.nodeid.split("::", 1)[0] for item in request.session.items if "proxy" in item_fixtures(item)}
    assert users <= set(SHARE_A_PROXY), "add the others to SHARE_A_PROXY in tests/helpers/suite_hooks.py"


def test_long_files_exist_and_come_first(request: pytest.FixtureRequest) -> None:
    root = Path(__file__).parents[1]
    assert [file for file in LONG if not (root / file).exists()] == []
    are_long = [item.nodeid.split("::", 1)[0] in LONG for item in request.session.items]
    assert are_long == sorted(are_long, reverse=True)


def item_fixtures(item: pytest.Item) -> list[str]:
    names: list[str] = getattr(item, "fixturenames", [])
    return names
