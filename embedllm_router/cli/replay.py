"""The command `replay`: parse, call one function, print.

Results go to stdout, progress to stderr. Heavy imports wait until the command runs.
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import AsJson, print_json, print_lines, progress, renamed, stdout
from embedllm_router.cli.options import Origin, filters_of, place_of, with_options
from embedllm_router.errors import ConfigError

if TYPE_CHECKING:
    from embedllm_router.analysis.replay.change import Change, NewAim
    from embedllm_router.analysis.replay.result import Replay
    from embedllm_router.records.reader.recorded import Recorded
    from embedllm_router.records.reader.source import Filters

__all__ = ["app", "register"]


class _Profile(StrEnum):  # overrides.py has the same names, but loads numpy; a test holds them together
    QUALITY = "quality"
    BALANCED = "balanced"
    CHEAP = "cheap"


def register(app: typer.Typer) -> None:
    """Adds the command to a Typer application."""
    app.command(name="replay")(with_options(_replay, filters_of))


def _replay(
    filters: "Filters",
    origin: Origin = None,
    artifact: Annotated[
        Path | None, typer.Option(help="Weights folder to decide with. Default: the recorded predictions.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="LiteLLM proxy configuration whose candidates, prices and objectives decide.")
    ] = None,
    cost_weight: Annotated[
        float | None, typer.Option(help="λ: accuracy you give up per US dollar of one request.")
    ] = None,
    profile: Annotated[
        _Profile | None, typer.Option(help="A cost weight by name: quality 0, balanced 20, cheap 500.")
    ] = None,
    min_p_correct: Annotated[
        float | None, typer.Option(help="Choose the cheapest LLM whose p_correct is at least this.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(help="Choose the cheapest LLM whose p_correct is at most this far below the highest."),
    ] = None,
    within: Annotated[float | None, typer.Option(hidden=True)] = None,
    max_cost_usd: Annotated[
        float | None, typer.Option(help="Exclude LLMs whose expected cost in USD is higher.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Use feedback of this source only; repeat for several. Default: all.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of requests to decide again; the newest are taken.")
    ] = 100_000,
    flips: Annotated[int, typer.Option(min=0, help="Largest number of changed choices (flips) to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Decide recorded requests again: with another objective, other weights or another configuration."""
    from embedllm_router.records.reader.find import check_virtual_model
    from embedllm_router.records.reader.recorded import Wanted, read_recorded

    aim, words = new_aim(
        cost_weight=cost_weight,
        profile=profile.value if profile else None,
        min_p_correct=min_p_correct,
        max_accuracy_drop=renamed("--within", within, "--max-accuracy-drop", max_accuracy_drop),
        max_cost_usd=max_cost_usd,
    )
    change, changed = _change(aim, words, artifact, config)
    with place_of(origin).opened() as log:
        check_virtual_model(log, filters)
        wanted = Wanted(
            filters=filters, limit=limit, with_text=artifact is not None, sources=source, with_pairs=source is None
        )
        recorded = read_recorded(log, wanted)
    _print(_run(recorded, change, changed, flips), as_json=as_json)


def new_aim(
    *,
    cost_weight: float | None = None,
    profile: str | None = None,
    min_p_correct: float | None = None,
    max_accuracy_drop: float | None = None,
    max_cost_usd: float | None = None,
) -> "tuple[NewAim, tuple[str, ...]]":
    """Reads an objective for every request.

    Returns:
        The objective, and the same in words; without words when nothing was given.

    Raises:
        ConfigError: Two aims are given, or a number is out of range.
    """
    from embedllm_router.analysis.replay.change import NewAim
    from embedllm_router.routing.overrides import PROFILES
    from embedllm_router.routing.policy import Objective

    aims = {"cost_weight": cost_weight, "profile": profile, "min_p_correct": min_p_correct, "within": max_accuracy_drop}
    said = {name: value for name, value in aims.items() if value is not None}
    if len(said) > 1:
        raise ConfigError(f"{' and '.join(map(_option, said))} exclude each other; give one of them.")
    for name, value in (("cost_weight", cost_weight), ("max_cost_usd", max_cost_usd)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{_option(name)} must be a finite number of at least 0, found {value}.")
    for name, value in (("min_p_correct", min_p_correct), ("within", max_accuracy_drop)):
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{_option(name)} must be between 0 and 1, found {value}.")
    if profile is not None and profile not in PROFILES:
        raise ConfigError(f"--profile must be one of {', '.join(PROFILES)}, found {profile!r}.")
    weight = PROFILES[profile] if profile is not None else cost_weight or 0.0
    aim = Objective(weight, min_p_correct, max_accuracy_drop) if said else None
    words = [f"{name} {value}" for name, value in (*said.items(), ("max_cost_usd", max_cost_usd)) if value is not None]
    return NewAim(aim, max_cost_usd), tuple(words)


def _option(name: str) -> str:
    if name == "within":
        return "--max-accuracy-drop"
    return f"--{name.replace('_', '-')}"


def _change(
    aim: "NewAim", words: tuple[str, ...], artifact: Path | None, config: Path | None
) -> tuple["Change", tuple[str, ...]]:
    from embedllm_router.analysis.replay.change import Change, read_new_config
    from embedllm_router.artifact.weights import load_artifact
    from embedllm_router.records.reader.recorded import Rescorer

    if not (words or artifact or config):
        raise ConfigError(
            "nothing would change: give --artifact, --config, --max-cost-usd or one of --cost-weight, --profile, "
            "--min-p-correct and --max-accuracy-drop."
        )
    weights = load_artifact(artifact) if artifact else None
    if weights is not None:
        words += (f"weights {weights.id}",)
    if config is not None:
        words += (f"configuration {config.name}",)
    return Change(
        aim=aim,
        rescorer=Rescorer(weights) if weights else None,
        config=read_new_config(config, weights) if config else None,
    ), words


def _run(recorded: "Recorded", change: "Change", changed: tuple[str, ...], flips: int) -> "Replay":
    from embedllm_router.analysis.replay.run import replay

    with progress() as on_progress:
        return replay(recorded, change, changed, most_flips=flips, on_progress=on_progress)


def _print(found: "Replay", *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from embedllm_router.cli.result_views import replay_lines, replay_tables

    console = stdout()
    print_lines(console, replay_lines(found))
    for table in replay_tables(found):
        console.print(table)
    print_lines(console, (f"note: {note}" for note in found.notes))


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
