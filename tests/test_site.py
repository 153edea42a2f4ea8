"""The documentation site is built without a warning: every link and anchor leads somewhere, every page is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material")

ROOT = Path(__file__).parents[1]
TAKEN_IN = (
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "weights/default/README.md",
    "weights/mpnet/README.md",
)


def build(config: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Without --quiet, under which --strict counts no warning."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(to)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    built = build(ROOT / "deploy/site/mkdocs.yml", tmp_path / "site")
    assert built.returncode == 0, built.stdout + built.stderr
    tasks = (tmp_path / "site/tasks.html").read_text()
    assert 'href="records.html#erase-a-persons-data"' in tasks
    assert 'href="security.html#what-the-plugin-stores-and-logs"' in tasks
    outside = [page.name for page in (tmp_path / "site").glob("*.html") if 'src="https://' in page.read_text()]
    assert outside == []


@pytest.mark.parametrize("broken", ["[gone](gone.md)", "[gone](records.md#gone)", "[gone](../SECURITY.md#gone)"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, broken: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "deploy/site", tmp_path / "deploy/site")
    for path in TAKEN_IN:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    with (tmp_path / "docs/tasks.md").open("a") as page:
        page.write(f"\n{broken}\n")
    built = build(tmp_path / "deploy/site/mkdocs.yml", tmp_path / "site")
    assert built.returncode == 1
    assert "gone" in built.stdout + built.stderr
