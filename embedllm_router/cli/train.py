"""The learning commands, `distill`, `train` and `landmarks`: parse, call one function, print.

Results go to stdout, progress and logs to stderr. Heavy imports wait until a command runs.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedllm_router.cli.console import AsJson, by_epoch, clear_errors, print_json, progress, warn
from embedllm_router.cli.options import EmbeddingsFolder, MaxPrompts, with_options
from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.errors import ConfigError

if TYPE_CHECKING:
    from embedllm_router.prediction.loading import WholeEncoder
    from embedllm_router.training.fit.distill import TokenTable
    from embedllm_router.training.fit.facts import Facts
    from embedllm_router.training.fit.options import TrainingOptions
    from embedllm_router.training.fit.published import Published
    from embedllm_router.training.fit.recipe import LearnedArtifact

__all__ = ["app", "register"]

_DEFAULT_SOURCE = "sentence-transformers/all-MiniLM-L6-v2"


class DecoderName(StrEnum):
    """Which decoder to train."""

    NETWORK = "network"
    PLAIN = "plain"
    MF = "mf"


def register(app: typer.Typer) -> None:
    """Adds the learning commands to a Typer application."""
    app.command(name="distill")(_distill)
    app.command(name="train")(with_options(_train, _network_of, _embedding_of, _tables_of, _parts_of))
    app.command(name="landmarks")(_landmarks)


def _distill(
    out: Annotated[Path, typer.Option(help="Folder to write; a token table that is there is replaced.")],
    source: Annotated[
        list[str],
        typer.Option(
            help="Sentence transformer to distill: name or path; repeat for several side by side, with the tokens of "
            "the first."
        ),
    ] = [_DEFAULT_SOURCE],  # noqa: B006 - typer wants a list and copies it
    dims: Annotated[int, typer.Option(min=8, help="Dimensions to keep of each after PCA.")] = 128,
    as_json: AsJson = False,
) -> None:
    """Make a static prompt encoder's token table from one or several sentence transformers."""
    with clear_errors():
        from embedllm_router.training.fit.distill import check_table_place, save_table, side_by_side

        check_table_place(out)
        table = side_by_side([_make_table(one, dims) for one in source])
        save_table(out, table)
    rows, columns = table.token_embeddings.shape
    result = {"out": str(out), "source": table.source, "vocab_size": rows, "d_embedding": columns}
    if as_json:
        print_json(result, indent=False)
    else:
        typer.echo(f"{out}: {rows} tokens of {columns} dimensions, {table.source}")


@dataclass(frozen=True, slots=True)
class _Tables:
    """Files with what is known of LLMs and data sets, None where none was named; and which LLMs are learned."""

    llms: Path | None
    prices: Path | None
    reasoning: Path | None
    sources: Path | None
    published: Path | None
    min_labels: int
    ungraded_since: str | None

    def read(self, data: list[Path]) -> "tuple[Facts, Published]":
        """Reads them; what is not named may lie beside the data."""
        from embedllm_router.training.fit.facts import find_llm_table, read_facts
        from embedllm_router.training.fit.published import find_published, read_published

        facts = read_facts(
            self.llms or find_llm_table(data), prices=self.prices, reasoning=self.reasoning, sources=self.sources
        )
        return facts, read_published(self.published or find_published(data))


def _tables_of(
    llms: Annotated[
        Path | None, typer.Option(help="Table of LLMs. Default: models.csv beside the data, if there is one.")
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            help='JSON file of list prices: {"llms": {NAME: {"input_usd_per_mtok", "output_usd_per_mtok", "source"}}}.'
        ),
    ] = None,
    reasoning: Annotated[
        Path | None,
        typer.Option(help='JSON file of hidden reasoning tokens per request: {"llms": {NAME: {"tokens", "source"}}}.'),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of licences, and of what labels can be checked against: "
            '{"datasets": {NAME: {"licence", "attribution", "asks": {CATEGORY: {"benchmarks", "chance"}}}}}. Labels '
            "far below an LLM's published score, or below chance, are left out."
        ),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(
            help="Folder with what was published of LLMs, llms.parquet and scores.parquet. Default: published_scores "
            "beside the data, if there is one."
        ),
    ] = None,
    min_labels: Annotated[
        int,
        typer.Option(
            min=1,
            help="LLMs with fewer labels (graded answers) in the data are not learned: a row learned from few answers "
            "is mostly chance. The proxy can still choose such an LLM, by what is expected of its family, and "
            "`embedllm-router add` adds it from a few dozen answers. With a small data set set it lower, such as 100.",
        ),
    ] = 1000,
    ungraded_since: Annotated[
        str | None,
        typer.Option(
            help="YYYY-MM: published LLMs released since then that no data set grades join with what is expected of "
            "their kind."
        ),
    ] = None,
) -> _Tables:
    """The options that say what is known of LLMs, and which of them are learned."""
    return _Tables(llms, prices, reasoning, sources, published, min_labels, ungraded_since)


@dataclass(frozen=True, slots=True)
class _Parts:
    """How data sets are joined and split, and how much of them is taken."""

    on_conflict: OnConflict
    split_seed: int
    split_first: tuple[str, ...]
    max_prompts: int | None


def _parts_of(
    on_conflict: Annotated[
        OnConflict, typer.Option(help="Rule where data sets have different scores for the same prompt and LLM.")
    ] = OnConflict.MEAN,
    split_seed: Annotated[int, typer.Option(help="Random seed for the split into train, validation and test.")] = 0,
    split_first: Annotated[
        list[str] | None,
        typer.Option(
            help="Data set whose questions are split as if there were no others, so that what weights trained on it "
            "held out stays held out; repeat for several."
        ),
    ] = None,
    max_prompts: MaxPrompts = None,
) -> _Parts:
    """The options that say how data sets are joined and split."""
    return _Parts(on_conflict, split_seed, tuple(split_first or ()), max_prompts)


@dataclass(frozen=True, slots=True)
class _Network:
    """What is trained: the prompt encoder, None for both of the shipped token table, and the decoder's options."""

    table: Path | None
    transformer: str | None
    options: "TrainingOptions"


def _network_of(
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="Token table made by `distill`. Default: that of the shipped weights; nothing is downloaded."
        ),
    ] = None,
    encoder_model: Annotated[
        str | None,
        typer.Option(
            help="Sentence transformer (name or path) to run for every prompt instead of a token table; slower. The "
            "weights keep the name. EMBEDLLM_ROUTER_ENCODER__FOLDER says where its files are, if not on the hub."
        ),
    ] = None,
    decoder: Annotated[
        DecoderName,
        typer.Option(
            help="Decoder to train. network: with a hedge for prompts of new kinds. plain: one network alone. mf: the "
            "matrix factorisation of the EmbedLLM paper."
        ),
    ] = DecoderName.NETWORK,
    balance: Annotated[
        float, typer.Option(min=0, help="Balance of data sets: 0 weights them by their number of labels, 1 equally.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Random seed for initial weights and batches.")] = 0,
    members: Annotated[int | None, typer.Option(min=1, help="Networks in the ensemble.")] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs per network.")] = None,
    perturbed_copies: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Slightly changed copies of each prompt to train on too, so that choices change less. Default: 0 "
            "with --encoder-model, which encodes them slowly.",
        ),
    ] = None,
    consistency: Annotated[
        float | None,
        typer.Option(
            min=0, help="Weight of the loss that makes predictions for a prompt's copies equal to those for the prompt."
        ),
    ] = None,
) -> _Network:
    """The options of encoder and decoder; of the decoder's own those that were given are changed."""
    copies = 0 if encoder_model and perturbed_copies is None else perturbed_copies
    given = {"seed": seed, "balance": balance, "members": members, "max_epochs": max_epochs}
    options = _options(decoder, perturbed_copies=copies, consistency=consistency, **given)
    return _Network(encoder, encoder_model, options)


@dataclass(frozen=True, slots=True)
class _Embedding:
    """Who runs the sentence transformer, and where its embeddings are kept."""

    endpoint: str | None
    max_tokens: int
    keep_in: Path | None

    def encoder(self, table: Path | None, model: str | None) -> "TokenTable | WholeEncoder":
        """The prompt encoder to train with."""
        if self.endpoint is not None:
            return _encoder_at(self.endpoint, table, model, self.max_tokens, self.keep_in)
        return _choose_encoder(table, model, self.keep_in)


def _embedding_of(
    encoder_endpoint: Annotated[
        str | None,
        typer.Option(
            help="Endpoint that embeds every prompt by the model that --encoder-model names, such as "
            "http://127.0.0.1:8080/v1; the weights are then served through an endpoint, too. Its form and key are read "
            "from EMBEDLLM_ROUTER_ENCODER__FORM and …__API_KEY."
        ),
    ] = None,
    encoder_max_tokens: Annotated[
        int,
        typer.Option(
            min=16,
            help="With --encoder-endpoint: longest text that the endpoint reads at once, in tokens. Longer prompts are "
            "embedded in pieces of as many characters.",
        ),
    ] = 512,
    embeddings: EmbeddingsFolder = None,
) -> _Embedding:
    """The options that say who embeds prompts."""
    return _Embedding(encoder_endpoint, encoder_max_tokens, embeddings)


def _options(decoder: DecoderName, **given: float | None) -> "TrainingOptions":
    """The decoder's own options, but for those that were given."""
    from embedllm_router.training.fit.options import TrainingOptions, paper_options, plain_options

    starts = {DecoderName.MF: paper_options, DecoderName.PLAIN: plain_options, DecoderName.NETWORK: TrainingOptions}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(starts[decoder](), **changes)


def _train(
    network: _Network,
    embedding: _Embedding,
    tables: _Tables,
    parts: _Parts,
    data: Annotated[list[Path], typer.Option(help="Data folder; repeat for several.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights; weights that are there are replaced.")],
    fit_hedge: Annotated[
        bool,
        typer.Option(
            "--fit-hedge",
            help="Leave out each data set in turn to find how far to trust predictions for new kinds of prompt (at "
            "least 4 sets; takes many times as long). Default: the constants found on sixteen public sets.",
        ),
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Number of seeds to train from, into OUT/seed-0, …; `evaluate` reports their spread."),
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run to the same --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train weights on correctness data; on several GPUs with `accelerate launch -m` or `torchrun -m`."""
    from embedllm_router.artifact.weights import check_place
    from embedllm_router.data.folder import check_folders

    check_place(out)
    check_folders(data)
    encoder = partial(embedding.encoder, network.table, network.transformer)
    teach = _teach(data, network, encoder, tables, parts, fit_hedge=fit_hedge, resume=resume)
    learned = _run(teach, _runs(out, network.options, seeds), threads)
    for place, one in learned.items():
        _print_learned(one, place, as_json=as_json)


def _teach(
    data: list[Path],
    network: _Network,
    encoder: "Callable[[], TokenTable | WholeEncoder]",
    tables: _Tables,
    parts: _Parts,
    *,
    fit_hedge: bool,
    resume: bool,
) -> "Callable[..., LearnedArtifact | None]":
    """Reads what is needed beside the data; what teaches with it takes the folder, the options and who helps."""
    from embedllm_router.data.folder import merge_folders
    from embedllm_router.training.fit.form import chat_llms
    from embedllm_router.training.fit.leave_out import LeaveOutOptions
    from embedllm_router.training.fit.recipe import learn

    facts, known = tables.read(data)
    if network.transformer is None:  # before anything is encoded
        merged = merge_folders(data, parts.on_conflict, max_prompts=parts.max_prompts)
        chat_llms(merged.matrix, facts, tables.min_labels)
    return partial(
        learn,
        data,
        encoder=encoder(),
        facts=facts,
        published=known,
        min_labels=tables.min_labels,
        max_prompts=parts.max_prompts,
        unlabelled=known.released_since(tables.ungraded_since, facts) if tables.ungraded_since else (),
        split_seed=parts.split_seed,
        split_first=parts.split_first,
        on_conflict=parts.on_conflict,
        fit_hedge=LeaveOutOptions(seed=network.options.seed) if fit_hedge else None,
        resume=resume,
        command=_command_line(),
    )


def _runs(out: Path, options: "TrainingOptions", seeds: int) -> "dict[Path, TrainingOptions]":
    """Where each seed's artifact shall be, and how it is trained."""
    if seeds == 1:
        return {out: options}
    if (out / "manifest.json").exists():
        raise ConfigError(f"--out {out} is an artifact itself, so no seeds are written into it. Name another folder.")
    each = range(options.seed, options.seed + seeds)
    return {out / f"seed-{number}": replace(options, seed=number) for number in each}


def _landmarks(
    artifact: Annotated[Path, typer.Option(help="Weights folder to change in place.")],
    data: Annotated[list[Path], typer.Option(help="Data folder that the weights were trained on; repeat for several.")],
    as_json: AsJson = False,
) -> None:
    """Add landmarks, the categories that prompts are compared with, to weights that lack them, without training."""
    with clear_errors():
        from embedllm_router.training.fit.recipe import add_landmarks

        with progress() as on_progress:
            changed = add_landmarks(artifact, data, on_progress)
    manifest = changed.manifest
    metrics = {name: value for name, value in manifest.metrics.items() if name.startswith("landmark_")}
    summary = {"out": str(artifact), "artifact": changed.id, "n_landmarks": len(manifest.landmarks)}
    if as_json:
        print_json({**summary, "metrics": metrics}, indent=False)
        return
    typer.echo(f"{artifact}: artifact {changed.id}, {len(manifest.landmarks)} landmarks. On the test part:")
    _print_metrics(metrics)


def _run(
    teach: "Callable[..., LearnedArtifact | None]", runs: "Mapping[Path, TrainingOptions]", threads: int
) -> "dict[Path, LearnedArtifact]":
    """What each run made, by its folder; nothing in a process that only helps the main one."""
    import torch

    from embedllm_router.training.fit.team import Team, is_main_process

    team = Team.gather()
    torch.set_num_threads(threads)
    made = {}
    for out, options in runs.items():
        with progress(shown=is_main_process()) as on_progress:
            learned = teach(out, options=options, progress=by_epoch(on_progress), team=team)
        if learned is not None:
            made[out] = learned
    team.leave()
    return made


def _print_learned(learned: "LearnedArtifact", out: Path, *, as_json: bool) -> None:
    manifest, merged = learned.artifact.manifest, learned.merged
    for warning in learned.warnings:
        warn(warning)
    if as_json:
        summary = {"out": str(out), "artifact": learned.artifact.id, "n_llms": len(manifest.llms)}
        shared = {"prompts": merged.shared_prompts, **asdict(merged.conflicts), "on_conflict": merged.rule.value}
        print_json({**summary, "shared": shared, "metrics": learned.metrics}, indent=False)
        return
    if merged.shared_prompts:
        twice = f"{merged.conflicts.repeated:,} repeated, {merged.conflicts.conflicting:,} pairs with different scores"
        typer.echo(f"{merged.shared_prompts:,} prompts stand in several data sets; {twice}, resolved by: {merged.rule}")
    if manifest.contradicted:
        typer.echo(f"left out: {manifest.left_out_labels}")
    typer.echo(f"{out}: artifact {learned.artifact.id}, {len(manifest.llms)} LLMs. On the test part:")
    _print_metrics(learned.metrics)


def _print_metrics(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        typer.echo(f"  {name:32} {value:.4f}")


def _encoder_at(
    url: str, folder: Path | None, model: str | None, max_tokens: int, embeddings: Path | None
) -> "WholeEncoder":
    """The encoder that an endpoint runs."""
    if model is None or folder is not None:
        raise ConfigError(
            "--encoder-endpoint needs the name of its model: add --encoder-model, and leave out --encoder."
        )
    from embedllm_router.config.settings import read_encoder_settings
    from embedllm_router.prediction.remote_encoder import RemoteEncoder

    settings = read_encoder_settings(endpoint=url, model=model)
    assert settings.remote is not None, "its address was just given"
    return RemoteEncoder.described(settings.remote.patient(), max_tokens=max_tokens, keep_in=embeddings)


def _choose_encoder(folder: Path | None, model: str | None, embeddings: Path | None) -> "TokenTable | WholeEncoder":
    if model is not None:
        if folder is not None:
            raise ConfigError("--encoder and --encoder-model exclude each other; give one.")
        from embedllm_router.config.settings import encoder_place
        from embedllm_router.prediction.transformer_encoder import TransformerEncoder

        return TransformerEncoder(model, keep_in=embeddings, folder=encoder_place().folder)
    if embeddings is not None:
        raise ConfigError("--embeddings keeps what --encoder-model computes; a token table needs no such folder.")
    from embedllm_router.training.fit.distill import distilled_part, load_table

    if folder is not None:
        return load_table(folder)
    from embedllm_router.artifact.weights import default_artifact_path, load_artifact

    return distilled_part(load_artifact(default_artifact_path()))


def _make_table(source: str, dims: int) -> "TokenTable":
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from embedllm_router.training.fit.distill import distill

    return distill(source, d_embedding=dims)


def _command_line() -> str:
    """The command as a reader would type it, with data folders by name only."""
    arguments = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    return shlex.join(["embedllm-router", *arguments])


app = typer.Typer(add_completion=False, no_args_is_help=True)
register(app)
