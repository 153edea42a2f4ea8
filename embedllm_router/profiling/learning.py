"""Graded answers of a pool → weights that know its LLMs.

LLMs that the weights know are updated as feedback updates them (`training.update`): what all LLMs share first, then
each alone, nothing without evidence. Those that they do not know are added as `add` adds them (`training.add_llm`),
each from what its name, family, date and price let expect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import sigmoid
from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.weights import Artifact, Tensors, write_derived
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.routing.deployments import ModelGroup
from embedllm_router.routing.relatives import Expected, Relatives, expected_of_group
from embedllm_router.training.add_llm import UNKNOWN_VENDOR, About, Population, add_llm, length_row
from embedllm_router.training.update.answers import graded
from embedllm_router.training.update.fit import learn_update

__all__ = [
    "FEWEST",
    "Contestant",
    "Embeddings",
    "Floats",
    "Learned",
    "contestants",
    "expected_lengths",
    "known_lengths",
    "learn",
    "predicted",
    "priors",
    "write_learned",
]

Floats = NDArray[np.float64]
Embeddings = Sequence[NDArray[np.float32] | None]
FEWEST: Final = 10
"""Graded answers without which nothing is learned of an LLM, whether the weights know it or not."""

_PER_MTOK: Final = 1e6
_LENGTH: Final = ("length_embeddings", "length_bias")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model group that is asked.

    Attributes:
        group: As the configuration has it.
        llm: Id that its LLM has in the weights, or shall have.
        is_known: Whether the weights have answers or scores of it.
    """

    group: ModelGroup
    llm: str
    is_known: bool

    @property
    def name(self) -> str:
        """The model group's name."""
        return self.group.candidate.name


def contestants(groups: Sequence[ModelGroup]) -> list[Contestant]:
    """The LLMs behind model groups, as a catalog recognised them.

    One that nothing is known of takes its model group's name, by which the next start recognises it.
    """
    return [
        Contestant(one, one.candidate.llm or one.candidate.name, is_known=one.candidate.row is not None)
        for one in groups
    ]


def priors(artifact: Artifact, population: Population, pool: Sequence[Contestant]) -> dict[str, Population]:
    """The LLMs that each contestant may be, before any answer; by model group."""
    catalog = Catalog(artifact.manifest.llms)
    relatives = Relatives(artifact, catalog)
    expected = {one.name: _expected(one, relatives, catalog) for one in pool}
    return {name: population if its is None else population.around(its) for name, its in expected.items()}


def _expected(one: Contestant, relatives: Relatives, catalog: Catalog) -> Expected | None:
    if one.is_known:
        return relatives.like(one.llm, one.llm)
    return expected_of_group(one.group, one.llm, relatives, catalog) if one.group.is_expected else None


@dataclass(frozen=True, slots=True)
class Learned:
    """Weights in memory.

    Attributes:
        artifact: They; the id is that of the parent.
        changed: LLMs that they knew and that were updated, all of them where what LLMs share was.
        timed: LLMs that they knew whose answer lengths were learned.
        added: LLMs that they know now.
        left_out: Why others were not learned, by id.
    """

    artifact: Artifact
    changed: tuple[str, ...]
    timed: tuple[str, ...]
    added: tuple[str, ...]
    left_out: Mapping[str, str]


def learn(artifact: Artifact, matrix: CorrectnessMatrix, prompts: Embeddings, pool: Sequence[Contestant]) -> Learned:
    """Learns from graded answers.

    Args:
        artifact: The weights that shall know the pool.
        matrix: The answers, by LLM.
        prompts: Embeddings of its prompts.
        pool: The LLMs that were asked; of several of one LLM the first counts.
    """
    counts = matrix.observed.sum(axis=0)
    updated, changed = _updated(artifact, replace(matrix, observed=matrix.observed & (counts >= FEWEST)), prompts)
    left_out = {
        llm: f"{n} graded answers, expected at least {FEWEST}"
        for llm, n in zip(matrix.llm_ids, counts.tolist(), strict=True)
        if n < FEWEST
    }
    added, timed = list[str](), list[str]()
    for one in pool:
        if one.is_known and one.llm not in left_out and (tensors := _with_length(updated, matrix, prompts, one)):
            updated = replace(updated, decoder=tensors)
            timed.append(one.llm)
    for one in {one.llm: one for one in reversed(pool) if not one.is_known}.values():
        if one.llm in left_out:
            continue
        catalog = Catalog(updated.manifest.llms)
        expected = _expected(one, Relatives(updated, catalog), catalog)
        new = add_llm(updated, matrix, _about(one), expected=expected)
        if new.refusal is not None:
            left_out[one.llm] = new.refusal
            continue
        manifest = updated.manifest.model_copy(update={"llms": (*updated.manifest.llms, new.learned)})
        updated = replace(updated, manifest=manifest, decoder=new.tensors)
        added.append(one.llm)
    return Learned(updated, tuple(changed), tuple(timed), tuple(added), left_out)


def _updated(artifact: Artifact, matrix: CorrectnessMatrix, prompts: Embeddings) -> tuple[Artifact, list[str]]:
    answers = graded(artifact, matrix, prompts)
    if not len(answers):
        return artifact, []
    update = learn_update(answers)
    rows = np.unique(answers.llm).tolist()
    moved = rows if update.adaptation.changes else [row for row, fit in update.fits.items() if fit.change.changes]
    return update.applied(artifact), [artifact.manifest.llms[row].id for row in moved]


def _with_length(artifact: Artifact, matrix: CorrectnessMatrix, prompts: Embeddings, one: Contestant) -> Tensors | None:
    """The decoder with the lengths of an LLM that it knows, as billed here; None without any billed length.

    What the weights know of its lengths is what is expected of it, and LLMs differ as they do.
    """
    column = matrix.llm_ids.index(one.llm)
    billed = np.flatnonzero(matrix.counted[:, column] & matrix.observed[:, column])
    if not len(billed):
        return None
    lengths = Population.of(artifact, "length")
    place = [llm.id for llm in artifact.manifest.llms].index(one.llm)
    known = known_lengths(artifact, lengths, place)
    tokens = matrix.output_tokens[billed, column].astype(np.float64)
    row = length_row(replace(lengths, mean=known), lengths.columns([prompts[i] for i in billed.tolist()]), tokens)
    tensors = dict(artifact.decoder)
    for name, entry in lengths.as_tensors(row).items():
        tensors[name] = tensors[name].copy()
        tensors[name][place] = entry[0]
    return tensors


def known_lengths(artifact: Artifact, lengths: Population, row: int) -> Floats:
    """What weights know of an LLM's lengths, as a row of that population.

    Args:
        artifact: The weights.
        lengths: Of the same weights.
        row: Of the LLM.
    """
    known = lengths.decoder.row_of({name: artifact.decoder[name][row] for name in _LENGTH})
    return np.linalg.solve(lengths.turn, known).astype(np.float64)


def expected_lengths(artifact: Artifact, lengths: Population, one: Contestant) -> Floats:
    """What is expected of the lengths of an LLM's answers, as a row of that population; as of LLMs like it, if at all.

    Args:
        artifact: The weights.
        lengths: Of the same weights.
        one: The LLM, at its reasoning effort where it has one.
    """
    if one.is_known:
        return known_lengths(artifact, lengths, [llm.id for llm in artifact.manifest.llms].index(one.llm))
    catalog = Catalog(artifact.manifest.llms)
    expected = _expected(one, Relatives(artifact, catalog), catalog)
    if expected is None:
        return lengths.mean
    raw = lengths.decoder.row_of({name: expected.rows[name][0] for name in _LENGTH})
    return np.linalg.solve(lengths.turn, raw).astype(np.float64)


def _about(one: Contestant) -> About:
    candidate, read = one.group.candidate, one.group.read
    vendor = read.vendor if read is not None and read.vendor is not None else UNKNOWN_VENDOR
    per_input, per_output = candidate.input_usd_per_token, candidate.output_usd_per_token
    assert per_input is not None  # the pool has nobody without a price
    assert per_output is not None
    return About(one.llm, vendor, one.group.thinks, per_input * _PER_MTOK, per_output * _PER_MTOK)


def predicted(artifact: Artifact, prompts: Embeddings, llm: str) -> Floats | None:
    """p_correct of an LLM on prompts, (n_prompts,); None where the weights do not know it."""
    ids = [one.id for one in artifact.manifest.llms]
    if llm not in ids:
        return None
    decoder = LinearDecoder(artifact)
    return sigmoid(decoder.columns(list(prompts)).astype(np.float64) @ decoder.rows[ids.index(llm)])


def write_learned(  # noqa: PLR0913, PLR0917 - what was learned, of whom, and where to
    parent: Artifact, card: str, learned: Learned, n_answers: int, set_aside: str, out: Path
) -> Artifact:
    """Writes the weights.

    Args:
        parent: The weights they were made of.
        card: Their model card.
        learned: The new ones.
        n_answers: Graded answers they were learned from.
        set_aside: Fingerprint of the prompts that they were not learned from; empty where none were set aside.
        out: Where the folder shall be; an older artifact there is replaced.

    Returns:
        The artifact as loaded from disk.

    Raises:
        ArtifactError: `out` holds something else.
    """
    manifest = learned.artifact.manifest
    known = str(parent.manifest.training.get("added_llms") or "")
    added = ", ".join([*([known] if known else []), *learned.added])
    # As `learn` does: without a hedge the update was judged without shrinkage, and these weights know this traffic.
    unshrunk = {"novelty": None} if manifest.hedge is None and learned.changed else {}
    section = [
        "## Profiled",
        "",
        f"Learned from {n_answers:,} graded answers of a pool's own deployments. The parent is {parent.id}; figures",
        "above describe it, and its guarantee does not hold here: `embedllm-router guarantee` measures that of these",
        "weights.",
        "",
        f"Added: {', '.join(learned.added) or 'none'}. Updated: {', '.join(learned.changed) or 'none'}.",
        f"Lengths of answers updated: {', '.join(learned.timed) or 'none'}.",
    ]
    return write_derived(
        parent,
        out,
        decoder=learned.artifact.decoder,
        training={"added_llms": added, "profiled_answers": n_answers, "set_aside": set_aside},
        changes={"llms": manifest.llms, "hedge": manifest.hedge, **unshrunk},
        card=f"{card.rstrip()}\n\n" + "\n".join(section) + "\n",
    )
