"""The command line: each command parses, calls one function and prints.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 the command or its input is wrong.
"""

import dataclasses
import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from embedllm_router import __version__
from embedllm_router.artifact.guarantees import guarantee_tables
from embedllm_router.artifact.weights import default_artifact_path, load_artifact, shipped_path
from embedllm_router.cli import (
    add,
    doctor,
    evaluate,
    feedback,
    ingest,
    logs,
    plan,
    profile,
    replay,
    score,
    train,
    verdict,
)
from embedllm_router.cli.console import (
    AsJson,
    HarmlessConsole,
    clear_errors,
    demo_table,
    llm_table,
    print_json,
    ranking_table,
    renamed,
    stdout,
    summary_table,
)
from embedllm_router.cli.demo import COST_WEIGHTS, DemoRequest, run_demo
from embedllm_router.cli.options import with_options
from embedllm_router.errors import ConfigError
from embedllm_router.proxy.serve import check_config, check_port, proxy_command, proxy_environment
from embedllm_router.routing.pipeline import Routing
from embedllm_router.routing.policy import Assessment, Objective
from embedllm_router.routing.router import NEAR_TIE_MARGIN, Router

__all__ = ["app", "main"]

app = typer.Typer(
    name="embedllm-router",
    help="Routes each prompt to the LLM that will answer it best for the money, and says why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_stderr = HarmlessConsole(stderr=True)
_SHOWN = 20


def main() -> None:
    """Runs the command line; a mistake ends in one sentence, never in a traceback."""
    try:
        with clear_errors():
            app()
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        stdout().print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@dataclasses.dataclass(frozen=True, slots=True)
class _Wishes:
    """How one prompt is to be decided; None where nothing was said."""

    cost_weight: float | None
    min_p_correct: float | None
    max_accuracy_drop: float | None
    max_cost_usd: float | None
    candidates: list[str] | None

    @property
    def objective(self) -> Objective:
        """As an objective; without a cost weight costs do not count."""
        floors = self.min_p_correct, self.max_accuracy_drop
        return Objective(self.cost_weight or 0.0, *floors, self.max_cost_usd, near_tie_margin=NEAR_TIE_MARGIN)

    @property
    def fields(self) -> dict[str, object]:
        """What was said, by the names of the request's body field."""
        said = {
            "cost_weight": self.cost_weight,
            "min_p_correct": self.min_p_correct,
            "within": self.max_accuracy_drop,
            "max_cost_usd": self.max_cost_usd,
            "candidates": self.candidates,
        }
        return {name: value for name, value in said.items() if value is not None}


def _wishes_of(
    cost_weight: Annotated[
        float | None,
        typer.Option(
            help="λ: accuracy you give up per US dollar of one request. Default: the configuration's, else 0."
        ),
    ] = None,
    min_p_correct: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Choose the cheapest LLM whose p_correct is at least this, instead of by cost weight."
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Choose the cheapest LLM whose p_correct is at most this far below the highest.",
        ),
    ] = None,
    within: Annotated[float | None, typer.Option(min=0, max=1, hidden=True)] = None,
    max_cost_usd: Annotated[
        float | None, typer.Option(min=0, help="Exclude LLMs whose expected cost in USD is higher.")
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(help="LLMs to choose from, separated by commas. With --config: model groups. Default: all."),
    ] = None,
) -> _Wishes:
    """The options that say how a prompt is decided."""
    max_accuracy_drop = renamed("--within", within, "--max-accuracy-drop", max_accuracy_drop)
    if cost_weight is not None and not (math.isfinite(cost_weight) and cost_weight >= 0):
        raise ConfigError(f"--cost-weight must be a finite number of at least 0, found {cost_weight}.")
    if min_p_correct is not None and max_accuracy_drop is not None:
        raise ConfigError("--min-p-correct and --max-accuracy-drop exclude each other; give one of them.")
    named = _names(candidates) if candidates is not None else None
    return _Wishes(cost_weight, min_p_correct, max_accuracy_drop, max_cost_usd, named)


def route(
    wishes: _Wishes,
    prompt: Annotated[str, typer.Argument(help="The prompt; `-` reads it from stdin.")],
    artifact: Annotated[Path | None, typer.Option(help="Weights folder; the shipped one by default.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="LiteLLM proxy configuration: decide as the proxy would, with its LLMs, prices and settings."
        ),
    ] = None,
    virtual_model: Annotated[
        str | None, typer.Option(help="Virtual model of the configuration. Default: `auto`, or the first one.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="List every candidate, not only the best 20.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rank the LLMs for one prompt, without a proxy: at list prices, or with --config as the proxy would."""
    text = sys.stdin.read() if prompt == "-" else prompt
    if config is not None or virtual_model is not None:
        if config is None or artifact is not None:
            raise ConfigError("--virtual-model needs --config, and --config names its own weights, not --artifact.")
        routing = _as_the_proxy(text, config, virtual_model, wishes.fields)
    else:
        from embedllm_router.config.settings import encoder_place
        from embedllm_router.prediction.loading import load_encoder

        router = Router.load(artifact, lambda weights: load_encoder(weights, place=encoder_place()))
        pool = router.pool(wishes.candidates) if wishes.candidates is not None else None
        routing = router.route(text, objective=wishes.objective, pool=pool)
    if as_json:
        print_json(_routing_fields(routing))
    else:
        stdout().print(ranking_table(routing, None if show_all else _SHOWN))
        if not routing.decision.ranking:
            typer.echo(
                "no LLM can be chosen: the column excluded says why; in a proxy the default answers, where it may"
            )


app.command(name="route")(with_options(route, _wishes_of))


@app.command()
def inspect(
    directory: Annotated[Path | None, typer.Argument(help="Weights folder; the shipped one by default.")] = None,
    artifact_folder: Annotated[
        Path | None, typer.Option("--artifact", help="The same, as other commands take it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a weights folder holds: LLMs, dimensions, data, metrics."""
    if directory is not None and artifact_folder is not None:
        raise ConfigError(f"both {directory} and --artifact {artifact_folder} are given; give one weights folder.")
    artifact = load_artifact(directory or artifact_folder or default_artifact_path())
    if as_json:
        print_json({"id": artifact.id, **artifact.manifest.model_dump(mode="json")})
        return
    stdout().print(summary_table(artifact.id, artifact.manifest))
    for table in guarantee_tables(artifact.manifest.contract):
        stdout().print(table)
    stdout().print(llm_table(artifact.manifest))


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="LiteLLM proxy configuration that loads the router.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 4000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer requests; they share the port.")] = 1,
) -> None:
    """Run the LiteLLM proxy with the router. Makes and prints a master key when none is set."""
    check_config(config)
    check_port(host, port)
    environment, made_key = proxy_environment(config)
    if made_key:
        _stderr.print(f"LITELLM_MASTER_KEY was not set; made for this run: {made_key}", highlight=False, soft_wrap=True)
    command = proxy_command(config, host, port, workers=workers)
    os.execve(command[0], command, environment)  # noqa: S606 - the proxy replaces this process, pid and all


@app.command()
def demo(
    config: Annotated[Path | None, typer.Option(help="Proxy configuration; the shipped one by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send diverse prompts through the real proxy to simulated LLMs, at three cost weights."""
    chosen_config = config or shipped_path("proxy_config.yaml")
    check_config(chosen_config)
    with _stderr.status("starting the proxy and the simulated LLMs") as status:

        def show(request: DemoRequest) -> None:
            status.update(f"{request.prompt}, cost weight {request.cost_weight:g}: {request.chosen}")

        requests = run_demo(chosen_config, cost_weights=COST_WEIGHTS, on_request=show)
    if as_json:
        print_json({"requests": [_demo_fields(r) for r in requests]})
    else:
        stdout().print(demo_table(requests))
    if any(request.status >= 400 for request in requests):  # noqa: PLR2004 - HTTP's first error status
        raise typer.Exit(1)


@app.command()
def upstream(
    port: Annotated[int, typer.Option(help="Port to listen on, on 127.0.0.1.")] = 8900,
    fail: Annotated[
        list[str] | None,
        typer.Option(
            help="LLM that fails every request, with the HTTP status, such as gpt-4o=503; repeat for several."
        ),
    ] = None,
    scores: Annotated[
        bool, typer.Option(help="Make up scores where `judging` asks for them; without it, its judges cannot be read.")
    ] = False,
) -> None:
    """Run a local OpenAI-compatible server that simulates LLMs; every answer says so, and `profile` cannot grade it."""
    import uvicorn

    from embedllm_router.cli.upstream import create_app

    server = create_app(dict(_failure(spec) for spec in fail or ()), scores=scores)
    uvicorn.run(server, host="127.0.0.1", port=port, log_level="warning")


def _failure(spec: str) -> tuple[str, int]:
    llm, _, status = spec.rpartition("=")
    if not llm or not status.isdigit():
        raise ConfigError(f"--fail takes LLM=STATUS, for example gpt-4o=503; found {spec!r}.")
    return llm, int(status)


def _demo_fields(request: DemoRequest) -> dict[str, object]:
    fields = dataclasses.asdict(request)
    del fields["runner_up"]
    return fields


def _as_the_proxy(text: str, config: Path, virtual_model: str | None, overrides: dict[str, object]) -> Routing:
    from embedllm_router.proxy.preview import preview

    body: dict[str, object] = {"messages": [{"role": "user", "content": text}]}
    return preview(config, virtual_model, body | ({"embedllm": overrides} if overrides else {}))


def _names(candidates: str) -> list[str]:
    names = [name.strip() for name in candidates.split(",") if name.strip()]
    if not names:
        raise ConfigError("--candidates takes at least one LLM, separated by commas; found none.")
    return names


def _routing_fields(routing: Routing) -> dict[str, object]:
    chosen = routing.decision.chosen
    return {
        "prompt_chars": len(routing.prompt.text),
        "artifact": routing.artifact_id,
        "cost_weight": routing.decision.request.objective.cost_weight,
        "chosen": chosen.name if chosen else None,
        "candidates": [_candidate_fields(a) for a in routing.decision.assessments()],
        "timing_ms": dataclasses.asdict(routing.timing_ms),
    }


def _candidate_fields(assessment: Assessment) -> dict[str, object]:
    fields = dataclasses.asdict(assessment)
    del fields["name"]  # without a proxy, a candidate's name is its LLM
    return fields


for _group in (ingest, train, evaluate, score, logs, replay, plan, verdict, feedback, add, profile, doctor):
    _group.register(app)

if __name__ == "__main__":
    main()
