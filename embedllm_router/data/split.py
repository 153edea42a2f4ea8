"""Train, validation and test prompts, so that no question sits on two sides.

Prompts that share a normalised question stem stay together, also across data sets: the same question occurs with other
ids and other options. Other splits hold out a whole benchmark, or whole LLMs, to see what a router does with what it
never saw; questions that also stand in the held-out part leave the training part.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import DataError

__all__ = [
    "GroupSplit",
    "Split",
    "benchmarks",
    "leakage",
    "leakage_report",
    "leave_llms_out",
    "leave_one_benchmark_out",
    "question_stem",
    "split_by_stem",
]

_OPTIONS = re.compile(r"\n\s*\(?A[.)]\s.*\Z", re.DOTALL)
_PROSE = re.compile(r"[^\w+*/@#$%^&=<>\[\]{}|~\\]+|_+")  # symbols stay: they are all that tells two puzzles apart
_MIN_STEM_WORDS: Final = 4  # shorter stems ("which is true?") do not identify a question: the options count too
_SHINGLE_WORDS: Final = 5
_RARE: Final = 25  # a shingle in more prompts than this is a template's, not a question's
_NEAR: Final = 0.8


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts, each int64 and sorted, disjoint, together all rows."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Leakage:
    """What of the test part can be read in the train part.

    Attributes:
        same_stem: Test prompts whose normalised stem is also in train; 0 after `split_by_stem`.
        near_duplicates: Test prompts that share at least 80 % of their five-word shingles (Jaccard) with one train
            prompt. Procedurally generated puzzles and reworded questions end here.
        n_test: Prompts in the test part.
    """

    same_stem: int
    near_duplicates: int
    n_test: int


def question_stem(prompt: str) -> str:
    """The question without its options, case, punctuation of prose and spacing.

    Args:
        prompt: Any text.

    Returns:
        Lower-case words and symbols separated by single spaces; of the whole prompt where the stem is too short to tell
        questions apart.
    """
    stem = _words(_OPTIONS.sub("", prompt))
    return stem if stem.count(" ") + 1 >= _MIN_STEM_WORDS else _words(prompt)


def split_by_stem(
    prompts: Sequence[str],
    *,
    seed: int = 0,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    first: NDArray[np.bool_] | None = None,
) -> Split:
    """Splits prompts into train, validation and test by question stem.

    Args:
        prompts: One text per row.
        seed: Same seed, same prompts, same split; the order of the prompts has no say in who goes with whom.
        shares: Of train, validation, test; they sum to 1 and hold approximately, as stems stay whole.
        first: bool (n_prompts,), prompts that are split as if there were no others; the others' stems are split after
            them. Prompts that were held out before others joined stay held out. None splits all at once.

    Returns:
        The split.

    Raises:
        DataError: The shares do not sum to 1.
    """
    if abs(sum(shares) - 1) > 1e-9 or min(shares) < 0:  # noqa: PLR2004 - rounding of three decimal shares
        raise DataError(f"split shares are {shares}, expected three non-negative numbers that sum to 1.")
    stems = [question_stem(p) for p in prompts]
    early = set(stems) if first is None else {stems[i] for i in np.flatnonzero(first).tolist()}
    part_of_stem = _dealt_parts(early, seed, shares) | _dealt_parts(set(stems) - early, seed, shares)
    part = np.array([part_of_stem[s] for s in stems], dtype=np.int64)
    return Split(*(np.flatnonzero(part == i) for i in range(3)))


def _dealt_parts(stems: Collection[str], seed: int, shares: tuple[float, float, float]) -> dict[str, int]:
    """Number of the part of each stem."""
    unique = sorted(stems)
    order = np.random.default_rng(seed).permutation(len(unique))
    part_of_order = np.searchsorted(np.cumsum(shares[:2]), (order + 0.5) / max(len(unique), 1))
    return dict(zip(unique, part_of_order.tolist(), strict=True))


def leakage(prompts: Sequence[str], train: NDArray[np.int64], test: NDArray[np.int64]) -> Leakage:
    """Looks for test prompts that can be read in train.

    Args:
        prompts: One text per row.
        train: int64 (n_train,), rows of the train part.
        test: int64 (n_test,), rows of the test part.

    Returns:
        Counts; near duplicates are searched among train prompts that share a rare shingle.
    """
    stems = [question_stem(p) for p in prompts]
    train_stems = {stems[i] for i in train}
    shingles = [_shingles(s) for s in stems]
    frequency = Counter(s for i in train for s in shingles[i])
    holders: dict[int, list[int]] = defaultdict(list)
    for i in train.tolist():
        for shingle in shingles[i]:
            if frequency[shingle] <= _RARE:
                holders[shingle].append(i)
    return Leakage(
        same_stem=sum(stems[i] in train_stems for i in test),
        near_duplicates=sum(_has_near(shingles[i], shingles, holders) for i in test),
        n_test=len(test),
    )


def _has_near(mine: frozenset[int], shingles: list[frozenset[int]], holders: dict[int, list[int]]) -> bool:
    shared = Counter(i for s in mine for i in holders.get(s, ()))
    return any(_jaccard(mine, shingles[i]) >= _NEAR for i, _ in shared.most_common(5))


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / max(len(a | b), 1)


def _shingles(stem: str) -> frozenset[int]:
    words = stem.split()
    last = max(len(words) - _SHINGLE_WORDS + 1, 1)
    return frozenset(hash(tuple(words[i : i + _SHINGLE_WORDS])) for i in range(last))


def _words(text: str) -> str:
    return _PROSE.sub(" ", text.lower()).strip()


_VALIDATION_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """One split with something held out.

    Attributes:
        held_out: Name of the benchmark, or of the group of LLMs.
        train: int64, sorted rows to learn from.
        validation: int64, sorted rows to stop and calibrate on; from the same benchmarks and LLMs as train.
        test: int64, sorted rows to judge on; disjoint from the others.
        dropped: int64, sorted rows in no part, because their question is also in the test part.
        seen_llms: LLMs whose answers may be learned from.
        test_llms: LLMs to judge on.
    """

    held_out: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    dropped: NDArray[np.int64]
    seen_llms: tuple[str, ...]
    test_llms: tuple[str, ...]

    def matrices(self, matrix: CorrectnessMatrix) -> tuple[CorrectnessMatrix, CorrectnessMatrix, CorrectnessMatrix]:
        """Train, validation and test as matrices of the LLMs each may know, without prompts none of those answered."""
        return (
            matrix.select_prompts(self.train).select_llms(self.seen_llms),
            matrix.select_prompts(self.validation).select_llms(self.seen_llms),
            matrix.select_prompts(self.test).select_llms(self.test_llms),
        )


def benchmarks(matrix: CorrectnessMatrix) -> tuple[str, ...]:
    """The benchmark of each row: its data set, or where all rows are of one data set its category."""
    return matrix.datasets if len(set(matrix.datasets)) > 1 else matrix.categories


def leave_one_benchmark_out(
    matrix: CorrectnessMatrix, *, groups: Sequence[str] | None = None, seed: int = 0
) -> Iterator[GroupSplit]:
    """Holds out each benchmark in turn.

    Args:
        matrix: Correctness of prompts from at least two benchmarks.
        groups: Benchmark of each row; by default as `benchmarks` tells.
        seed: Decides which of the other benchmarks' rows are for validation: a tenth, by stem.

    Yields:
        One split per benchmark, sorted by name. LLMs are the same on all sides.

    Raises:
        DataError: There are fewer than two benchmarks, or not one name per row.
    """
    names = benchmarks(matrix) if groups is None else tuple(groups)
    if len(names) != len(matrix.prompts):
        raise DataError(f"groups has {len(names)} names, expected one per prompt, {len(matrix.prompts)}.")
    if len(set(names)) < 2:  # noqa: PLR2004 - one to hold out, one to learn from
        raise DataError(f"one benchmark to leave out of {sorted(set(names))}, expected at least two. Ingest another.")
    stems = [question_stem(p) for p in matrix.prompts]
    for held_out in sorted(set(names)):
        test = np.array([name == held_out for name in names])
        asked = {stems[i] for i in np.flatnonzero(test)}
        dropped = ~test & np.array([stem in asked for stem in stems])
        train, validation = _two_parts(matrix, np.flatnonzero(~test & ~dropped), seed)
        yield GroupSplit(
            held_out,
            train,
            validation,
            np.flatnonzero(test),
            np.flatnonzero(dropped),
            seen_llms=matrix.llm_ids,
            test_llms=matrix.llm_ids,
        )


def leave_llms_out(
    matrix: CorrectnessMatrix, *, n_folds: int = 5, groups: Mapping[str, str] | None = None, seed: int = 0
) -> Iterator[GroupSplit]:
    """Holds out LLMs, so that each is held out once; test prompts are new too.

    Args:
        matrix: Correctness of at least two LLMs.
        n_folds: Groups that the LLMs are dealt into at random; without say where `groups` is given.
        groups: Group of each LLM, its vendor for one: whole groups are held out.
        seed: Decides the groups, and the prompts of the parts (80, 10 and 10 %, by stem). The order of the matrix's
            columns has no say.

    Yields:
        One split per group, sorted by name.

    Raises:
        DataError: Fewer than two groups, more folds than LLMs, or an LLM without a group.
    """
    group_of = _dealt(matrix.llm_ids, n_folds, seed) if groups is None else dict(groups)
    unknown = [llm for llm in matrix.llm_ids if llm not in group_of]
    if unknown:
        raise DataError(f"llm ids {unknown[:5]} have no group ({len(unknown)} in all). Name one for each.")
    names = sorted({group_of[llm] for llm in matrix.llm_ids})
    if len(names) < 2:  # noqa: PLR2004 - one to hold out, one to learn from
        raise DataError(f"groups of LLMs are {names}, expected at least two.")
    split = split_by_stem(matrix.prompts, seed=seed)
    for held_out in names:
        yield GroupSplit(
            held_out,
            split.train,
            split.validation,
            split.test,
            np.empty(0, dtype=np.int64),
            seen_llms=tuple(llm for llm in matrix.llm_ids if group_of[llm] != held_out),
            test_llms=tuple(llm for llm in matrix.llm_ids if group_of[llm] == held_out),
        )


def leakage_report(matrix: CorrectnessMatrix, splits: Iterator[GroupSplit]) -> dict[str, Leakage]:
    """What of each split's test part can be read in its train part.

    Args:
        matrix: What the splits are of.
        splits: From one of the functions above.

    Returns:
        Counts by the name of what was held out. No stem is shared; near duplicates may be.
    """
    return {split.held_out: leakage(matrix.prompts, split.train, split.test) for split in splits}


def _two_parts(
    matrix: CorrectnessMatrix, rows: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    prompts = [matrix.prompts[i] for i in rows]
    parts = split_by_stem(prompts, seed=seed, shares=(1 - _VALIDATION_SHARE, _VALIDATION_SHARE, 0.0))
    return rows[parts.train], rows[parts.validation]


def _dealt(llms: Sequence[str], n_folds: int, seed: int) -> dict[str, str]:
    if not 2 <= n_folds <= len(llms):  # noqa: PLR2004 - one to hold out, one to learn from
        raise DataError(f"n_folds is {n_folds}, expected from 2 to the number of LLMs, {len(llms)}.")
    order = np.random.default_rng(seed).permutation(len(llms))
    return {llm: f"fold {place % n_folds}" for llm, place in zip(sorted(llms), order.tolist(), strict=True)}
