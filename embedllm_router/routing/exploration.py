"""Trying another candidate now and then, so that what is never chosen can still be learned about.

Two ways, together or alone:

- ε-greedy: with probability ε one of those within the caps is drawn evenly, the best one among them.
- Thompson sampling (Thompson, 1933; Chapelle and Li, "An empirical evaluation of Thompson sampling", NeurIPS 2011):
  candidates are weighed by logits drawn around the predicted ones, wider where an LLM was learned from few answers.
  Many such draws are made at once and one of them decides, so that the share of draws a candidate wins is exactly the
  probability with which it was chosen, given the draws.

Every candidate's probability is put on the decision, for estimates by inverse propensity (Horvitz and Thompson, 1952).
"""

from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.routing.decision import Decision, Exploration, Explored, Reason
from embedllm_router.routing.pool import Floats

__all__ = ["explore", "logit_spread"]

_N_DRAWS: Final = 256
_N_SUPPLIED: Final = 1024
_PRIOR_SPREAD: Final = 1.0
_ROUNDING: Final = 1e-5
_BEYOND: Final = 4.0  # a candidate that is behind even when it is off by so many standard deviations is not drawn for

Inrngs = NDArray[np.intp]


def explore(
    decision: Decision, exploration: Exploration, rng: np.random.Generator, *, widening: float = 1.0
) -> Decision:
    """Tries another candidate now and then.

    Args:
        decision: What would be chosen.
        exploration: How, how often and how far.
        rng: Random generator.
        widening: How much less is known of this prompt than of those that were learned from; 1 for as much.

    Returns:
        The decision, its propensity below 1 where another choice was possible. What went to the default because
        the prompt is out of distribution stays with it.
    """
    out_of_distribution = decision.instead is Reason.OUT_OF_DISTRIBUTION
    if not decision.ranking or not exploration.on or out_of_distribution:
        return decision
    allowed = _within_caps(decision, exploration)
    odds = np.zeros(len(allowed))
    odds[0] = 1.0  # the best one
    if exploration.thompson and decision.floor_met is None:
        odds = _shares_won(decision, allowed, exploration.spread * widening, rng)
    odds = (1.0 - exploration.epsilon) * odds + exploration.epsilon / len(allowed)
    drawn = min(int(np.searchsorted(np.cumsum(odds), rng.random(), side="right")), len(allowed) - 1)
    if odds[drawn] <= 0:  # rounding at the end of the sum
        drawn = int(odds.argmax())
    everybody = np.zeros(len(decision.p_correct))
    everybody[allowed] = odds
    explored = Explored(exploration, everybody)
    if drawn == 0:
        return replace(decision, propensity=float(odds[0]), explored=explored)
    other = decision.putting_first(int(allowed[drawn]), Reason.EXPLORED, float(odds[drawn]))
    return replace(other, explored=explored)


def logit_spread(p_correct: Floats, n_labels: Floats) -> Floats:
    """Standard deviation of a predicted logit, by the answers its LLM was learned from.

    The Laplace approximation for one logit with n Bernoulli answers of probability p and a normal prior of standard
    deviation 1, as Chapelle and Li (2011) have it for logistic regression: 1 / sqrt(n · p · (1 - p) + 1).

    Args:
        p_correct: In [0, 1].
        n_labels: At least 0, the same shape.
    """
    spread: Floats = 1.0 / np.sqrt(n_labels * p_correct * (1.0 - p_correct) + 1.0 / _PRIOR_SPREAD**2)
    return spread


def _within_caps(decision: Decision, exploration: Exploration) -> Inrngs:
    """Inrngs of candidates that may be tried; the best one comes first."""
    ranked = np.array(decision.ranking, dtype=np.intp)
    best, p_correct, cost_usd = ranked[0], decision.p_correct, decision.cost_usd
    likely = p_correct[ranked] >= p_correct[best] - exploration.max_loss
    allowed: Inrngs = ranked[likely & (cost_usd[ranked] <= cost_usd[best] + exploration.max_extra_usd)]
    return allowed


def _shares_won(decision: Decision, allowed: Inrngs, spread: float, rng: np.random.Generator) -> Floats:
    """Share of draws in which each of the allowed has the highest utility, (n_allowed,)."""
    shares, average = np.zeros(len(allowed)), decision.pool.average
    if average is None or len(allowed) == 1:
        shares[0] = 1.0
        return shares
    p = np.clip(decision.p_correct[allowed], 1e-6, 1 - 1e-6)
    logit, sd = np.log(p / (1 - p)), spread * logit_spread(p, np.nan_to_num(average.n_labels[allowed]))
    rest = decision.utility[allowed] - decision.p_correct[allowed]
    # Near ties, sessions and budgets may have put it first: so it is where nothing is uncertain, rounding included.
    rest[0] += (rest + p).max() - (rest[0] + p[0]) + _ROUNDING
    most, least = (1.0 / (1.0 + np.exp(-(logit + side * _BEYOND * sd))) + rest for side in (1.0, -1.0))
    drawn = np.flatnonzero(most >= least.max())
    mean, width, other = (column[drawn].astype(np.float32)[:, None] for column in (logit, sd, rest))
    utility = _noise(len(drawn), rng) * -width
    utility -= mean
    np.exp(utility, out=utility)
    utility += 1.0
    np.reciprocal(utility, out=utility)
    utility += other
    winners = drawn[utility.argmax(axis=0)]
    shares += np.bincount(winners, minlength=len(allowed)) / _N_DRAWS
    return shares


def _noise(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Standard normal numbers, (n, n_draws): rows of a fixed supply, from a place that is drawn."""
    supply = _supply()
    rows = (int(rng.integers(len(supply))) + np.arange(n)) % len(supply)
    return supply[rows]


@lru_cache(1)
def _supply() -> NDArray[np.float32]:
    """1 MB, made once: drawing as many for each request would take longer than everything else."""
    return np.random.default_rng(0).standard_normal((_N_SUPPLIED, _N_DRAWS), dtype=np.float32)
