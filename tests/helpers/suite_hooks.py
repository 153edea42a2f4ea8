"""What pytest does beside running the tests: which files share a process, and the last line of a run."""

from collections.abc import Iterator
from typing import Any

import pytest
from skips import skip_line

__all__ = ["SHARE_A_PROXY", "pytest_sessionfinish", "pytest_xdist_make_scheduler"]

SHARE_A_PROXY = (
    "tests/proxy/test_proxy.py",
    "tests/proxy/test_proxy_monitoring.py",
    "tests/proxy/test_shared_call_id.py",
    "tests/web/test_dashboard_proxy.py",
)
"""Files whose tests use the session's fixture `proxy`; in one process they start it once."""


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
