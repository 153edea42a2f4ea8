"""Text and charts can be told from their ground: WCAG 2.2 AA, computed from the style sheet itself."""

import re
from itertools import product
from pathlib import Path

import pytest

import embedllm_router.web

STYLE = (Path(embedllm_router.web.__file__).parent / "static/colours.css").read_text()
TEXT, GRAPHICS = 4.5, 3.0
SERIES = [f"c{n}" for n in range(10)] + ["cx", "ca"]


def palettes() -> dict[str, dict[str, str]]:
    light = re.search(r":root \{(.*?)\}", STYLE, re.DOTALL)
    chosen = re.search(r':root\[data-theme="dark"\] \{(.*?)\}', STYLE, re.DOTALL)
    by_system = re.search(r':root:not\(\[data-theme="light"\]\) \{(.*?)\}', STYLE, re.DOTALL)
    assert light
    assert chosen
    assert by_system
    found = {name: dict(re.findall(r"--([\w-]+): (#\w{6})", match[1])) for name, match in
             (("light", light), ("dark", chosen), ("system", by_system))}  # fmt: skip
    assert found["dark"] == found.pop("system"), "both ways into the dark must look the same"
    assert found["light"].keys() == found["dark"].keys()
    return found


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


PAIRS = [
    *((text, ground, TEXT) for text, ground in product(("ink", "muted", "link"), ("ground", "surface", "raised"))),
    ("on-accent", "accent", TEXT),
    *((tone, f"{tone}-ground", TEXT) for tone in ("good", "warn", "bad")),
    *(("ink", f"{tone}-ground", TEXT) for tone in ("good", "warn", "bad", "info")),
    *((tone, "surface", TEXT) for tone in ("good", "bad")),
    ("link", "info-ground", TEXT),
    *((series, "surface", GRAPHICS) for series in SERIES),
    *((edge, ground, GRAPHICS) for edge, ground in product(("edge", "accent"), ("ground", "surface"))),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS, ids=str)
def test_contrast(theme: str, front: str, ground: str, least: float) -> None:
    colours = palettes()[theme]
    assert contrast(colours[front], colours[ground]) >= least


def test_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
