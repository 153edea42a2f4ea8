"""Options that commands on records share: where the records lie, and which requests are meant.

Where a command looks for records: what it is told, else where the proxy's settings put them.

What a user asks for on the command line → values, checked. It opens and prints nothing.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedllm_router.analysis.replay.change import NewAim
from embedllm_router.cli.console import clear_errors
from embedllm_router.config.settings import read_proxy_config, read_store_settings
from embedllm_router.config.store_options import default_store_path
from embedllm_router.errors import ConfigError
from embedllm_router.routing.overrides import PROFILES
from embedllm_router.routing.policy import Objective

if TYPE_CHECKING:
    from embedllm_router.records.reader.source import Filters, RecordSource

__all__ = ["Place", "filters_of", "moment", "new_aim", "place_of", "places", "with_options"]


def places(origin: Sequence[str] | None, config: Path | None) -> list[str]:
    """Folders, files, globs, or one database.

    Args:
        origin: What the command was told; empty or None for nothing.
        config: A proxy configuration whose setting `store` counts then; None takes the environment and the defaults.

    Raises:
        ConfigError: The configuration is not usable.
    """
    if origin:
        return list(origin)
    store = read_proxy_config(config).store if config is not None else read_store_settings()
    if store.url is not None:
        return [store.url.get_secret_value()]
    return [str(store.path or default_store_path())]


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


class _Status(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class _Arm(StrEnum):
    LIVE = "live"
    CANARY = "canary"


Origin = Annotated[
    list[str] | None,
    typer.Option("--from", help="Folder, file, glob or postgresql:// URL; repeat for several. The proxy's by default."),
]
Config = Annotated[Path | None, typer.Option(help="Look where this proxy configuration puts records.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of a query over files.")]
Memory = Annotated[str, typer.Option(help="Most memory a query over files takes; what is over goes to disk.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where records lie, and what reading them may take.

    Attributes:
        origin: What the command was told.
        config: A proxy configuration that says where.
        threads: Of a query over files.
        memory: Of all queries over files.
    """

    origin: list[str] | None
    config: Path | None
    threads: int
    memory: str

    @contextmanager
    def opened(self, *, must_exist: bool = True) -> "Iterator[RecordSource]":
        """The records, open for reading."""
        from embedllm_router.records.reader.source import Limits, open_source

        limits = Limits(self.threads, self.memory)
        source = open_source(places(self.origin, self.config), limits=limits, must_exist=must_exist)
        try:
            yield source
        finally:
            source.close()


def place_of(origin: Origin = None, config: Config = None, threads: Threads = 2, memory: Memory = "1GB") -> Place:
    """The options that say where records lie."""
    return Place(origin, config, threads, memory)


def filters_of(
    since: Annotated[str | None, typer.Option(help="From then on: a time in UTC, or an age such as 24h or 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="Before then, likewise.")] = None,
    virtual_model: Annotated[str | None, typer.Option(help="Name that was asked for.")] = None,
    llm: Annotated[str | None, typer.Option(help="LLM that was chosen, or answered.")] = None,
    key: Annotated[str | None, typer.Option(help="Alias of the API key.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it was chosen, such as highest_utility.")] = None,
    status: Annotated[_Status | None, typer.Option(help="How it ended.")] = None,
    arm: Annotated[_Arm | None, typer.Option(help="Whether a canary decided.")] = None,
    category: Annotated[str | None, typer.Option(help="Training category nearest to the prompt.")] = None,
    min_cost: Annotated[float | None, typer.Option(min=0, help="USD at least: billed, else predicted.")] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="USD at most, likewise.")] = None,
    excluded: Annotated[str | None, typer.Option(help="A candidate was excluded for it: too_expensive.")] = None,
) -> "Filters":
    """The options that say which requests are meant."""
    from embedllm_router.records.reader.source import Filters

    return Filters(
        since=moment(since, "--since"),
        until=moment(until, "--until"),
        virtual_model=virtual_model,
        llm=llm,
        key_alias=key,
        reason=reason,
        status=status.value if status else None,
        arm=arm.value if arm else None,
        category=category,
        min_cost_usd=min_cost,
        max_cost_usd=max_cost,
        excluded=excluded,
    )


def with_options(command: Callable[..., None], *groups: Callable[..., object]) -> Callable[..., None]:
    """Gives a command the options of some groups; it gets what each makes of them, in front of its own parameters."""
    own = list(inspect.signature(command).parameters.values())[len(groups) :]
    shared = [list(inspect.signature(group).parameters.values()) for group in groups]

    def run(**given: Any) -> None:
        with clear_errors():
            made = [
                group(**{p.name: given.pop(p.name) for p in mine}) for group, mine in zip(groups, shared, strict=True)
            ]
            command(*made, **given)

    options = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *(p for mine in shared for p in mine))]
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # what inspect reads first
    run.__annotations__ = {p.name: p.annotation for p in options}
    run.__doc__ = command.__doc__
    return run
