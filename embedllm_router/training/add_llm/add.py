"""Answers of one LLM → weights that know it: reads, fits, judges, writes. Nothing else in the weights changes."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.derived import write_derived
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import Artifact, Tensors
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.training.add_llm.add_adding_embedding import Tell, embed
from embedllm_router.training.add_llm.add_adding_judging import Judged, judge
from embedllm_router.training.add_llm.add_adding_newcomer import Newcomer, length_row, newcomer
from embedllm_router.training.add_llm.population import Population

__all__ = ["About", "Added", "add_llm", "write_added"]

_FEWEST: Final = 10
_SHOWN: Final = 5
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class About:
    """What answers do not say of an LLM.

    Attributes:
        llm: Its id.
        vendor: Who made it.
        thinking: Whether it reasons before it answers.
        input_usd_per_mtok: List price per million input tokens in USD; None when unknown.
        output_usd_per_mtok: List price per million output tokens in USD; None when unknown.
    """

    llm: str
    vendor: str = "unknown"
    thinking: bool = False
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A new LLM, and how far it is known.

    Attributes:
        llm: Its id.
        parent: Id of the weights it was added to.
        n_answers: Graded answers it was learned from.
        n_lengths: How many of them had a recorded length.
        mean_score: Share of right answers.
        mean_p: Predicted mean p_correct over prompts such as the weights learned from.
        mean_p_low: Lower end of its 95 % credible interval.
        mean_p_high: Upper end.
        judged: Cross-validation; None where it could not be done.
        tensors: The decoder with its row.
        learned: Its entry in the manifest.
    """

    llm: str
    parent: str
    n_answers: int
    n_lengths: int
    mean_score: float
    mean_p: float
    mean_p_low: float
    mean_p_high: float
    judged: Judged | None
    tensors: Tensors = field(repr=False)
    learned: LearnedLLM = field(repr=False)

    @property
    def refusal(self) -> str | None:
        """Why it shall not be used; None when it may be."""
        if self.judged is None or not self.judged.contradicts:
            return None
        return (
            f"{self.llm} is right where LLMs are usually wrong, and wrong where they are right (AUC "
            f"{self.judged.auc_population:.2f} ± {self.judged.auc_error:.2f} over {self.n_answers:,} answers): is the "
            "scale of the scores reversed, or do scores and prompts not belong together?"
        )


def add_llm(artifact: Artifact, matrix: CorrectnessMatrix, about: About, tell: Tell | None = None) -> Added:
    """Learns one row from one LLM's answers.

    Args:
        artifact: The weights it is added to.
        matrix: Has a column of that name; other columns are not read.
        about: What answers do not say.
        tell: Told about progress.

    Returns:
        The new LLM.

    Raises:
        ConfigError: The weights know it already, or know too few LLMs.
        DataError: There are no answers of it, or fewer than ten.
    """
    _check_new(artifact, about.llm)
    answers = _answers(matrix, about.llm)
    embeddings = embed(artifact, answers.prompts, tell)
    population = Population.of(artifact, "prompt")
    columns = population.columns(embeddings)
    fitted = newcomer(population, columns, answers.correct)
    lengths = Population.of(artifact, "length", thinking=about.thinking)
    timed = np.isfinite(answers.tokens)
    row = length_row(lengths, lengths.columns(embeddings)[timed], answers.tokens[timed])
    mean_p, low, high = fitted.mean_p(population.usual)
    return Added(
        llm=about.llm,
        parent=artifact.id,
        n_answers=len(answers.correct),
        n_lengths=int(timed.sum()),
        mean_score=float(answers.correct.mean()),
        mean_p=mean_p,
        mean_p_low=low,
        mean_p_high=high,
        judged=judge(population, columns, answers.correct, [question_stem(one) for one in answers.prompts]),
        tensors=_with_row(artifact.decoder, population, fitted, lengths, row),
        learned=_entry(about, answers),
    )


def write_added(parent: Artifact, card: str, added: Added, out: Path) -> Artifact:
    """Writes weights with the new LLM.

    Args:
        parent: The weights it was added to.
        card: Their model card.
        added: The new LLM.
        out: Where the folder shall be; an older artifact there is replaced.

    Returns:
        The artifact as loaded from disk.

    Raises:
        ArtifactError: `out` holds something else.
    """
    known = str(parent.manifest.training.get("added_llms") or "")
    return write_derived(
        parent,
        out,
        decoder=added.tensors,
        training={"added_llms": ", ".join([*([known] if known else []), added.llm])},
        changes={"llms": (*parent.manifest.llms, added.learned)},
        card=f"{card.rstrip()}\n\n{_section(added)}",
    )


@dataclass(frozen=True, slots=True)
class _Answers:
    prompts: Sequence[str]
    correct: Floats
    tokens: Floats


def _check_new(artifact: Artifact, llm: str) -> None:
    known = {one.id: one for one in artifact.manifest.llms}
    if llm in known:
        raise ConfigError(
            f"the weights know {llm} already, from {known[llm].n_labels:,} answers. `learn` updates it from feedback; "
            "or name the new LLM otherwise."
        )


def _answers(matrix: CorrectnessMatrix, llm: str) -> _Answers:
    if llm not in matrix.llm_ids:
        nearest = difflib.get_close_matches(llm, matrix.llm_ids, n=_SHOWN, cutoff=0.0)
        raise DataError(f"the data have no answers of {llm}; they have those of {', '.join(nearest)}.")
    column = matrix.llm_ids.index(llm)
    rows = np.flatnonzero(matrix.observed[:, column])
    if len(rows) < _FEWEST:
        raise DataError(
            f"the data have {len(rows)} graded answers of {llm}, expected at least {_FEWEST}. Grade more; `questions` "
            "chooses the most telling ones."
        )
    return _Answers(
        prompts=[matrix.prompts[i] for i in rows.tolist()],
        correct=matrix.labels()[rows, column].astype(np.float64),
        tokens=np.where(matrix.counted, matrix.output_tokens, np.nan)[rows, column].astype(np.float64),
    )


def _with_row(
    decoder: Tensors, population: Population, fitted: Newcomer, lengths: Population, length: Floats
) -> dict[str, NDArray[np.generic]]:
    tensors = dict(decoder)
    for name, (embedding, bias) in (
        ("llm", population.as_tensors(fitted.row)),
        ("length", lengths.as_tensors(length)),
    ):
        tensors[f"{name}_embeddings"] = np.vstack([decoder[f"{name}_embeddings"], embedding])
        tensors[f"{name}_bias"] = np.append(decoder[f"{name}_bias"], bias)
    return tensors


def _entry(about: About, answers: _Answers) -> LearnedLLM:
    priced = about.input_usd_per_mtok is not None
    return LearnedLLM(
        id=about.llm,
        vendor=about.vendor,
        thinking=about.thinking,
        n_labels=len(answers.correct),
        mean_correctness=float(answers.correct.mean()),
        input_usd_per_mtok=about.input_usd_per_mtok,
        output_usd_per_mtok=about.output_usd_per_mtok,
        price_source="given when it was added" if priced else None,
    )


def _section(added: Added) -> str:
    judged = added.judged
    lines = [
        f"## Added: {added.llm}",
        "",
        f"Learned from {added.n_answers:,} answers with the decoder frozen, {added.n_lengths:,} of them with a",
        f"recorded length. The parent is {added.parent}; figures above describe it, and its contract does not hold",
        "here: `embedllm-router contract` measures that of these weights. Judge the new LLM by answers other than",
        "these.",
        "",
        f"Mean p_correct over prompts such as the weights learned from: {added.mean_p:.3f}, 95 % credible interval",
        f"[{added.mean_p_low:.3f}, {added.mean_p_high:.3f}].",
    ]
    if judged is not None:
        lines += [
            "",
            f"Cross-validated log-loss on its answers: {judged.log_loss:.4f}; by its mean alone",
            f"{judged.log_loss_mean:.4f}, as an LLM of which nothing is known {judged.log_loss_population:.4f}.",
        ]
    return "\n".join(lines) + "\n"
