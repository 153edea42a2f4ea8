"""The command `verdict`: parse, call one function, print.

Results go to stdout, progress to stderr. Heavy imports wait until the command runs.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import AsJson, print_json, print_lines, progress, stdout
from embedllm_router.cli.evaluate import SplitChoice
from embedllm_router.cli.options import moment, place_of, with_options
from embedllm_router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedllm_router.analysis.verdict.result import RoutingVerdict
    from embedllm_router.cli.options import Place

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to a Typer application."""
    app.command(name="verdict")(with_options(_verdict, place_of))


def _verdict(
    place: "Place",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Judge this data folder of graded answers instead of records; repeat for several."),
    ] = None,
    llm: Annotated[
        list[str] | None,
        typer.Option(
            help="With --data: LLM to choose from, with --config also a model group; repeat. Default: those of "
            "--config, else all with a price."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="LLM that you used before. Default: the virtual model's setting baseline."),
    ] = None,
    virtual_model: Annotated[str | None, typer.Option(help="Virtual model whose requests or LLMs are meant.")] = None,
    cost_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="λ: accuracy you give up per US dollar of one request. Default: with --data the configuration's, else "
            "routing set for accuracy and set to save; with records each request's own.",
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            min=0.001, max=0.5, help="Accuracy that may be lost where routing is cheaper, and least gain worth having."
        ),
    ] = 0.02,
    artifact: Annotated[
        Path | None,
        typer.Option(
            help="With --data: weights folder that would route. Default: the one of --config, else the shipped one."
        ),
    ] = None,
    split: Annotated[
        SplitChoice | None,
        typer.Option(
            help="With --data: prompts to judge, as for `evaluate`. Default: test where the weights learned from the "
            "data, else all."
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Requests from this time on, or an age such as 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="Requests before this time, in the same form.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of requests to read; the newest are taken.")
    ] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Say whether to route at all: routing pays, not shown yet, or one LLM for everything."""
    if data:
        found = _of_data(place, data, llm, baseline, virtual_model, cost_weight, margin, artifact, split)
    else:
        for_data = {"--llm": llm, "--artifact": artifact, "--split": split}
        if given := [name for name, value in for_data.items() if value]:
            raise ConfigError(f"{', '.join(given)} go with --data; records hold the LLMs they were decided among.")
        found = _of_records(place, baseline, virtual_model, cost_weight, margin, since, until, limit)
    _print(found, as_json=as_json)
    if data and place.config is not None and artifact is not None and not as_json:
        print_lines(stdout(), _next(found, place.config, artifact))


def _of_data(
    place: "Place",
    data: list[Path],
    llm: list[str] | None,
    baseline: str | None,
    virtual_model: str | None,
    cost_weight: float | None,
    margin: float,
    artifact: Path | None,
    split: SplitChoice | None,
) -> "RoutingVerdict":
    from embedllm_router.analysis.verdict.graded import DataOptions, PoolLLM, judge_data, pool_of_config
    from embedllm_router.artifact.weights import default_artifact_path, load_artifact
    from embedllm_router.routing.policy import Objective

    objective = None if cost_weight is None else Objective(cost_weight)
    if place.config is None:
        weights = load_artifact(artifact or default_artifact_path())
        pool = [PoolLLM(name, name) for name in llm or ()]
    else:
        configured = pool_of_config(place.config, virtual_model, artifact)
        weights, settings = configured.weights, configured.model.settings
        pool = [configured.named(name) for name in llm or ()] or list(configured.llms)
        baseline = baseline or settings.baseline
        if objective is None and settings.says_something:
            objective = settings.objective
    options = DataOptions(
        pool=pool, objective=objective, baseline=baseline, margin=margin, split=split.value if split else None
    )
    with progress() as on_progress:
        return judge_data(weights, data, options, on_progress)


def _of_records(
    place: "Place",
    baseline: str | None,
    virtual_model: str | None,
    cost_weight: float | None,
    margin: float,
    since: str | None,
    until: str | None,
    limit: int,
) -> "RoutingVerdict":
    from embedllm_router.analysis.verdict.recorded import judge_records
    from embedllm_router.records.reader.find import check_virtual_model
    from embedllm_router.records.reader.recorded import Wanted, read_recorded
    from embedllm_router.records.reader.source import Filters

    filters = Filters(since=moment(since, "--since"), until=moment(until, "--until"), virtual_model=virtual_model)
    with place.opened(must_exist=bool(place.origin)) as source:
        check_virtual_model(source, filters)
        recorded = read_recorded(source, Wanted(filters=filters, limit=limit, with_pairs=True))
    return judge_records(recorded, baseline=baseline, cost_weight=cost_weight, margin=margin)


def _print(found: "RoutingVerdict", *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from embedllm_router.cli.result_views import verdict_lines, verdict_tables

    console = stdout()
    print_lines(console, verdict_lines(found))
    for table in verdict_tables(found):
        console.print(table)
    print_lines(console, (f"note: {note}" for note in found.notes))


def _next(found: "RoutingVerdict", config: Path, artifact: Path) -> "Iterator[str]":
    """What to do with weights that were judged and that the configuration does not name yet."""
    from embedllm_router.config.settings import read_proxy_config
    from embedllm_router.evaluation.verdict import Answer

    answer, named = found.best.judgement.answer, read_proxy_config(config).artifact
    if answer is Answer.USE_ONE:
        return
    command = shlex.join(["embedllm-router", "serve", "--config", str(config)])
    if named is None or named.resolve() != artifact.resolve():
        yield f"next: set `artifact: {artifact}` under callback_settings.embedllm_router in {config}, then"
        yield f"  {command}"
    else:
        yield f"next: {command}"
    if answer is Answer.NOT_SHOWN:
        again = shlex.join(["embedllm-router", "verdict", "--config", str(config)])
        yield f"  after some traffic with feedback, {again} asks again; or profile more prompts"
