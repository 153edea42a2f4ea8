"""What an artifact says of itself: builds its manifest from what was learned, and from what. It knows no files."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import (
    DataSource,
    DecoderSpec,
    EncoderSpec,
    LearnedLLM,
    Manifest,
    TransformerSpec,
)
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.training.fit.decoder_learning_inputs import Trained
from embedllm_router.training.fit.facts import Facts
from embedllm_router.training.fit.options import TrainingOptions

__all__ = ["describe"]


def describe(  # noqa: PLR0913 - everything an artifact says of itself
    matrix: CorrectnessMatrix,
    facts: Facts,
    *,
    encoder: EncoderSpec | TransformerSpec,
    options: TrainingOptions,
    trained: Trained,
    how: Mapping[str, str | int],
) -> Manifest:
    """Builds the manifest.

    Args:
        matrix: What was learned from.
        facts: What the data do not say.
        encoder: The prompt encoder.
        options: How the decoder was trained.
        trained: The decoder.
        how: The seed and rule that decided which data trained: split_seed, on_conflict.

    Returns:
        The manifest, its metrics not yet measured and its files not yet listed.
    """
    tensors = trained.decoder.tensors()
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
        ),
        llms=_learned_llms(matrix, facts),
        data=_sources(matrix, facts),
        training={**settings, **how, "epochs_run": len(trained.history)},
        metrics={},
    )


def _learned_llms(matrix: CorrectnessMatrix, facts: Facts) -> tuple[LearnedLLM, ...]:
    labels, counts = matrix.labels(), matrix.observed.sum(axis=0)
    llms = []
    for column, llm in enumerate(matrix.llm_ids):
        known, price = facts.llms.get(llm), facts.prices.get(llm)
        llms.append(
            LearnedLLM(
                id=llm,
                vendor=known.vendor if known else "unknown",
                thinking=known.thinking if known else False,
                n_labels=int(counts[column]),
                mean_correctness=round(float(labels[:, column].sum() / counts[column]), 4),
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


def _hidden(tensors: dict[str, NDArray[np.generic]], network: str) -> tuple[int, ...]:
    biases = [t for name, t in tensors.items() if name.startswith(f"{network}.") and name.endswith(".bias")]
    return tuple(bias.shape[0] for bias in biases[:-1])


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
