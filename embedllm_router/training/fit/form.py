"""What a decoder with a hedge is learned by, a recipe, and what comes of it: parts, landmarks and points."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import NgramSpec
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import Split
from embedllm_router.errors import DataError
from embedllm_router.prediction.loading import WholeEncoder
from embedllm_router.training.fit.decoder import LearningData, Progress
from embedllm_router.training.fit.distill import TokenTable
from embedllm_router.training.fit.encoding import BroadColumns, ReadyEncoder, encode_copies, prepare_encoder
from embedllm_router.training.fit.facts import Facts, log_output_tokens
from embedllm_router.training.fit.fitting import Checkpoint
from embedllm_router.training.fit.hedge import Answers, Parts, answers_of
from embedllm_router.training.fit.hedged import EXAM_DEVIATION, HedgedParts, KnownLLMs, train_hedged
from embedllm_router.training.fit.landmarks import FoundLandmarks, find_landmarks, find_points, novelty
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.published import Published, kinds
from embedllm_router.training.fit.team import Team

__all__ = ["Form", "Recipe", "chat_llms", "learning_data", "train_form"]

_MIN_SCALE: Final = 1e-3


def learning_data(matrix: CorrectnessMatrix, x: NDArray[np.float32], split: Split, facts: Facts) -> LearningData:
    """What training sees of a matrix.

    Args:
        matrix: All parts.
        x: Prompt embeddings, float32 (n_prompts, d_prompt).
        split: Who trains.
        facts: What the data do not say.
    """
    return LearningData(
        x=x,
        labels=matrix.labels().astype(np.uint8),
        observed=matrix.observed,
        log_tokens=log_output_tokens(matrix, facts.reasoning_tokens),
        thinking=np.array([llm in facts.llms and facts.llms[llm].thinking for llm in matrix.llm_ids]),
        categories=np.unique(matrix.category_names(), return_inverse=True)[1],
        split=split,
        datasets=np.unique(matrix.datasets, return_inverse=True)[1],
    )


def chat_llms(matrix: CorrectnessMatrix, facts: Facts, min_labels: int) -> CorrectnessMatrix:
    """The chat LLMs with at least so many graded answers.

    Args:
        matrix: All LLMs.
        facts: Says which are chat LLMs; one it does not know counts as such.
        min_labels: Fewest graded answers.

    Raises:
        DataError: None is left.
    """
    counts = matrix.observed.sum(axis=0)
    ids = [
        llm
        for llm, n in zip(matrix.llm_ids, counts.tolist(), strict=True)
        if n >= min_labels and (llm not in facts.llms or facts.llms[llm].chat)
    ]
    if not ids:
        first = shlex.quote(matrix.llm_ids[int(counts.argmax())])
        raise DataError(
            f"no chat LLM has {min_labels} graded answers; the largest has {int(counts.max())}. So few do not train "
            "weights, but they are enough to add LLMs to the shipped ones, in seconds: embedllm-router add "
            f"{first} --data FOLDER --out weights/mine (several LLMs may be named). To train all the same, add data or "
            "lower --min-labels."
        )
    return matrix.select_llms(ids)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How prompts are encoded and a decoder is trained, whatever the data.

    Attributes:
        encoder: A static encoder's token vectors, or a sentence transformer as it is.
        facts: What the data do not say.
        published: What was published of LLMs.
        options: How the decoder is trained.
        prompt_columns: Latent semantic columns added to a token table.
        ngrams: Tables of n-grams fitted beside it.
    """

    encoder: TokenTable | WholeEncoder
    facts: Facts
    published: Published
    options: TrainingOptions
    prompt_columns: int
    ngrams: tuple[NgramSpec, ...]

    def encoder_for(self, prompts: Sequence[str]) -> ReadyEncoder:
        """The encoder with what these training prompts add to it."""
        return prepare_encoder(
            self.encoder,
            prompts,
            n_columns=self.prompt_columns,
            ngrams=self.ngrams,
            own_block=self.options.hedged,
        )

    def known_llms(self, ids: Sequence[str], *, without: Collection[str] = ()) -> KnownLLMs:
        """What is known of LLMs besides their answers.

        Args:
            ids: Canonical ids.
            without: Names of data sets that are to be predicted: published scores on their questions are not read.
        """
        sources = self.facts.sources
        hidden = [test for name in without if name in sources for test in sources[name].benchmarks]
        return KnownLLMs(tuple(ids), kinds(ids, self.facts, self.published, without=hidden))

    def learning_data(
        self,
        matrix: CorrectnessMatrix,
        x: NDArray[np.float32],
        split: Split,
        made: ReadyEncoder,
        *,
        progress: Progress | None = None,
    ) -> LearningData:
        """What training sees: the matrix, and perturbed copies of the training prompts where the options want some.

        Args:
            matrix: All parts.
            x: Prompt embeddings, float32 (n_prompts, d_prompt).
            split: Who trains.
            made: The encoder, made ready on the training prompts.
            progress: Told about each block of copies.
        """
        train = [matrix.prompts[i] for i in split.train]
        options = self.options
        copies = encode_copies(made.encoder, train, options.perturbed_copies, seed=options.seed, progress=progress)
        return replace(learning_data(matrix, x, split, self.facts), copies=copies)


@dataclass(frozen=True, slots=True)
class Form:
    """Everything that was learned but the constants of the hedge.

    Attributes:
        parts: The decoder's.
        found: Landmarks and points.
        usual_novelty: Mean and standard deviation of the novelty of ordinary prompts, those held out of training.
        broad_weight: Share of the broad network on prompts like those of training.
    """

    parts: HedgedParts
    found: FoundLandmarks
    usual_novelty: tuple[float, float]
    broad_weight: float

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The tensors of decoder.safetensors."""
        return self.parts.tensors(self.broad_weight)

    def read(self, x: NDArray[np.float32]) -> Parts:
        """What the parts say of prompts.

        Args:
            x: Prompt embeddings, float32 (n_prompts, d_prompt).
        """
        exam, broad, difficulty, inputs = self.parts.predict(x)
        mean, scale = self.usual_novelty
        return Parts(
            exam=exam,
            broad=broad,
            difficulty=difficulty,
            novelty=(novelty(inputs, self.found.tensors) - np.float32(mean)) / np.float32(scale),
            ability=self.parts.ability.mean,
            reference=self.parts.reference,
        )

    def answers(self, x: NDArray[np.float32], labels: NDArray[np.generic], observed: NDArray[np.bool_]) -> Answers:
        """What the parts say of graded answers; see `hedge.answers_of`."""
        return answers_of(self.read(x), labels, observed)


def train_form(  # noqa: PLR0913 - data and options; the rest is where and who
    data: LearningData,
    matrix: CorrectnessMatrix,
    llms: KnownLLMs,
    columns: BroadColumns,
    options: TrainingOptions,
    *,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    team: Team | None = None,
    with_lengths: bool = True,
) -> Form:
    """Trains the parts, makes landmarks and points, and measures how novel ordinary prompts are.

    Args:
        data: What to learn from.
        matrix: The same prompts and LLMs, with the names of categories.
        llms: Its LLMs.
        columns: See `hedged.train_hedged`, likewise the rest.
        options: How.
        progress: Told about each epoch.
        checkpoint: Written after each epoch.
        team: Who trains together.
        with_lengths: Whether lengths of answers are learned.

    Returns:
        The form.
    """
    parts = train_hedged(
        data, llms, columns, options, progress, checkpoint=checkpoint, team=team, with_lengths=with_lengths
    )
    train, held_out = data.split.train, data.split.validation
    found = find_landmarks(
        matrix.select_prompts(train), data.x[train], parts.decoder.tensors(), EXAM_DEVIATION, at_least_one=True
    )
    found = find_points(parts.inputs(data.x[train]), found, options.n_points, seed=options.seed)
    usual = novelty(parts.inputs(data.x[held_out]), found.tensors)
    return Form(parts, found, (float(usual.mean()), max(float(usual.std()), _MIN_SCALE)), options.broad_weight)
