"""The command `profile`: asks the deployments of a configuration and learns from their answers."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import (
    AsJson,
    figure,
    figures_table,
    print_json,
    print_lines,
    progress,
    stdout,
    warn,
)
from embedllm_router.cli.options import place_of, with_options
from embedllm_router.errors import ConfigError, DataError

if TYPE_CHECKING:
    from embedllm_router.profiling.graders import GraderKind
    from embedllm_router.profiling.pool import Pool
    from embedllm_router.profiling.result import LLMResult, Result
    from embedllm_router.profiling.run import OnAsked, Options, Profile, Progress
    from embedllm_router.profiling.tasks import Task

__all__ = ["register"]

_TO_CHOOSE_FROM = 4
_FEWEST_TASKS = 200
_RECORDED = 20


def register(app: typer.Typer) -> None:
    """Adds the command to a Typer application."""
    app.command(name="profile")(with_options(_profile, _options, _asked_of))


def _options(
    n: Annotated[int, typer.Option(min=10, help="Prompts to ask each LLM at most.")] = 200,
    budget_usd: Annotated[
        float, typer.Option(min=0, help="What everything may cost, in USD. It is never exceeded.")
    ] = 5.0,
    cost_weight: Annotated[
        float, typer.Option(min=0, help="Cost weight you will route by; prompts near its choices are preferred.")
    ] = 20.0,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 16,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer, reasoning included.")] = 4096,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which a request is given up.")] = 120.0,
    unfinished_are_wrong: Annotated[
        bool, typer.Option(help="Count an empty or truncated answer as a wrong one instead of leaving it out.")
    ] = False,
    grades_to: Annotated[
        Path | None,
        typer.Option(help="File for prompts and grades as JSON lines, which `ingest` reads. It holds your prompts."),
    ] = None,
    forget_answers: Annotated[bool, typer.Option(help="Do not keep the text of answers in the journal.")] = False,
) -> "Options":
    """The options that say how a pool is asked."""
    from embedllm_router.profiling.calls import Pace
    from embedllm_router.profiling.run import Options

    return Options(
        n=n,
        budget_usd=budget_usd,
        cost_weight=cost_weight,
        max_tokens=max_tokens,
        timeout_s=timeout,
        pace=Pace(concurrency, keeps_answers=not forget_answers),
        grades_to=grades_to,
        unfinished_are_wrong=unfinished_are_wrong,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who is asked, who grades, and which prompts."""

    llms: list[str]
    judges: list[str]
    prompts: Path | None
    recorded: bool
    seed: int

    @property
    def kind(self) -> "GraderKind":
        """How answers without a reference are graded."""
        return "judge" if self.judges else "agreement"


def _asked_of(
    llm: Annotated[
        list[str] | None,
        typer.Option(
            help="Model group to ask, at each reasoning effort that it declares or at one, as in gpt-5:low; repeat for "
            "several. Default: all of them."
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="LLM that grades answers to prompts without a reference: a model group, or a LiteLLM model name. "
            "A second one grades the answers of the first."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Your prompts, one JSON object per line. Default: generated tasks that grade themselves."),
    ] = None,
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded",
            help="Take prompts from recorded requests of the configuration's proxy; needs `store.prompt: true`.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the generated tasks.")] = 0,
) -> _Asked:
    """The options that say who is asked what."""
    if recorded and prompts is not None:
        raise ConfigError("--recorded and --prompts exclude each other; give one of them.")
    return _Asked(llm or [], judge or [], prompts, recorded, seed)


def _profile(
    options: "Options",
    asked: _Asked,
    config: Annotated[Path, typer.Option(help="LiteLLM proxy configuration whose deployments are asked.")],
    verdict_prompts: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of the prompts, how many to set aside: drawn at random, asked of every LLM, learned from by no "
            "weights, and kept with their grades in OUT.data for `verdict --data`. Default: a quarter, at least 30; "
            "none where fewer than 80 are asked.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the new weights; data, journal and report are written beside it.")
    ] = Path("weights/profiled"),
    artifact: Annotated[
        Path | None,
        typer.Option(help="Weights to start from. Default: those of the configuration, else the shipped ones."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Say what it would take in requests, tokens and USD, and ask nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the deployments of a configuration, grade their answers, and write weights that know them."""
    parent = artifact or _weights_of(config)
    n, kind = options.n, asked.kind
    tasks = _recorded(config, n, kind) if asked.recorded else _tasks(asked.prompts, n, asked.seed, kind)
    options = _with_set_aside(options, tasks, verdict_prompts, out)
    made = _made(config, parent, asked.llms, asked.judges, tasks)
    _warn_of_few(made, options.n)
    if dry_run:
        _print_quotes(made, options, as_json)
        return
    result = _run(made, options, parent, out)
    if as_json:
        print_json(asdict(result))
    else:
        _print(result, config)
    if result.interrupted:
        raise typer.Exit(130)
    if result.artifact is None:
        raise typer.Exit(1)


def _weights_of(config: Path) -> Path:
    from embedllm_router.artifact.weights import default_artifact_path
    from embedllm_router.config.settings import CALLBACK, load_config, read_proxy_config

    section = load_config(config).get("litellm_settings") or {}
    named = read_proxy_config(config).artifact if CALLBACK in (section.get("callbacks") or []) else None
    return named or default_artifact_path()


def _recorded(config: Path, n: int, kind: "GraderKind") -> "list[Task]":
    from embedllm_router.profiling.tasks import recorded_tasks
    from embedllm_router.records.reader.recorded import Wanted, read_recorded

    with place_of(config=config).opened() as source:
        found = read_recorded(source, Wanted(limit=_RECORDED * n, with_text=True))
    tasks = recorded_tasks(reversed(found.requests), kind)[: _TO_CHOOSE_FROM * n]
    if not tasks:
        raise DataError(
            f"{found.where}: none of {len(found.requests):,} requests has the text of its prompt. Set "
            "`store: {prompt: true}` under callback_settings.embedllm_router for the time it takes to record some."
        )
    return tasks


def _tasks(prompts: Path | None, n: int, seed: int, kind: "GraderKind") -> "list[Task]":
    from embedllm_router.profiling.sandbox import why_no_sandbox
    from embedllm_router.profiling.tasks import generated, read_tasks

    if prompts is None:
        return generated(max(_TO_CHOOSE_FROM * n, _FEWEST_TASKS), seed)
    tasks = read_tasks(prompts, kind)
    kinds = {task.grader.type for task in tasks}
    if "judge" in kinds and kind != "judge":
        raise ConfigError(f"{prompts} has prompts that a judge grades: name one with --judge.")
    if "unit_tests" in kinds and (reason := why_no_sandbox()) is not None:
        raise ConfigError(f"{prompts} has prompts that unit tests grade, but {reason}.")
    return tasks


def _made(config: Path, parent: Path, llms: list[str], judges: list[str], tasks: "list[Task]") -> "Profile":
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # as `serve` does: nothing is fetched
    from embedllm_router.artifact.weights import load_artifact
    from embedllm_router.profiling.pool import read_pool
    from embedllm_router.profiling.run import Profile
    from embedllm_router.proxy.asking import price_map

    weights = load_artifact(parent)
    pool = read_pool(config, weights, price_map(), llms, judges)
    for name, reason in pool.left_out.items():
        warn(f"{name} is not asked: {reason}.")
    _warn_of_judges(pool)
    with progress() as on_progress:
        return Profile.of(weights, pool, tasks, on_progress)


def _with_set_aside(options: "Options", tasks: "list[Task]", wanted: int | None, out: Path) -> "Options":
    from embedllm_router.profiling.set_aside import n_set_aside

    n = n_set_aside(tasks, options.n, wanted)
    return replace(options, n_set_aside=n, data_to=_beside(out, "data") if n else None)


def _warn_of_few(made: "Profile", n: int) -> None:
    from embedllm_router.profiling.learning import FEWEST

    asked = min(n, len(made.tasks))
    if asked < FEWEST:
        warn(f"each LLM is asked {asked} prompts, but at least {FEWEST} graded answers teach something: give more.")


def _warn_of_judges(pool: "Pool") -> None:
    for one in pool.contestants:
        if pool.judges_itself(one.name):
            warn(f"{one.name} judges its own answers: name a second --judge to have them judged by another LLM.")


def _run(made: "Profile", options: "Options", parent: Path, out: Path) -> "Result":
    from embedllm_router.artifact.weights import check_beside, check_place
    from embedllm_router.profiling.journal import Journal
    from embedllm_router.profiling.run import run
    from embedllm_router.profiling.set_aside import check_data_place
    from embedllm_router.proxy.asking import Asker

    check_beside(parent, out)
    check_place(out)
    if options.data_to is not None:
        check_data_place(options.data_to)
    asker = Asker(made.pool.rows, timeout_s=options.timeout_s)  # before there is a journal: a key may be missing
    journal = Journal(_beside(out, "journal.jsonl"))
    try:
        if journal.history.ended:
            typer.echo(f"going on with {journal.path}: {journal.history.counted_usd:.4f} USD count already", err=True)
        if options.pace.keeps_answers:
            typer.echo(f"answers are kept in {journal.path}, readable by you alone", err=True)
        if options.data_to is not None:
            kept = f"{options.n_set_aside} prompts set aside and their grades are kept in {options.data_to}"
            typer.echo(f"{kept}, readable by you alone; --verdict-prompts 0 keeps none", err=True)
        with _shown(options.budget_usd) as on_asked:
            result = run(made, options, asker, journal, parent, out, on_asked)
    finally:
        journal.close()
    _write_report(result, out)
    return result


def _beside(out: Path, name: str) -> Path:
    return out.with_name(f"{out.name}.{name}")


@contextmanager
def _shown(budget_usd: float) -> "Iterator[OnAsked]":
    """A line for each LLM and one for the money, on stderr."""
    with progress() as on_progress:

        def on_asked(how: "Progress") -> None:
            unknown = f", up to {how.unknown_usd:.4f} more not known" if how.unknown_usd else ""
            on_progress(
                "USD",
                round(how.spent_usd * 1e6),
                round(budget_usd * 1e6),
                f"{how.spent_usd:.4f} of {budget_usd:g}{unknown}",
            )
            for name, done in how.done.items():
                on_progress(name, done, how.planned)

        yield on_asked


def _write_report(result: "Result", out: Path) -> None:
    import orjson

    path = _beside(out, "report.json")
    try:
        path.write_bytes(orjson.dumps(asdict(result), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise ConfigError(f"the report {path} cannot be written ({error.strerror}).") from error


# What is printed


def _print_quotes(made: "Profile", options: "Options", as_json: bool) -> None:
    from embedllm_router.profiling.pool import quote, quote_judges

    quotes = quote(made.artifact, made.pool, made.tasks, made.prompts, options.n, options.max_tokens)
    judges = quote_judges(made.artifact, made.pool, made.tasks, quotes, options.max_tokens)
    usd, most = (sum(getattr(one, name) for one in (*quotes, *judges)) for name in ("usd", "most_usd"))
    budget_usd = options.budget_usd
    if as_json:
        found = {"llms": [asdict(one) for one in quotes], "judges": [asdict(one) for one in judges]}
        total = {"usd": usd, "most_usd": most, "budget_usd": budget_usd, "n_tasks": len(made.tasks)}
        print_json({**found, **total})
        return
    table = figures_table(
        f"{len(made.tasks):,} prompts to choose from; nothing was asked",
        ("model group", "LLM", "known by"),
        ("requests", "input tokens", "output tokens", "USD", "at most USD"),
    )
    for one in (*quotes, *judges):
        numbers = (
            f"{one.calls:,}",
            f"{one.input_tokens:,}",
            f"{one.output_tokens:,}",
            f"{one.usd:.4f}",
            f"{one.most_usd:.4f}",
        )
        name = f"{one.name} as judge" if one in judges else one.name
        table.add_row(name, one.llm, one.known_by or "-", *numbers)
    console = stdout()
    console.print(table)
    lines = [
        f"expected {usd:.4f} USD, at most {most:.4f} USD if every answer had the most tokens; budget {budget_usd:g} USD"
    ]
    if usd > budget_usd:
        lines.append("the budget ends the run early: each LLM is asked about as many prompts as it allows")
    if options.n_set_aside:
        lines.append(
            f"{options.n_set_aside} prompts of each LLM are set aside for the verdict: no weights learn from them"
        )
    print_lines(console, lines)


def _print(result: "Result", config: Path) -> None:
    table = figures_table(
        "",
        ("model group", "learned"),
        ("answers", "graded", "right", "95 %", "p before", "p after", "USD", "s p50", "p95", "tokens in", "out"),
    )
    for one in result.llms:
        table.add_row(one.name, one.learned or "-", *_figures(one))
    if result.judges:
        table.add_row("judges", *["-"] * 7, f"{result.judges_usd:.4f}", *["-"] * 4)
    console = stdout()
    console.print(table)
    print_lines(console, [*_lines(result), *_next(result, config)])


def _figures(one: "LLMResult") -> list[str]:
    interval = "-" if one.accuracy_low is None else f"{one.accuracy_low:.2f} to {one.accuracy_high:.2f}"
    return [
        f"{one.n_answers:,}",
        f"{one.n_graded:,}",
        figure(one.accuracy, ".3f"),
        interval,
        f"{one.p_before:.3f}",
        figure(one.p_after, ".3f"),
        f"{one.cost_usd:.4f}",
        figure(one.latency_p50_s, ".2f"),
        figure(one.latency_p95_s, ".2f"),
        figure(one.input_tokens, ".0f"),
        figure(one.output_tokens, ".0f"),
    ]


def _lines(result: "Result") -> list[str]:
    from embedllm_router.profiling.calls import USED_UP

    lines = []
    for one in result.llms:
        if one.failures:
            said = ", ".join(f"{count} {kind}" for kind, count in one.failures.items())
            lines.append(f"{one.name}: prompts without an answer: {said}")
        if one.given_up is not None and one.given_up != USED_UP:  # of the budget there is one note for all
            lines.append(f"{one.name} was not asked to the end: {one.given_up}")
    for judge in result.judges:
        failed = {**({"unreadable": judge.n_unreadable} if judge.n_unreadable else {}), **judge.failures}
        said = "".join(f", {count} {kind}" for kind, count in failed.items())
        lines.append(f"{judge.name} as judge: {judge.n_verdicts} verdicts{said}")
    unknown = f", and up to {result.unknown_usd:.4f} for {_unbilled(result)}" if result.unknown_usd else ""
    lines.append(f"spent {result.spent_usd:.4f} of {result.budget_usd:g} USD{unknown}; journal {result.journal}")
    lines += result.notes
    if result.artifact is not None:
        lines.append(f"wrote {result.out}: artifact {result.artifact}, made from {result.parent}")
    return lines


_NO_BILL = {
    "timeout": "that timed out",
    "connection": "whose connection broke",
    "lost": "under way when a run was killed",
}


def _unbilled(result: "Result") -> str:
    """The requests whose bill is not known, and why it is not."""
    parts = [
        f"{n} {_NO_BILL.get(how, f'{how} without token counts of the provider or a price of LiteLLM')}"
        for how, n in result.unknown_because.items()
    ]
    n = sum(result.unknown_because.values())
    return f"{n} request{'s' if n != 1 else ''} whose bill is not known ({', '.join(parts)})"


def _next(result: "Result", config: Path) -> "Iterator[str]":
    """What to do with the weights; a command that works as it is printed."""
    kept = result.set_aside
    if kept is not None and not kept.is_enough:
        yield (
            f"{kept.n_complete} of {kept.n_prompts} prompts set aside were graded for every LLM; a verdict takes 30: "
            "the same command with a higher --budget-usd goes on"
        )
    if result.artifact is None:
        return
    if kept is not None and kept.is_enough and len(result.llms) > 1:
        yield f"next: {_verdict_command(result, config)}"
        said = f"  says by {kept.n_complete} prompts that every LLM answered and no weights learned from"
        yield f"{said} whether routing pays, and then what to set"
    else:
        yield f"next: set `artifact: {result.out}` under callback_settings.embedllm_router in {config}, run"
        yield f"  {_command('doctor', '--config', str(config))}"
        yield "  after some traffic with feedback, embedllm-router verdict says whether routing pays"


def _verdict_command(result: "Result", config: Path) -> str:
    """The command that judges these weights; LLMs are named where the configuration does not load the router yet."""
    from embedllm_router.config.settings import read_proxy_config

    assert result.set_aside is not None
    try:
        models = list(read_proxy_config(config).virtual_models)
    except ConfigError:
        pool = [part for one in result.llms if one.p_after is not None for part in ("--llm", one.llm)]
    else:
        pool = ["--config", str(config), *(["--virtual-model", models[0]] if len(models) > 1 else [])]
    return _command("verdict", "--data", result.set_aside.folder, *pool, "--artifact", str(result.out))


def _command(*words: str) -> str:
    return shlex.join(["embedllm-router", *words])
