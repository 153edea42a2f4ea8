"""Near ties go to favourites: never at more than the margin, and the same each time predictions move by less."""

import numpy as np
import pytest

from embedllm_router.candidates import Candidate, CandidatePool
from embedllm_router.favourites import favoured, first_favourite, usual_places
from embedllm_router.policy import Decision, Objective, Request, decide
from embedllm_router.scorer import Scores


def decision(p: list[float], objective: Objective, max_input_tokens: int | None = None) -> Decision:
    """Candidates a, b, c … that cost 1, 2, 3 … USD per request."""
    pool = CandidatePool(
        [
            Candidate(name, name, i, 0.0, 0.0, usd_per_request=i + 1.0, max_input_tokens=max_input_tokens)
            for i, name in enumerate("abcdefgh"[: len(p)])
        ]
    )
    scores = Scores(np.array(p, np.float32), np.full(len(p), 10.0, np.float32))
    return decide(pool, scores, Request(objective, input_tokens=5))


def places(*order: int) -> np.ndarray:
    found = np.empty(len(order), dtype=np.intp)
    found[list(order)] = np.arange(len(order))
    return found


def test_the_favourite_within_the_margin_answers() -> None:
    found = decision([0.70, 0.72, 0.50], Objective())
    assert favoured(found, places(0, 1, 2), 0.03) == 0
    assert favoured(found, places(0, 1, 2), 0.01) == 1
    assert favoured(found, places(2, 1, 0), 0.03) == 1, "the greatest favourite is too far off"
    assert favoured(found, places(0, 1, 2), 0.0) == found.ranking[0]


def test_a_promise_is_not_traded_for_steadiness() -> None:
    found = decision([0.79, 0.81, 0.9], Objective(min_p_correct=0.8))
    assert favoured(found, places(0, 2, 1), 0.5) == 1
    within = decision([0.79, 0.81, 0.9], Objective(within=0.1))
    assert favoured(within, places(0, 1, 2), 0.5) == 1


def test_where_nobody_can_be_chosen_nobody_is() -> None:
    assert favoured(decision([0.5, 0.6], Objective(), max_input_tokens=1), places(0, 1), 1.0) is None


def test_the_excluded_are_no_favourites() -> None:
    found = decision([0.7, 0.72, 0.71], Objective(max_cost_usd=2.5))
    assert favoured(found, places(2, 0, 1), 0.05) == 0


@pytest.mark.parametrize("seed", range(30))
def test_no_more_than_the_margin_is_lost_and_nobody_in_reach_is_a_greater_favourite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, order, margin = rng.random(6).round(1), rng.permutation(6), float(rng.random() / 3)
    found = decision(p.tolist(), Objective(0.05))
    index = favoured(found, places(*order.tolist()), margin)
    assert index is not None
    best = found.utility.max()
    assert found.utility[index] >= best - margin
    before = order[: order.tolist().index(index)]
    assert (found.utility[before] < best - margin).all()


@pytest.mark.parametrize("seed", range(30))
def test_what_moves_less_than_the_slack_changes_nothing_once_the_favourite_leads(seed: int) -> None:
    """The first favourite within 0.02 of the best at a margin of 0.06: nothing below 0.02 dislodges it."""
    rng = np.random.default_rng(seed)
    utility = rng.random(5) * 0.5
    utility[3] = utility.max() - 0.02
    moved = utility + rng.uniform(-0.0199, 0.0199, 5)
    for one in (utility, moved):
        assert first_favourite(one, np.argsort(-one).tolist(), places(3, 0, 1, 2, 4), 0.06) == 3


def test_the_often_chosen_come_first_and_equals_in_the_pools_order() -> None:
    assert usual_places(np.array([2, 2, 0, 3, 0, 2]), 5).tolist() == [1, 3, 0, 2, 4]
    assert usual_places(np.array([], dtype=np.intp), 3).tolist() == [0, 1, 2]
