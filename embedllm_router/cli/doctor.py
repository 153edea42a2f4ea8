"""The command `doctor`: checks a proxy configuration without starting the proxy."""

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from embedllm_router.cli.console import AsJson, clear_errors, figure, print_json, print_lines, stdout

if TYPE_CHECKING:
    from embedllm_router.proxy.doctor import Checkup

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to a Typer application."""
    app.command(name="doctor")(_doctor)


def _doctor(
    config: Annotated[Path, typer.Option(help="LiteLLM proxy configuration that loads the router.")],
    host: Annotated[str, typer.Option(help="Address the proxy shall listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port the proxy shall listen on.")] = 4000,
    as_json: AsJson = False,
) -> None:
    """Check a proxy configuration without starting the proxy; exit 1 if requests would fail or not be routed."""
    with clear_errors():
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # as `serve` does: nothing is fetched
        from embedllm_router.proxy.doctor import check

        checkup = check(config, host, port)
    if as_json:
        print_json({**asdict(checkup), "ok": checkup.ok})
    else:
        _print(checkup)
    if not checkup.ok:
        raise typer.Exit(1)


def _print(checkup: "Checkup") -> None:
    console = stdout()
    if checkup.patients:
        console.print(_table(checkup))
    for one in checkup.findings:
        print_lines(console, [f"{one.level}: {one.subject}: {one.found}.", f"  remedy: {one.remedy}."])
    counted = {level: sum(one.level == level for one in checkup.findings) for level in ("error", "warning", "info")}
    said = ", ".join(f"{n} {level}{'s' if n != 1 and level != 'info' else ''}" for level, n in counted.items() if n)
    print_lines(console, [f"{checkup.config}: {said or 'nothing to report'}."])
    if strangers := [one.name for one in checkup.patients if one.how in {"unknown", "family", "like"}]:
        command = shlex.join(["embedllm-router", "profile", "--config", checkup.config, "--dry-run"])
        asks = f"without --dry-run it asks and grades them, so that the weights know {', '.join(strangers)}"
        print_lines(console, [f"next: {command}", f"  says what asking your LLMs would cost; {asks}"])


def _table(checkup: "Checkup") -> Table:
    table = Table(caption=f"artifact {checkup.artifact}")
    for header in ("model group", "LLM", "recognised by"):
        table.add_column(header, overflow="fold")
    for header in ("usual p_correct", "USD per million in", "out", "window"):
        table.add_column(header, justify="right")
    table.add_column("price from")
    table.add_column("can", overflow="fold")
    table.add_column("excluded")
    for one in checkup.patients:
        table.add_row(
            one.name,
            one.llm or "-",
            one.how,
            figure(one.p_correct, ".3f"),
            figure(one.input_usd_per_mtok, "g"),
            figure(one.output_usd_per_mtok, "g"),
            figure(one.max_input_tokens, ",d"),
            one.price_from or "-",
            ", ".join([*one.can, *(f"{name}?" for name in one.unknown)]),
            one.excluded or "",
        )
    return table
