"""The command `score`: a file of prompts to what the router makes of each."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from embedllm_router.cli.console import AsJson, figures_table, print_json, progress, stdout
from embedllm_router.cli.options import with_options
from embedllm_router.errors import ConfigError
from embedllm_router.routing.decision import Objective
from embedllm_router.routing.router import NEAR_TIE_MARGIN

if TYPE_CHECKING:
    from embedllm_router.evaluation.scoring import ChosenLLM

__all__ = ["register"]


@dataclass(frozen=True, slots=True)
class _Choice:
    """How an LLM is chosen, and among which; all that the weights know for None."""

    candidates: tuple[str, ...] | None
    objective: Objective


def _choice_of(
    candidates: Annotated[
        str | None, typer.Option(help="LLMs to choose from, separated by commas; all that the weights know by default.")
    ] = None,
    cost_weight: Annotated[float, typer.Option(min=0, help="λ, the accuracy you give up per US dollar.")] = 0.0,
    min_p_correct: Annotated[
        float | None, typer.Option(min=0, max=1, help="Instead: the cheapest LLM whose p_correct is at least this.")
    ] = None,
) -> _Choice:
    """The options that say how an LLM is chosen."""
    if not math.isfinite(cost_weight):
        raise ConfigError(f"--cost-weight must be a finite number of at least 0, found {cost_weight}.")
    named = None if candidates is None else tuple(name.strip() for name in candidates.split(",") if name.strip())
    if named == ():
        raise ConfigError("--candidates names no LLM; leave it out for all that the weights know.")
    return _Choice(named, Objective(cost_weight, min_p_correct, near_tie_margin=NEAR_TIE_MARGIN))


def register(app: typer.Typer) -> None:
    """Adds the command to a Typer application."""
    app.command(name="score")(with_options(_score, _choice_of))


def _mix(chosen: "Sequence[ChosenLLM]") -> Table:
    n = sum(one.n for one in chosen)
    table = figures_table("chosen", ("LLM",), ("prompts", "share", "mean p_correct", "USD for all of them"))
    for one in chosen:
        mean = "" if one.p_correct is None else f"{one.p_correct:.3f}"
        usd = "" if one.cost_usd is None else f"{one.cost_usd:.4g}"
        table.add_row(one.name or "none", f"{one.n:,}", f"{one.n / n:.1%}", mean, usd)
    return table


def _score(
    choice: _Choice,
    file: Annotated[Path, typer.Argument(help="Prompts: Parquet, or one JSON object a line (.jsonl).")],
    out: Annotated[
        Path, typer.Option(help="Folder for the parts, Parquet files; what is there of the same job is not made again.")
    ],
    artifact: Annotated[Path | None, typer.Option(help="Weights folder; the shipped weights by default.")] = None,
    column: Annotated[str, typer.Option(help="Column of the prompts.")] = "prompt",
    every_llm: Annotated[
        bool, typer.Option("--every-llm", help="Write the p_correct of every candidate, a column each.")
    ] = False,
    rows_per_part: Annotated[int, typer.Option(min=1, help="Rows of a part.")] = 20_000,
    workers: Annotated[
        int, typer.Option(min=1, help="Parts made at once, one CPU each; more than 1 need the extra `ray`.")
    ] = 1,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster that makes the parts, whose machines see file, weights and folder under the same paths. "
            "Default: one on this machine."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say of millions of prompts which LLM would be chosen, at list prices, and how likely it is right."""
    from embedllm_router.evaluation.ray_scoring import score_on_ray
    from embedllm_router.evaluation.scoring import Job, chosen_llms, score_file

    job = Job(
        file=file,
        out=out,
        artifact=artifact,
        column=column,
        candidates=choice.candidates,
        objective=choice.objective,
        every_llm=every_llm,
        rows_per_part=rows_per_part,
    )
    with progress() as on_progress:
        if workers == 1 and ray_address is None:
            scored = score_file(job, on_progress)
        else:
            scored = score_on_ray(job, workers=workers, address=ray_address, on_progress=on_progress)
    chosen = chosen_llms(job)
    result = {"out": str(out), "rows": scored.n_rows, "parts": scored.n_parts, "new_parts": scored.n_new}
    if as_json:
        print_json({**result, "chosen": [asdict(one) for one in chosen]}, indent=False)
    else:
        stdout().print(_mix(chosen))
        parts = "1 part" if scored.n_parts == 1 else f"{scored.n_parts:,} parts"
        typer.echo(f"{out}: {scored.n_rows:,} prompts in {parts}, {scored.n_new:,} of them new")
