"""What the name and the listing of an LLM say of it, as figures that its ability is expected from.

Training learns how much each figure tells (`training.fit.ability`), and serving applies that to LLMs nobody graded
(`KinSpec`). Both read the figures here, so that they mean the same.
"""

import math
import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "COVARIATES",
    "FEATURES",
    "LLMKind",
    "base_id",
    "family_of",
    "is_small",
    "month_in_name",
    "size_in_name",
    "thinks_by_name",
    "years_of",
]

COVARIATES: Final = (
    "released",
    "released_unknown",
    "thinking",
    "small",
    "log_size",
    "size_unknown",
    "log_price",
    "price_unknown",
    "published",
    "published_unknown",
    "published_other_setting",
)
"""Figures of `LLMKind.figures` that ability is expected from, in order."""

FEATURES: Final = ("one", "ability", "thinking", "released", "released_unknown", "small")
"""Figures that an LLM's embeddings are expected from, in order; then "vendor:NAME" of each frequent vendor.

"one" is always 1, and "vendor:NAME" is 1 for that vendor's LLMs, else 0.
"""

_YEAR: Final = 2025.0
_USUAL_SIZE_B: Final = 30.0
_USUAL_USD: Final = 2.0
_MIDDLE_OF_YEAR: Final = 0.5
_SMALL: Final = re.compile(r"mini|nano|flash|haiku|lite|small|tiny|air")
_THINKS: Final = re.compile(r"(?:thinking|high|medium)$")
_SIZE: Final = re.compile(r"(?<![a-z0-9.])(?:\d+x)?(\d+(?:\.\d+)?)b(?![a-z])")
_RELEASE: Final = re.compile(r"[-@]?\d{4}-?\d{2}-?\d{2}|-\d{4}$|-preview|-exp|-latest")
_YEAR_MONTH: Final = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])(?!\d{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMKind:
    """What is known of an LLM without having asked it anything.

    Attributes:
        vendor: Who made it; "unknown" when unknown.
        family: The line it belongs to, as `family_of` names it.
        thinking: Whether it reasons before it answers.
        small: Whether its name says that it is the small one of its line.
        released: Month of its release, "YYYY-MM"; None when unknown.
        size_b: Billions of parameters; None when unknown.
        output_usd_per_mtok: List price per million output tokens in USD; None when unknown.
        published: The common factor of its published benchmark scores, 0 on average over all that have any; None when
            there are none.
        published_other_setting: The scores are those of the LLM without reasoning, and this one reasons.
    """

    vendor: str
    family: str
    thinking: bool
    small: bool
    released: str | None = None
    size_b: float | None = None
    output_usd_per_mtok: float | None = None
    published: float | None = None
    published_other_setting: bool = False

    def figures(self) -> dict[str, float]:
        """All of `COVARIATES`; where something is unknown, its figure is 0 and the one that says so is 1."""
        released, size, price = years_of(self.released), _log(self.size_b, _USUAL_SIZE_B), None
        if self.output_usd_per_mtok:  # free of charge says where it runs, not how good it is
            price = _log(self.output_usd_per_mtok, _USUAL_USD)
        return {
            "released": released or 0.0,
            "released_unknown": float(released is None),
            "thinking": float(self.thinking),
            "small": float(self.small),
            "log_size": size or 0.0,
            "size_unknown": float(size is None),
            "log_price": price or 0.0,
            "price_unknown": float(price is None),
            "published": self.published or 0.0,
            "published_unknown": float(self.published is None),
            "published_other_setting": float(self.published_other_setting),
        }

    def features(self, ability: float, names: tuple[str, ...]) -> tuple[float, ...]:
        """The figures that embeddings are expected from.

        Args:
            ability: Of the LLM, in log-odds.
            names: Which; see `FEATURES`.
        """
        known = self.figures() | {"one": 1.0, "ability": ability, f"vendor:{self.vendor}": 1.0}
        return tuple(known.get(name, 0.0) for name in names)


def base_id(llm: str) -> str:
    """An id without its setting: "gpt-5" of "gpt-5:high"."""
    return llm.partition(":")[0]


def family_of(llm: str) -> str:
    """The line an LLM belongs to, read from its id: "claude-sonnet" of "claude-sonnet-4-5-20250929:thinking"."""
    name = _RELEASE.sub("", base_id(llm))
    family = re.split(r"[-.\d]", name)[0]
    if family in {"gpt", "o"}:
        return "gpt-mini" if re.search("mini|nano", name) else family
    if family == "claude":
        return f"claude-{next((size for size in ('haiku', 'opus', 'sonnet') if size in name), 'old')}"
    if family == "gemini":
        return "gemini-flash" if "flash" in name else "gemini-pro"
    return family


def is_small(llm: str) -> bool:
    """Whether an id says that the LLM is the small one of its line."""
    return bool(_SMALL.search(llm))


def thinks_by_name(llm: str) -> bool:
    """Whether an id names a setting in which the LLM reasons: "…:thinking", "…:high"."""
    return bool(_THINKS.search(llm))


def size_in_name(llm: str) -> float | None:
    """Billions of parameters, as an id says: 70 of "llama-3.3-70b-instruct"; of one expert where it has several."""
    found = _SIZE.search(llm)
    return float(found[1]) if found else None


def month_in_name(llm: str) -> str | None:
    """The month in an id, "YYYY-MM": "2024-08" of "gpt-4o-2024-08-06"."""
    found = _YEAR_MONTH.search(llm)
    return f"{found[1]}-{found[2]}" if found else None


def years_of(released: str | None) -> float | None:
    """Years since the beginning of 2025 of a month, "YYYY-MM", or a year; None of None."""
    if released is None:
        return None
    year, _, month = released.partition("-")
    return float(year) - _YEAR + ((int(month[:2]) - 1) / 12 if month else _MIDDLE_OF_YEAR)


def _log(value: float | None, usual: float) -> float | None:
    return math.log(value / usual) if value else None
