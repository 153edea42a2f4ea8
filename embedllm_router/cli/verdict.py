"""The command `verdict`: parse, call one function, print.

Results go to stdout, progress to stderr. Heavy imports wait until the command runs.
"""

import shlex
from dataclasses import dataclass
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
    app.command(name="verdict")(with_options(_verdict, place_of, _graded_of, _span_of))


@dataclass(frozen=True, slots=True)
class _Graded:
    """What is asked of graded data; all of it goes with `--data`."""

    llm: list[str] | None
    artifact: Path | None
    split: SplitChoice | None

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        options = {"--llm": self.llm, "--artifact": self.artifact, "--split": self.split}
        return [name for name, value in options.items() if value]


def _graded_of(
    llm: Annotated[
        list[str] | None,
        typer.Option(
            help="With --data: LLM to choose from, with --config also a model group; repeat. Default: those of "
            "--config, else all with a price."
        ),
    ] = None,
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
) -> _Graded:
    """The options of graded data."""
    return _Graded(llm, artifact, split)


@dataclass(frozen=True, slots=True)
class _Span:
    """Which records are read."""

    since: str | None
    until: str | None
    limit: int


def _span_of(
    since: Annotated[str | None, typer.Option(help="Requests from this time on, or an age such as 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="Requests before this time, in the same form.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of requests to read; the newest are taken.")
    ] = 100_000,
) -> _Span:
    """The options that say which records are read."""
    return _Span(since, until, limit)


def _verdict(
    place: "Place",
    graded: _Graded,
    span: _Span,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Judge this data folder of graded answers instead of records; repeat for several."),
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
    as_json: AsJson = False,
) -> None:
    """Say whether to route at all: routing pays, not shown yet, or one LLM for everything."""
    if data:
        found = _of_data(place, data, graded, baseline, virtual_model, cost_weight, margin)
    else:
        if graded.given:
            raise ConfigError(
                f"{', '.join(graded.given)} go with --data; records hold the LLMs they were decided among."
            )
        found = _of_records(place, span, baseline, virtual_model, cost_weight, margin)
    _print(found, as_json=as_json)
    if data and place.config is not None and graded.artifact is not None and not as_json:
        print_lines(stdout(), _next(found, place.config, graded.artifact))


def _of_data(
    place: "Place",
    data: list[Path],
    graded: _Graded,
    baseline: str | None,
    virtual_model: str | None,
    cost_weight: float | None,
    margin: float,
) -> "RoutingVerdict":
    from embedllm_router.analysis.verdict.graded import DataOptions, PoolLLM, judge_data, pool_of_config
    from embedllm_router.artifact.weights import default_artifact_path, load_artifact
    from embedllm_router.routing.policy import Objective

    objective = None if cost_weight is None else Objective(cost_weight)
    if place.config is None:
        weights = load_artifact(graded.artifact or default_artifact_path())
        pool = [PoolLLM(name, name) for name in graded.llm or ()]
    else:
        configured = pool_of_config(place.config, virtual_model, graded.artifact)
        weights, settings = configured.weights, configured.model.settings
        pool = [configured.named(name) for name in graded.llm or ()] or list(configured.llms)
        baseline = baseline or settings.baseline
        if objective is None and settings.says_something:
            objective = settings.objective
    options = DataOptions(
        pool=pool,
        objective=objective,
        baseline=baseline,
        margin=margin,
        split=graded.split.value if graded.split else None,
    )
    with progress() as on_progress:
        return judge_data(weights, data, options, on_progress)


def _of_records(
    place: "Place",
    span: _Span,
    baseline: str | None,
    virtual_model: str | None,
    cost_weight: float | None,
    margin: float,
) -> "RoutingVerdict":
    from embedllm_router.analysis.verdict.recorded import judge_records
    from embedllm_router.records.reader.find import check_virtual_model
    from embedllm_router.records.reader.recorded import Wanted, read_recorded
    from embedllm_router.records.reader.source import Filters

    since, until = moment(span.since, "--since"), moment(span.until, "--until")
    filters = Filters(since=since, until=until, virtual_model=virtual_model)
    with place.opened(must_exist=bool(place.origin)) as source:
        check_virtual_model(source, filters)
        recorded = read_recorded(source, Wanted(filters=filters, limit=span.limit, with_pairs=True))
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
