"""Near ties: of candidates as good as the best but for a margin, the one with the best average performance answers.

Predictions move a little with spelling, case and politeness. Where two candidates are nearly as good, that little
decides; a fixed order decides the same each time. Preferring the cheaper of near equals does not: it moves the place
where choices tip, and as many prompts lie there.

The order is by mean utility over prompts drawn from the mean and spread of the training prompts, at the cost weight of
the request. It follows from weights and prices alone: every worker has the same one, and a record holds what it takes
to repeat it.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

import numpy as np

from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.scorer import Scorer, usual_embeddings
from embedllm_router.routing.decision import Decision, Reason
from embedllm_router.routing.exploration import logit_spread
from embedllm_router.routing.pool import Average, Candidate, CandidateAverage, CandidatePool, Floats

__all__ = ["average_performance", "break_ties", "pool_with_averages"]

_N_DRAWN: Final = 256
_INPUT_TOKENS: Final = 100
_P_DIGITS, _USD_DIGITS = 4, 3


def average_performance(artifact: Artifact) -> Average:
    """What weights predict on average over prompts such as they learned from.

    Takes some 40 ms.
    """
    scorer = Scorer.from_artifact(artifact, shrinks=False)
    drawn = [scorer.score(embedding) for embedding in usual_embeddings(artifact.decoder, _N_DRAWN)]
    p_correct: Floats = np.mean([one.p_correct for one in drawn], axis=0, dtype=np.float64)
    n_labels = np.array([llm.n_labels for llm in artifact.manifest.llms], dtype=np.float64)
    stated = artifact.decoder.get("ability_sd")
    return Average(
        p_correct=p_correct,
        output_tokens=np.mean([one.output_tokens for one in drawn], axis=0, dtype=np.float64),
        n_labels=n_labels,
        logit_sd=logit_spread(p_correct, n_labels) if stated is None else stated.astype(np.float64),
    )


def pool_with_averages(
    candidates: Sequence[Candidate], average: Average, *, by_lower_bound: bool = False
) -> CandidatePool:
    """Lays out candidates with their average performance.

    Args:
        candidates: In the order that breaks exact ties.
        average: Of the weights that know their LLMs.
        by_lower_bound: Whether decisions are made by the lower ends of the intervals of p_correct.

    Returns:
        The pool. Its averages are rounded to the digits that a record holds, so that a replay has the same numbers.
    """
    plain = CandidatePool(candidates)
    p, tokens, labels, logit_sd = (
        np.where(plain.scored, column[plain.rows], np.nan)
        for column in (average.p_correct, average.output_tokens, average.n_labels, average.logit_sd)
    )
    cost = plain.expected_cost(_INPUT_TOKENS, tokens, {})
    short = [float(f"{usd:.{_USD_DIGITS}g}") for usd in cost.tolist()]
    usual = CandidateAverage(p, np.array(short), labels, logit_sd)
    pool = CandidatePool(candidates, usual, by_lower_bound=by_lower_bound)
    usual = replace(usual, p_correct=pool.lower_bound(p).round(_P_DIGITS))
    return CandidatePool(candidates, usual, by_lower_bound=by_lower_bound)


def break_ties(decision: Decision) -> Decision:
    """Gives a near tie to the candidate that is best on average at this cost weight and with these waits.

    Args:
        decision: By its objective, or by a budget's cost weight.

    Returns:
        The same decision where there is no near tie, where its objective sets a floor or no margin, and where the
        candidates' average performance is not known.
    """
    ranking, utility, average = decision.ranking, decision.utility, decision.pool.average
    objective = decision.request.objective
    if objective.near_tie_margin <= 0 or average is None or decision.floor_met is not None or len(ranking) < 2:  # noqa: PLR2004 - one candidate ties with nobody
        return decision
    least = utility[ranking[0]] - objective.near_tie_margin
    if utility[ranking[1]] < least:
        return decision
    weight, p_correct, cost_usd = objective.cost_weight, decision.p_correct, decision.cost_usd

    def usual(i: int) -> float:
        wait = p_correct[i] - weight * cost_usd[i] - utility[i]
        return float(average.p_correct[i] - weight * average.cost_usd[i] - wait)

    best = max(takewhile(lambda i: utility[i] >= least, ranking), key=usual)
    return decision if best == ranking[0] else decision.putting_first(best, Reason.NEAR_TIE)
