"""Results → tables for people. Pure: it builds, the command line prints.

A user's mistake on the command line: one message on stderr and an exit code, never a traceback.

One line per step of a running command, drawn on stderr and gone when it ends.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from embedllm_router.artifact.manifest import Manifest
from embedllm_router.cli.demo import DemoRequest
from embedllm_router.errors import ConfigError, DataError, EmbedLLMRouterError, RequestError
from embedllm_router.routing.router import Routing

__all__ = ["Tell", "clear_errors", "demo_table", "llm_table", "progress", "ranking_table", "summary_table"]

_WRONG_INPUT = (ConfigError, DataError, RequestError)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the command with 2 when its input is wrong, with 1 when it failed otherwise."""
    try:
        yield
    except EmbedLLMRouterError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise typer.Exit(2 if isinstance(error, _WRONG_INPUT) else 1) from None
    except ImportError as error:
        message = f"error: {error.name} is not installed: pip install 'embedllm-router[learn]'."
        typer.secho(message, err=True, fg="red")
        raise typer.Exit(1) from None


class Tell(Protocol):
    """Takes note of progress."""

    def __call__(self, what: str, done: int, planned: int | None, how: str = "") -> None:
        """Draws one step.

        Args:
            what: Its name; a new one is a new line.
            done: How much of it is done.
            planned: How much there is; None when unknown.
            how: What else is known of it.
        """


@contextmanager
def progress(*, shown: bool = True) -> Iterator[Tell]:
    """A progress display.

    Args:
        shown: Whether it is drawn at all.

    Yields:
        What to tell of progress.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, planned: int | None, how: str = "") -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=planned, description=f"{what} {how}".rstrip())

        yield tell


def ranking_table(routing: Routing, n_shown: int | None) -> Table:
    """The candidates of a decision, best first; all of them when `n_shown` is None."""
    all_candidates = routing.decision.assessments()
    shown = all_candidates[:n_shown]
    left_out = len(all_candidates) - len(shown)
    timing = routing.timing_ms
    caption = f"artifact {routing.artifact_id} · {timing.total:.2f} ms"
    table = Table(caption=caption + (f" · {left_out} more with --all" if left_out else ""))
    table.add_column("LLM", overflow="fold")
    for header in ("p_correct", "output tokens", "cost USD", "utility"):
        table.add_column(header, justify="right")
    table.add_column("excluded")
    for a in shown:
        table.add_row(
            a.name,
            _figure(a.p_correct, ".3f"),
            _figure(a.expected_output_tokens, ".0f"),
            _figure(a.cost_usd, ".6f"),
            _figure(a.utility, ".4f"),
            a.excluded or "",
        )
    return table


def summary_table(artifact_id: str, manifest: Manifest) -> Table:
    """What an artifact was made of, and how well it predicts."""
    encoder, decoder = manifest.encoder, manifest.decoder
    table = Table(title=f"artifact {artifact_id}, {manifest.created}", show_header=False)
    pools = " + ".join((*encoder.pools, *(table.name for table in encoder.ngrams)))
    table.add_row("encoder", f"{encoder.source}: {encoder.vocab_size} tokens x {encoder.d_embedding}, {pools}")
    table.add_row("decoder", f"{decoder.kind}, hidden {list(decoder.hidden)}, LLM embedding {decoder.d_llm}")
    for source in manifest.data:
        table.add_row("data", f"{source.name}: {source.n_prompts} prompts, {source.n_labels} labels, {source.licence}")
    for name, value in manifest.metrics.items():
        table.add_row("metric", f"{name} {value:.4f}")
    return table


def llm_table(manifest: Manifest) -> Table:
    """Every learned LLM with its list price."""
    table = Table(title=f"{len(manifest.llms)} LLMs")
    table.add_column("LLM", overflow="fold")
    table.add_column("vendor")
    for header in ("labels", "correct", "USD/Mtok in", "USD/Mtok out"):
        table.add_column(header, justify="right")
    for llm in manifest.llms:
        prices = (_figure(llm.input_usd_per_mtok, ".3f"), _figure(llm.output_usd_per_mtok, ".3f"))
        table.add_row(llm.id, llm.vendor, str(llm.n_labels), f"{llm.mean_correctness:.3f}", *prices)
    return table


def demo_table(requests: Sequence[DemoRequest]) -> Table:
    """Every request of the demonstration, one block per prompt."""
    table = Table(title='model="auto" through the proxy: simulated LLMs, real decisions', box=SIMPLE_HEAD)
    table.add_column("prompt")
    table.add_column("λ", justify="right")
    table.add_column("chosen", overflow="fold")
    table.add_column("p", justify="right")
    table.add_column("USD", justify="right")
    table.add_column("runner-up", overflow="fold")
    last = requests[0].prompt if requests else ""
    for index, r in enumerate(requests):
        if r.prompt != last:
            table.add_section()
        figures = (_figure(r.p_correct, ".3f"), _figure(r.cost_usd, ".6f"))
        title = r.prompt if index == 0 or r.prompt != last else ""
        table.add_row(title, f"{r.cost_weight:g}", _answered_by(r), *figures, r.runner_up or "-")
        last = r.prompt
    return table


def _answered_by(request: DemoRequest) -> str:
    if request.served is None:
        return f"{request.chosen or '-'}, HTTP {request.status}"
    if request.served != request.chosen:
        return f"{request.chosen}, served by {request.served}"
    return request.served


def _figure(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
