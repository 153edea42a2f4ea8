"""The commands `feedback import` and `learn`: parse, call one function, print.

Results go to stdout, bad rows and progress to stderr. Heavy imports wait until a command runs.
"""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli_errors import clear_errors
from embedllm_router.cli_progress import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedllm_router.feedback.reading import BadRow, Read
    from embedllm_router.store import RecordStore

__all__ = ["app", "register"]

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Adds the commands to a Typer application."""
    feedback = typer.Typer(no_args_is_help=True, help="Take in what people and judges think of answers.")
    feedback.callback()(_feedback)
    feedback.command(name="import")(_import)
    app.add_typer(feedback, name="feedback")


def _feedback() -> None:
    """Take in what people and judges think of answers."""


def _import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV, or JSON lines.")],
    into: Annotated[
        str | None, typer.Option(help="Folder or postgresql:// URL of the log; the proxy's own by default.")
    ] = None,
    score_field: Annotated[
        str, typer.Option(help="Column of the verdict; dots reach into JSON, text that is JSON included.")
    ] = "score",
    id_field: Annotated[
        str | None, typer.Option(help="Column of the request id; request_id or custom_id by default.")
    ] = None,
    scale: Annotated[str, typer.Option(help="What numbers are measured in, worst:best, such as 1:10.")] = "0:1",
    score_pattern: Annotated[
        str | None, typer.Option(help="Regular expression whose first group is the verdict in a text.")
    ] = None,
    source: Annotated[str, typer.Option(help="Source of rows that name none.")] = "import",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Store the good rows although others are bad.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Store verdicts from files: columns request_id and score, or a judge's output."""
    with clear_errors():
        from embedllm_router.feedback.reading import Layout, pattern_of, read_feedback  # noqa: PLC0415 - when it runs
        from embedllm_router.feedback.verdicts import Scale  # noqa: PLC0415 - when the command runs

        layout = Layout(
            score_field=score_field,
            id_field=id_field,
            scale=Scale.parse(scale),
            pattern=pattern_of(score_pattern),
            source=source,
        )
        read = read_feedback(files, layout, datetime.now(UTC))
        _show(read.bad)
        refused = bool(read.bad) and not skip_bad
        if not (refused or dry_run):
            _store(read, into)
    _print_imported(read, stored=not (refused or dry_run), as_json=as_json)
    if refused:
        raise typer.Exit(1)


def _store(read: "Read", into: str | None) -> None:
    from embedllm_router.feedback.writing import store_all  # noqa: PLC0415 - when the command runs

    with progress() as tell:
        store_all(_open(into), read.records, tell=lambda n: tell("storing", n, len(read.records)))


def _open(into: str | None) -> "RecordStore":
    from embedllm_router.logs.source import is_database  # noqa: PLC0415 - when the command runs
    from embedllm_router.store import StoreOptions, default_store_path, open_store  # noqa: PLC0415 - likewise

    if into is not None and is_database(into):
        return open_store(StoreOptions(url=into, flush_s=0.05))
    return open_store(StoreOptions(path=Path(into) if into else default_store_path(), flush_s=0.05))


def _show(bad: "Sequence[BadRow]") -> None:
    for one in bad[:_SHOWN]:
        column = f", column {one.column}" if one.column else ""
        typer.echo(f"bad row: {one.file}, row {one.row}{column}: {one.reason}", err=True)
    if len(bad) > _SHOWN:
        typer.echo(f"bad row: {len(bad) - _SHOWN:,} more, listed with --json", err=True)


def _print_imported(read: "Read", *, stored: bool, as_json: bool) -> None:
    if as_json:
        import orjson  # noqa: PLC0415 - with the rest of the command

        n_stored = len(read.records) if stored else 0
        fields = {"read": len(read.records), "stored": n_stored, "bad": [asdict(one) for one in read.bad]}
        sys.stdout.buffer.write(orjson.dumps(fields, option=orjson.OPT_INDENT_2) + b"\n")
        return
    verb = "stored" if stored else "read, nothing stored"
    rest = f"; {len(read.bad):,} bad rows" if read.bad else ""
    typer.echo(f"{len(read.records):,} verdicts {verb}{rest}")


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
