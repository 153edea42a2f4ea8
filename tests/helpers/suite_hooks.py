"""What pytest does beside running the tests: which tests share a process, and the last line of a run."""

from collections.abc import Iterator

import pytest
from skips import skip_line

__all__ = ["pytest_collection_modifyitems", "pytest_sessionfinish"]

GROUP_BY_FIXTURE = {"proxy": "planted proxy"}
"""xdist group by the session's fixture that its tests share, whichever file they stand in."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps each file in one process, and the files that share a running server in the same one.

    `--dist=loadgroup` alone would deal out tests one by one, and start every module's servers in each process.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    groups = {item.path: str(item.path) for item in items}
    for item in items:
        for fixture in GROUP_BY_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
            groups[item.path] = GROUP_BY_FIXTURE[fixture]
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(groups[item.path]))


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
