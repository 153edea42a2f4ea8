"""The commands `plan` and `contract`: parse, call one function, print.

Results go to stdout, progress to stderr. Heavy imports wait until a command runs.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import clear_errors, progress
from embedllm_router.cli.options import filters_of, place_of, with_options

if TYPE_CHECKING:
    from embedllm_router.analysis.plan.result import Plan
    from embedllm_router.artifact.weights import Artifact
    from embedllm_router.records.reader.source import Filters

__all__ = ["app", "register"]

_PIPED_WIDTH = 160

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to a Typer application."""
    app.command(name="plan")(with_options(_plan, filters_of))
    app.command(name="contract")(_contract)


def _plan(
    filters: "Filters",
    target_accuracy: Annotated[float | None, typer.Option(help="Mean probability of a correct answer.")] = None,
    budget: Annotated[str | None, typer.Option(help="USD to keep to: 500/month or 20/day.")] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--from", help="Folder, file, glob or postgresql:// URL of the log; the proxy's by default."),
    ] = None,
    artifact: Annotated[
        Path | None, typer.Option(help="Weights that predicted, for their contract; the shipped ones by default.")
    ] = None,
    requests_per_month: Annotated[
        float | None, typer.Option(min=1, help="How many come in a month; the log's own rate by default.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most requests to plan with, the newest.")] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Say which λ or τ reaches an accuracy or keeps to a budget, on recorded traffic."""
    from embedllm_router.analysis.plan.goal import read_goal
    from embedllm_router.analysis.plan.plan import make_plan
    from embedllm_router.analysis.plan.traffic import read_traffic
    from embedllm_router.artifact.weights import default_artifact_path, load_artifact
    from embedllm_router.records.reader.recorded import Wanted, read_recorded

    goal = read_goal(target_accuracy, budget)
    weights = load_artifact(artifact or default_artifact_path())
    with place_of(origin).opened() as log:
        wanted = Wanted(filters=filters, limit=limit, with_text=artifact is not None, sources=None)
        recorded = read_recorded(log, wanted)
    traffic = read_traffic(recorded, weights=weights if artifact else None, per_month=requests_per_month)
    known = all(request.artifact == weights.id for request in traffic.requests) or artifact is not None
    contract = weights.manifest.contract if known else ()
    _print_plan(make_plan(traffic, goal, contract, where=recorded.where, known=known), as_json=as_json)


def _print_plan(plan: "Plan", *, as_json: bool) -> None:
    if as_json:
        import orjson

        sys.stdout.buffer.write(orjson.dumps(plan, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n")
        return
    from rich.console import Console

    from embedllm_router.cli.result_views import plan_lines, plan_tables

    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    for line in plan_lines(plan):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for table in plan_tables(plan):
        console.print(table)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if plan.yaml:
        console.print("\nto paste into the proxy's configuration:\n", markup=False, highlight=False)
        console.print(plan.yaml, markup=False, highlight=False, soft_wrap=True)


def _contract(
    artifact: Annotated[Path, typer.Option(help="Weights folder to change in place.")],
    data: Annotated[list[Path], typer.Option(help="A data set's folder it learned from; repeat for several.")],
    as_json: AsJson = False,
) -> None:
    """Measure on held-out prompts how often "p_correct reaches τ" holds, and store it with the weights."""
    with clear_errors():
        from embedllm_router.evaluation.guarantee import add_contract

        with progress() as tell:
            changed = add_contract(artifact, data, tell)
    _print_contract(changed, artifact, as_json=as_json)


def _print_contract(changed: "Artifact", folder: Path, *, as_json: bool) -> None:
    rows = changed.manifest.contract
    if as_json:
        import orjson

        summary = {"out": str(folder), "artifact": changed.id, "contract": [row.model_dump() for row in rows]}
        sys.stdout.buffer.write(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
        return
    from rich.console import Console

    from embedllm_router.artifact.guarantees import contract_tables

    console = Console()
    console.print(f"{folder}: artifact {changed.id}, {len(rows)} promises measured", markup=False, highlight=False)
    for table in contract_tables(rows):
        console.print(table)


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
