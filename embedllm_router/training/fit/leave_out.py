"""Leaves out each data set in turn: what a recipe knows of questions of a kind it never saw, and how far to trust it.

For each set a decoder is trained on all others, without the questions that also stand in it, and predicts the set. The
constants of the hedge that a set is predicted with were found on the other sets (nested). `leave_out_figures` measures
what was predicted.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import sigmoid
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import GroupSplit, Split, leave_one_benchmark_out
from embedllm_router.evaluation.inputs import llm_means
from embedllm_router.evaluation.learned_baselines import knn
from embedllm_router.prediction.text_features import STYLE_FEATURES
from embedllm_router.training.fit.ability import Cells, count_cells
from embedllm_router.training.fit.decoder import Progress
from embedllm_router.training.fit.encoding import encode_prompts
from embedllm_router.training.fit.form import Recipe, train_form
from embedllm_router.training.fit.hedge import USUAL_CONSTANTS, Answers, HedgeConstants, fit_constants
from embedllm_router.training.fit.options import TrainingOptions

__all__ = [
    "LeaveOutOptions",
    "LeftOutRun",
    "found_constants",
    "leave_each_out",
    "nested_constants",
    "set_adjusted_means",
]

_MIN_LABELS: Final = 30  # an LLM with fewer on all other sets is not judged: nothing is known of it
_MIN_SETS_TO_FIT: Final = 4
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeaveOutOptions:
    """How much smaller the trainings are than that of weights to serve.

    Attributes:
        max_prompts: Training prompts of each data set.
        max_held_out: Prompts of each data set that stop nothing and calibrate.
        max_answers: Answers of a left-out set that are judged, all of some prompts drawn at random.
        hidden: Width of the hidden layer of both networks; None leaves them as they are.
        max_epochs: Epochs of each.
        learning_rate: Peak of the schedule.
        seed: Decides who is drawn.
    """

    max_prompts: int = 2000
    max_held_out: int = 200
    max_answers: int = 20_000
    hidden: int | None = 160
    max_epochs: int = 10
    learning_rate: float = 1e-3
    seed: int = 0

    @classmethod
    def full_size(cls, options: TrainingOptions) -> "LeaveOutOptions":
        """Nothing made smaller, but that there are no perturbed copies."""
        rate, epochs = options.learning_rate, options.max_epochs
        return cls(
            max_prompts=sys.maxsize,
            max_answers=sys.maxsize,
            hidden=None,
            max_epochs=epochs,
            learning_rate=rate,
            seed=options.seed,
        )

    def reduced(self, options: TrainingOptions) -> TrainingOptions:
        """The options of weights to serve, made smaller."""
        return replace(
            options,
            hidden=(self.hidden,) if self.hidden and options.hidden else options.hidden,
            broad_hidden=(self.hidden,) if self.hidden and options.broad_hidden else options.broad_hidden,
            members=1,
            max_epochs=self.max_epochs,
            patience=self.max_epochs,
            learning_rate=self.learning_rate,
            perturbed_copies=0,
        )


@dataclass(frozen=True, slots=True)
class LeftOutRun:
    """One set left out.

    Attributes:
        name: The data set.
        rows: Rows of the matrix that `left.prompt` counts, int64 (n_prompts,).
        left: Its answers, and what the parts of a decoder that never saw it say of each.
        means: Probability of a right answer by what each LLM reaches on other sets, float64 (n_answers,).
        knn: By the answers to similar questions, likewise.
        ordinary: Answers to held-out questions of the other sets, and what the same decoder says of each.
    """

    name: str
    rows: NDArray[np.int64]
    left: Answers
    means: Floats
    knn: Floats
    ordinary: Answers

    def save(self, file: Path, fingerprint: str) -> None:
        """Writes it, whole or not at all."""
        arrays: dict[str, NDArray[np.generic]] = {"rows": self.rows, "means": self.means, "knn": self.knn}
        for part in ("left", "ordinary"):
            arrays |= {f"{part}.{f.name}": getattr(getattr(self, part), f.name) for f in fields(Answers)}
        draft = file.with_suffix(".draft")
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, fingerprint=np.array(fingerprint), **arrays)
        draft.replace(file)

    @classmethod
    def load(cls, name: str, file: Path, fingerprint: str) -> "LeftOutRun | None":
        """What was written of the same data and options; None where there is nothing of the kind."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                if str(stored["fingerprint"]) != fingerprint:
                    return None
                parts = [Answers(*(stored[f"{p}.{f.name}"] for f in fields(Answers))) for p in ("left", "ordinary")]
                return cls(name, stored["rows"], parts[0], stored["means"], stored["knn"], parts[1])
        except (OSError, ValueError, KeyError):
            return None


def leave_each_out(
    matrix: CorrectnessMatrix,
    recipe: Recipe,
    options: LeaveOutOptions,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> tuple[LeftOutRun, ...]:
    """Leaves out each data set in turn.

    Args:
        matrix: At least two data sets.
        recipe: How prompts are encoded and a decoder is trained.
        options: How much smaller.
        cache: Folder where finished sets are kept, so that an interrupted run goes on there; None keeps nothing.
        progress: Told about each set and its epochs.

    Returns:
        One for each set, sorted by name; none for sets of which no LLM is known from others.

    Raises:
        DataError: There are fewer than two data sets.
    """
    recipe = replace(recipe, options=options.reduced(recipe.options))
    run = _fingerprint(matrix, recipe, options)
    names, runs = sorted(set(matrix.datasets)), []
    for number, split in enumerate(leave_one_benchmark_out(matrix, groups=matrix.datasets, seed=options.seed)):
        if progress:
            progress("data sets left out", number, len(names), np.nan)
        file = None if cache is None else cache / f"{number:03d}.npz"
        found = LeftOutRun.load(split.held_out, file, run) if file else None
        if found is None:
            found = _left_out(matrix, split, recipe, options, progress)
            if file is not None:
                found.save(file, run)
        runs.append(found)
    if progress:
        progress("data sets left out", len(names), len(names), np.nan)
    return tuple(run for run in runs if len(run.left))


def _fingerprint(matrix: CorrectnessMatrix, recipe: Recipe, options: LeaveOutOptions) -> str:
    """SHA-256 of what decides the runs."""
    source = recipe.encoder.spec if not hasattr(recipe.encoder, "source") else recipe.encoder.source
    known = recipe.known_llms(matrix.llm_ids)
    used = replace(recipe.options, broad_weight=0.0)  # weighs what the runs found, and changes nothing in them
    digest = hashlib.sha256(f"{options} {used} {source} {recipe.prompt_columns} {recipe.ngrams}".encode())
    digest.update(f"{known} {matrix.prompt_ids} {matrix.datasets} {matrix.categories}".encode())
    for array in (matrix.correctness, matrix.observed, matrix.label_thresholds()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _left_out(
    matrix: CorrectnessMatrix,
    split: GroupSplit,
    recipe: Recipe,
    options: LeaveOutOptions,
    progress: Progress | None,
) -> LeftOutRun:
    rng = np.random.default_rng(options.seed)
    datasets = np.array(matrix.datasets)
    train = _capped(split.train, datasets, options.max_prompts, rng)
    held_out = _capped(split.validation, datasets, options.max_held_out, rng)
    judged = matrix.observed[split.train].sum(axis=0) >= _MIN_LABELS
    left = _drawn(split.test, (matrix.observed[split.test] & judged).sum(axis=1), options.max_answers, rng)
    ends = np.cumsum([len(train), len(held_out), len(left)])
    places = Split(*(np.arange(a, b) for a, b in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)))
    few = matrix.select_prompts(np.concatenate([train, held_out, left]))
    made = recipe.encoder_for([few.prompts[i] for i in places.train])
    x = encode_prompts(made.encoder, few.prompts)
    data = recipe.learning_data(few, x, places, made)
    llms = recipe.known_llms(few.llm_ids, without=[split.held_out])
    named = _named(progress, split.held_out)
    form = train_form(data, few, llms, made.broad, recipe.options, progress=named, with_lengths=False)
    labels, seen, test = few.labels(), few.observed & judged, places.test
    answers = form.answers(x[test], labels[test], seen[test])
    means = _expected_shares(matrix, split.train)
    pools = x[:, : -len(STYLE_FEATURES)]
    of_train = few.select_prompts(places.train)
    similar = knn(pools[places.train], of_train.labels(), of_train.observed, llm_means(of_train), pools[test])
    held = places.validation
    return LeftOutRun(
        name=split.held_out,
        rows=left,
        left=answers,
        means=means[answers.llm],
        knn=similar[answers.prompt, answers.llm].astype(np.float64),
        ordinary=form.answers(x[held], labels[held], few.observed[held]),
    )


def _named(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda head, done, planned, loss: progress(f"without {name}: {head}", done, planned, loss)


def _capped(
    rows: NDArray[np.int64], datasets: NDArray[np.str_], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """At most so many rows of each data set, sorted."""
    drawn = [rng.permutation(rows[datasets[rows] == name])[:most] for name in np.unique(datasets[rows])]
    return np.sort(np.concatenate(drawn))


def _drawn(
    rows: NDArray[np.int64], n_answers: NDArray[np.integer], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows that have answers, at random as many as have at most so many of them, sorted."""
    order = rng.permutation(np.flatnonzero(n_answers > 0))
    enough = np.cumsum(n_answers[order]) <= most
    return np.sort(rows[order[enough]])


# What each LLM reaches on other sets

_EM_STEPS: Final = 30
_NEWTON_STEPS: Final = 8
_NODES: Final = 21
_FLAT: Final = 1e-4


def _expected_shares(matrix: CorrectnessMatrix, rows: NDArray[np.int64]) -> Floats:
    """Probability of a right answer of each LLM on a set nobody has seen, float64 (n_llms,)."""
    sets = np.unique(matrix.datasets, return_inverse=True)[1]
    cells = count_cells(matrix.labels()[rows], matrix.observed[rows], sets[rows])
    log_odds, set_sd = set_adjusted_means(cells)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    shares: Floats = sigmoid(log_odds[:, None] + set_sd * nodes) @ (weights / weights.sum())
    return shares


def set_adjusted_means(cells: Cells) -> tuple[Floats, float]:
    """Log-odds of a right answer of each LLM on an average set, and how much sets differ.

    A logistic regression on LLM and data set, both random, their variances by expectation and maximisation with the
    normal approximation of the posterior.

    Args:
        cells: Answers by set and LLM.

    Returns:
        float64 (n_llms,), for an LLM without answers that of an average one; and the standard deviation of sets.
    """
    sets, llms = np.nonzero(cells.n)
    used_sets, of_set = np.unique(sets, return_inverse=True)
    used_llms, of_llm = np.unique(llms, return_inverse=True)
    n, right = cells.n[sets, llms], cells.right[sets, llms]
    x = np.hstack([np.ones((len(n), 1)), np.eye(len(used_llms))[of_llm], np.eye(len(used_sets))[of_set]])
    beta, of_variance = np.zeros(x.shape[1]), np.ones(2)
    spans = slice(1, 1 + len(used_llms)), slice(1 + len(used_llms), None)
    for _ in range(_EM_STEPS):
        precision = np.full(len(beta), _FLAT)
        for span, variance in zip(spans, of_variance.tolist(), strict=True):
            precision[span] = 1 / variance
        beta, curvature = _newton(x, n, right, beta, precision)
        spread = np.diag(np.linalg.inv(curvature))
        of_variance = np.array([np.mean(beta[span] ** 2 + spread[span]) for span in spans])
    log_odds = np.full(cells.n.shape[1], beta[0])
    log_odds[used_llms] += beta[spans[0]]
    return log_odds, float(np.sqrt(of_variance[1]))


def _newton(x: Floats, n: Floats, right: Floats, beta: Floats, precision: Floats) -> tuple[Floats, Floats]:
    curvature = np.diag(precision)
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(x @ beta)
        curvature = (x * (n * p * (1 - p))[:, None]).T @ x + np.diag(precision)
        step = np.linalg.solve(curvature, x.T @ (right - n * p) - precision * beta)
        beta = beta + step
        if float(np.abs(step).max()) < _CLOSE:
            break
    return beta, curvature


_CLOSE: Final = 1e-6


def nested_constants(
    runs: Sequence[LeftOutRun],
    ordinary: Callable[[str], Answers] | None = None,
    broad_weight: float = 0.5,
) -> tuple[HedgeConstants, ...]:
    """The constants that each set is judged with: those found on all the others.

    Args:
        runs: All sets.
        ordinary: Name of a set → answers to ordinary prompts of the other sets; by default those of the other runs.
        broad_weight: See `hedge.hedged_logits`.

    Returns:
        One for each run; the usual ones where there are fewer than four sets.
    """
    if len(runs) < _MIN_SETS_TO_FIT:
        return (USUAL_CONSTANTS,) * len(runs)
    found = []
    for run in runs:
        others = [one for one in runs if one is not run]
        usual = ordinary(run.name) if ordinary else Answers.joined([one.ordinary for one in others])
        found.append(fit_constants([one.left for one in others], usual, broad_weight))
    return tuple(found)


def found_constants(runs: Sequence[LeftOutRun], broad_weight: float) -> HedgeConstants:
    """The constants found on all sets together; the usual ones where there are fewer than four.

    Args:
        runs: All sets.
        broad_weight: See `hedge.hedged_logits`.
    """
    if len(runs) < _MIN_SETS_TO_FIT:
        return USUAL_CONSTANTS
    return fit_constants([run.left for run in runs], Answers.joined([run.ordinary for run in runs]), broad_weight)
