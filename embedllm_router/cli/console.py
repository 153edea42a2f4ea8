"""What every command shares on the terminal: errors, progress, JSON, and the tables of `route`, `inspect` and `demo`.

Results go to stdout, everything else to stderr.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from embedllm_router.errors import ConfigError, DataError, EmbedLLMRouterError, RequestError

if TYPE_CHECKING:
    from embedllm_router.artifact.manifest import Manifest
    from embedllm_router.cli.demo import DemoRequest
    from embedllm_router.routing.pipeline import Routing

__all__ = [
    "AsJson",
    "HarmlessConsole",
    "OnProgress",
    "by_epoch",
    "clear_errors",
    "demo_table",
    "figure",
    "figures_table",
    "harmless",
    "llm_table",
    "print_json",
    "print_lines",
    "progress",
    "ranking_table",
    "renamed",
    "stdout",
    "summary_table",
    "warn",
]

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
"""The option of every command that can print its result for a program."""

_WRONG_INPUT = (ConfigError, DataError, RequestError)
_PIPED_WIDTH = 160
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_PICTURES = dict.fromkeys(_CONTROLS, "\N{REPLACEMENT CHARACTER}") | {code: chr(0x2400 + code) for code in range(0x20)}
_PICTURES |= {ord(kept): kept for kept in "\n\t"}


def harmless(text: str) -> str:
    """A text with pictures in place of what a terminal obeys: escape sequences, and marks that turn writing round."""
    return text if text.isprintable() else text.translate(_PICTURES)


class HarmlessConsole(Console):
    """A console on which nothing that is printed commands the terminal: much of it is what clients sent."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As Rich does, segments of text made harmless."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the command with 2 when its input is wrong, with 1 when it failed otherwise; one message, no traceback."""
    try:
        yield
    except EmbedLLMRouterError as error:
        typer.secho(harmless(f"error: {error}"), err=True, fg="red")
        raise typer.Exit(2 if isinstance(error, _WRONG_INPUT) else 1) from None
    except ImportError as error:
        if (error.name or "").startswith("embedllm_router"):
            raise
        message = f"error: {error.name} is not installed: pip install 'embedllm-router[learn]'."
        typer.secho(message, err=True, fg="red")
        raise typer.Exit(1) from None


def renamed(old: str, old_value: T | None, new: str, value: T | None) -> T | None:
    """The value of an option that has a new name; warns where the old one was used.

    Raises:
        ConfigError: Both are given.
    """
    if old_value is None:
        return value
    if value is not None:
        raise ConfigError(f"{old} is the old name of {new}; give {new} alone.")
    warn(f"{old} is deprecated: it is called {new} now.")
    return old_value


def warn(message: str) -> None:
    """Prints a warning on stderr."""
    typer.echo(harmless(f"warning: {message}"), err=True)


class OnProgress(Protocol):
    """Is called with the progress of a running command."""

    def __call__(self, what: str, done: int, planned: int | None, how: str = "") -> None:
        """Draws one step.

        Args:
            what: Name of the step; a new one is a new line.
            done: How much of it is done.
            planned: How much there is; None when unknown.
            how: What else is known of it.
        """


def by_epoch(on_progress: OnProgress) -> Callable[[str, int, int, float], None]:
    """What training reports to, with the validation loss where there is one."""

    def on_epoch(head: str, done: int, planned: int, loss: float) -> None:
        on_progress(head, done, planned, "" if math.isnan(loss) else f"validation {loss:.4f}")

    return on_epoch


@contextmanager
def progress(*, shown: bool = True) -> Iterator[OnProgress]:
    """A progress display on stderr, one line per step, gone when the command ends.

    Args:
        shown: Whether it is drawn at all.

    Yields:
        The function to call with progress.
    """
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
        tasks: dict[str, TaskID] = {}

        def on_progress(what: str, done: int, planned: int | None, how: str = "") -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=planned, description=f"{what} {how}".rstrip())

        yield on_progress


def print_json(value: object, *, indent: bool = True) -> None:
    """Prints a value as JSON in UTF-8: NaN and infinity as null, times in UTC with a Z.

    Args:
        value: Anything of dataclasses, mappings, sequences and plain values.
        indent: Whether it is laid out over several lines; without, it is one line of JSON lines.
    """
    import orjson

    options = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    options |= orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    sys.stdout.buffer.write(orjson.dumps(value, option=options))
    sys.stdout.buffer.flush()


def stdout() -> Console:
    """The console of results, as wide as the terminal; wide enough for every table where output is piped."""
    return HarmlessConsole(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Prints sentences as they are: no markup, no colours, no breaks."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def figures_table(title: str, texts: Sequence[str], figures: Sequence[str]) -> Table:
    """An empty table: columns of text, then columns of right-aligned figures."""
    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right")
    return table


def figure(value: float | None, spec: str) -> str:
    """A number in a format; "-" when unknown."""
    return "-" if value is None else format(value, spec)


def ranking_table(routing: "Routing", n_shown: int | None) -> Table:
    """The candidates of a decision, best first; all of them when `n_shown` is None."""
    all_candidates = routing.decision.assessments()
    shown = all_candidates[:n_shown]
    left_out = len(all_candidates) - len(shown)
    timing = routing.timing_ms
    caption = f"artifact {routing.artifact_id} · {timing.total:.2f} ms"
    table = Table(caption=caption + (f" · {left_out} more with --all" if left_out else ""))
    table.add_column("LLM", overflow="fold")
    for header in ("p_correct", "95 %", "output tokens", "cost USD", "utility"):
        table.add_column(header, justify="right")
    by_what = {a.known_by for a in shown} - {None, "labels"}
    if by_what:
        table.add_column("known by")
    table.add_column("excluded")
    for a in shown:
        table.add_row(
            a.name,
            figure(a.p_correct, ".3f"),
            "-" if a.p_correct_low is None else f"{a.p_correct_low:.2f} to {a.p_correct_high:.2f}",
            figure(a.expected_output_tokens, ".0f"),
            figure(a.cost_usd, ".6f"),
            figure(a.utility, ".4f"),
            *([a.known_by or ""] if by_what else []),
            a.excluded or "",
        )
    return table


def summary_table(artifact_id: str, manifest: "Manifest") -> Table:
    """What an artifact was made of, and how well it predicts."""
    encoder, decoder = manifest.encoder, manifest.decoder
    table = Table(title=f"artifact {artifact_id}, {manifest.created}", show_header=False)
    pools = " + ".join((*encoder.pools, *(table.name for table in encoder.ngrams)))
    table.add_row("encoder", f"{encoder.source}: {encoder.vocab_size} tokens x {encoder.d_embedding}, {pools}")
    table.add_row("decoder", f"{decoder.kind}, hidden {list(decoder.hidden)}, LLM embedding {decoder.d_llm}")
    if decoder.broad is not None:
        broad = decoder.broad
        table.add_row("broad network", f"hidden {list(broad.hidden)}, LLM embedding {broad.d_llm}")
    if manifest.hedge is not None:
        table.add_row("hedge", f"fitted on {len(manifest.hedge.fitted_on)} data sets left out of training in turn")
    for source in manifest.data:
        table.add_row("data", f"{source.name}: {source.n_prompts} prompts, {source.n_labels} labels, {source.licence}")
    if manifest.contradicted:
        table.add_row("left out", manifest.left_out_labels)
    if manifest.metrics:
        table.add_row("metrics", manifest.measured)
    for name, value in manifest.metrics.items():
        table.add_row("metric", f"{name} {value:.4f}")
    return table


def llm_table(manifest: "Manifest") -> Table:
    """Every learned LLM with its list price."""
    table = Table(title=f"{len(manifest.llms)} LLMs")
    table.add_column("LLM", overflow="fold")
    table.add_column("vendor")
    for header in ("labels", "correct", "USD/Mtok in", "USD/Mtok out"):
        table.add_column(header, justify="right")
    for llm in manifest.llms:
        prices = (figure(llm.input_usd_per_mtok, ".3f"), figure(llm.output_usd_per_mtok, ".3f"))
        table.add_row(llm.id, llm.vendor, str(llm.n_labels), f"{llm.mean_correctness:.3f}", *prices)
    return table


def demo_table(requests: "Sequence[DemoRequest]") -> Table:
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
        figures = (figure(r.p_correct, ".3f"), figure(r.cost_usd, ".6f"))
        title = r.prompt if index == 0 or r.prompt != last else ""
        table.add_row(title, f"{r.cost_weight:g}", _answered_by(r), *figures, r.runner_up or "-")
        last = r.prompt
    return table


def _answered_by(request: "DemoRequest") -> str:
    if request.served is None:
        return f"{request.chosen or '-'}, HTTP {request.status}"
    if request.served != request.chosen:
        return f"{request.chosen}, served by {request.served}"
    return request.served
