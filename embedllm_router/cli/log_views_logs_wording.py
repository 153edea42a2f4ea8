"""Numbers as people read them."""

import math
from datetime import datetime

__all__ = ["milliseconds", "number", "percent", "probability", "usd", "when"]


def usd(value: float | None) -> str:
    """An amount to three digits without an exponent, such as "$0.00214"; "-" when unknown."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "$0"
    digits = min(max(2, 2 - math.floor(math.log10(abs(value)))), 12)
    text = f"{abs(value):,.{digits}f}"
    return ("-" if value < 0 else "") + "$" + text


def probability(value: float | None) -> str:
    """To three digits, such as "0.951"."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share of 1 in percent, such as "4.2 %"."""
    if share is None or not math.isfinite(share):
        return "-"
    return f"{100 * share:.{1 if abs(share) < 1 else 0}f} %"


def number(value: float | None) -> str:
    """Three or four digits, without an exponent up to a million."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - three digits before the point


def milliseconds(value: float | None) -> str:
    """To a hundredth below ten, else whole."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"  # noqa: PLR2004 - as said


def when(at: datetime) -> str:
    """A time in UTC to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
