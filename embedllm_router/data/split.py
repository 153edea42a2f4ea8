"""Train, validation and test prompts, so that no question sits on two sides.

Prompts that share a normalised question stem stay together, also across data sets: the same question occurs with
other ids and other options. It knows nothing of labels.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.errors import DataError

__all__ = ["Leakage", "Split", "leakage", "question_stem", "split_by_stem"]

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
    prompts: Sequence[str], *, seed: int = 0, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> Split:
    """Splits prompts into train, validation and test by question stem.

    Args:
        prompts: One text per row.
        seed: Same seed, same prompts, same split; the order of the prompts has no say in who goes with whom.
        shares: Of train, validation, test; they sum to 1 and hold approximately, as stems stay whole.

    Returns:
        The split.

    Raises:
        DataError: The shares do not sum to 1.
    """
    if abs(sum(shares) - 1) > 1e-9 or min(shares) < 0:  # noqa: PLR2004 - rounding of three decimal shares
        raise DataError(f"split shares are {shares}, expected three non-negative numbers that sum to 1.")
    stems = [question_stem(p) for p in prompts]
    unique = sorted(set(stems))
    order = np.random.default_rng(seed).permutation(len(unique))
    part_of_order = np.searchsorted(np.cumsum(shares[:2]), (order + 0.5) / max(len(unique), 1))
    part_of_stem = dict(zip(unique, part_of_order.tolist(), strict=True))
    part = np.array([part_of_stem[s] for s in stems], dtype=np.int64)
    return Split(*(np.flatnonzero(part == i) for i in range(3)))


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
