"""Near ties: of candidates as good as the best but for a margin, the one that is usually chosen answers. Pure.

Predictions move a little with spelling, case and politeness. Where two candidates are nearly as good, that little
decides; a fixed order of favourites decides the same each time. Preferring the cheaper of near equals does not: it
moves the place where choices tip, and as many prompts lie there. It knows nothing of how favourites became so.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedllm_router.decision import Decision

__all__ = ["favoured", "first_favourite", "usual_places"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def usual_places(chosen: NDArray[np.integer], n_candidates: int) -> Indices:
    """The order of favourites that choices show: the most often chosen has place 0; equals keep the pool's order.

    Args:
        chosen: Indices of candidates, at least 0, in any order.
        n_candidates: Of the pool.

    Returns:
        intp (n_candidates,), the place of each candidate.
    """
    often_first = np.argsort(-np.bincount(chosen, minlength=n_candidates), kind="stable")
    places = np.empty(n_candidates, dtype=np.intp)
    places[often_first] = np.arange(n_candidates)
    return places


def favoured(decision: Decision, places: Indices, margin: float) -> int | None:
    """Who answers when near ties go to favourites.

    Args:
        decision: What was weighed.
        places: (n_candidates,), place of each candidate of the pool among the favourites, first is 0.
        margin: How much utility may be lost, at least 0.

    Returns:
        An index of the decision's ranking, for `Decision.putting_first`. Where the objective sets a floor it is the
        first of the ranking: a promise is not traded for steadiness. None when nobody can be chosen.
    """
    if not decision.ranking:
        return None
    if decision.floor_met is not None:
        return decision.ranking[0]
    return first_favourite(decision.utility, decision.ranking, places, margin)


def first_favourite(utility: Floats, ranking: Sequence[int], places: Indices, margin: float) -> int:
    """The greatest favourite among those whose utility is within a margin of the best one's.

    Args:
        utility: (n_candidates,); NaN for those outside the ranking.
        ranking: Indices of candidates, best first; at least one.
        places: (n_candidates,), place among the favourites.
        margin: At least 0.

    Returns:
        Its index; equals in place go to the better one.
    """
    least = utility[ranking[0]] - margin
    return min((i for i in ranking if utility[i] >= least), key=lambda i: places[i])
