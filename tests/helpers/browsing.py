"""A real, headless Chromium that writes down everything a page should not do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
_WATCH = """
addEventListener("securitypolicyviolation", (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips the test where it is not installed."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"Chromium is not installed at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page and what went wrong on it.

    Attributes:
        page: The page.
        address: Origin it is served from.
        wrongs: Errors, warnings, policy violations and requests to elsewhere.
    """

    page: Page
    address: str
    wrongs: list[str] = field(default_factory=list)

    def go(self, view: str) -> None:
        """Opens a view and waits until it is drawn."""
        there = f"{self.address}/embedllm/#/{view}"
        if self.page.url.startswith(self.address) and self.page.url != there:
            self.evaluate("document.getElementById('main').setAttribute('aria-busy', 'true')")
        self.page.goto(there)  # within the page this loads nothing: the page itself takes the mark away when it is done
        self.drawn()

    def drawn(self) -> None:
        """Waits until what is shown is up to date."""
        self.page.wait_for_selector("main[aria-busy]", state="detached")
        self.page.wait_for_selector("main h1")

    def tile(self, name: str) -> str:
        """Value of a tile."""
        return self.page.locator(f'[data-tile="{name}"] .value').inner_text()

    def table(self, name: str) -> list[list[str]]:
        """Cells of a table's body."""
        rows = self.page.locator(f'[data-table="{name}"] tbody tr')
        return [row.locator("th, td").all_inner_texts() for row in rows.all()]

    def evaluate(self, script: str) -> Any:
        """Value of an expression on the page."""
        return self.page.evaluate(script)

    def fits(self) -> bool:
        """Whether nothing sticks out sideways."""
        return bool(self.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@contextmanager
def watched(browser: Browser, address: str, *, expected: tuple[str, ...] = (), **options: Any) -> Iterator[Watched]:
    """A fresh page; fails the test when it did something wrong.

    Args:
        browser: The browser.
        address: Origin that serves the dashboard.
        expected: Parts of console messages that this test provokes.
        options: Of the browser's context, such as color_scheme.
    """
    context: BrowserContext = browser.new_context(**{"viewport": WIDE, "timezone_id": "Europe/Berlin", **options})
    context.set_default_timeout(15_000)
    context.add_init_script(_WATCH)
    seen = Watched(context.new_page(), address)
    seen.page.on("console", lambda m: seen.wrongs.extend([m.text] if m.type in {"error", "warning"} else []))
    seen.page.on("pageerror", lambda error: seen.wrongs.append(str(error)))
    seen.page.on("dialog", lambda dialog: _dismiss(dialog, seen))
    seen.page.on("request", lambda request: _check(request, seen))
    yield seen
    context.close()
    assert [w for w in seen.wrongs if not any(part in w for part in expected)] == []


def _dismiss(dialog: Dialog, seen: Watched) -> None:
    seen.wrongs.append(f"dialog: {dialog.message}")
    dialog.dismiss()


def _check(request: Request, seen: Watched) -> None:
    if not request.url.startswith((seen.address + "/embedllm/", "data:")):
        seen.wrongs.append(f"request to {request.url}")
