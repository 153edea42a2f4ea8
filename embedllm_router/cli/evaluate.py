"""The evaluation commands, `evaluate` and `similar`: parse, call one function, print.

Results go to stdout, progress and warnings to stderr. Heavy imports wait until a command runs.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import AsJson, print_json, print_lines, progress, stdout, warn
from embedllm_router.cli.leave_out import LeaveOutChoice
from embedllm_router.cli.options import EmbeddingsFolder, MaxPrompts, with_options
from embedllm_router.errors import ConfigError, EmbedLLMRouterError

if TYPE_CHECKING:
    from embedllm_router.artifact.weights import Artifact
    from embedllm_router.evaluation.result import Evaluation
    from embedllm_router.evaluation.run import EvaluationOptions

__all__ = ["SplitChoice", "register"]


class SplitChoice(StrEnum):
    """Which prompts are measured."""

    TEST = "test"
    ALL = "all"


def register(app: typer.Typer) -> None:
    """Adds the evaluation commands to a Typer application."""
    app.command(name="evaluate")(with_options(_evaluate, _leave_out_of))
    app.command(name="similar")(_similar)


def _leave_out_of(
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out",
            help="Instead, leave out each data set in turn, train on the others and predict it: what is known of kinds "
            "of prompt that nobody trained on (at least 3 sets).",
        ),
    ] = False,
    sources: Annotated[
        Path | None,
        typer.Option(
            help="With --leave-out: JSON file that names the published benchmarks with a set's questions, whose scores "
            'are not read when it is left out: {"datasets": {NAME: {"licence", "attribution", "benchmarks", "asks"}}}. '
            "What asks is: see train."
        ),
    ] = None,
    min_labels: Annotated[
        int, typer.Option(min=1, help="With --leave-out: smallest number of labels with which an LLM takes part.")
    ] = 30,
    full_size: Annotated[
        bool,
        typer.Option("--full-size", help="With --leave-out: train networks of full size; takes several times as long."),
    ] = False,
    max_prompts: MaxPrompts = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="With --leave-out: folder for finished sets, so that an interrupted run goes on there."),
    ] = None,
) -> LeaveOutChoice | None:
    """The options of `--leave-out`; None without it."""
    if leave_out:
        return LeaveOutChoice(sources, min_labels, max_prompts, full_size, cache)
    if max_prompts is not None:
        raise ConfigError("--max-prompts is for --leave-out; weights say themselves what they were trained on.")
    return None


def _evaluate(
    leave_out: LeaveOutChoice | None,
    data: Annotated[list[Path], typer.Option(help="Data folder; repeat for several.")],
    artifact: Annotated[
        Path | None,
        typer.Option(help="Weights folder, or the folder of `train --seeds`; the shipped weights by default."),
    ] = None,
    split: Annotated[
        SplitChoice,
        typer.Option(
            help="Prompts to measure. test: those held out from training. all: all prompts, for data not trained on."
        ),
    ] = SplitChoice.TEST,
    baselines: Annotated[
        str, typer.Option(help="Baselines to compare with: all, none, or names separated by commas.")
    ] = "all",
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and its plots.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for the baselines.")] = 0,
    mf_epochs: Annotated[
        int, typer.Option(min=1, help="Epochs of the baseline mf, the matrix factorisation of the EmbedLLM paper.")
    ] = 50,
    embeddings: EmbeddingsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare weights with baselines on held-out prompts; say whether routing pays."""
    if leave_out is not None:
        leave_out.print(_load(artifact), data, embeddings, as_json=as_json)
        return
    from embedllm_router.evaluation.baselines import parse_names
    from embedllm_router.evaluation.run import EvaluationOptions, evaluate, seed_folders

    options = EvaluationOptions(
        split=split.value, baselines=parse_names(baselines), seed=seed, mf_epochs=mf_epochs, keep_in=embeddings
    )
    seeds = seed_folders(artifact) if artifact else ()
    if seeds:
        _print_spread(seeds, data, options, out, as_json=as_json)
        return
    with progress() as on_progress:
        found = evaluate(_load(artifact), data, options, on_progress)
    if out is not None:
        _write_report(out, found)
    _print_evaluation(found, as_json=as_json)


def _print_spread(
    folders: Sequence[Path], data: list[Path], options: "EvaluationOptions", out: Path | None, *, as_json: bool
) -> None:
    from embedllm_router.evaluation.run import measure_spread

    if out is not None:
        raise ConfigError("--out writes the report of one artifact; name one of the seeds.")
    with progress() as on_progress:
        found = measure_spread(folders, data, options, on_progress)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{len(found.seeds)} seeds, {found.n_prompts:,} prompts, no baselines; mean ± standard deviation:")
    for name, figure in found.figures.items():
        each = ", ".join(f"{value:.4f}" for value in figure.values)
        typer.echo(f"  {name:17} {figure.mean:.4f} ± {figure.sd:.4f}   ({each})")


def _similar(
    llm: Annotated[str, typer.Argument(help="Id of a learned LLM, or a name that matches one.")],
    artifact: Annotated[Path | None, typer.Option(help="Weights folder; the shipped one by default.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Number of LLMs to list.")] = 10,
    as_json: AsJson = False,
) -> None:
    """List the LLMs that succeed and fail on similar prompts, by cosine similarity of their embeddings."""
    from embedllm_router.evaluation.embeddings import nearest_llms

    found = nearest_llms(_load(artifact), llm, n)
    if as_json:
        print_json({"llm": llm, "neighbours": found})
        return
    for one in found:
        typer.echo(f"{one.similarity:+.3f}  {one.llm}  ({one.vendor}, {one.mean_correctness:.0%} correct)")


def _load(artifact: Path | None) -> "Artifact":
    from embedllm_router.artifact.weights import default_artifact_path, load_artifact

    return load_artifact(artifact or default_artifact_path())


def _write_report(out: Path, found: "Evaluation") -> None:
    try:
        from embedllm_router.evaluation.plots import draw_plots
    except ImportError as error:
        raise EmbedLLMRouterError(f"{error.name} is not installed: pip install 'embedllm-router[learn]'.") from error
    from embedllm_router.evaluation.report import report_page

    plots = draw_plots(found)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, png in plots.items():
            (out / f"{name}.png").write_bytes(png)
        (out / "report.html").write_text(report_page(found, plots), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}). Name another folder.") from error
    typer.echo(f"wrote {out / 'report.html'} and {len(plots)} pictures", err=True)


def _print_evaluation(found: "Evaluation", *, as_json: bool) -> None:
    for warning in found.inputs.warnings:
        warn(warning)
    if as_json:
        from embedllm_router.evaluation.report import evaluation_fields

        print_json(evaluation_fields(found))
        return
    from embedllm_router.artifact.guarantees import guarantee_tables
    from embedllm_router.evaluation.report import evaluation_table, left_out_table, slice_table, summary_lines

    console = stdout()
    left_out = left_out_table(found)
    if left_out is not None:
        console.print(left_out)
    console.print(evaluation_table(found))
    print_lines(console, summary_lines(found))
    for table in (*guarantee_tables([row for row in found.guarantee if row.data is None]), slice_table(found)):
        console.print(table)
