"""Which LLM answered which prompt correctly: the matrix everything is learned from, and several of them merged.

Rows are never implicit: every row has a prompt id, every column an LLM id.

An item that stands in several sets, with the same id and the same text, is one row; answers graded in several of them
are resolved by a named rule. The same text under another id is another item: sets ask it by their own protocol, and the
split keeps all of them on one side.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.errors import DataError

__all__ = ["DEFAULT_THRESHOLD", "Conflicts", "CorrectnessMatrix", "Merged", "merge"]

DEFAULT_THRESHOLD: Final = 0.5
"""Score from which an answer counts as right, where a data set says nothing else."""
_T = TypeVar("_T", np.float32, np.bool_)
_ROUNDING: Final = 1e-6  # a score of 0.8 that was averaged or stored in float32 still reaches 0.8


@dataclass(frozen=True, slots=True)
class Conflicts:
    """What was found of repeated prompt and LLM pairs.

    Attributes:
        repeated: Answers beyond the first of their pair.
        conflicting: Pairs whose scores differ.
    """

    repeated: int
    conflicting: int


@dataclass(frozen=True, slots=True)
class CorrectnessMatrix:
    """Graded answers of LLMs to prompts; most pairs may be unobserved.

    Attributes:
        prompts: What was asked, one text per row.
        prompt_ids: Unique id of each row.
        categories: Category of each row, as its data set names it.
        datasets: Data set of each row.
        llm_ids: Unique id of each column.
        correctness: float32 (n_prompts, n_llms), in [0, 1]; 0 where unobserved.
        observed: bool (n_prompts, n_llms); False means never graded, not wrong.
        output_tokens: Length of the answer, float32 (n_prompts, n_llms); NaN where unknown.
        counted: bool (n_prompts, n_llms), the length is a recorded count of all tokens billed, hidden reasoning
            included; False where it is an estimate from the visible characters, or unknown.
        input_tokens: Recorded length of the request, mean over the LLMs that recorded it, float32 (n_prompts,); NaN
            where none did.
        thresholds: Lowest correctness that counts as right, float32 (n_prompts,); None is `DEFAULT_THRESHOLD` for all.

    Raises:
        DataError: Shapes, ids or values do not fit.
    """

    prompts: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    categories: tuple[str, ...]
    datasets: tuple[str, ...]
    llm_ids: tuple[str, ...]
    correctness: NDArray[np.float32]
    observed: NDArray[np.bool_]
    output_tokens: NDArray[np.float32]
    counted: NDArray[np.bool_]
    input_tokens: NDArray[np.float32]
    thresholds: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n_prompts, n_llms = len(self.prompts), len(self.llm_ids)
        if self.thresholds is not None:
            _check_equal("length of thresholds", len(self.thresholds), n_prompts)
        for name in ("prompt_ids", "categories", "datasets", "input_tokens"):
            _check_equal(f"length of {name}", len(getattr(self, name)), n_prompts)
        for name in ("correctness", "observed", "output_tokens", "counted"):
            _check_equal(f"shape of {name}", getattr(self, name).shape, (n_prompts, n_llms))
        _check_unique("prompt_ids", self.prompt_ids)
        _check_unique("llm_ids", self.llm_ids)
        if not bool(np.all((self.correctness >= 0) & (self.correctness <= 1))):
            raise DataError("correctness holds values outside [0, 1] or NaN; scale the scores first.")

    @property
    def n_labels(self) -> int:
        """How many pairs were graded."""
        return int(self.observed.sum())

    def labels(self) -> NDArray[np.float32]:
        """Binary labels, float32 (n_prompts, n_llms): 1 where correctness reaches the prompt's threshold, else 0."""
        thresholds = self.label_thresholds()[:, None]
        return (self.correctness >= thresholds - _ROUNDING).astype(np.float32)

    def label_thresholds(self) -> NDArray[np.float32]:
        """The threshold of each prompt, float32 (n_prompts,)."""
        if self.thresholds is None:
            return np.full(len(self.prompts), DEFAULT_THRESHOLD, dtype=np.float32)
        return self.thresholds

    def category_names(self) -> NDArray[np.str_]:
        """Data set and category of each prompt, for example "mmlu_pro/law", (n_prompts,)."""
        return np.array([f"{d}/{c}" for d, c in zip(self.datasets, self.categories, strict=True)])

    def thinned(self, max_prompts: int | None) -> "CorrectnessMatrix":
        """At most so many prompts, those whose ids have the lowest SHA-256: the same in each run; more include fewer.

        Args:
            max_prompts: At least 1; None keeps all.

        Returns:
            A matrix of the same LLMs, prompts in their order.
        """
        if max_prompts is None or len(self.prompts) <= max_prompts:
            return self
        digests = [hashlib.sha256(item.encode()).digest() for item in self.prompt_ids]
        lowest = sorted(range(len(digests)), key=digests.__getitem__)[:max_prompts]
        return self.select_prompts(np.sort(np.array(lowest, dtype=np.int64)))

    def select_prompts(self, rows: NDArray[np.int64]) -> "CorrectnessMatrix":
        """The matrix of some rows, in the order given.

        Args:
            rows: int64 (n_selected,), each in [0, n_prompts), none twice.

        Returns:
            A matrix of n_selected prompts and the same LLMs.
        """
        picked = rows.tolist()
        return CorrectnessMatrix(
            prompts=tuple(self.prompts[i] for i in picked),
            prompt_ids=tuple(self.prompt_ids[i] for i in picked),
            categories=tuple(self.categories[i] for i in picked),
            datasets=tuple(self.datasets[i] for i in picked),
            llm_ids=self.llm_ids,
            correctness=self.correctness[rows],
            observed=self.observed[rows],
            output_tokens=self.output_tokens[rows],
            counted=self.counted[rows],
            input_tokens=self.input_tokens[rows],
            thresholds=None if self.thresholds is None else self.thresholds[rows],
        )

    def select_llms(self, ids: Sequence[str]) -> "CorrectnessMatrix":
        """The matrix of some LLMs, in the order given, without the prompts none of them answered.

        Args:
            ids: Ids of columns.

        Returns:
            A matrix of len(ids) LLMs.

        Raises:
            DataError: An id is unknown.
        """
        column = {llm: i for i, llm in enumerate(self.llm_ids)}
        unknown = [llm for llm in ids if llm not in column]
        if unknown:
            raise DataError(f"llm ids {unknown} are not in the matrix; it has {list(self.llm_ids)}.")
        columns = [column[llm] for llm in ids]
        narrow = replace(
            self,
            llm_ids=tuple(ids),
            correctness=self.correctness[:, columns],
            observed=self.observed[:, columns],
            output_tokens=self.output_tokens[:, columns],
            counted=self.counted[:, columns],
        )
        return narrow.select_prompts(np.flatnonzero(narrow.observed.any(axis=1)))

    def rows_of(self, dataset: str, category: str) -> NDArray[np.int64]:
        """The prompts of a part of a data set, int64 (n_selected,).

        Args:
            dataset: Its name.
            category: A category; or what stands before a slash in several, "medicine" for "medicine/pubmedqa"; or "*"
                for all.
        """
        return np.array(
            [
                i
                for i, (name, own) in enumerate(zip(self.datasets, self.categories, strict=True))
                if name == dataset and (category in {"*", own} or own.startswith(f"{category}/"))
            ],
            dtype=np.int64,
        )

    def without(self, cells: Iterable[tuple[str, str, str]]) -> "CorrectnessMatrix":
        """The same prompts and LLMs, some labels of which count as never observed.

        Args:
            cells: Data set, category as for `rows_of`, and LLM; what the matrix does not have is passed over.
        """
        column = {llm: i for i, llm in enumerate(self.llm_ids)}
        observed = self.observed.copy()
        for dataset, category, llm in cells:
            if llm in column:
                observed[self.rows_of(dataset, category), column[llm]] = False
        return replace(self, observed=observed, correctness=np.where(observed, self.correctness, np.float32(0)))

    def with_llms(self, ids: Iterable[str]) -> "CorrectnessMatrix":
        """The matrix with more LLMs, of which nothing was observed, in the order of ids.

        Args:
            ids: Of the new columns.
        """
        new = sorted(ids)
        order = np.argsort(np.array([*self.llm_ids, *new]), kind="stable")

        def widened(values: NDArray[_T], fill: float) -> NDArray[_T]:
            blank = np.full((len(values), len(new)), fill, dtype=values.dtype)
            return np.hstack([values, blank])[:, order]

        return replace(
            self,
            llm_ids=tuple(sorted([*self.llm_ids, *new])),
            correctness=widened(self.correctness, 0),
            observed=widened(self.observed, 0),
            output_tokens=widened(self.output_tokens, math.nan),
            counted=widened(self.counted, 0),
        )


def _check_equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DataError(f"{what} is {found}, expected {expected}.")


def _check_unique(what: str, ids: Sequence[str]) -> None:
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        repeated = sorted({i for i in ids if i in seen or seen.add(i)})  # type: ignore[func-returns-value]
        raise DataError(f"{what} repeat {repeated[:5]} ({len(repeated)} in all); each needs its own.")


Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Merged:
    """One matrix of several.

    Attributes:
        matrix: Rows in the order first seen, columns sorted by id: the order of the inputs' LLMs has no say.
        rule: What resolved several answers of one LLM to one prompt.
        shared_prompts: Prompts that stand in several of the sets. Each belongs to the first, category and all.
        conflicts: What was resolved.
    """

    matrix: CorrectnessMatrix
    rule: OnConflict
    shared_prompts: int
    conflicts: Conflicts


@dataclass(frozen=True, slots=True)
class _Answers:
    """What all sets say of some rows, float32 (n_sets, n_rows, n_llms) each; scores are NaN where unobserved."""

    scores: NDArray[np.float32]
    tokens: NDArray[np.float32]
    counted: NDArray[np.bool_]


def merge(matrices: Sequence[CorrectnessMatrix], rule: OnConflict = OnConflict.MEAN) -> Merged:
    """Merges matrices.

    Args:
        matrices: At least one. An id that names different prompts in two of them is prefixed with the later one's set.
        rule: What becomes of several answers of one LLM to one prompt. `mean` averages scores and lengths, counted
            lengths before estimated ones; the others take one answer whole: of the first or last set, or the first of
            those with the highest score; `error` refuses conflicts. Lengths of a request and the threshold of
            a right answer are the first set's.

    Returns:
        The matrix and what was resolved.

    Raises:
        DataError: Nothing to merge, or the rule is `error` and scores conflict.
    """
    if not matrices:
        raise DataError("no correctness data given; name at least one folder.")
    ids, places = _identify(matrices)
    stacked = _stack(matrices, ids, places)
    shared = np.flatnonzero(np.bincount(np.concatenate(places), minlength=len(ids)) > 1)
    if not len(shared):
        return Merged(stacked, rule, 0, Conflicts(0, 0))
    answers = _answers(matrices, places, stacked, shared)
    conflicts = _count(answers.scores)
    if rule is OnConflict.ERROR and conflicts.conflicting:
        raise _conflict(stacked, shared, answers.scores, conflicts)
    _write_resolved(stacked, shared, answers, rule)
    return Merged(stacked, rule, len(shared), conflicts)


def _identify(matrices: Sequence[CorrectnessMatrix]) -> tuple[list[str], list[Rows]]:
    """The id of each row of the merged matrix, and for each matrix the rows that its prompts become."""
    text_of: dict[str, str] = {}
    row_of: dict[str, int] = {}
    places = []
    for m in matrices:
        place = np.empty(len(m.prompts), dtype=np.int64)
        for i, (item, prompt, dataset) in enumerate(zip(m.prompt_ids, m.prompts, m.datasets, strict=True)):
            name = item if text_of.setdefault(item, prompt) == prompt else f"{dataset}:{item}"
            place[i] = row_of.setdefault(name, len(row_of))
        places.append(place)
    return list(row_of), places


def _stack(matrices: Sequence[CorrectnessMatrix], ids: Sequence[str], places: Sequence[Rows]) -> CorrectnessMatrix:
    """All rows; of a shared one the texts of the first set, and for each LLM the answer of the last that has one."""
    llm_ids = tuple(sorted({llm for m in matrices for llm in m.llm_ids}))
    column = {llm: i for i, llm in enumerate(llm_ids)}
    shape = (len(ids), len(llm_ids))
    correctness, observed = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.bool_)
    output_tokens, counted = np.full(shape, np.nan, dtype=np.float32), np.zeros(shape, dtype=np.bool_)
    input_tokens = np.full(len(ids), np.nan, dtype=np.float32)
    thresholds = np.empty(len(ids), dtype=np.float32)
    texts = np.empty((3, len(ids)), dtype=np.object_)
    for m, place in reversed(list(zip(matrices, places, strict=True))):
        texts[:, place] = m.prompts, m.categories, m.datasets
        thresholds[place] = m.label_thresholds()
        input_tokens[place] = np.where(np.isfinite(m.input_tokens), m.input_tokens, input_tokens[place])
        block = np.ix_(place, np.array([column[llm] for llm in m.llm_ids]))
        correctness[block], observed[block] = m.correctness, m.observed
        output_tokens[block], counted[block] = m.output_tokens, m.counted
    prompts, categories, datasets = (tuple(row) for row in texts.tolist())
    return CorrectnessMatrix(
        prompts=prompts,
        prompt_ids=tuple(ids),
        categories=categories,
        datasets=datasets,
        llm_ids=llm_ids,
        correctness=correctness,
        observed=observed,
        output_tokens=output_tokens,
        counted=counted,
        input_tokens=input_tokens,
        thresholds=thresholds,
    )


def _answers(
    matrices: Sequence[CorrectnessMatrix], places: Sequence[Rows], stacked: CorrectnessMatrix, shared: Rows
) -> _Answers:
    shape = (len(matrices), len(shared), len(stacked.llm_ids))
    scores, tokens = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    answers = _Answers(scores, tokens, np.zeros(shape, dtype=np.bool_))
    column = {llm: i for i, llm in enumerate(stacked.llm_ids)}
    for number, (m, place) in enumerate(zip(matrices, places, strict=True)):
        mine = np.flatnonzero(np.isin(place, shared))
        block = np.ix_(np.searchsorted(shared, place[mine]), np.array([column[llm] for llm in m.llm_ids]))
        answers.scores[number][block] = np.where(m.observed[mine], m.correctness[mine], np.nan)
        answers.tokens[number][block] = m.output_tokens[mine]
        answers.counted[number][block] = m.counted[mine]
    return answers


def _count(scores: NDArray[np.float32]) -> Conflicts:
    n_answers = np.isfinite(scores).sum(axis=0)
    lowest, highest = np.fmin.reduce(scores), np.fmax.reduce(scores)
    return Conflicts(int(np.maximum(n_answers - 1, 0).sum()), int((highest > lowest).sum()))


def _conflict(stacked: CorrectnessMatrix, shared: Rows, scores: NDArray[np.float32], conflicts: Conflicts) -> DataError:
    row, llm = np.argwhere(np.fmax.reduce(scores) > np.fmin.reduce(scores))[0].tolist()
    found = sorted({float(s) for s in scores[:, row, llm] if np.isfinite(s)})
    return DataError(
        f"{conflicts.conflicting} pairs of prompt and LLM have several scores in different sets; the first is prompt "
        f"{stacked.prompt_ids[shared[row]]}, LLM {stacked.llm_ids[llm]!r}, scores {found}. Expected one each: mend the "
        "data or choose --on-conflict mean, first, last or max."
    )


def _write_resolved(stacked: CorrectnessMatrix, shared: Rows, answers: _Answers, rule: OnConflict) -> None:
    observed = np.isfinite(answers.scores)
    if rule is OnConflict.MEAN:
        scores, counted = _mean(answers.scores), answers.counted.any(axis=0)
        tokens = np.where(counted, _mean(np.where(answers.counted, answers.tokens, np.nan)), _mean(answers.tokens))
    else:
        chosen = _chosen(answers.scores, rule)[None]
        scores, tokens, counted = (
            np.take_along_axis(part, chosen, axis=0)[0] for part in (answers.scores, answers.tokens, answers.counted)
        )
    stacked.observed[shared] = observed.any(axis=0)
    stacked.correctness[shared] = np.nan_to_num(scores)
    stacked.output_tokens[shared], stacked.counted[shared] = tokens, counted


def _chosen(scores: NDArray[np.float32], rule: OnConflict) -> NDArray[np.intp]:
    """Number of the set whose answer counts, int (n_rows, n_llms); of conflict-free pairs, one that has an answer."""
    rank = np.where(np.isfinite(scores), scores, -1.0) if rule is OnConflict.MAX else np.isfinite(scores)
    if rule is OnConflict.LAST:
        return np.asarray(len(scores) - 1 - rank[::-1].argmax(axis=0))
    return np.asarray(rank.argmax(axis=0))


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over sets of the values that are not NaN; NaN where all are."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0, dtype=np.float64)
    n_known = known.sum(axis=0)
    means: NDArray[np.float32] = np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan).astype(np.float32)
    return means
