"""The commands `feedback import` and `learn`: parse, call one function, print.

Results go to stdout, bad rows and progress to stderr. Heavy imports wait until a command runs.
"""

from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import AsJson, clear_errors, harmless, print_json, print_lines, progress, stdout
from embedllm_router.cli.options import Place, filters_of, place_of, with_options
from embedllm_router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedllm_router.artifact.versions import Attempt, Versions
    from embedllm_router.artifact.weights import Artifact
    from embedllm_router.records.feedback import BadRow, Read
    from embedllm_router.records.reader.source import Filters
    from embedllm_router.records.writer.store import RecordStore
    from embedllm_router.training.update.fit import Update
    from embedllm_router.training.update.guard import Lesson, LessonOptions

__all__ = ["app", "register"]

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Adds the commands to a Typer application."""
    feedback = typer.Typer(no_args_is_help=True, help="Import feedback on answers from people and judges.")
    feedback.callback()(_feedback)
    feedback.command(name="import")(_import)
    app.add_typer(feedback, name="feedback")
    app.command(name="learn")(with_options(_learn, place_of, filters_of, _lesson_of))


def _feedback() -> None:
    """Import feedback on answers from people and judges."""


def _import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV files, or JSON lines.")],
    into: Annotated[
        str | None,
        typer.Option(help="Records to add to: folder or postgresql:// URL. Default: where the proxy writes."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="LiteLLM proxy configuration that says where the proxy writes records.")
    ] = None,
    score_field: Annotated[
        str, typer.Option(help="Column of the score; a dotted name reads inside JSON, such as grade.score.")
    ] = "score",
    id_field: Annotated[
        str | None, typer.Option(help="Column of the request id; request_id or custom_id by default.")
    ] = None,
    scale: Annotated[str, typer.Option(help="Worst and best numeric score, such as 1:10.")] = "0:1",
    score_pattern: Annotated[
        str | None, typer.Option(help="Regular expression for scores inside a text; its first group is the score.")
    ] = None,
    source: Annotated[str, typer.Option(help="Source to record for rows that name none.")] = "import",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Store the good rows even if others are bad.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check the files, and store nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Store feedback from files: columns request_id and score, or a judge's output."""
    with clear_errors():
        from embedllm_router.cli.options import places
        from embedllm_router.records.feedback import Layout, Scale, on_record, pattern_of, read_feedback
        from embedllm_router.records.reader.source import open_source

        layout = Layout(
            score_field=score_field,
            id_field=id_field,
            scale=Scale.parse(scale),
            pattern=pattern_of(score_pattern),
            source=source,
        )
        read = read_feedback(files, layout, datetime.now(UTC))
        where = places([into] if into else None, config)[0]
        with closing(open_source(where, must_exist=False)) as records:
            read = on_record(read, records)
        _show(read.bad)
        refused = bool(read.bad) and not skip_bad
        if not (refused or dry_run):
            _store(read, where)
    _print_imported(read, stored=not (refused or dry_run), as_json=as_json)
    if refused:
        raise typer.Exit(1)


def _store(read: "Read", where: str) -> None:
    from embedllm_router.records.feedback import store_all

    with progress() as on_progress:
        store_all(_open(where), read.records, on_progress=lambda n: on_progress("storing", n, len(read.records)))


def _open(where: str) -> "RecordStore":
    from pydantic import SecretStr

    from embedllm_router.config.process import StoreSettings
    from embedllm_router.records.reader.source import is_database
    from embedllm_router.records.writer.store import open_store

    url, path = (SecretStr(where), None) if is_database(where) else (None, Path(where))
    return open_store(StoreSettings(url=url, path=path, flush_s=0.05))


def _show(bad: "Sequence[BadRow]") -> None:
    for one in bad[:_SHOWN]:
        column = f", column {one.column}" if one.column else ""
        typer.echo(harmless(f"bad row: {one.file}, row {one.row}{column}: {one.reason}"), err=True)
    if len(bad) > _SHOWN:
        typer.echo(f"bad row: {len(bad) - _SHOWN:,} more, listed with --json", err=True)


def _print_imported(read: "Read", *, stored: bool, as_json: bool) -> None:
    if as_json:
        n_stored = len(read.records) if stored else 0
        print_json({"read": len(read.records), "stored": n_stored, "bad": read.bad})
        return
    verb = "stored" if stored else "read, nothing stored"
    rest = f"; {len(read.bad):,} bad rows" if read.bad else ""
    typer.echo(f"{len(read.records):,} verdicts {verb}{rest}")


class _HoldOut(StrEnum):
    TIME = "time"
    PROMPT = "prompt"


def _lesson_of(
    holdout: Annotated[
        float, typer.Option(min=0.05, max=0.5, help="Share of the answers held out to measure the update.")
    ] = 0.25,
    holdout_by: Annotated[
        _HoldOut, typer.Option(help="time: hold out the newest answers. prompt: hold out by a hash of the prompt.")
    ] = _HoldOut.TIME,
    max_weight: Annotated[
        float, typer.Option(min=1, help="Largest weight (1 / propensity) of an answer that exploration chose.")
    ] = 10.0,
) -> "LessonOptions":
    """The options that say how an update is made and measured."""
    from embedllm_router.training.update.guard import LessonOptions

    return LessonOptions(holdout, holdout_by.value, max_weight)


def _learn(
    place: Place,
    filters: "Filters",
    options: "LessonOptions",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the updated weights; weights that are there are replaced.")
    ] = None,
    artifact: Annotated[Path | None, typer.Option(help="Weights folder to update; the shipped one by default.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Use feedback of this source only; repeat for several. Default: all.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of requests to learn from; the newest are taken.")
    ] = 200_000,
    force: Annotated[bool, typer.Option("--force", help="Write the update even if it is refused.")] = False,
    undo: Annotated[
        bool,
        typer.Option(
            "--undo",
            help="Learn nothing: take back what the proxy learned last by itself (the settings under adaptation). It "
            "learns again once as many new verdicts have come as the settings ask for.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Update LLM embeddings and calibration from feedback; refuse an update that is worse on held-out answers."""
    if undo:
        _undo(place, artifact, as_json=as_json)
        return
    if out is None:
        raise ConfigError("learn needs --out, the folder for the updated weights (or --undo).")
    from embedllm_router.artifact.weights import check_beside, default_artifact_path, load_artifact
    from embedllm_router.records.reader.recorded import Wanted, read_recorded
    from embedllm_router.training.update.learn import learn_lesson

    parent = artifact or default_artifact_path()
    check_beside(parent, out)
    weights = load_artifact(parent)
    wanted = Wanted(
        filters=filters, limit=limit, with_text=True, only_judged=True, sources=source, with_contenders=True
    )
    with place.opened() as log:
        recorded = read_recorded(log, wanted)
    with progress() as on_progress:
        lesson, update = learn_lesson(recorded, weights, options, on_progress)
    written = _write(parent, weights, lesson, update, out) if _shall_write(lesson, force=force) else None
    _print_lesson(lesson, out, written, as_json=as_json)
    if lesson.refusals and written is None:
        raise typer.Exit(1)


def _undo(place: Place, artifact: Path | None, *, as_json: bool) -> None:
    from embedllm_router.artifact.versions import Versions
    from embedllm_router.artifact.weights import artifact_id, default_artifact_path
    from embedllm_router.config.settings import read_adaptation_settings, read_proxy_config

    if place.config is not None:
        settings = read_proxy_config(place.config)
        adaptation, artifact = settings.adaptation, artifact or settings.artifact
    else:
        adaptation = read_adaptation_settings()
    parent = artifact_id(artifact or default_artifact_path())
    step = _stepped_back(Versions(adaptation.folder, parent), adaptation.folder)
    if as_json:
        print_json({"undone": step is not None, "parent": parent, **(asdict(step) if step is not None else {})})
    elif step is None:
        typer.echo(f"nothing to undo: {parent}, the weights that the settings name, decide already")
    else:
        named = ", the weights that the settings name," if step.artifact == parent else ""
        typer.echo(f"undone: {step.before} no longer decides; {step.artifact}{named} does once the proxy has seen it")
    if step is None:
        raise typer.Exit(1)


def _stepped_back(versions: "Versions", folder: Path) -> "Attempt | None":
    now = datetime.now(UTC)
    if not versions.folder.is_dir():  # nothing is made where nothing was learned
        return None
    try:
        with versions.lock() as held:
            if held is None:
                raise ConfigError(f"{folder}: the proxy is learning at this moment; try again when it is done.")
            return versions.undo(now, seen_until=now)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be changed ({error.strerror}). Check the rights and the space there."
        ) from error


def _shall_write(lesson: "Lesson", *, force: bool) -> bool:
    return lesson.changes and (force or not lesson.refusals)


def _write(parent: Path, weights: "Artifact", lesson: "Lesson", update: "Update", out: Path) -> str:
    from embedllm_router.artifact.weights import read_card
    from embedllm_router.training.update.learn import write_update

    return write_update(weights, read_card(parent), update, lesson, out).id


def _print_lesson(lesson: "Lesson", out: Path, written: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"written": written, "out": str(out) if written else None, **asdict(lesson)})
        return
    from embedllm_router.cli.result_views import lesson_lines, lesson_tables

    console = stdout()
    print_lines(console, lesson_lines(lesson))
    for table in lesson_tables(lesson):
        console.print(table)
    print_lines(console, (f"refused: {reason}" for reason in lesson.refusals))
    print_lines(console, [_outcome(lesson, out, written)])


def _outcome(lesson: "Lesson", out: Path, written: str | None) -> str:
    if written is not None:
        forced = " although the guard refused it" if lesson.refusals else ""
        return f"wrote {out}: artifact {written}{forced}"
    if lesson.refusals:
        return "nothing was written; --force writes it all the same"
    return "nothing was written: the feedback shows nothing that the weights do not say already"


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
