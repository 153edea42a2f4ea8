"""What a user asks for on the command line → values, checked. It opens and prints nothing."""

import math
import re
from datetime import UTC, datetime, timedelta

from embedllm_router.analysis.replay.change import NewAim
from embedllm_router.errors import ConfigError
from embedllm_router.routing.overrides import PROFILES
from embedllm_router.routing.policy import Objective

__all__ = ["moment", "new_aim"]

_AGO = re.compile(r"(\d+)\s*([mhdw])")
_UNIT = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def new_aim(
    *,
    cost_weight: float | None = None,
    profile: str | None = None,
    min_p_correct: float | None = None,
    within: float | None = None,
    max_cost_usd: float | None = None,
) -> tuple[NewAim, tuple[str, ...]]:
    """Reads an objective for every request.

    Returns:
        The objective, and the same in words; without words when nothing was given.

    Raises:
        ConfigError: Two aims are given, or a number is out of range.
    """
    aims = {"cost_weight": cost_weight, "profile": profile, "min_p_correct": min_p_correct, "within": within}
    said = {name: value for name, value in aims.items() if value is not None}
    if len(said) > 1:
        raise ConfigError(f"{' and '.join(map(_option, said))} exclude each other; give one of them.")
    for name, value in (("cost_weight", cost_weight), ("max_cost_usd", max_cost_usd)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{_option(name)} must be a finite number of at least 0, found {value}.")
    for name, value in (("min_p_correct", min_p_correct), ("within", within)):
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{_option(name)} must be between 0 and 1, found {value}.")
    if profile is not None and profile not in PROFILES:
        raise ConfigError(f"--profile must be one of {', '.join(PROFILES)}, found {profile!r}.")
    weight = PROFILES[profile] if profile is not None else cost_weight or 0.0
    aim = Objective(weight, min_p_correct, within) if said else None
    words = [f"{name} {value}" for name, value in (*said.items(), ("max_cost_usd", max_cost_usd)) if value is not None]
    return NewAim(aim, max_cost_usd), tuple(words)


def moment(text: str | None, option: str, *, now: datetime | None = None) -> datetime | None:
    """Reads a time: ISO 8601, UTC where it names no zone, or an age such as 90m, 24h, 7d or 2w.

    Raises:
        ConfigError: It is neither.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return (now or datetime.now(UTC)) - timedelta(**{_UNIT[ago[2]]: int(ago[1])})
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(
            f"{option} takes a time such as 2026-01-31T08:00 or an age such as 24h; found {text!r}."
        ) from error
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
