"""The README of an artifact folder, written from its manifest. It knows nothing but the manifest."""

import math
from collections.abc import Sequence

from embedllm_router.artifact.manifest import Manifest, NgramSpec
from embedllm_router.training.fit.landmarks import LANDMARK_METRICS

__all__ = ["model_card", "with_landmarks"]

_INTRODUCTION = """For any prompt: the probability that each of {n_llms} LLMs answers it correctly, and how many tokens
it will write. `logit[llm] = e_llm · f(x) + b_llm`, after EmbedLLM (Zhuang et al., ICLR 2025, arXiv 2410.02223)."""

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
            _INTRODUCTION.format(n_llms=len(manifest.llms)),
            made,
            _how(manifest),
            _figures(manifest),
            _LIMITS,
            _data(manifest),
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


def _how(manifest: Manifest) -> str:
    encoder, decoder = manifest.encoder, manifest.decoder
    settings = ", ".join(f"{name} {value}" for name, value in manifest.training.items())
    return f"""## How

- Encoder: {encoder.source} ({encoder.kind}). Pools: {", ".join(encoder.pools)}; {_ngrams(encoder.ngrams)};
  style features: {", ".join(encoder.style_features)}.
  all-MiniLM-L6-v2 is by the Sentence-Transformers authors (Apache-2.0); model2vec by Minish Lab (MIT).
- Decoder: {decoder.kind}, hidden {list(decoder.hidden)}, LLM embeddings of {decoder.d_llm}; output length: hidden
  {list(decoder.length_hidden)}, embeddings of {decoder.d_length}.
- Split by normalised question stem into train, validation and test (80/10/10): no question is on two sides. Early
  stopping and calibration (a slope and an offset per LLM, shrunk to common ones) use validation. No weight was fitted
  to the test part, but its figures guided the choice of the default recipe, so they are slightly optimistic.
- Options: {settings}.
"""


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


def _llms(manifest: Manifest) -> str:
    head = "| LLM | vendor | thinking | labels | mean correctness | USD per Mtok in / out | price source |\n"
    rows = [
        f"| {llm.id} | {llm.vendor} | {'yes' if llm.thinking else ''} | {llm.n_labels:,} | "
        f"{llm.mean_correctness:.3f} | {_usd(llm.input_usd_per_mtok)} / {_usd(llm.output_usd_per_mtok)} | "
        f"{llm.price_source or 'unknown'} |"
        for llm in manifest.llms
    ]
    note = "Mean correctness is over the prompts each was asked; these differ, so the column ranks nobody.\n"
    return f"## LLMs\n\n{note}\n{head}|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _usd(price: float | None) -> str:
    return "?" if price is None else f"{price:g}"
