"""Options that several commands share: where records are and which requests are meant, what training reads."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedllm_router.cli.console import clear_errors
from embedllm_router.errors import ConfigError

if TYPE_CHECKING:
    from embedllm_router.records.reader.source import Filters, RecordSource

__all__ = [
    "EmbeddingsFolder",
    "MaxPrompts",
    "Origin",
    "Place",
    "filters_of",
    "moment",
    "place_of",
    "places",
    "with_options",
]

_AGO = re.compile(r"(\d+)\s*([mhdw])")
_UNIT = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Origin = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        help="Records: folder, file, glob, s3://bucket/prefix or postgresql:// URL; repeat for several. Default: where "
        "the proxy writes.",
    ),
]
Config = Annotated[
    Path | None, typer.Option(help="LiteLLM proxy configuration whose store settings say where the records are.")
]
EmbeddingsFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder where the embeddings of a sentence transformer are kept, so that no prompt is embedded twice. It "
        "holds digests of the prompts, not the prompts."
    ),
]
MaxPrompts = Annotated[
    int | None,
    typer.Option(min=1, help="Most prompts taken of each data set, always the same ones; all by default."),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads for queries over files.")]
Memory = Annotated[str, typer.Option(help="Memory limit of queries over files; larger ones use the disk.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where records are, and what reading them may take.

    Attributes:
        origin: What `--from` names.
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


def places(origin: Sequence[str] | None, config: Path | None) -> list[str]:
    """Folders, files, globs, or one database.

    Args:
        origin: What the command line names; empty or None for nothing.
        config: A proxy configuration whose setting `store` counts then; None takes the environment and the defaults.

    Raises:
        ConfigError: The configuration is not usable.
    """
    if origin:
        return list(origin)
    from embedllm_router.config.settings import read_proxy_config, read_store_settings

    store = read_proxy_config(config).store if config is not None else read_store_settings()
    return [store.place]


def place_of(origin: Origin = None, config: Config = None, threads: Threads = 2, memory: Memory = "1GB") -> Place:
    """The options that say where records are."""
    return Place(origin, config, threads, memory)


class _Status(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class _Arm(StrEnum):
    LIVE = "live"
    CANARY = "canary"


def filters_of(
    since: Annotated[
        str | None,
        typer.Option(
            help="Requests decided from this time on: 2026-01-31, 2026-01-31T08:00 (UTC), or an age such as 24h."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Requests decided before this time, in the same form.")] = None,
    virtual_model: Annotated[str | None, typer.Option(help="Requests for this virtual model.")] = None,
    llm: Annotated[
        str | None, typer.Option(help="Requests for which this LLM was chosen, or which it answered.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Requests with the API key that has this alias in LiteLLM.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Requests decided for this reason, such as highest_utility.")
    ] = None,
    status: Annotated[_Status | None, typer.Option(help="Requests with this outcome.")] = None,
    arm: Annotated[_Arm | None, typer.Option(help="Requests decided by this arm.")] = None,
    category: Annotated[str | None, typer.Option(help="Requests nearest to this training category.")] = None,
    min_cost: Annotated[float | None, typer.Option(min=0, help="Requests of at least this cost in USD.")] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Requests of at most this cost in USD.")] = None,
    excluded: Annotated[
        str | None, typer.Option(help="Requests with a candidate excluded for this reason, such as too_expensive.")
    ] = None,
) -> "Filters":
    """The options that say which requests are meant. A cost is the billed one, else the predicted one."""
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


def moment(text: str | None, option: str, *, now: datetime | None = None) -> datetime | None:
    """Reads a time: ISO 8601, UTC where it names no zone, or an age such as 90m, 24h, 7d or 2w.

    Raises:
        ConfigError: It is neither, or no calendar has it.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return (now or datetime.now(UTC)) - timedelta(**{_UNIT[ago[2]]: int(ago[1])})
        read = datetime.fromisoformat(text.strip())
        return read.astimezone(UTC) if read.tzinfo is not None else read.replace(tzinfo=UTC)
    except OverflowError:
        raise ConfigError(f"{option} {text[:40]}: no calendar goes that far; the years 1 to 9999 are known.") from None
    except ValueError as error:
        raise ConfigError(
            f"{option} takes a time such as 2026-01-31T08:00 or an age such as 24h; found {text[:40]!r}."
        ) from error


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
