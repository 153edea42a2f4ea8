"""Makes the pictures of docs/dashboard.md: python tests/helpers/pictures.py docs/images.

A made-up day of 4,000 requests, the shipped weights, real Chromium.
"""

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from browsing import NARROW, WIDE, Watched, chromium, watched
from day import Day, stored
from pages import application, served
from PIL import Image
from playwright.sync_api import Browser
from traffic import make_day, now

from embedllm_router.artifact.weights import default_artifact_path, load_artifact

N_REQUESTS = 4_000
COLOURS = 128
RECORDS = Path("state/records")


@dataclass(frozen=True, slots=True)
class Picture:
    name: str
    view: str
    scheme: str = "light"
    height: int = 900
    narrow: bool = False


def main(folder: Path) -> None:
    end = now()
    day = Day(end, *make_day(N_REQUESTS, end))
    fell_back = next(r for r in reversed(day.requests) if r.fallback)
    pictures = (
        Picture("overview", "overview", height=1180),
        Picture("tradeoff", "tradeoff?cost_weight=50&requests_per_month=120000", "dark", height=1120),
        Picture("decisions", "decisions?only=fallback", height=760),
        Picture("decision", f"decision?id={fell_back.request_id}", height=1140),
        Picture("topics", "topics", "dark", height=1000),
        Picture("calibration", "calibration", height=960),
        Picture("health", "health", "dark", height=1200),
        Picture("phone", "overview", "dark", height=1400, narrow=True),
    )
    with tempfile.TemporaryDirectory() as aside, contextlib.chdir(aside), chromium() as browser:
        stored(RECORDS, day)
        with served(application(RECORDS, load_artifact(default_artifact_path()))) as address:
            for picture in pictures:
                take(browser, address, picture, folder)


def take(browser: Browser, address: str, picture: Picture, folder: Path) -> None:
    size = NARROW if picture.narrow else WIDE
    viewport = {"width": size["width"], "height": picture.height}
    with watched(browser, address, viewport=viewport, color_scheme=picture.scheme) as seen:
        seen.go(picture.view)
        prepare(seen, picture)
        drawn = Image.open(BytesIO(seen.page.screenshot())).convert("RGB")
        drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / f"dashboard-{picture.name}.png", optimize=True)


def prepare(seen: Watched, picture: Picture) -> None:
    if picture.view == "overview":
        seen.page.wait_for_selector('[data-panel="answers"]:not([aria-busy])')
    if picture.name == "tradeoff":
        seen.page.get_by_role("button", name="Copy as YAML").click()
        seen.page.wait_for_selector("#yaml")
    seen.page.wait_for_timeout(500)  # charts grow for 200 ms


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
