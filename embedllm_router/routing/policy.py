"""p_correct + cost + constraints → Decision. Pure: numbers in, numbers out, no clock, no randomness.

    utility = p_correct - cost_weight * cost_usd - latency_weight * latency_s

The candidate with the highest utility is chosen, or, when the objective sets a floor under p_correct, the cheapest one
that reaches it. Ties go to the cheaper one, then to the one listed first.
"""

import numpy as np
from numpy.typing import NDArray

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.decision import Assessment, Conditions, Decision, Objective, Observed, Reason, Request
from embedllm_router.routing.pool import NO_RULES, CandidatePool, Codes, Exclusion, Floats

__all__ = [
    "Assessment",
    "Conditions",
    "Decision",
    "Objective",
    "Observed",
    "Reason",
    "Request",
    "rank",
    "rank_candidates",
]


def rank_candidates(pool: CandidatePool, scores: Scores, request: Request) -> Decision:
    """Ranks the candidates of a pool by an objective.

    Args:
        pool: The candidates.
        scores: Predictions for every learned LLM.
        request: Trade-off, size and limits of the request.

    Returns:
        The decision; its ranking is empty when every candidate is excluded.
    """
    objective = request.objective
    p_correct = np.where(pool.scored, scores.p_correct[pool.rows].astype(np.float64), np.nan)
    if pool.by_lower_bound:
        p_correct = pool.lower_bound(p_correct)
    tokens = np.where(pool.scored, scores.output_tokens[pool.rows].astype(np.float64), np.nan)
    given = request.conditions
    if given.observed is not None:
        tokens = tokens * given.observed.length_factor
    if request.max_output_tokens is not None:
        tokens = np.minimum(tokens, request.max_output_tokens)
    tokens = tokens * request.n_answers
    cost_usd = pool.expected_cost(request.input_tokens, tokens, given.cached_tokens, request.service_tier)
    latency_cost = _latency_cost(objective, given.observed)
    exclusions = _exclusions(pool, request, cost_usd)
    usable = exclusions == 0
    best_first, floor_met = rank(objective, p_correct, cost_usd, usable, latency_cost)
    ranking = tuple(best_first[usable[best_first]].tolist())
    utility = p_correct - objective.cost_weight * cost_usd - latency_cost
    plain = scores.unshrunk_logits
    return Decision(
        pool, request, p_correct, tokens, cost_usd, utility, exclusions, ranking, floor_met, unshrunk_logits=plain
    )


def rank(
    objective: Objective,
    p_correct: Floats,
    cost_usd: Floats,
    usable: NDArray[np.bool_],
    latency_cost: Floats | float = 0.0,
) -> tuple[NDArray[np.intp], bool | None]:
    """Sorts candidates by an objective, whatever excludes them. The sorts are stable: ties stay in the given order.

    Args:
        objective: What the best candidate is.
        p_correct: (n_candidates,), in [0, 1] or NaN.
        cost_usd: (n_candidates,), expected cost in USD or NaN.
        usable: (n_candidates,), which ones may be chosen; the others raise no floor and reach none.
        latency_cost: (n_candidates,), what waiting takes off the utility.

    Returns:
        Indices of all candidates, best first, and whether a usable one reaches the floor; None without a floor.
    """
    floor = objective.min_p_correct
    if objective.max_accuracy_drop is not None:
        floor = float(np.max(p_correct, initial=0.0, where=usable)) - objective.max_accuracy_drop
    if floor is None:
        return np.lexsort((cost_usd, objective.cost_weight * cost_usd + latency_cost - p_correct)), None
    reaches = p_correct >= floor
    cost_or_doubt = np.where(reaches, cost_usd, -p_correct)
    return np.lexsort((-p_correct, cost_or_doubt, ~reaches)), bool((reaches & usable).any())


def _latency_cost(objective: Objective, observed: Observed | None) -> Floats | float:
    if objective.latency_weight <= 0 or observed is None or np.isnan(observed.latency_s).all():
        return 0.0
    quickest = np.nanmin(observed.latency_s)
    waits: Floats = objective.latency_weight * np.where(np.isnan(observed.latency_s), quickest, observed.latency_s)
    return waits


def _exclusions(pool: CandidatePool, request: Request, cost_usd: Floats) -> Codes:
    codes, given = pool.standing_codes.copy(), request.conditions
    if given.only is not None:
        only = given.only
        _exclude(codes, Exclusion.NOT_REQUESTED, pool.mask(name not in only for name in pool.names))
    for name, reason in given.barred.items():
        _exclude(codes, reason, pool.mask(name == one for one in pool.groups))
    if given.rules is not NO_RULES:
        for reason, hit in pool.breaking(given.rules):
            _exclude(codes, reason, hit)
    if pool.at_efforts and request.efforts is not None:
        _exclude(codes, Exclusion.EFFORT, pool.at_other_efforts(request.efforts))
    if pool.has_limits:
        _exclude(codes, Exclusion.CONTEXT_WINDOW, pool.too_small(request.input_tokens, request.max_output_tokens or 0))
    for capability in sorted(request.needs):
        _exclude(codes, Exclusion.lacking(capability), pool.lacking[capability])
    if request.objective.max_cost_usd is not None:
        _exclude(codes, Exclusion.TOO_EXPENSIVE, cost_usd > request.objective.max_cost_usd)
    return codes


def _exclude(codes: Codes, reason: Exclusion, hit: NDArray[np.bool_]) -> None:
    if hit.any():
        codes[hit & (codes == 0)] = reason.code
