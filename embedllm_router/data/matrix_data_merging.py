"""Several data sets → one matrix: all their prompts, the union of their LLMs.

An item that stands in several sets, with the same id and the same text, is one row; answers graded in several of them
are resolved by a named rule. The same text under another id is another item: sets ask it by their own protocol, and the
split keeps all of them on one side. It knows nothing of files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.matrix_data_conflicts import Conflicts, OnConflict
from embedllm_router.errors import DataError

__all__ = ["Merged", "merge"]

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
            those with the highest score; `error` refuses conflicts. Lengths of a request are the first set's.

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
    texts = np.empty((3, len(ids)), dtype=np.object_)
    for m, place in reversed(list(zip(matrices, places, strict=True))):
        texts[:, place] = m.prompts, m.categories, m.datasets
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
