"""Labels that show whether an answer could be read rather than whether it was right, found by what else is known.

A data set's grading may find no answer in what an LLM wrote, and count it as wrong. Two things give it away: the LLM's
published score on the same questions is far higher, or it is right less often than by guessing. Such labels are left
out, as are those that the data themselves mark as unread. Nothing is done where an LLM is better than published.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import binom

from embedllm_router._stats import logit
from embedllm_router.artifact.manifest import ContradictedLabels
from embedllm_router.artifact.published import SCORE_BOUNDS
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import DataError
from embedllm_router.training.fit.facts import Asked, Source
from embedllm_router.training.fit.published import Published, whole_scores

__all__ = ["Trusted", "find_contradicted", "leave_out", "trusted", "unchecked"]

_MIN_LABELS: Final = 30
_FAR: Final = 1.5
"""Log-odds below the published score. Where data sets and publishers ask alike, half of all scores lie within 0.1; 1.5
is 0.73 against 0.38, more than prompting, number of examples and reasoning explain."""
_SURE: Final = 3.0  # standard errors of the share right
_SHOWN: Final = 5  # names in a warning
_BY_LUCK: Final = 1e-3  # a share below chance that guessing reaches less often than this


@dataclass(frozen=True, slots=True)
class Trusted:
    """What is learned from, and judged by.

    Attributes:
        matrix: Without labels that tell of formats; see `leave_out`.
        contradicted: Those labels.
        warnings: What a user must know of it.
    """

    matrix: CorrectnessMatrix
    contradicted: tuple[ContradictedLabels, ...]
    warnings: tuple[str, ...]


def trusted(matrix: CorrectnessMatrix, sources: Mapping[str, Source], published: Published, min_labels: int) -> Trusted:
    """Finds labels that tell of formats and leaves them out.

    Args:
        matrix: Of LLMs that have enough labels.
        sources: See `find_contradicted`, likewise the next.
        published: Scores.
        min_labels: Fewest graded answers of an LLM.

    Raises:
        DataError: No LLM is left.
    """
    contradicted = find_contradicted(matrix, sources, published)
    said = (*unchecked(matrix, sources, published), *_unlearned(matrix, contradicted, min_labels))
    return Trusted(leave_out(matrix, contradicted, min_labels), contradicted, said)


def find_contradicted(
    matrix: CorrectnessMatrix, sources: Mapping[str, Source], published: Published
) -> tuple[ContradictedLabels, ...]:
    """Finds labels that contradict published scores, or that are worse than guessing.

    Args:
        matrix: Labels; those of fewer than 30 answers of an LLM to a category are not judged.
        sources: Say which published benchmarks a category's questions are from, and what guessing reaches.
        published: Scores.

    Returns:
        In the order of data sets, categories and LLMs. Where categories overlap, the narrowest comes first, and a wider
        one is judged by the labels that are left: each label is found at most once.
    """
    scores = _by_llm_and_benchmark(published)
    return tuple(
        labels
        for name in dict.fromkeys(matrix.datasets)
        if name in sources
        for labels in _found_in(matrix.select_prompts(matrix.rows_of(name, "*")), name, sources[name], scores)
    )


def leave_out(
    matrix: CorrectnessMatrix, contradicted: Sequence[ContradictedLabels], min_labels: int
) -> CorrectnessMatrix:
    """The matrix without such labels, and without the LLMs of which too few are left.

    Args:
        matrix: Of LLMs that have enough labels.
        contradicted: What is left out of it.
        min_labels: Fewest graded answers of an LLM.

    Returns:
        The prompts that any LLM left had answered, those of which every label is left out among them: that is how
        `evaluate` finds them again.

    Raises:
        DataError: No LLM is left.
    """
    cells = [labels.cell for labels in contradicted]
    counts = matrix.without(cells).observed.sum(axis=0).tolist()
    ids = [llm for llm, n in zip(matrix.llm_ids, counts, strict=True) if n >= min_labels]
    if not ids:
        raise DataError(
            f"no LLM has {min_labels} graded answers that are not left out as far below a published score or below "
            f"guessing; the largest has {max(counts)}. Check what the sources say under asks, add data or "
            "lower --min-labels."
        )
    return matrix.select_llms(ids).without(cells)


def unchecked(matrix: CorrectnessMatrix, sources: Mapping[str, Source], published: Published) -> Iterator[str]:
    """What the sources name and nothing else knows, so that labels are not checked as they say: for a user to mend.

    Args:
        matrix: Labels; what the sources say of other data sets is passed over.
        sources: Say what a category asks.
        published: Scores.
    """
    known = {benchmark for _, benchmark in _by_llm_and_benchmark(published)}
    asks = [
        (name, *one) for name in dict.fromkeys(matrix.datasets) if name in sources for one in sources[name].asks.items()
    ]
    strange = [f"{name}: {category!r}" for name, category, _ in asks if not len(matrix.rows_of(name, category))]
    if strange:
        yield (
            f"the sources ask about categories that the data do not have ({_some(strange)}), so nothing is checked "
            "there. Name a category of the data, what stands before a slash in several, or *."
        )
    strange = [
        f"{name}: {category!r} by {', '.join(asked.benchmarks)}"
        for name, category, asked in asks
        if asked.benchmarks and known.isdisjoint(asked.benchmarks)
    ]
    if strange:
        yield (
            f"no whole score was published on benchmarks that the sources name ({_some(strange)}), so no label is "
            "compared with one there. Name benchmarks of scores.parquet; --published says where it is."
        )


def _unlearned(matrix: CorrectnessMatrix, contradicted: Sequence[ContradictedLabels], min_labels: int) -> Iterator[str]:
    """Which LLMs `leave_out` takes out of a matrix, since too few labels are left: for a user to know."""
    lost = Counter[str]()
    for labels in contradicted:
        lost[labels.llm] += labels.n_labels
    for llm, n in sorted(lost.items()):
        had = int(matrix.observed[:, matrix.llm_ids.index(llm)].sum())
        if had - n < min_labels:
            yield (
                f"{llm} is not learned: {n} of its {had} labels are left out as far below a published score or below "
                f"guessing, and --min-labels is {min_labels}."
            )


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:_SHOWN]) + ("; …" if len(names) > _SHOWN else "")


_Scores = Mapping[tuple[str, str], float]


def _found_in(of_set: CorrectnessMatrix, name: str, source: Source, scores: _Scores) -> tuple[ContradictedLabels, ...]:
    """All that is found in one data set, narrow categories before those that they are parts of."""
    found: list[ContradictedLabels] = []
    for category in sorted(source.asks, key=_breadth):
        new = list(_found(_Part.of(of_set, name, category), source.asks[category], scores))
        found += new
        of_set = of_set.without(labels.cell for labels in new) if new else of_set
    place = {category: number for number, category in enumerate(source.asks)}
    return tuple(sorted(found, key=lambda labels: place[labels.category]))


def _breadth(category: str) -> tuple[bool, int]:
    """Smaller for a part than for what it is a part of."""
    return category == "*", -category.count("/")


def _by_llm_and_benchmark(published: Published) -> _Scores:
    return {(llm, benchmark): score for llm, benchmark, score in whole_scores(published.scores).iter_rows()}


@dataclass(frozen=True, slots=True)
class _Part:
    """How often each LLM was right on a part of a data set."""

    dataset: str
    category: str
    right: Mapping[str, tuple[int, int]]  # by LLM, answers that were right and all

    @classmethod
    def of(cls, matrix: CorrectnessMatrix, dataset: str, category: str) -> "_Part":
        few = matrix.select_prompts(matrix.rows_of(dataset, category))
        right, n = (few.labels() * few.observed).sum(axis=0), few.observed.sum(axis=0)
        counts = zip(matrix.llm_ids, right.astype(int).tolist(), n.tolist(), strict=True)
        return cls(dataset, category, {llm: (hits, of) for llm, hits, of in counts if of >= _MIN_LABELS})


def _found(part: _Part, asked: Asked, scores: _Scores) -> Iterator[ContradictedLabels]:
    for llm, (right, n) in part.right.items():
        reason = _contradicted_score(llm, right, n, asked, scores) or _unlucky(right, n, asked)
        if reason:
            benchmark, expected = reason
            yield ContradictedLabels(
                dataset=part.dataset,
                category=part.category,
                llm=llm,
                n_labels=n,
                right=round(right / n, 4),
                expected=round(expected, 4),
                benchmark=benchmark,
            )


def _contradicted_score(llm: str, right: int, n: int, asked: Asked, scores: _Scores) -> tuple[str, float] | None:
    """The first published score that the labels lie far below."""
    share = (right + 0.5) / (n + 1)
    gap = max(_FAR, _SURE / math.sqrt(n * share * (1 - share)))
    for benchmark in asked.benchmarks:
        score = scores.get((llm, benchmark))
        if score is None:
            continue
        above, below = logit(np.array([np.clip(score, *SCORE_BOUNDS), share]))
        if above - below > gap:
            return benchmark, score
    return None


def _unlucky(right: int, n: int, asked: Asked) -> tuple[None, float] | None:
    """Chance, where guessing would hardly ever do so badly."""
    if asked.chance is None or binom.cdf(right, n, asked.chance) >= _BY_LUCK:
        return None
    return None, asked.chance
