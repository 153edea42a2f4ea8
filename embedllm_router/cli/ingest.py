"""The command `ingest`: parse, download if asked, call one function, print.

Results go to stdout, rejected rows and progress to stderr. Heavy imports wait until the command runs.
"""

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import AsJson, clear_errors, harmless, print_json, progress
from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.errors import DataError

if TYPE_CHECKING:
    from embedllm_router.data.formats.rows import Rejected
    from embedllm_router.data.ingest import IngestReport
    from embedllm_router.data.ingest_options import IngestOptions

__all__ = ["app", "register"]

_SHOWN = 10


class _Format(StrEnum):  # with the names of `Format`; a test holds them together
    AUTO = "auto"
    EMBEDLLM = "embedllm"
    ROUTERBENCH = "routerbench"
    LLMROUTERBENCH = "llmrouterbench"
    LM_EVAL = "lm-eval"
    INSPECT = "inspect"
    LONG = "long"


class _Origin(StrEnum):
    EMBEDLLM = "embedllm"


def register(app: typer.Typer) -> None:
    """Adds the command to a Typer application."""
    app.command(name="ingest")(_ingest)


def _ingest(
    out: Annotated[Path, typer.Option(help="Data folder to write; an existing one is replaced.")],
    sources: Annotated[list[Path] | None, typer.Argument(metavar="[SOURCE]...", help="Files or folders.")] = None,
    chosen: Annotated[
        _Format, typer.Option("--format", help="Format of the files; detected by default.")
    ] = _Format.AUTO,
    origin: Annotated[_Origin | None, typer.Option("--from", help="Data set to download first.")] = None,
    url: Annotated[str | None, typer.Option(help="Address to download from, instead of the publisher's.")] = None,
    download_dir: Annotated[
        Path | None, typer.Option(help="Folder for downloaded files. Default: the name of --out with .download.")
    ] = None,
    on_conflict: Annotated[
        OnConflict, typer.Option(help="Rule for several scores of the same prompt and LLM.")
    ] = OnConflict.MEAN,
    max_bad_rows: Annotated[
        str, typer.Option(help="Largest share or number of bad rows; with more, nothing is written.")
    ] = "0.1%",
    metric: Annotated[str | None, typer.Option(help="Metric (lm-eval) or scorer (inspect) to read.")] = None,
    answer_filter: Annotated[str | None, typer.Option("--filter", help="Answer filter (lm-eval) to read.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn graded answers of any known format into a data folder to train and evaluate on."""
    with clear_errors():
        options = _options(chosen, on_conflict, max_bad_rows, metric, answer_filter)
        if not sources and origin is None:
            raise DataError("nothing to ingest: name a SOURCE or --from embedllm.")
        if origin is None and (url or download_dir):
            raise DataError("--url and --download-dir go with --from embedllm.")
        paths = list(sources or ())
        if origin is not None:
            paths.append(_download(download_dir or out.with_name(f"{out.name}.download"), url))
        report = _run(paths, out, options)
    if as_json:
        print_json({"out": str(out), **dataclasses.asdict(report)}, indent=False)
    else:
        typer.echo(_summary(report, out))


def _options(
    chosen: _Format, on_conflict: OnConflict, max_bad_rows: str, metric: str | None, answer_filter: str | None
) -> "IngestOptions":
    from embedllm_router.data.ingest_options import BadRowLimit, Format, IngestOptions

    return IngestOptions(
        format=None if chosen is _Format.AUTO else Format(chosen.value),
        on_conflict=on_conflict,
        max_bad_rows=BadRowLimit.parse(max_bad_rows),
        metric=metric,
        filter=answer_filter,
    )


def _run(sources: list[Path], out: Path, options: "IngestOptions") -> "IngestReport":
    from embedllm_router.data.ingest import ingest

    with progress() as on_progress:

        def rows_read(file: str, rows: int) -> None:
            on_progress(file, rows, None, f"{rows:,} rows")

        return ingest(sources, out, options=options, on_rejected=_Shower(), progress=rows_read)


class _Shower:
    """Prints the first rejected rows on stderr."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, rejected: "Rejected") -> None:
        self._seen += 1
        if self._seen <= _SHOWN:
            place = rejected.place
            line = f", line {place.line}" if place.line is not None else ""
            column = f", column {rejected.column}" if rejected.column else ""
            typer.echo(harmless(f"rejected: {place.file}, row {place.row}{line}{column}: {rejected.reason}"), err=True)
        elif self._seen == _SHOWN + 1:
            typer.echo("rejected: more, listed in rejected.jsonl", err=True)


def _download(folder: Path, url: str | None) -> Path:
    from embedllm_router.data.download import download

    with progress() as on_progress:

        def bytes_read(file: str, done: int, total: int | None) -> None:
            of = f" of {total / 1e6:,.1f}" if total is not None else ""
            on_progress(file, done, total, f"{done / 1e6:,.1f}{of} MB")

        download(folder, url=url, on_progress=bytes_read)
    return folder


def _summary(report: "IngestReport", out: Path) -> str:
    formats = ", ".join(sorted({file.format for file in report.files}))
    made = f"{report.n_items:,} prompts, {report.n_llms:,} LLMs, {report.n_results:,} graded answers"
    listed = ", listed in rejected.jsonl" if report.n_rejected else ""
    twice = f"{report.n_repeated:,} repeated, {report.n_conflicting:,} pairs with different scores"
    lines = [
        f"{out}: {made} from {len(report.files)} files ({formats})",
        f"  {report.n_rejected:,} of {report.n_rows:,} rows rejected{listed}",
        f"  {twice}, resolved by: {report.on_conflict}",
    ]
    lines += [f"  {note}" for note in report.notes]
    lines += [f"  left out: {file}" for file in report.ignored]
    return "\n".join(lines)


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
