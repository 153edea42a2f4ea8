"""How much of the error no predictor can avoid: what LLMs answer when a question is asked twice.

Two answers of one LLM to the same question that agree only with probability 1 - d put a floor under every score: if
each answer is right with probability p, then E[d] = 2·E[p(1 - p)], so Brier ≥ d / 2; and as the entropy of p in nats
is at least 4·ln 2·p(1 - p), log-loss ≥ 2·ln 2·d. It knows nothing of predictions.
"""

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.stats_evaluation_bootstrap import Estimate, ratio_of_sums, resamples

__all__ = ["NoiseCeiling", "noise_ceiling"]

_MIN_STEM_WORDS: Final = 8  # shorter stems are shared by questions that differ in their options
_MAX_COPIES: Final = 6  # a stem in more prompts than this is a template


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """Agreement of an LLM with itself on questions asked twice.

    Attributes:
        kind: "same data set" or "across data sets".
        disagreement: Share of answer pairs of which one is right and one wrong.
        brier_floor: Lowest mean Brier score possible on such questions.
        log_loss_floor: A bound no log-loss on such questions can be below, in nats.
        n_questions: Questions asked more than once.
        n_pairs: Pairs of answers by the same LLM.
    """

    kind: str
    disagreement: Estimate
    brier_floor: float
    log_loss_floor: float
    n_questions: int
    n_pairs: int


def noise_ceiling(matrix: CorrectnessMatrix) -> tuple[NoiseCeiling, ...]:
    """Estimates the floor from repeated questions, within and across data sets.

    Args:
        matrix: All labels there are.

    Returns:
        One estimate per kind that occurs. Repeats differ in wording, options or answer format, so disagreement also
        holds what a predictor could know: the true floor may be lower.
    """
    kinds = (("same data set", True), ("across data sets", False))
    found = ((kind, _pairs(matrix, same=same)) for kind, same in kinds)
    return tuple(_ceiling(kind, pairs) for kind, pairs in found if pairs)


def _pairs(matrix: CorrectnessMatrix, *, same: bool) -> list[tuple[int, int]]:
    """Per question: answer pairs that disagree, and all answer pairs."""
    copies: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(matrix.prompts):
        copies[question_stem(prompt)].append(row)
    labels = matrix.labels()
    counts = []
    for stem, rows in copies.items():
        if not 1 < len(rows) <= _MAX_COPIES or stem.count(" ") + 1 < _MIN_STEM_WORDS:
            continue
        disagreeing = total = 0
        for a, b in itertools.combinations(rows, 2):
            if (matrix.datasets[a] == matrix.datasets[b]) == same:
                both = matrix.observed[a] & matrix.observed[b]
                total += int(both.sum())
                disagreeing += int((labels[a] != labels[b])[both].sum())
        if total:
            counts.append((disagreeing, total))
    return counts


def _ceiling(kind: str, pairs: list[tuple[int, int]]) -> NoiseCeiling:
    disagreeing, total = np.array(pairs, dtype=np.float64).T
    share = ratio_of_sums(disagreeing, total, resamples(len(pairs)))
    return NoiseCeiling(
        kind=kind,
        disagreement=share,
        brier_floor=share.value / 2,
        log_loss_floor=2 * math.log(2) * share.value,
        n_questions=len(pairs),
        n_pairs=int(total.sum()),
    )
