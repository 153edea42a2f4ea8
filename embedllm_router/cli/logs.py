"""The commands `logs tail|show|summary|export|seal|migrate|erase`: parse, call one function, print.

Results go to stdout, everything else to stderr. Heavy imports wait until a command runs.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedllm_router.cli.console import AsJson, print_json, stdout
from embedllm_router.cli.options import Place, filters_of, place_of, with_options
from embedllm_router.errors import ConfigError, EmbedLLMRouterError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from embedllm_router.records.reader.source import Filters
    from embedllm_router.records.writer.erase import Erased

__all__ = ["app", "register"]

_LOOK_EVERY_S = {"files": 0.5, "postgres": 2.0}


def register(app: typer.Typer) -> None:
    """Adds the commands to a Typer application."""
    logs = typer.Typer(no_args_is_help=True, help="Read the records of routed requests.")
    logs.callback()(_logs)
    logs.command(name="tail")(with_options(_tail, place_of, filters_of))
    logs.command(name="show")(with_options(_show, place_of))
    logs.command(name="summary")(with_options(_summary, place_of, filters_of))
    logs.command(name="export")(with_options(_export, place_of, filters_of))
    logs.command(name="seal")(with_options(_seal, place_of))
    logs.command(name="migrate")(with_options(_migrate, place_of))
    logs.command(name="erase")(with_options(_erase, place_of))
    app.add_typer(logs, name="logs")


def _logs() -> None:
    """Read the records of routed requests."""


def _tail(
    place: Place,
    filters: "Filters",
    n: Annotated[int, typer.Option("-n", min=0, help="Number of requests.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new requests until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the newest requests, one line each; JSON lines with --json."""
    from embedllm_router.records.reader.find import follow as start_following
    from embedllm_router.records.reader.find import newest

    with place.opened(must_exist=not follow) as source:
        follower = start_following(source, filters) if follow else None
        rows = newest(source, filters, n)
        _print_rows(rows, as_json=as_json, with_header=True)
        if follower is None:
            _fail_without(rows)
            return
        printed = {row["request_id"] for row in rows}
        try:
            while True:
                _print_rows((r for r in follower.new() if r["request_id"] not in printed), as_json=as_json)
                time.sleep(_LOOK_EVERY_S[source.kind])
        except KeyboardInterrupt:
            return
        finally:
            follower.close()


def _show(
    place: Place,
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Request id, response id, or the beginning of one.")],
    as_json: AsJson = False,
) -> None:
    """Explain one request: its candidates, why one was chosen, what would change the choice, and the outcome."""
    from embedllm_router.analysis.explain import explain
    from embedllm_router.cli.log_views import request_blocks, request_fields
    from embedllm_router.records.reader.find import find

    with place.opened() as source:
        found = find(source, request_id)
    explanation = explain(found.row)
    if as_json:
        print_json(request_fields(found, explanation))
        return
    _print_blocks(request_blocks(found, explanation))


def _summary(
    place: Place,
    filters: "Filters",
    seed: Annotated[int, typer.Option(min=0, help="Random seed for samples and confidence intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Summarise requests: share of each LLM, spend, savings, forecast and bill, calibration, failures, added time."""
    from embedllm_router.analysis.summary import summarize
    from embedllm_router.cli.log_views import summary_blocks
    from embedllm_router.records.reader.find import check_virtual_model

    with place.opened() as source:
        check_virtual_model(source, filters)
        found = summarize(source, filters, seed=seed)
    if as_json:
        print_json(found)
    else:
        _print_blocks(summary_blocks(found))
    _fail_without(range(found.n))


def _export(
    place: Place,
    filters: "Filters",
    out: Annotated[
        Path | None, typer.Option(help="File to write, .csv, .parquet or .jsonl; JSON lines on stdout by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write requests to a file, or as JSON lines to stdout."""
    from embedllm_router.records.reader.export import export

    with place.opened() as source, tempfile.TemporaryDirectory(prefix="embedllm-router-") as draft:
        file = out or Path(draft, "records.jsonl")
        n = export(source, filters, file)
        if out is None:
            with file.open("rb") as written:
                shutil.copyfileobj(written, sys.stdout.buffer)
        elif as_json:
            print_json({"out": str(out), "requests": n})
        else:
            typer.echo(f"{n:,} requests written to {out}")
    _fail_without(range(n))


def _seal(place: Place, as_json: AsJson = False) -> None:
    """Turn record files that an ended process left behind into Parquet."""
    import duckdb

    from embedllm_router.cli.options import places
    from embedllm_router.records.writer.seal import seal_orphans

    folders = [Path(one).expanduser() for one in places(place.origin, place.config)]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"nothing to seal at {str(folder).split('@')[-1]}: expected a folder of record files.")
    try:
        sealed = [one for folder in folders for one in seal_orphans(folder)]
    except (OSError, duckdb.Error) as error:
        raise EmbedLLMRouterError(
            f"a file cannot be sealed: {str(error).splitlines()[0]}. It stays as it is."
        ) from error
    if as_json:
        print_json({"sealed": [{"file": one.path.name, "rows": one.rows, "rejected": one.rejected} for one in sealed]})
        return
    for one in sealed:
        typer.echo(
            f"{one.path.name}: {one.rows:,} records" + (f", {one.rejected} lines rejected" if one.rejected else "")
        )
    typer.echo(f"{len(sealed)} files sealed")


def _migrate(place: Place, as_json: AsJson = False) -> None:
    """Make the tables of records in PostgreSQL, or change them as this version needs; a proxy does so by itself too."""
    from embedllm_router.cli.options import places
    from embedllm_router.records.reader.source import is_database

    where = places(place.origin, place.config)
    if len(where) != 1 or not is_database(where[0]):
        found = ", ".join(one.rsplit("@", 1)[-1] for one in where)
        raise ConfigError(
            f"expected one postgresql:// URL, found {found}: name it with --from, in store.url of the --config, or in "
            "EMBEDLLM_ROUTER_STORE__URL. Record files need no migration."
        )
    try:
        from embedllm_router.records.writer.postgres import migrate
    except ImportError as error:
        raise ConfigError("PostgreSQL needs: pip install 'embedllm-router[postgres]'.") from error
    done = migrate(where[0])
    if as_json:
        print_json({"location": done.location, "before": done.before, "after": done.after})
        return
    found = "as before" if done.before == done.after else f"changed from {done.before}" if done.before else "newly made"
    typer.echo(f"the tables in {done.location} are of version {done.after}, {found}")


def _erase(
    place: Place,
    key: Annotated[
        str | None,
        typer.Option(help="API key whose records are erased: its alias, its id in LiteLLM, the key, or its key_hash."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="End user whose records are erased, by the id in requests, or owner of keys in LiteLLM."),
    ] = None,
    prompt_hash: Annotated[
        str | None, typer.Option(help="Prompt whose records are erased, by its prompt_hash in the records.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be erased, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase the records of an API key, a user or a prompt, with the feedback on them. This cannot be undone."""
    from embedllm_router.cli.options import places

    if sum(one is not None for one in (key, user, prompt_hash)) != 1:
        raise ConfigError("expected one of --key, --user and --prompt-hash.")
    found = [
        _erase_in(one, place.config, key, user, prompt_hash, dry_run=dry_run)
        for one in places(place.origin, place.config)
    ]
    total = {name: sum(getattr(one, name) for one in found) for name in ("requests", "feedback", "damaged")}
    in_use = [name for one in found for name in one.in_use]
    if as_json:
        print_json({**total, "dry_run": dry_run, "in_use": in_use})
    else:
        typer.echo(
            f"{'would erase' if dry_run else 'erased'} {total['requests']:,} requests, {total['feedback']:,} pieces of "
            f"feedback and {total['damaged']:,} damaged lines"
        )
    if in_use:
        raise EmbedLLMRouterError(
            f"{len(in_use)} files are still being written and were not searched: {', '.join(in_use)}. Their process "
            "is of an earlier version or does not answer; run this again when they are sealed."
        )


def _erase_in(
    where: str, config: Path | None, key: str | None, user: str | None, prompt_hash: str | None, *, dry_run: bool
) -> "Erased":
    import duckdb

    from embedllm_router.config.settings import read_proxy_config, read_store_settings
    from embedllm_router.records.reader.source import is_database
    from embedllm_router.records.writer.erase import by_key, by_prompt, by_user, erase_files, hasher_of

    folder = None if is_database(where) else Path(where).expanduser()
    if folder is not None and not folder.is_dir():
        raise ConfigError(
            f"nothing to erase at {where.rsplit('@', 1)[-1]}: expected a folder of record files, or a database."
        )
    if user is not None:
        secret = (read_proxy_config(config).store if config is not None else read_store_settings()).hash_key
        subject = by_user(user, hasher_of(secret.get_secret_value() if secret is not None else None, folder))
    else:
        subject = by_key(key) if key is not None else by_prompt(prompt_hash or "")
    if folder is None:
        from embedllm_router.records.writer.postgres import erase_rows

        return erase_rows(where, subject, dry_run=dry_run)
    try:
        return erase_files(folder, subject, dry_run=dry_run)
    except (OSError, duckdb.Error) as error:
        said = str(error).splitlines()[0]
        raise EmbedLLMRouterError(
            f"not everything could be erased: {said}. Run this again when that is mended."
        ) from error


def _print_blocks(blocks: "Sequence[RenderableType]") -> None:
    console = stdout()
    for number, block in enumerate(blocks):
        if number:
            console.print()
        console.print(block)


def _print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool, with_header: bool = False) -> None:
    if as_json:
        from embedllm_router.records.reader.find import COLUMNS

        for row in rows:
            print_json({name: row[name] for name in COLUMNS}, indent=False)
        return
    from embedllm_router.cli.log_views import decision_line, header_line

    console = stdout()
    lines = [decision_line(row) for row in rows]
    for line in [header_line(), *lines] if with_header and lines else lines:
        console.print(
            line, no_wrap=True, overflow="ellipsis", crop=console.is_terminal, soft_wrap=not console.is_terminal
        )


def _fail_without(found: Iterable[object]) -> None:
    if not any(True for _ in found):
        typer.echo("no request meets the conditions", err=True)
        raise typer.Exit(1)


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
