"""The manual names every setting, and every page it links to is there."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from embedllm_router.config import process as process_settings
from embedllm_router.config import virtual_model as setting_groups
from embedllm_router.config.settings import RouterSettings

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])


def names(group: type[BaseModel]) -> set[str]:
    """Names of all settings of a group and of the groups inside it."""
    found = set(group.model_fields)
    for field in group.model_fields.values():
        for inner in re.findall(r"(\w+Settings)", str(field.annotation)):
            found |= names(getattr(setting_groups, inner, None) or getattr(process_settings, inner))
    return found


def test_every_setting_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "configuration.md").read_text()
    missing = {name for name in names(RouterSettings) if not re.search(rf"[`.{{ ]{name}[`.,: }}]", manual)}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    lost = [
        link for link in links if not link.startswith(("http://", "https://")) and not (page.parent / link).exists()
    ]
    assert not lost
