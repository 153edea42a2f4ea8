"""What pytest does beside running the tests: which files share a process, and the last line of a run."""

from collections.abc import Iterator
from typing import Any

import pytest
from skips import skip_line

__all__ = [
    "LONG",
    "SHARE_A_PROXY",
    "pytest_collection_modifyitems",
    "pytest_sessionfinish",
    "pytest_xdist_make_scheduler",
]

SHARE_A_PROXY = (
    "tests/proxy/test_proxy.py",
    "tests/proxy/test_proxy_monitoring.py",
    "tests/proxy/test_shared_call_id.py",
    "tests/web/test_dashboard_proxy.py",
)
"""Files whose tests use the session's fixture `proxy`; in one process they start it once."""
LONG = (
    "tests/profiling/test_profile.py",
    "tests/proxy/test_proxy_keys.py",
    "tests/web/test_dashboard_browser.py",
    "tests/cli/test_demo.py",
    *SHARE_A_PROXY,
    "tests/serving/test_two_proxies.py",
    "tests/training/test_recipe.py",
    "tests/deploy/test_scale_out.py",
    "tests/proxy/test_endpoint_weights.py",
    "tests/proxy/test_left_alone.py",
    "tests/proxy/test_judging.py",
    "tests/proxy/test_adapting.py",
    "tests/proxy/test_efforts_live.py",
    "tests/serving/test_state_redis.py",
    "tests/proxy/test_proxy_live.py",
    "tests/web/test_dashboard_browser_trouble.py",
    "tests/training/test_team.py",
)
"""Files that take longest. They run first, so that no process waits at the end for another one's last file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the order of tests within a file stays."""
    items.sort(key=lambda item: item.nodeid.split("::", 1)[0] not in LONG)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist=loadfile`, keeps each file in one process, and the files that share a proxy in the same one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - only where the tests run in several processes

    class ByProxy(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no type information
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return SHARE_A_PROXY[0] if file in SHARE_A_PROXY else file

    config.option.loadscopereorder = False  # by number of tests; `LONG` knows better
    return ByProxy(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Prints, after everything else, what was skipped; only where the whole run is known."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    skipped = reporter.stats.get("skipped", [])
    outcomes = ("passed", "failed", "xfailed", "xpassed")
    n_tests = len(skipped) + sum(len(reporter.stats.get(outcome, [])) for outcome in outcomes)
    reporter.write_line(skip_line((_reason(report) for report in skipped), n_tests))


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
