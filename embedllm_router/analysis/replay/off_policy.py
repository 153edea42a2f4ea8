"""Estimates of a new policy's accuracy from feedback on the answers of the old one.

- Direct method: the mean predicted probability of the new choices. It covers every request and trusts the predictions.
- Inverse propensity (IPS; Horvitz and Thompson, 1952): answers of the LLMs the new policy chooses too, each weighted
  by one over its probability of being observed. Unbiased, and noisy.
- The same, normalised by the sum of its weights (SNIPS; Hájek, 1971; Swaminathan and Joachims, 2015): less noisy.
- Doubly robust (DR; Dudík, Langford and Li, 2011): the predictions, corrected by what was observed. Right when either
  the predictions or the probabilities of observation are.

An answer is observed when its LLM was chosen and somebody gave feedback. The first has the recorded propensity; the
second is estimated as the share of an LLM's answers with feedback, which assumes that, given the LLM, whether somebody
gives feedback does not depend on whether the answer was right.

Where the new policy chooses an LLM that the old one could not have chosen, only predictions remain; these requests are
left out of IPS, and counted.

Judged evaluation asks other LLMs on a random share of the requests, and one judge scores both answers. Such pairs
estimate the difference itself: the predicted difference, corrected by the pairs, each weighted by one over the
probability with which it was drawn, normalised. Where both policies choose the same LLM it is 0 for sure.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, Resampling

__all__ = ["ByPairs", "Logged", "OffPolicy", "Pairs", "Terms", "effective_n", "off_policy", "paired_terms", "terms_of"]

_FEW_PAIRS = 20.0  # as they count
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Logged:
    """What happened, and what a new policy would have done instead; every array is (n_requests,).

    Attributes:
        chosen: intp, which LLM was chosen, an index; the same one has the same index in `wanted`.
        wanted: intp, which LLM the new policy would ask; -1 for none.
        propensity: Probability with which it was chosen, in (0, 1].
        reachable: bool, whether exploration could have chosen the wanted one.
        score: Verdict on its answer, in [0, 1]; NaN without.
        p_chosen: Predicted probability that the chosen one is right; NaN when unknown.
        p_wanted: Predicted probability that the one the new policy would ask is right; NaN when unknown.
    """

    chosen: NDArray[np.intp]
    wanted: NDArray[np.intp]
    propensity: Floats
    reachable: Flags
    score: Floats
    p_chosen: Floats
    p_wanted: Floats


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """What feedback says. Shares are in [0, 1]; estimates are of accuracy, in [0, 1] up to noise.

    Attributes:
        n_requests: Requests with predictions for both choices; everything else is of these.
        n_feedback: With a verdict.
        n_explored: Decided with a propensity below 1.
        n_flips: Where the new policy asks another LLM.
        n_flips_unobserved: Of those, the ones of which no verdict can say anything: exploration never went to the LLM
            that is wanted, or nobody ever said anything of it.
        supported: Share of requests where the LLM the new policy wants had a chance of being observed.
        n_matched: Verdicts on answers of the LLM the new policy wants: all that IPS rests on.
        effective_n: Kish's effective number of those verdicts, (Σw)² / Σw².
        largest_weight: The largest weight; 0 without verdicts.
        before: Accuracy of the recorded choices, over all requests: doubly robust.
        before_supported: The same over the supported requests, to set beside `ips` and `snips`.
        ips: Accuracy of the new policy over the supported requests.
        snips: The same, normalised.
        dr: Accuracy of the new policy over all requests; on unsupported ones it is the prediction, uncorrected.
        change: `dr` less `before`.
        by_pairs: The same by answers of both to the same requests; None where judged evaluation gave too few of them.
        n_pairs: How many of them it gave.
    """

    n_requests: int
    n_feedback: int
    n_explored: int
    n_flips: int
    n_flips_unobserved: int
    supported: float
    n_matched: int
    effective_n: float
    largest_weight: float
    before: Estimate
    before_supported: Estimate
    ips: Estimate
    snips: Estimate
    dr: Estimate
    change: Estimate
    by_pairs: "ByPairs | None" = None
    n_pairs: int = 0


@dataclass(frozen=True, slots=True)
class ByPairs:
    """What pairs of answers to the same requests say of a new policy.

    Attributes:
        n: Pairs.
        effective_n: Kish's effective number of them.
        possible: Share of the flips of which a pair could have been drawn; of the others only predictions speak.
        change: Accuracy of the new policy less that of the recorded choices, over all requests.
    """

    n: int
    effective_n: float
    possible: float
    change: Estimate


def off_policy(logged: Logged, pairs: "Pairs | None" = None, *, seed: int = 0) -> OffPolicy | None:
    """Estimates the accuracy of a new policy from feedback on the old one.

    Args:
        logged: What happened, and what would have.
        pairs: Answers that both gave, of the same requests; None for none.
        seed: Decides the resamples.

    Returns:
        None without any usable verdict.
    """
    usable = np.isfinite(logged.p_chosen) & np.isfinite(logged.p_wanted) & (logged.wanted >= 0)
    known = _select(logged, usable)
    if not np.isfinite(known.score).any():
        return None
    found = terms_of(known)
    same, below = known.chosen == known.wanted, found.supported.astype(np.float64)
    score = np.nan_to_num(known.score)
    drawn = Resampling(len(score), seed)
    paired = None if pairs is None else paired_terms(known, _select(pairs, usable))
    return OffPolicy(
        n_requests=len(score),
        n_feedback=int(np.isfinite(known.score).sum()),
        n_explored=int((known.propensity < 1).sum()),
        n_flips=int((~same).sum()),
        n_flips_unobserved=int((~same & ~found.supported).sum()),
        supported=float(found.supported.mean()),
        n_matched=int((found.weight > 0).sum()),
        effective_n=effective_n(found.weight),
        largest_weight=float(found.weight.max()),
        before=drawn.ratio(found.before),
        before_supported=drawn.ratio(found.before * below, below),
        ips=drawn.ratio(found.weight * score, below),
        snips=drawn.ratio(found.weight * score, found.weight),
        dr=drawn.ratio(found.after),
        change=drawn.ratio(found.after - found.before),
        by_pairs=None if paired is None else _by_pairs(paired, ~same, drawn),
        n_pairs=0 if paired is None else int((paired.weight > 0).sum()),
    )


def _by_pairs(found: "Terms", flips: Flags, drawn: Resampling) -> ByPairs | None:
    effective = effective_n(found.weight)
    if effective < _FEW_PAIRS:
        return None
    possible = float(found.supported[flips].mean())
    return ByPairs(int((found.weight > 0).sum()), effective, possible, drawn.ratio(found.after - found.before))


@dataclass(frozen=True, slots=True)
class Terms:
    """What each request adds to the doubly robust estimates; each array is (n_requests,).

    Attributes:
        before: Of the recorded choice; its mean estimates their accuracy.
        after: Of the new one, likewise.
        weight: Of the verdict in `after`; 0 where it counts for nothing.
        supported: bool, whether the LLM that is wanted had a chance of being observed.
    """

    before: Floats
    after: Floats
    weight: Floats
    supported: Flags


def terms_of(logged: Logged) -> Terms:
    """The terms of the doubly robust estimates.

    Args:
        logged: Requests with predictions for both choices.
    """
    seen = np.isfinite(logged.score)
    rate = _feedback_rate(logged, seen)
    same = logged.chosen == logged.wanted
    score = np.where(seen, logged.score, 0.0)
    reached = np.where(seen, 1.0 / np.where(seen, rate[logged.chosen], 1.0), 0.0)
    weight = np.where(same, reached / logged.propensity, 0.0)
    return Terms(
        before=logged.p_chosen + reached * (score - logged.p_chosen),
        after=logged.p_wanted + weight * (score - logged.p_wanted),
        weight=weight,
        supported=(same | logged.reachable) & (rate[logged.wanted] > 0),
    )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers of the wanted LLM to requests that the chosen one answered, scored by one judge; each is (n_requests,).

    Attributes:
        score_chosen: Score of the chosen one's answer, in [0, 1]; NaN without a pair. So are the next two.
        score_wanted: Score of the wanted one's.
        odds: Probability with which the wanted one was asked, too, in (0, 1].
        possible: bool, whether a pair could have been drawn.
    """

    score_chosen: Floats
    score_wanted: Floats
    odds: Floats
    possible: Flags


_Arrays = TypeVar("_Arrays", Logged, Pairs)


def paired_terms(logged: Logged, pairs: Pairs) -> Terms:
    """The terms of the doubly robust estimates by pairs: their difference rests on requests that both answered.

    Args:
        logged: Requests with predictions for both choices.
        pairs: Of the same requests.

    Returns:
        Where both policies choose the same LLM both terms are the same. `weight` is that of pairs alone.
    """
    flips = logged.chosen != logged.wanted
    possible = pairs.possible & flips
    seen = possible & np.isfinite(pairs.score_wanted) & np.isfinite(pairs.score_chosen)
    inverse = np.where(seen, 1.0 / np.where(seen, pairs.odds, 1.0), 0.0)
    weight = inverse * (possible.sum() / inverse.sum()) if seen.any() else inverse
    same = terms_of(logged).before

    def corrected(p: Floats, score: Floats) -> Floats:
        off = np.where(seen, score - p, 0.0)
        mean = float((weight * off).sum() / max(weight.sum(), 1.0))  # its spread by chance is no spread of the estimate
        return np.where(flips, p + np.where(possible, mean, 0.0) + np.where(seen, weight * (off - mean), 0.0), same)

    return Terms(
        before=corrected(logged.p_chosen, pairs.score_chosen),
        after=corrected(logged.p_wanted, pairs.score_wanted),
        weight=weight,
        supported=~flips | possible,
    )


def _select(arrays: _Arrays, rows: Flags) -> _Arrays:
    return type(arrays)(**{one.name: getattr(arrays, one.name)[rows] for one in fields(arrays)})


def _feedback_rate(logged: Logged, seen: Flags) -> Floats:
    """Share of each LLM's answers with a verdict, (n_llms,); 0 where it never answered."""
    n_llms = int(max(logged.chosen.max(), logged.wanted.max())) + 1
    answers = np.bincount(logged.chosen, minlength=n_llms)
    verdicts = np.bincount(logged.chosen[seen], minlength=n_llms)
    return verdicts / np.maximum(answers, 1)


def effective_n(weight: Floats) -> float:
    """Kish's effective number of weighted verdicts, (Σw)² / Σw²."""
    squares = float((weight**2).sum())
    return float(weight.sum() ** 2 / squares) if squares else 0.0
