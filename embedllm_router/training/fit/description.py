"""What an artifact says of itself: its manifest, made of what was learned and of which data, and its model card."""

import datetime as dt
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from embedllm_router.artifact.manifest import (
    BroadSpec,
    DataSource,
    DecoderSpec,
    EncoderSpec,
    HedgeSpec,
    KinSpec,
    LearnedLLM,
    Manifest,
    NgramSpec,
    TransformerSpec,
)
from embedllm_router.artifact.weights import Tensors
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.prediction.ood_score import MAX_DEVIATION
from embedllm_router.training.fit.facts import Facts
from embedllm_router.training.fit.hedged import KnownLLMs
from embedllm_router.training.fit.landmarks import LANDMARK_METRICS
from embedllm_router.training.fit.options import TrainingOptions

__all__ = ["Learned", "describe", "learned_llms", "model_card", "with_landmarks"]

_INTRODUCTION = """For any prompt: the probability that each of {n_llms} LLMs answers it correctly, and how many tokens
it will write. {form}"""

_PLAIN = """`logit[llm] = e_llm · f(x) + b_llm`, after EmbedLLM (Zhuang et al., ICLR 2025, arXiv 2410.02223)."""

_HEDGED = """The ability of the LLM, the difficulty of the prompt and two networks of the form `e_llm · f(x)`, after
EmbedLLM (Zhuang et al., ICLR 2025, arXiv 2410.02223), each trusted as far as the prompt resembles those of training."""

_LEFT_OUT = """## Kinds of prompt nobody trained on

Each data set was left out in turn: the same recipe with smaller networks (160 hidden units, 10 epochs, at most 2,000
prompts of each other set, no perturbed copies) was trained on the others without the questions that also stand in it,
and predicted it, or a sample of at most 20,000 answers, with constants found on the other sets. These figures are
therefore of weights like these, not of these, which have seen every set. "Means" is what each LLM reaches on the other
sets, with the uncertainty of a new set. Of {n_sets} sets, log-loss is surely below that of means on {n_better}, surely
above on {n_worse}, by 95 % intervals over prompts.

| set | about | prompts | LLMs | log-loss | means | change [95 %] | AUC | means | AUC within an LLM |
|---|---|---|---|---|---|---|---|---|---|
{rows}
| mean | | | | {mean:.3f} | {mean_of_means:.3f} | | | | |

What the weights do not know: how hard a kind of prompt is that resembles no data set above (its level may be off by
more than one logit, as for {worst}, where the sets that remain say least); which LLM suits a prompt of such a kind,
beyond which is better in general, except as far as "AUC within an LLM" lies above 0.5; tasks of several turns, tools or
images, of which there are none; and LLMs of few labels beyond what their kin suggest. The form of the model was chosen
with all sets in view, so that a truly new one may do somewhat worse.
"""

_LIMITS = """## Limits

- Learned from graded answers to the data sets below, not from your traffic. On a prompt unlike theirs the probabilities
  are guesses; they order LLMs more reliably than they state chances.
- A label says that the data's own grading counted the answer right. Answers from which nothing could be read are left
  out, but other failures of format, prompting or extraction remain and count against the LLM.
- LLMs were graded on different prompts, by different protocols; LLMs that never met on one are compared through the
  prompt network only.
- Output length is learned from recorded token counts where the data have them, else from visible characters and an
  estimate of hidden reasoning; LLMs without either get the average. List prices are of their source's date and belong
  to no deployment of yours.
- Everything below is from before the dates named; newer LLMs are not in it.
"""

_LANDMARKS_HEAD = "## Landmarks"
_LANDMARKS = """{head}

{n} categories of the training prompts, each by the mean of its prompts after a linear discriminant projection to
{d} dimensions, in landmarks.safetensors. A new prompt is described by the nearest of them; no decision depends on it.
Of test prompts of a category with a landmark, {own:.1%} lie nearest to their own category, {in_3:.1%} have it among the
three nearest, and for {own_set:.1%} the nearest is of their own data set.
"""


def model_card(manifest: Manifest, command: str) -> str:
    """Writes the model card.

    Args:
        manifest: What the artifact says of itself.
        command: How it was made; empty when unknown.

    Returns:
        Markdown.
    """
    made = f"\nMade {manifest.created} by\n\n```\n{command}\n```\n" if command else f"\nMade {manifest.created}.\n"
    card = "\n".join(
        [
            "# EmbedLLM Router weights",
            "",
            _INTRODUCTION.format(n_llms=len(manifest.llms), form=_HEDGED if manifest.hedge else _PLAIN),
            made,
            *([_left_out(manifest.hedge)] if manifest.hedge and manifest.hedge.left_out else []),
            _how(manifest),
            _figures(manifest),
            _LIMITS,
            _data(manifest),
            *([_contradicted(manifest)] if manifest.contradicted else []),
            _llms(manifest),
        ]
    )
    return with_landmarks(card, manifest)


def with_landmarks(card: str, manifest: Manifest) -> str:
    """A model card whose last section is about the manifest's landmarks, in place of an older such section.

    Args:
        card: Markdown.
        manifest: Where it lists no landmarks, the section is left out.

    Returns:
        Markdown.
    """
    others = card.partition(f"\n{_LANDMARKS_HEAD}\n")[0]
    if not manifest.landmarks:
        return others
    own, in_3, own_set = (manifest.metrics.get(name, math.nan) for name in LANDMARK_METRICS)
    n, d = len(manifest.landmarks), manifest.d_landmark
    section = _LANDMARKS.format(head=_LANDMARKS_HEAD, n=n, d=d, own=own, in_3=in_3, own_set=own_set)
    return f"{others.rstrip()}\n\n{section}"


def _left_out(hedge: HedgeSpec) -> str:
    sets = sorted(hedge.left_out, key=lambda one: -one.n_prompts)
    rows = [
        f"| {one.name} | {one.domain or '?'} | {one.n_prompts:,} | {one.n_llms:,} | {one.log_loss:.3f} | "
        f"{one.means_log_loss:.3f} | {one.log_loss - one.means_log_loss:+.3f} [{one.change_low:+.3f}, "
        f"{one.change_high:+.3f}] | {_share(one.auc)} | {_share(one.means_auc)} | {_share(one.auc_within)} |"
        for one in sets
    ]
    return _LEFT_OUT.format(
        n_sets=len(sets),
        n_better=sum(one.change_high < 0 for one in sets),
        n_worse=sum(one.change_low > 0 for one in sets),
        rows="\n".join(rows),
        mean=statistics.fmean(one.log_loss for one in sets),
        mean_of_means=statistics.fmean(one.means_log_loss for one in sets),
        worst=max(sets, key=lambda one: one.log_loss).name,
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _how(manifest: Manifest) -> str:
    encoder, decoder = manifest.encoder, manifest.decoder
    settings = ", ".join(f"{name} {value}" for name, value in manifest.training.items())
    return f"""## How

- Encoder: {encoder.source} ({encoder.kind}). Pools: {", ".join(encoder.pools)}{_blocks(encoder)};
  {_ngrams(encoder.ngrams)}; {len(encoder.style_features)} text statistics, named in manifest.json.
  The transformers of Sentence-Transformers are by its authors (Apache-2.0); model2vec by Minish Lab (MIT).
- Decoder: {decoder.kind}, hidden {list(decoder.hidden)}, LLM embeddings of {decoder.d_llm}; output length: hidden
  {list(decoder.length_hidden)}, embeddings of {decoder.d_length}.{_broad(manifest)}
- Split by normalised question stem into train, validation and test (80/10/10): no question is on two sides. Early
  stopping and calibration ({_calibration(manifest)}) use validation. No weight was fitted to the test part, but its
  figures guided the choice of the default recipe, so they are slightly optimistic.{_first(manifest)}
- Options: {settings}.
"""


def _blocks(encoder: EncoderSpec | TransformerSpec) -> str:
    if isinstance(encoder, TransformerSpec) or not encoder.blocks:
        return ""
    return f", of columns {', '.join(map(str, encoder.blocks))} each by itself"


def _calibration(manifest: Manifest) -> str:
    if manifest.hedge is not None:
        return "a slope and an offset common to all LLMs"
    return "a slope and an offset per LLM, shrunk to common ones"


def _first(manifest: Manifest) -> str:
    first = manifest.training.get("split_first")
    return (
        f"\n  {first} were split before the others joined: what earlier weights held out of them is held out."
        if first
        else ""
    )


def _broad(manifest: Manifest) -> str:
    broad, hedge = manifest.decoder.broad, manifest.hedge
    if broad is None or hedge is None:
        return ""
    found = f"found on {len(hedge.fitted_on)} sets left out in turn" if hedge.fitted_on else "the usual ones"
    return (
        f"\n  Broad network: hidden {list(broad.hidden)}, LLM embeddings of {broad.d_llm}, on "
        f"{broad.n_columns} columns.\n  Hedge: {found}; novelty is measured from {hedge.n_points} points."
    )


def _ngrams(tables: Sequence[NgramSpec]) -> str:
    described = (f"{one.name} ({one.n} {one.reads}, {one.n_rows} rows, {one.n_columns} columns)" for one in tables)
    return f"n-grams: {', '.join(described) or 'none'}"


def _figures(manifest: Manifest) -> str:
    metrics = manifest.metrics
    sets = sorted({name.partition(".")[0] for name in metrics if "." in name})
    rows = [_row("all", metrics, "")] + [_row(name, metrics, f"{name}.") for name in sets]
    plain = [
        f"- {name}: {value:.4g}" for name, value in metrics.items() if "." not in name and name not in LANDMARK_METRICS
    ]
    table = "| set | AUC | log-loss | Brier | ECE (15 bins) |\n|---|---|---|---|---|\n"
    return "## Test figures\n\n" + table + "\n".join(rows) + "\n\n" + "\n".join(plain) + "\n"


def _row(label: str, metrics: dict[str, float], prefix: str) -> str:
    cells = [metrics.get(prefix + name) for name in ("auc", "log_loss", "brier", "ece")]
    return f"| {label} | " + " | ".join("-" if c is None else f"{c:.4f}" for c in cells) + " |"


def _data(manifest: Manifest) -> str:
    rows = [f"| {d.name} | {d.n_prompts:,} | {d.n_labels:,} | {d.licence} | {d.attribution} |" for d in manifest.data]
    head = "| set | prompts | labels | licence | attribution |\n|---|---|---|---|---|\n"
    return "## Data\n\nNo prompt or answer text is in this folder.\n\n" + head + "\n".join(rows) + "\n"


def _contradicted(manifest: Manifest) -> str:
    head = "| set | category | LLM | labels | right | expected | from |\n|---|---|---|---|---|---|---|\n"
    rows = [
        f"| {_cell(one.dataset)} | {_cell(one.category)} | {_cell(one.llm)} | {one.n_labels:,} | {one.right:.3f} | "
        f"{one.expected:.3f} | {_cell(one.benchmark or 'guessing')} |"
        for one in manifest.contradicted
    ]
    n = sum(one.n_labels for one in manifest.contradicted)
    note = f"""## Labels left out

{n:,} labels tell whether an answer could be read, not whether it was right: they lie far below what was published of
the same LLM on the same benchmark, or below guessing. Nothing was learned from them, and no figure above counts them.

"""
    return note + head + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    """Any text as one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _llms(manifest: Manifest) -> str:
    head = "| LLM | vendor | thinking | labels | mean correctness | USD per Mtok in / out | price source |\n"
    rows = [
        f"| {llm.id} | {llm.vendor} | {'yes' if llm.thinking else ''} | {_labels(llm)} | "
        f"{llm.mean_correctness:.3f} | {_usd(llm.input_usd_per_mtok)} / {_usd(llm.output_usd_per_mtok)} | "
        f"{llm.price_source or 'unknown'} |"
        for llm in manifest.llms
    ]
    note = "Mean correctness is over the prompts each was asked; these differ, so the column ranks nobody.\n"
    return f"## LLMs\n\n{note}\n{head}|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _labels(llm: LearnedLLM) -> str:
    return f"{llm.n_labels:,}" if llm.n_labels else f"none, known by {llm.known_by}"


def _usd(price: float | None) -> str:
    return "?" if price is None else f"{price:g}"


@dataclass(frozen=True, slots=True)
class Learned:
    """What training left, whatever its form.

    Attributes:
        tensors: Those of decoder.safetensors.
        n_epochs: Epochs run, of all networks together.
        broad: What the manifest says of the broad network; None without one.
        max_deviation: What standardised inputs are clipped to.
        hedge: Of a decoder with a broad network.
        kin: What is expected of ungraded LLMs, likewise.
        llms: The LLMs, and what is known of each besides its answers.
    """

    tensors: Tensors
    n_epochs: int
    llms: KnownLLMs
    broad: BroadSpec | None = None
    max_deviation: float = MAX_DEVIATION
    hedge: HedgeSpec | None = None
    kin: KinSpec | None = None


def describe(  # noqa: PLR0913 - everything an artifact says of itself
    matrix: CorrectnessMatrix,
    facts: Facts,
    *,
    encoder: EncoderSpec | TransformerSpec,
    options: TrainingOptions,
    learned: Learned,
    how: Mapping[str, str | int],
) -> Manifest:
    """Builds the manifest.

    Args:
        matrix: What was learned from.
        facts: What the data do not say.
        encoder: The prompt encoder.
        options: How the decoder was trained.
        learned: The decoder.
        how: The seed and rule that decided which data trained: split_seed, on_conflict.

    Returns:
        The manifest without landmarks and hedge, its metrics not yet measured and its files not yet listed.
    """
    tensors = learned.tensors
    settings = {name: _plain(value) for name, value in asdict(options).items()}
    return Manifest(
        created=dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        encoder=encoder,
        decoder=DecoderSpec(
            kind="network" if options.hidden else "mf",
            hidden=_hidden(tensors, "prompt_network"),
            d_llm=tensors["llm_embeddings"].shape[1],
            length_hidden=_hidden(tensors, "length_network"),
            d_length=tensors["length_embeddings"].shape[1],
            max_deviation=learned.max_deviation,
        ),
        llms=learned_llms(matrix, facts, learned.llms),
        data=_sources(matrix, facts),
        training={**settings, **how, "epochs_run": learned.n_epochs},
        metrics={},
    )


def learned_llms(matrix: CorrectnessMatrix, facts: Facts, known: KnownLLMs) -> tuple[LearnedLLM, ...]:
    """What the manifest says of each LLM; of one without answers, with a mean correctness yet to be predicted."""
    right, counts = (matrix.labels() * matrix.observed).sum(axis=0), matrix.observed.sum(axis=0)
    llms = []
    for column, (llm, kind) in enumerate(zip(known.ids, known.kinds, strict=True)):
        price, n_labels = facts.prices.get(llm), int(counts[column])
        llms.append(
            LearnedLLM(
                id=llm,
                vendor=kind.vendor,
                thinking=kind.thinking,
                n_labels=n_labels,
                mean_correctness=round(float(right[column]) / n_labels, 4) if n_labels else 0.5,
                known_by="labels" if n_labels else "family" if kind.published is None else "published",
                family=kind.family,
                released=kind.released,
                size_b=kind.size_b,
                input_usd_per_mtok=price.input_usd_per_mtok if price else None,
                output_usd_per_mtok=price.output_usd_per_mtok if price else None,
                price_source=price.source if price else None,
            )
        )
    return tuple(llms)


def _sources(matrix: CorrectnessMatrix, facts: Facts) -> tuple[DataSource, ...]:
    datasets = np.array(matrix.datasets)
    records = []
    for name in dict.fromkeys(matrix.datasets):
        mine = datasets == name
        source = facts.sources.get(name)
        records.append(
            DataSource(
                name=name,
                licence=source.licence if source else "unknown",
                attribution=source.attribution if source else "unknown",
                n_prompts=int(mine.sum()),
                n_labels=int(matrix.observed[mine].sum()),
            )
        )
    return tuple(records)


def _hidden(tensors: Tensors, network: str) -> tuple[int, ...]:
    biases = [t for name, t in sorted(tensors.items()) if name.startswith(f"{network}.") and name.endswith(".bias")]
    return tuple(bias.shape[0] for bias in biases[:-1])


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
