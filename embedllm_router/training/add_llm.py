"""Adds an LLM to existing weights from a few of its answers, and chooses the questions to ask it first.

Nothing else in the weights changes. An LLM is a row θ of the decoder, (e, b), and e · f(x) + b is linear in it. With a
hedge the row holds more, ability among it, and the logit that is served is linear in it (`LinearDecoder`): what answers
say of an LLM on ordinary prompts and on novel ones is learned at once, each by as much as it bears on what was asked.
The rows of the learned LLMs are taken as draws from one normal distribution, the population (empirical Bayes; Efron and
Morris, 1975). A new LLM's row is the most probable one given its answers and the population (maximum a posteriori):
with few answers an LLM like the others, with many one of its own. Cross-validation tells whether the answers bear the
row out.

Published scores say where an LLM of the population is to be looked for before any answer is read. With what its name
says they give an ability and how sure it is (`routing.relatives`); the population is then the one of LLMs of such an
ability, around the row that is expected of it.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from embedllm_router._hashing import digest_of
from embedllm_router._stats import Estimate, Examples, Resampling, fit_logistic, losses, sigmoid
from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.names import read_name
from embedllm_router.artifact.published import AbilityEstimate
from embedllm_router.artifact.weights import Artifact, Tensors, write_derived
from embedllm_router.config.settings import encoder_place
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.inputs import OnProgress
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.prediction.loading import load_encoder
from embedllm_router.prediction.scorer import usual_embeddings
from embedllm_router.routing.relatives import Expected, Relatives
from embedllm_router.training.update.guard import ranking

__all__ = [
    "UNKNOWN_VENDOR",
    "About",
    "Added",
    "Newcomer",
    "Population",
    "Question",
    "add_llm",
    "choose_questions",
    "embed",
    "expected_by_scores",
    "expected_of",
    "judge",
    "length_row",
    "newcomer",
    "questions_to_ask",
    "write_added",
]

Floats = NDArray[np.float64]

# The population of LLMs

_N_USUAL: Final = 512
_MIN_LLMS: Final = 3
_WELL_KNOWN: Final = 200
"""Answers from which on a row of weights with a hedge says how LLMs differ: fewer leave it near what was expected."""
_JITTER: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Population:
    """Where the rows of LLMs lie; columns are those of the linear decoder with features less their mean.

    Attributes:
        decoder: Whose rows.
        turn: (width, width); the decoder's columns times this are the population's.
        mean: Of the rows, (width,): what is expected of a new LLM.
        spread: (width, width); mean + spread · z with standard normal z is a new LLM.
        usual: Columns of usual prompts, (512, width), with a hedge predicted as prompts like those of training; see
            `scorer.usual_embeddings`.
    """

    decoder: LinearDecoder
    turn: Floats
    mean: Floats
    spread: Floats
    usual: Floats

    @classmethod
    def of(
        cls, artifact: Artifact, which: Literal["prompt", "length"], *, thinking: bool | None = None
    ) -> "Population":
        """The population of an artifact's LLMs.

        Args:
            artifact: Weights.
            which: Rows of what; see `LinearDecoder`.
            thinking: Expect the mean of LLMs that reason before they answer, or of those that do not, where there are
                any; None expects the mean of all.

        Raises:
            ConfigError: Fewer than three LLMs do not say how LLMs differ.
        """
        llms = artifact.manifest.llms
        if len(llms) < _MIN_LLMS:
            raise ConfigError(
                f"the weights know {len(llms)} LLMs, expected at least {_MIN_LLMS} to tell how LLMs differ. Train on "
                "the answers of all of them instead."
            )
        decoder = LinearDecoder(artifact, which)
        prompts = list(usual_embeddings(artifact.decoder, _N_USUAL))
        centre = decoder.features(prompts).mean(axis=0, dtype=np.float64)
        turn: Floats = np.eye(decoder.rows.shape[1])
        turn[:, : len(centre)] -= decoder.factors.T * centre
        usual, unknown = (_turned(decoder.columns(prompts, h), turn) for h in (0.0, 1.0))
        rows = _turned(decoder.evened_rows(), np.linalg.inv(turn).T)
        alike = np.array([llm.thinking == thinking for llm in llms])
        return cls(
            decoder=decoder,
            turn=turn,
            mean=rows[alike if alike.any() else slice(None)].mean(axis=0),
            spread=_spread(rows[_telling(artifact)], np.concatenate([usual, unknown]), decoder.n_free),
            usual=usual,
        )

    def around(self, expected: Expected) -> "Population":
        """The LLMs that one may be of which something is expected.

        The population is conditioned on ability as if that had been measured, and its spread then widened to the one
        that the expectation has.

        Args:
            expected: Its row is the mean, and the standard deviation is that of its ability.
        """
        raw = self.decoder.row_of(expected.rows)
        reads = self.turn[self.decoder.n_free - 1]  # a row of the population, times this, is its LLM's ability
        along = self.spread.T @ reads
        variance = float(along @ along)
        scaled = expected.sd / np.sqrt(variance) - 1.0
        spread = self.spread + scaled / variance * np.outer(self.spread @ along, along)
        mean: Floats = np.linalg.solve(self.turn, raw).astype(np.float64)
        return replace(self, mean=mean, spread=spread)

    def columns(self, embeddings: list[NDArray[np.float32] | None]) -> Floats:
        """Columns of prompts, (n_prompts, width).

        Args:
            embeddings: float32 (d_prompt,) each; None for a prompt without text.
        """
        return _turned(self.decoder.columns(embeddings), self.turn)

    def as_tensors(self, row: Floats) -> dict[str, NDArray[np.float32]]:
        """A row as the decoder's tensors hold it: one entry of each, by name."""
        return self.decoder.tensors((self.turn @ row)[None])


def _turned(of_decoder: NDArray[np.floating], turn: NDArray[np.floating]) -> Floats:
    turned: Floats = of_decoder.astype(np.float64) @ turn
    return turned


def _telling(artifact: Artifact) -> NDArray[np.bool_]:
    """The LLMs whose rows say how LLMs differ."""
    llms = artifact.manifest.llms
    known = np.array([llm.n_labels >= _WELL_KNOWN for llm in llms])
    hedged = artifact.manifest.hedge is not None
    return known if hedged and known.sum() >= _MIN_LLMS else np.ones(len(llms), dtype=np.bool_)


def _spread(rows: Floats, usual: Floats, n_free: int) -> Floats:
    """A square root of the rows' covariance, shrunk where prompts vary alike; entries that all share do not vary."""
    columns = usual[:, :n_free]
    second_moment = columns.T @ columns / len(columns)
    root = np.linalg.cholesky(second_moment + _JITTER * np.trace(second_moment) / n_free * np.eye(n_free))
    covariance = LedoitWolf().fit(rows[:, :n_free] @ root).covariance_
    inner = np.linalg.cholesky(covariance + _JITTER * max(np.trace(covariance) / n_free, _JITTER) * np.eye(n_free))
    spread = np.zeros((rows.shape[1], rows.shape[1]))
    spread[:n_free, :n_free] = np.linalg.solve(root.T, inner)
    return spread


# Embedding prompts

_EVERY: Final = 200  # prompts between two reports of progress


def embed(
    artifact: Artifact, prompts: Sequence[str], on_progress: OnProgress | None = None
) -> list[NDArray[np.float32] | None]:
    """Embeds prompts one by one.

    Args:
        artifact: Whose encoder.
        prompts: The texts.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        float32 (d_prompt,) each; None for a prompt without text, which is scored as the average prompt.
    """
    encoder = load_encoder(artifact, place=encoder_place())
    found: list[NDArray[np.float32] | None] = []
    for i, prompt in enumerate(prompts):
        if on_progress is not None and i % _EVERY == 0:
            on_progress("reading prompts", i, len(prompts))
        found.append(encoder.encode(prompt).prompt_embedding if prompt.strip() else None)
    return found


# The row of a new LLM

_N_DRAWS: Final = 400
_VARIANCE: Final = 0.5  # of a log length around its prediction, as the shipped weights have it
_VARIANCE_COUNTS: Final = 10.0
_SMEAR_COUNTS: Final = 20.0
_PASSES: Final = 3
_MAX_LOG: Final = 30.0


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What is known of a new LLM.

    Attributes:
        row: The most probable row, (width,).
        root: (width, width); row + root · z with standard normal z is as probable as the answers leave it.
    """

    row: Floats
    root: Floats

    def mean_p(self, columns: Floats) -> tuple[float, float, float]:
        """Its mean probability of a correct answer over some prompts, and the ends of the 95 % credible interval.

        Args:
            columns: (n_prompts, width).
        """
        drawn = self.row[:, None] + self.root @ np.random.default_rng(0).standard_normal((len(self.row), _N_DRAWS))
        low, high = np.quantile(sigmoid(columns @ drawn).mean(axis=0), [0.025, 0.975])
        return float(sigmoid(columns @ self.row).mean()), float(low), float(high)


def newcomer(population: Population, columns: Floats, correct: Floats) -> Newcomer:
    """Fits a new LLM.

    Args:
        population: What LLMs are like.
        columns: Of the prompts it answered, (n, width); see `Population.columns`.
        correct: Whether it was right, in [0, 1], (n,).
    """
    n, d = columns.shape
    examples = Examples(columns @ population.spread, columns @ population.mean, correct, np.ones(n))
    theta, curvature = fit_logistic(examples, np.ones(d))
    root = np.linalg.solve(np.linalg.cholesky(curvature).T, np.eye(d))
    return Newcomer(population.mean + population.spread @ theta, population.spread @ root)


def length_row(population: Population, columns: Floats, tokens: Floats) -> Floats:
    """The row that predicts the logarithm of a new LLM's output tokens; the population's mean without any length.

    A linear regression with the population as prior, whose noise is estimated along with it. Its offset is then moved
    so that the mean of the predicted tokens is that of the billed ones, as far as there are enough (Duan, 1983).

    Args:
        population: Of the length network.
        columns: Of prompts it answered, (n, width).
        tokens: Its output tokens, at least 1, (n,).
    """
    row = population.mean
    if not len(tokens):
        return row
    x, log = columns @ population.spread, np.log(tokens)
    variance = _VARIANCE
    for _ in range(_PASSES):
        z = np.linalg.solve(x.T @ x / variance + np.eye(x.shape[1]), x.T @ (log - columns @ population.mean) / variance)
        row = population.mean + population.spread @ z
        wrong = log - columns @ row
        variance = float((wrong @ wrong + _VARIANCE_COUNTS * _VARIANCE) / (len(log) + _VARIANCE_COUNTS))
    predicted = np.exp(np.minimum(columns @ row, _MAX_LOG))
    usual = float(predicted.mean()) * _SMEAR_COUNTS
    smeared = row.copy()
    smeared[-1] += np.log((tokens.sum() + usual) / (predicted.sum() + usual))
    return smeared


_FOLDS: Final = 5
_ALARM: Final = 3.0  # standard errors: a false alarm costs more than a late one, for cross-validation tells it anyway


@dataclass(frozen=True, slots=True)
class Judged:
    """How well answers are predicted by a fit to the other folds' answers.

    Attributes:
        log_loss: In nats, of the row.
        log_loss_mean: Of the LLM's mean on the other folds, one answer of each kind added.
        log_loss_population: Of an LLM of which nothing is known.
        change: `log_loss` - `log_loss_mean`, with a paired bootstrap interval over answers.
        auc_population: How well what is expected of any LLM ranks its answers, in [0, 1]; NaN when all are alike.
        auc_error: Its standard error; NaN likewise.
    """

    log_loss: float
    log_loss_mean: float
    log_loss_population: float
    change: Estimate
    auc_population: float
    auc_error: float

    @property
    def contradicts(self) -> bool:
        """Whether it is right where LLMs are usually wrong, and wrong where they are right."""
        return self.auc_population + _ALARM * self.auc_error < 0.5  # noqa: PLR2004 - chance


def judge(population: Population, columns: Floats, correct: Floats, keys: Sequence[str]) -> Judged | None:
    """Cross-validates a new LLM.

    Args:
        population: What LLMs are like.
        columns: Of the prompts it answered, (n, width).
        correct: Whether it was right, in [0, 1], (n,).
        keys: (n,); prompts of equal keys are never on both sides.

    Returns:
        The figures; None where all prompts are one, and without any.
    """
    fold = _folds(keys)
    if not len(fold) or fold.max() == 0:
        return None
    of_row, of_mean = np.empty(len(correct)), np.empty(len(correct))
    for out in np.unique(fold):
        held, rest = fold == out, fold != out
        row = newcomer(population, columns[rest], correct[rest]).row
        of_row[held] = losses(columns[held] @ row, correct[held])
        share = (correct[rest].sum() + 1.0) / (rest.sum() + 2.0)
        of_mean[held] = losses(np.full(int(held.sum()), np.log(share / (1.0 - share))), correct[held])
    expected = columns @ population.mean
    ranked = ranking(correct, expected)
    return Judged(
        log_loss=float(of_row.mean()),
        log_loss_mean=float(of_mean.mean()),
        log_loss_population=float(losses(expected, correct).mean()),
        change=Resampling(len(correct)).ratio(of_row - of_mean),
        auc_population=ranked.auc,
        auc_error=ranked.error,
    )


def _folds(keys: Sequence[str]) -> NDArray[np.intp]:
    """The fold of each key, from 0; every fold has about as many keys, whatever they are."""
    ordered = sorted(set(keys), key=digest_of)
    place = {key: i % _FOLDS for i, key in enumerate(ordered)}
    return np.array([place[key] for key in keys], dtype=np.intp)


UNKNOWN_VENDOR: Final = "unknown"
_TOKENS_PER_MTOK: Final = 1e6
_MIN_ANSWERS: Final = 10
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class About:
    """What answers do not say of an LLM.

    Attributes:
        llm: Its id.
        vendor: Who made it.
        thinking: Whether it reasons before it answers.
        input_usd_per_mtok: List price per million input tokens in USD; None when unknown.
        output_usd_per_mtok: List price per million output tokens in USD; None when unknown.
        scores: Published scores by benchmark, in [0, 1].
    """

    llm: str
    vendor: str = UNKNOWN_VENDOR
    thinking: bool = False
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Added:
    """A new LLM, and how far it is known.

    Attributes:
        llm: Its id.
        parent: Id of the weights it was added to.
        n_answers: Graded answers it was learned from.
        n_lengths: How many of them had a recorded length.
        mean_score: Share of right answers; None without any.
        mean_p: Predicted mean p_correct over prompts such as the weights learned from.
        mean_p_low: Lower end of its 95 % credible interval.
        mean_p_high: Upper end.
        judged: Cross-validation; None where it could not be done.
        tensors: The decoder with its row.
        learned: Its entry in the manifest.
        ability: In log-odds, from its published scores and what its name says, before any answer was read; None
            without scores.
    """

    llm: str
    parent: str
    n_answers: int
    n_lengths: int
    mean_score: float | None
    mean_p: float
    mean_p_low: float
    mean_p_high: float
    judged: Judged | None
    tensors: Tensors = field(repr=False)
    learned: LearnedLLM = field(repr=False)
    ability: AbilityEstimate | None = None

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


def add_llm(
    artifact: Artifact,
    matrix: CorrectnessMatrix | None,
    about: About,
    on_progress: OnProgress | None = None,
    expected: Expected | None = None,
) -> Added:
    """Learns one row from one LLM's answers, its published scores, or both.

    Args:
        artifact: The weights it is added to.
        matrix: Has a column of that name; other columns are not read. None where there are published scores alone.
        about: What answers do not say.
        on_progress: Called with what is being done, steps done and steps planned.
        expected: What was expected of it before any answer, where that is known otherwise than by published scores.

    Returns:
        The new LLM.

    Raises:
        ConfigError: The weights know it already, know too few LLMs, or do not know a benchmark.
        DataError: There are no answers of it, or fewer than ten.
    """
    _check_new(artifact, about.llm)
    if expected is None and (about.scores or matrix is None):
        expected = expected_by_scores(artifact, about)
    answers = _NO_ANSWERS if matrix is None else _answers(matrix, about.llm)
    embeddings = embed(artifact, answers.prompts, on_progress)
    population = Population.of(artifact, "prompt")
    population = population if expected is None else population.around(expected)
    columns = population.columns(embeddings)
    fitted = newcomer(population, columns, answers.correct)
    lengths = Population.of(artifact, "length", thinking=about.thinking)
    timed = np.isfinite(answers.tokens)
    row = length_row(lengths, lengths.columns(embeddings)[timed], answers.tokens[timed])
    mean_p, low, high = fitted.mean_p(population.usual)
    tensors = _with_row(artifact, population, fitted, lengths.as_tensors(row))
    n_answers = len(answers.correct)
    if expected is not None and not n_answers:
        tensors["ability_sd"][-1] = expected.sd
    return Added(
        llm=about.llm,
        parent=artifact.id,
        n_answers=n_answers,
        n_lengths=int(timed.sum()),
        mean_score=float(answers.correct.mean()) if n_answers else None,
        mean_p=mean_p,
        mean_p_low=low,
        mean_p_high=high,
        judged=judge(population, columns, answers.correct, [question_stem(one) for one in answers.prompts]),
        tensors=tensors,
        learned=_entry(about, answers, expected, mean_p),
        ability=None if expected is None else expected.ability,
    )


def expected_by_scores(artifact: Artifact, about: About) -> Expected:
    """What is expected of an LLM that has published scores.

    Args:
        artifact: The weights it is added to.
        about: What is known of it.

    Raises:
        ConfigError: There is no score, the weights do not say what benchmarks measure, or do not know one of these.
    """
    published = artifact.manifest.published
    if not about.scores:
        raise ConfigError(f"nothing is known of {about.llm}: give its published scores, graded answers, or both.")
    if published is None:
        raise ConfigError(
            "these weights do not say what benchmarks measure, so published scores tell nothing; add the LLM from "
            "graded answers, or train with published_scores beside the data."
        )
    return expected_of(artifact, about)


def expected_of(artifact: Artifact, about: About) -> Expected:
    """What is expected of an LLM by its name, its price and, where there are any, its scores.

    Args:
        artifact: The weights it is added to; with scores, such as say what benchmarks measure.
        about: What is known of it.

    Raises:
        ConfigError: A score is not a share, or its benchmark unknown.
    """
    name, usd = read_name(about.llm), about.output_usd_per_mtok
    return Relatives(artifact, Catalog(artifact.manifest.llms)).expect(
        about.llm,
        name if about.vendor == UNKNOWN_VENDOR else replace(name, vendor=about.vendor),
        thinking=about.thinking,
        output_usd_per_token=None if usd is None else usd / _TOKENS_PER_MTOK,
        scores=about.scores,
    )


def write_added(parent: Artifact, card: str, added: Sequence[Added], out: Path) -> Artifact:
    """Writes weights with new LLMs; in which order they are given changes nothing.

    Args:
        parent: The weights it was added to.
        card: Their model card.
        added: The new LLMs, at least one, each learned beside the parent's.
        out: Where the folder shall be; an older artifact there is replaced.

    Returns:
        The artifact as loaded from disk.

    Raises:
        ArtifactError: `out` holds something else.
    """
    known = str(parent.manifest.training.get("added_llms") or "")
    everyone = sorted(added, key=lambda one: one.llm)
    return write_derived(
        parent,
        out,
        decoder=_with_rows_of(parent, everyone),
        training={"added_llms": ", ".join([*([known] if known else []), *(one.llm for one in everyone)])},
        changes={"llms": (*parent.manifest.llms, *(one.learned for one in everyone))},
        card="\n\n".join([card.rstrip(), *(_section(one).rstrip() for one in everyone)]) + "\n",
    )


def _with_rows_of(parent: Artifact, added: Sequence[Added]) -> Tensors:
    """The parent's tensors with the last row of each that grew, LLM by LLM."""
    grown = [name for name, tensor in added[0].tensors.items() if len(tensor) > len(parent.decoder[name])]
    rows = {name: [one.tensors[name][-1:] for one in added] for name in grown}
    return {**parent.decoder, **{name: np.concatenate([parent.decoder[name], *rows[name]]) for name in grown}}


@dataclass(frozen=True, slots=True)
class _Answers:
    prompts: Sequence[str]
    correct: Floats
    tokens: Floats


_NO_ANSWERS: Final = _Answers((), np.zeros(0), np.zeros(0))


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
    if len(rows) < _MIN_ANSWERS:
        raise DataError(
            f"the data have {len(rows)} graded answers of {llm}, expected at least {_MIN_ANSWERS}. Grade more; "
            "`questions` chooses the most telling ones."
        )
    return _Answers(
        prompts=[matrix.prompts[i] for i in rows.tolist()],
        correct=matrix.labels()[rows, column].astype(np.float64),
        tokens=np.where(matrix.counted, matrix.output_tokens, np.nan)[rows, column].astype(np.float64),
    )


def _with_row(
    artifact: Artifact, population: Population, fitted: Newcomer, length: Tensors
) -> dict[str, NDArray[np.generic]]:
    decoder, added = artifact.decoder, {**population.as_tensors(fitted.row), **length}
    if artifact.manifest.hedge is not None:
        ability = fitted.root[population.decoder.n_free - 1]
        added["ability_sd"] = np.array([np.linalg.norm(ability)], dtype=np.float32)
    return {**decoder, **{name: np.concatenate([decoder[name], row]) for name, row in added.items()}}


def _entry(about: About, answers: _Answers, expected: Expected | None, mean_p: float) -> LearnedLLM:
    priced, n_answers = about.input_usd_per_mtok is not None, len(answers.correct)
    told = None if expected is None else expected.llm
    return LearnedLLM(
        id=about.llm,
        vendor=about.vendor if told is None else told.vendor,
        thinking=about.thinking,
        n_labels=n_answers,
        mean_correctness=float(answers.correct.mean()) if n_answers else mean_p,
        known_by="labels" if n_answers else "published",
        family=None if told is None else told.family,
        released=None if told is None else told.released,
        size_b=None if told is None else told.size_b,
        input_usd_per_mtok=about.input_usd_per_mtok,
        output_usd_per_mtok=about.output_usd_per_mtok,
        price_source="given when it was added" if priced else None,
    )


def _section(added: Added) -> str:
    judged = added.judged
    lengths = f"{added.n_lengths:,} of them with a recorded length"
    learned = f"Learned from {added.n_answers:,} answers with the decoder frozen, {lengths}."
    if added.ability is not None:
        told = f"Published scores, vendor, family, date and price put its ability at {added.ability.mean:.2f} ± "
        learned = (
            f"{told}{added.ability.sd:.2f} log-odds. {learned if added.n_answers else 'No answer of it was read.'}"
        )
    lines = [
        f"## Added: {added.llm}",
        "",
        f"{learned} The parent is {added.parent}; figures above describe it, and its guarantee does not",
        "hold here: `embedllm-router guarantee` measures that of these weights. Judge the new LLM by other",
        "answers than these.",
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


# Questions to ask first

_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class Question:
    """A question to ask.

    Attributes:
        item_id: Its id in the data.
        category: Data set and category.
        prompt: The text.
    """

    item_id: str
    category: str
    prompt: str


def questions_to_ask(
    artifact: Artifact, matrix: CorrectnessMatrix, n: int, on_progress: OnProgress | None = None
) -> list[Question]:
    """Chooses questions; of several with the same stem, at most one.

    Args:
        artifact: Weights that shall know the new LLM.
        matrix: Its prompts are the questions; answers are not looked at.
        n: How many.
        on_progress: Called with what is being done, steps done and steps planned.

    Raises:
        ConfigError: The weights know too few LLMs.
        DataError: There are no prompts.
    """
    rows = _one_of_each([question_stem(prompt) for prompt in matrix.prompts])
    if not rows:
        raise DataError("the data hold no prompts to choose questions from.")
    population = Population.of(artifact, "prompt")
    embeddings = embed(artifact, [matrix.prompts[row] for row in rows], on_progress)
    names = matrix.category_names()
    chosen = [rows[i] for i in choose_questions(population, population.columns(embeddings), n)]
    return [Question(matrix.prompt_ids[row], str(names[row]), matrix.prompts[row]) for row in chosen]


def _one_of_each(stems: Sequence[str]) -> list[int]:
    return sorted({stem: row for row, stem in reversed(list(enumerate(stems)))}.values())


def choose_questions(population: Population, columns: Floats, n: int, weights: Floats | None = None) -> list[int]:
    """The questions to ask, most telling first.

    Args:
        population: What LLMs are like.
        columns: Of the questions there are, (n_questions, width).
        n: How many to choose; all of them where there are fewer.
        weights: How much it matters what is predicted of each, (n_questions,); None for all alike.

    Returns:
        Their indices.
    """
    x = columns @ population.spread
    d = x.shape[1]
    average = x.T @ (x if weights is None else x * (weights / weights.mean())[:, None]) / len(x)
    information = _information(columns @ population.mean, np.einsum("ij,ij->i", x, x))
    covariance, open_ = np.eye(d), np.ones(len(x), dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(min(n, len(x))):
        gain = np.where(open_, _gains(x, information, covariance, average), -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        open_[best] = False
        along, weight = covariance @ x[best], information[best]
        covariance -= np.outer(along, along) * (weight / (1.0 + weight * (x[best] @ along)))
    return chosen


def _information(logit: Floats, variance: Floats) -> Floats:
    """Fisher information p (1 - p) of a new LLM's answer, p averaged over the population (MacKay, 1992)."""
    p = sigmoid(logit / np.sqrt(1.0 + np.pi * variance / 8.0))
    information: Floats = p * (1.0 - p)
    return information


def _gains(x: Floats, information: Floats, covariance: Floats, average: Floats) -> Floats:
    """How much each answer would lower the mean variance, (n_questions,)."""
    turned = covariance @ average @ covariance
    gains = np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        block, weight = x[start : start + _BLOCK], information[start : start + _BLOCK]
        own = np.einsum("ij,ij->i", block @ covariance, block)
        gains[start : start + _BLOCK] = weight * np.einsum("ij,ij->i", block @ turned, block) / (1.0 + weight * own)
    return gains
