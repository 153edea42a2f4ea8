"""The command `replay`: parse, call one function, print.

Results go to stdout, progress to stderr. Heavy imports wait until the command runs.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import progress
from embedllm_router.cli.options import filters_of, place_of, with_options
from embedllm_router.errors import ConfigError

if TYPE_CHECKING:
    from embedllm_router.analysis.replay.change import Change, NewAim
    from embedllm_router.analysis.replay.result import Replay
    from embedllm_router.records.reader.recorded import Recorded
    from embedllm_router.records.reader.source import Filters

__all__ = ["app", "register"]

_PIPED_WIDTH = 160


class _Profile(StrEnum):  # overrides.py has the same names, but loads numpy; a test holds them together
    QUALITY = "quality"
    BALANCED = "balanced"
    CHEAP = "cheap"


def register(app: typer.Typer) -> None:
    """Adds the command to a Typer application."""
    app.command(name="replay")(with_options(_replay, filters_of))


def _replay(
    filters: "Filters",
    origin: Annotated[
        list[str] | None,
        typer.Option("--from", help="Folder, file, glob or postgresql:// URL of the log; the proxy's by default."),
    ] = None,
    artifact: Annotated[Path | None, typer.Option(help="Decide with these weights.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Decide with the candidates, prices and objectives of this proxy configuration.")
    ] = None,
    cost_weight: Annotated[float | None, typer.Option(help="λ: accuracy given up per US dollar of a request.")] = None,
    profile: Annotated[_Profile | None, typer.Option(help="A cost weight by name.")] = None,
    min_p_correct: Annotated[float | None, typer.Option(help="Take the cheapest LLM that reaches this.")] = None,
    within: Annotated[float | None, typer.Option(help="Take the cheapest LLM this close to the best.")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(help="Exclude LLMs expected to cost more.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Feedback of this source counts; repeat for several.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most requests to decide again, the newest.")] = 100_000,
    flips: Annotated[int, typer.Option(min=0, help="Most flips to list.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Decide recorded requests again: with another objective, other weights or another configuration."""
    from embedllm_router.cli.options import new_aim
    from embedllm_router.records.reader.recorded import Wanted, read_recorded

    aim, words = new_aim(
        cost_weight=cost_weight,
        profile=profile.value if profile else None,
        min_p_correct=min_p_correct,
        within=within,
        max_cost_usd=max_cost_usd,
    )
    change, changed = _change(aim, words, artifact, config)
    with place_of(origin).opened() as log:
        wanted = Wanted(filters=filters, limit=limit, with_text=artifact is not None, sources=source)
        recorded = read_recorded(log, wanted)
    _print(_run(recorded, change, changed, flips), as_json=as_json)


def _change(
    aim: "NewAim", words: tuple[str, ...], artifact: Path | None, config: Path | None
) -> tuple["Change", tuple[str, ...]]:
    from embedllm_router.analysis.replay.change import (
        Change,
        read_new_config,
    )
    from embedllm_router.artifact.weights import load_artifact
    from embedllm_router.records.reader.recorded import Rescorer

    if not (words or artifact or config):
        raise ConfigError(
            "nothing would change: give --artifact, --config, --max-cost-usd or one of --cost-weight, --profile, "
            "--min-p-correct and --within."
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

    with progress() as tell:
        return replay(recorded, change, changed, most_flips=flips, tell=tell)


def _print(found: "Replay", *, as_json: bool) -> None:
    if as_json:
        import orjson

        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n")
        return
    from rich.console import Console

    from embedllm_router.cli.result_views import replay_lines, replay_tables

    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    for line in replay_lines(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for table in replay_tables(found):
        console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
