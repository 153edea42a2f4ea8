"""Near ties: of candidates as good as the best but for a margin, the one that is usually chosen answers. Pure.

Predictions move a little with spelling, case and politeness. Where two candidates are nearly as good, that little
decides; a fixed order of favourites decides the same each time. Preferring the cheaper of near equals does not: it
moves the place where choices tip, and as many prompts lie there.

The order on the request path is by utility on typical prompts, at the cost weight of the request. It follows from
weights and prices alone: every worker has the same one, and a record holds what it takes to repeat it.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.decoder_inputs import usual_embeddings
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.routing.decision import Decision, Reason
from embedllm_router.routing.pool import Candidate, CandidatePool, Prior, Typical

__all__ = ["pool_with_prior", "settled", "typical_of"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_N_DRAWN: Final = 256
_INPUT_TOKENS: Final = 100
_P_DIGITS, _USD_DIGITS = 4, 3


def typical_of(artifact: Artifact) -> Typical:
    """What weights predict on average over prompts such as they learned from.

    Takes some 40 ms.
    """
    scorer = Scorer(artifact.decoder)
    drawn = [scorer.score(embedding) for embedding in usual_embeddings(artifact.decoder, _N_DRAWN)]
    return Typical(
        p_correct=np.mean([one.p_correct for one in drawn], axis=0, dtype=np.float64),
        output_tokens=np.mean([one.output_tokens for one in drawn], axis=0, dtype=np.float64),
        n_labels=np.array([llm.n_labels for llm in artifact.manifest.llms], dtype=np.float64),
    )


def pool_with_prior(candidates: Sequence[Candidate], typical: Typical) -> CandidatePool:
    """Lays out candidates with what is known of them before any prompt.

    Args:
        candidates: In the order that breaks ties.
        typical: Of the weights that know their LLMs.

    Returns:
        The pool. Its prior is rounded to the digits that a record holds, so that a replay has the same numbers.
    """
    plain = CandidatePool(candidates)
    p, tokens, labels = (
        np.where(plain.scored, column[plain.rows], np.nan)
        for column in (typical.p_correct, typical.output_tokens, typical.n_labels)
    )
    cost = plain.expected_cost(_INPUT_TOKENS, tokens, {})
    short = [float(f"{usd:.{_USD_DIGITS}g}") for usd in cost.tolist()]
    return CandidatePool(candidates, Prior(p.round(_P_DIGITS), np.array(short), labels))


def settled(decision: Decision) -> Decision:
    """Gives a near tie to the favourite: the best on typical prompts at this cost weight and with these waits.

    Args:
        decision: By its objective, or by a budget's cost weight.

    Returns:
        The same decision where there is no near tie, where its objective sets a floor or no margin, and where nothing
        is known of the candidates before the prompt.
    """
    ranking, utility, prior = decision.ranking, decision.utility, decision.pool.prior
    objective = decision.request.objective
    if objective.near_tie_margin <= 0 or prior is None or decision.floor_met is not None or len(ranking) < 2:  # noqa: PLR2004 - one candidate ties with nobody
        return decision
    least = utility[ranking[0]] - objective.near_tie_margin
    if utility[ranking[1]] < least:
        return decision
    weight, p_correct, cost_usd = objective.cost_weight, decision.p_correct, decision.cost_usd

    def usual(i: int) -> float:
        wait = p_correct[i] - weight * cost_usd[i] - utility[i]
        return float(prior.p_correct[i] - weight * prior.cost_usd[i] - wait)

    favourite = max(takewhile(lambda i: utility[i] >= least, ranking), key=usual)
    return decision if favourite == ranking[0] else decision.putting_first(favourite, Reason.NEAR_TIE)
