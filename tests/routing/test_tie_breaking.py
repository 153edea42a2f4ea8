"""Near ties go to favourites: never at more than the margin, and to the one that is best on typical prompts."""

import numpy as np
import pytest

from embedllm_router import Router
from embedllm_router.prediction.scorer import Scorer, Scores
from embedllm_router.routing.budget import Pace, paced
from embedllm_router.routing.policy import Conditions, Decision, Objective, Observed, Reason, Request, rank_candidates
from embedllm_router.routing.pool import Candidate, CandidateAverage, CandidatePool
from embedllm_router.routing.tie_breaking import average_performance, break_ties, pool_with_averages


def decision(p: list[float], objective: Objective, max_input_tokens: int | None = None) -> Decision:
    """Candidates a, b, c … that cost 1, 2, 3 … USD per request."""
    pool = CandidatePool(
        [
            Candidate(name, name, i, 0.0, 0.0, usd_per_request=i + 1.0, max_input_tokens=max_input_tokens)
            for i, name in enumerate("abcdefgh"[: len(p)])
        ]
    )
    scores = Scores(np.array(p, np.float32), np.full(len(p), 10.0, np.float32))
    return rank_candidates(pool, scores, Request(objective, input_tokens=5))


def with_prior(p: list[float], usual_p: list[float], usual_usd: list[float], objective: Objective) -> Decision:
    """Candidates as above, with what is known of them before any prompt."""
    plain = decision(p, objective)
    pool = CandidatePool(
        plain.pool.candidates, CandidateAverage(np.array(usual_p), np.array(usual_usd), np.full(len(p), 100.0))
    )
    scores = Scores(np.array(p, np.float32), np.full(len(p), 10.0, np.float32))
    return rank_candidates(pool, scores, plain.request)


def test_a_near_tie_goes_to_the_best_on_typical_prompts() -> None:
    near = Objective(near_tie_margin=0.03)
    found = break_ties(with_prior([0.72, 0.70, 0.50], [0.6, 0.8, 0.9], [1.0, 2.0, 3.0], near))
    assert (found.ranking, found.reason) == ((1, 0, 2), Reason.NEAR_TIE), "c would be the favourite, but is too far off"


@pytest.mark.parametrize(
    ("objective", "usual_usd"),
    [
        (Objective(near_tie_margin=0.01), [1.0, 2.0]),
        (Objective(), [1.0, 2.0]),
        (Objective(0.01, near_tie_margin=0.05), [1.0, 90.0]),
        (Objective(min_p_correct=0.71, near_tie_margin=0.5), [1.0, 2.0]),
        (Objective(max_accuracy_drop=0.01, near_tie_margin=0.5), [1.0, 2.0]),
    ],
    ids=["too far", "off", "too dear at this cost weight", "a floor", "a distance"],
)
def test_what_is_no_near_tie_stays_as_it_is(objective: Objective, usual_usd: list[float]) -> None:
    weighed = with_prior([0.72, 0.70], [0.6, 0.8], usual_usd, objective)
    assert break_ties(weighed) is weighed


def test_without_candidates_or_without_anything_known_before_the_prompt_nothing_is_settled() -> None:
    near = Objective(near_tie_margin=0.5)
    plain, nobody = decision([0.7, 0.72], near), decision([0.7, 0.72], near, max_input_tokens=1)
    assert break_ties(plain) is plain
    assert break_ties(nobody) is nobody


def test_the_excluded_are_no_favourites() -> None:
    dear = Objective(max_cost_usd=2.5, near_tie_margin=0.05)
    found = break_ties(with_prior([0.7, 0.72, 0.71], [0.6, 0.5, 0.9], [1.0, 1.0, 1.0], dear))
    assert found.ranking == (0, 1)


@pytest.mark.parametrize("seed", range(30))
def test_settling_is_the_naive_rule_with_waits_and_limits(seed: int) -> None:
    """Of all within the margin, the one with the highest typical utility; each one's wait counts as in the decision."""
    rng = np.random.default_rng(seed)
    n, margin = 7, float(rng.uniform(0, 0.2))
    objective = Objective(float(rng.uniform(0, 0.1)), None, None, 5.5, 0.02, margin)
    usual_p, usual_usd = rng.random(n), rng.random(n) * 5
    pool = CandidatePool(
        [Candidate(str(i), str(i), i, 0.0, 0.0, usd_per_request=i + 1.0) for i in range(n)],
        CandidateAverage(usual_p, usual_usd, np.full(n, 9.0)),
    )
    waits = Conditions(observed=Observed(np.ones(n), rng.random(n) * 5))
    scores = Scores(rng.random(n).astype(np.float32), np.full(n, 10.0, np.float32))
    weighed = rank_candidates(pool, scores, Request(objective, 5, conditions=waits))
    assert waits.observed is not None
    slow = 0.02 * waits.observed.latency_s
    near = [i for i in weighed.ranking if weighed.utility[i] >= weighed.utility[weighed.ranking[0]] - margin]
    best = max(near, key=lambda i: usual_p[i] - objective.cost_weight * usual_usd[i] - slow[i])
    assert break_ties(weighed).ranking[0] == best


def test_what_is_typical_is_the_mean_over_drawn_prompts(router: Router) -> None:
    """The same each time, close to the mean over many other draws, and at prices of the pool."""
    artifact = router.artifact
    found, scorer = average_performance(artifact), Scorer.from_artifact(artifact)
    np.testing.assert_array_equal(found.p_correct, average_performance(artifact).p_correct)
    mean, spread = (artifact.decoder[name].astype(np.float64) for name in ("input_mean", "input_scale"))
    rng = np.random.default_rng(9)
    drawn = [scorer.score((mean + spread * rng.standard_normal(len(mean))).astype(np.float32)) for _ in range(2_000)]
    np.testing.assert_allclose(found.p_correct, np.mean([s.p_correct for s in drawn], axis=0), atol=0.05)
    pool = pool_with_averages(router.pool().candidates, found)
    assert pool.average is not None
    expected = pool.expected_cost(100, found.output_tokens, {})
    np.testing.assert_allclose(pool.average.cost_usd, expected, rtol=0.01)
    assert pool.average.n_labels.tolist() == [llm.n_labels for llm in artifact.manifest.llms]


def test_under_a_budget_the_favourite_is_that_of_its_cost_weight() -> None:
    weighed = with_prior([0.72, 0.70], [0.6, 0.8], [1.0, 2.0], Objective(near_tie_margin=0.03))
    assert break_ties(weighed).ranking[0] == 1
    kept = paced(weighed, Pace(cost_weight=0.005))
    assert kept.request.objective.cost_weight == 0.005
    assert break_ties(kept).ranking[0] == 1, "0.79 against 0.595"
    strict = paced(weighed, Pace(cost_weight=0.009))
    assert strict.utility.tolist() == pytest.approx([0.711, 0.682])
    assert break_ties(strict).ranking[0] == 1, "0.029 less is within the margin"
    assert break_ties(paced(weighed, Pace(cost_weight=0.02))).ranking[0] == 0, "0.04 less is not"
