"""The reference pages are up to date, and every page that a page links to is there."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS_PATHS = {"embedllm_router.dashboard.enabled", "embedllm_router.proxy_handler"}
"""Dotted names that are settings, and the callback, which exists only in a proxy."""
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])


def test_the_reference_pages_are_those_of_the_code() -> None:
    """`scripts/reference` writes docs/settings.md and docs/cli.md anew."""
    command = [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    lost = [
        link for link in links if not link.startswith(("http://", "https://")) and not (page.parent / link).exists()
    ]
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_names_of_the_code_are_there(page: Path) -> None:
    """Paths such as `benchmarks/…`, and dotted names of our modules and what is in them."""
    text = page.read_text()
    files = re.findall(r"\b((?:embedllm_router|benchmarks|tests|examples|scripts)/[\w./-]*\w)", text)
    assert not [file for file in files if not (ROOT / file).exists()]
    names = set(re.findall(r"\b(embedllm_router(?:\.[a-z_]\w*)+)", text)) - SETTINGS_PATHS
    assert not [name for name in names if not _exists(name)]


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
