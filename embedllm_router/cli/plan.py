"""The commands `plan` and `guarantee`: parse, call one function, print.

Results go to stdout, progress to stderr. Heavy imports wait until a command runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import AsJson, clear_errors, print_json, print_lines, progress, stdout, warn
from embedllm_router.cli.options import filters_of, place_of, with_options

if TYPE_CHECKING:
    from embedllm_router.analysis.plan.result import Plan
    from embedllm_router.artifact.weights import Artifact
    from embedllm_router.cli.options import Place
    from embedllm_router.records.reader.source import Filters

__all__ = ["app", "register"]


def register(app: typer.Typer) -> None:
    """Adds the commands to a Typer application."""
    app.command(name="plan")(with_options(_plan, place_of, filters_of))
    app.command(name="guarantee")(_guarantee)
    app.command(name="contract", hidden=True)(_contract)


def _plan(
    place: "Place",
    filters: "Filters",
    target_accuracy: Annotated[float | None, typer.Option(help="Mean p_correct to reach at the lowest cost.")] = None,
    budget: Annotated[str | None, typer.Option(help="Budget in USD, such as 500/month or 20/day.")] = None,
    artifact: Annotated[
        Path | None, typer.Option(help="Weights folder whose guarantees are used; the shipped one by default.")
    ] = None,
    requests_per_month: Annotated[
        float | None,
        typer.Option(min=1, help="Requests per month. Default: the rate of the records, which must span a day."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Model group that you used before, to compare with. Default: as recorded.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of requests to plan with; the newest are taken.")
    ] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Find the cost_weight or min_p_correct that reaches an accuracy or keeps to a budget, on recorded requests."""
    from embedllm_router.analysis.plan.goal import read_goal
    from embedllm_router.analysis.plan.plan import make_plan
    from embedllm_router.analysis.plan.traffic import read_traffic
    from embedllm_router.artifact.weights import default_artifact_path, load_artifact
    from embedllm_router.records.reader.find import check_virtual_model
    from embedllm_router.records.reader.recorded import Wanted, read_recorded, usual_baseline

    goal = read_goal(target_accuracy, budget)
    weights = load_artifact(artifact or default_artifact_path())
    with place.opened() as log:
        check_virtual_model(log, filters)
        wanted = Wanted(filters=filters, limit=limit, with_text=artifact is not None, sources=None)
        recorded = read_recorded(log, wanted)
    traffic = read_traffic(recorded, weights=weights if artifact else None, per_month=requests_per_month)
    known = all(request.artifact == weights.id for request in traffic.requests) or artifact is not None
    contract = weights.manifest.contract if known else ()
    used = baseline or usual_baseline(traffic.requests)
    plan = make_plan(traffic, goal, contract, where=recorded.where, known=known, baseline=used)
    _print_plan(plan, as_json=as_json)


def _print_plan(plan: "Plan", *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    from embedllm_router.cli.result_views import plan_lines, plan_tables

    console = stdout()
    print_lines(console, plan_lines(plan))
    for table in plan_tables(plan):
        console.print(table)
    print_lines(console, (f"note: {note}" for note in plan.notes))
    if plan.yaml:
        print_lines(console, ("\nto paste into the proxy's configuration:\n", plan.yaml))


Changed = Annotated[Path, typer.Option(help="Weights folder to change in place.")]
LearnedFrom = Annotated[
    list[Path], typer.Option(help="Data folder that the weights were trained on; repeat for several.")
]


def _contract(artifact: Changed, data: LearnedFrom, as_json: AsJson = False) -> None:
    """Measure the guarantees of weights; the command is now named `guarantee`."""
    warn("`contract` is deprecated and will be removed: use `embedllm-router guarantee`, which does the same.")
    _guarantee(artifact, data, as_json=as_json)


def _guarantee(artifact: Changed, data: LearnedFrom, as_json: AsJson = False) -> None:
    """Measure on held-out prompts how often the cheapest LLM that reaches τ is right; store it with the weights."""
    with clear_errors():
        from embedllm_router.evaluation.guarantee import add_guarantee

        with progress() as on_progress:
            changed = add_guarantee(artifact, data, on_progress)
    _print_guarantees(changed, artifact, as_json=as_json)


def _print_guarantees(changed: "Artifact", folder: Path, *, as_json: bool) -> None:
    rows = changed.manifest.contract
    if as_json:
        print_json({"out": str(folder), "artifact": changed.id, "contract": [row.model_dump() for row in rows]})
        return
    from embedllm_router.artifact.guarantees import guarantee_tables

    console = stdout()
    print_lines(console, [f"{folder}: artifact {changed.id}, {len(rows)} guarantees measured"])
    for table in guarantee_tables(rows):
        console.print(table)


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
