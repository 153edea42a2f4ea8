"""The commands `add` and `questions`: parse, call one function, print.

Results go to stdout, progress to stderr. Heavy imports wait until a command runs.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedllm_router.cli.console import AsJson, clear_errors, print_json, progress
from embedllm_router.cli.options import with_options
from embedllm_router.errors import ConfigError

if TYPE_CHECKING:
    from embedllm_router.artifact.weights import Artifact
    from embedllm_router.training.add_llm import Added, Question

__all__ = ["register"]

_NEAREST = 3
_NO_VENDOR = "unknown"
_DOUBTS = {
    False: "too few answers to say that prompts tell more about it than its mean does",
    True: "its mean says more of these answers than prompts do: they may have little to do with what was learned",
}
Weights = Annotated[Path | None, typer.Option(help="Weights folder; the shipped one by default.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to a Typer application."""
    app.command(name="add")(with_options(_add, _of_one))
    app.command(name="questions")(_questions)


@dataclass(frozen=True, slots=True)
class _OfOne:
    """What is said of one new LLM; prices are in USD per million tokens."""

    scores: str | None
    vendor: str
    thinking: bool
    input_price: float | None
    output_price: float | None

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        options = {
            "--scores": self.scores,
            "--vendor": self.vendor != _NO_VENDOR,
            "--thinking": self.thinking,
            "--input-price": self.input_price is not None,
            "--output-price": self.output_price is not None,
        }
        return [name for name, value in options.items() if value]


def _of_one(
    scores: Annotated[
        str | None, typer.Option(help="Published benchmark scores in [0, 1], such as mmlu_pro=0.84,gpqa_diamond=0.78.")
    ] = None,
    vendor: Annotated[str, typer.Option(help="Vendor of the LLM.")] = _NO_VENDOR,
    thinking: Annotated[bool, typer.Option("--thinking", help="The LLM reasons before it answers.")] = False,
    input_price: Annotated[
        float | None,
        typer.Option(min=0, help="List price in USD per million input tokens. A proxy's own prices take precedence."),
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(min=0, help="List price in USD per million output tokens.")
    ] = None,
) -> _OfOne:
    """The options that are of one LLM."""
    return _OfOne(scores, vendor, thinking, input_price, output_price)


def _add(
    said: _OfOne,
    llm: Annotated[
        list[str], typer.Argument(help="Names of the new LLMs in the data; they become the ids of the LLMs.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the new weights; weights that are there are replaced.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="Data folder with graded answers, as `ingest` writes it; repeatable.")
    ] = None,
    artifact: Weights = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the weights even if an LLM is refused for its answers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add LLMs to existing weights from published scores, a few graded answers, or both, without training."""
    from embedllm_router.artifact.published import read_scores
    from embedllm_router.artifact.weights import check_beside, default_artifact_path, load_artifact, read_card
    from embedllm_router.data.folder import read_folders
    from embedllm_router.training.add_llm import About, add_llm, write_added

    names = list(dict.fromkeys(llm))
    if len(names) > 1 and said.given:
        raise ConfigError(f"{', '.join(said.given)} are of one LLM, found {len(names)}; add such LLMs one by one.")
    parent = artifact or default_artifact_path()
    check_beside(parent, out)
    weights, scores = load_artifact(parent), read_scores(said.scores)
    abouts = [About(one, said.vendor, said.thinking, said.input_price, said.output_price, scores) for one in names]
    matrix = read_folders(data) if data else None
    with progress() as on_progress:
        added = [add_llm(weights, matrix, about, on_progress) for about in abouts]
    written = None
    if force or all(one.refusal is None for one in added):
        written = write_added(weights, read_card(parent), added, out)
    _print_added(added, out, written, as_json=as_json)
    if written is None:
        raise typer.Exit(1)


def _print_added(added: "list[Added]", out: Path, written: "Artifact | None", *, as_json: bool) -> None:
    if as_json:
        fields = [_fields(one, out, written) for one in added]
        print_json(fields[0] if len(fields) == 1 else {"added": fields})
        return
    for one in added:
        for line in _lines(one, _nearest(written, one.llm)):
            typer.echo(line)
        if one.refusal is not None:
            typer.echo(f"refused: {one.refusal}")
    typer.echo(_outcome(added, out, written))


def _fields(added: "Added", out: Path, written: "Artifact | None") -> dict[str, object]:
    return {
        "written": written.id if written else None,
        "out": str(out) if written else None,
        "llm": added.llm,
        "parent": added.parent,
        "n_answers": added.n_answers,
        "n_lengths": added.n_lengths,
        "mean_score": added.mean_score,
        "ability": added.ability.mean if added.ability else None,
        "ability_sd": added.ability.sd if added.ability else None,
        "mean_p": added.mean_p,
        "mean_p_low": added.mean_p_low,
        "mean_p_high": added.mean_p_high,
        "judged": asdict(added.judged) if added.judged else None,
        "nearest": _nearest(written, added.llm),
        "refused": added.refusal,
    }


def _nearest(written: "Artifact | None", llm: str) -> list[str]:
    if written is None:
        return []
    from embedllm_router.evaluation.embeddings import nearest_llms

    return [one.llm for one in nearest_llms(written, llm, _NEAREST)]


def _lines(added: "Added", nearest: list[str]) -> list[str]:
    credible = f"95 % credible [{added.mean_p_low:.3f}, {added.mean_p_high:.3f}]"
    lines = [
        f"{added.llm}: {_read(added)}",
        f"on prompts like those the weights learned from, p_correct {added.mean_p:.3f} on average, {credible}",
    ]
    if added.judged is not None:
        judged, change = added.judged, added.judged.change
        lines.append(
            f"log-loss on answers held out in turn {judged.log_loss:.4f}; by its mean alone {judged.log_loss_mean:.4f} "
            f"({change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]), "
            f"without any of its answers {judged.log_loss_population:.4f}"
        )
        if change.high >= 0:
            lines.append(_DOUBTS[change.low > 0])
    if nearest:
        lines.append(f"most like {', '.join(nearest)}")
    return lines


def _read(added: "Added") -> str:
    """What it was learned from."""
    lengths = f"{added.n_lengths:,} of them with a length" if added.n_lengths else "lengths as other LLMs have them"
    parts = []
    if added.ability is not None:
        parts.append(f"ability {added.ability.mean:+.2f} ± {added.ability.sd:.2f} log-odds by scores, name and price")
    if added.mean_score is not None:
        parts.append(f"{added.n_answers:,} answers, {added.mean_score:.1%} right")
    return f"{', '.join(parts)}; {lengths}"


def _outcome(added: "list[Added]", out: Path, written: "Artifact | None") -> str:
    if written is None:
        return "nothing was written; --force writes it all the same"
    said = f"wrote {out}: artifact {written.id}, {len(written.manifest.llms)} LLMs; the model group of"
    if len(added) > 1:
        return f"{said} each one's deployment needs its name or `model_info: {{embedllm: NAME}}`"
    return f"{said} its deployment needs that name or `model_info: {{embedllm: {added[0].llm}}}`"


def _questions(
    data: Annotated[
        list[Path] | None, typer.Option(help="Data folder, as `ingest` writes it; repeat for several.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Prompts that nobody graded: a text file with one per line, or JSON lines with `prompt`."),
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 50,
    artifact: Weights = None,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout.")] = None,
) -> None:
    """List the questions whose answers say most about a new LLM, as JSON lines, the most informative first."""
    with clear_errors():
        from embedllm_router.artifact.weights import default_artifact_path, load_artifact
        from embedllm_router.data.folder import read_folders
        from embedllm_router.data.prompts import read_prompts
        from embedllm_router.training.add_llm import questions_to_ask

        if (prompts is None) == (not data):
            raise ConfigError("give one of --data, data folders, and --prompts, a file of prompts.")
        weights = load_artifact(artifact or default_artifact_path())
        with progress() as on_progress:
            matrix = read_prompts(prompts) if prompts is not None else read_folders(data or [])
            chosen = questions_to_ask(weights, matrix, n, on_progress)
        _write_questions(chosen, out)


def _write_questions(chosen: "list[Question]", out: Path | None) -> None:
    import orjson

    lines = b"".join(orjson.dumps(asdict(one)) + b"\n" for one in chosen)
    if out is None:
        sys.stdout.buffer.write(lines)
        return
    try:
        out.write_bytes(lines)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written ({error}). Name a file in a folder that exists.") from error
    typer.echo(f"{out}: {len(chosen):,} questions", err=True)
