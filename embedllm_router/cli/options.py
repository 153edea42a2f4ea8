"""Options that commands on records share: where the records lie, and which requests are meant."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedllm_router.cli.console_cli_errors import clear_errors

if TYPE_CHECKING:
    from embedllm_router.records.reader.source import RecordSource
    from embedllm_router.records.reader.source_logs_filters import Filters

__all__ = ["Place", "filters_of", "place_of", "with_options"]


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
        from embedllm_router.cli.options_logs_default_place import places  # noqa: PLC0415 - when a command runs
        from embedllm_router.records.reader.source import Limits, open_source  # noqa: PLC0415 - when a command runs

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
    from embedllm_router.cli.options_replay_options import moment  # noqa: PLC0415 - when a command runs
    from embedllm_router.records.reader.source_logs_filters import Filters  # noqa: PLC0415 - when a command runs

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
