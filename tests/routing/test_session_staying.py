"""A session stays unless another LLM is better by more than the margin and the prompt cache; when tied, always."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.budget import Pace, paced
from embedllm_router.routing.decision import Conditions, Decision, Objective, Reason, Request
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.routing.prompt import Bond
from embedllm_router.routing.session import Margins, PinnedSession, keep_session, keeps_up

_rows = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(1, 1e5, width=32), st.floats(0, 1e-3)), min_size=1, max_size=8
)
_objectives = st.one_of(
    st.floats(0, 1e3).map(Objective),
    st.floats(0, 1).map(lambda tau: Objective(min_p_correct=tau)),
    st.floats(0, 1).map(lambda d: Objective(max_accuracy_drop=d)),
)


def decision(rows: list[tuple[float, float, float]], objective: Objective) -> Decision:
    """Among candidates of (p_correct, tokens, price per token)."""
    pool = CandidatePool([Candidate(f"c{i}", f"llm{i}", i, 0.0, row[2]) for i, row in enumerate(rows)])
    p_correct, tokens = (np.array([row[i] for row in rows], dtype=np.float32) for i in range(2))
    scores = Scores(p_correct, tokens)
    return rank_candidates(pool, scores, Request(objective, 0))


def stay(at: Decision, pinned: int, *, bond: Bond | None = None, margins: Margins = Margins()) -> Decision:  # noqa: B008 - frozen
    return keep_session(at, PinnedSession(f"c{pinned}", bond, margins))


def first(at: Decision) -> int:
    return at.ranking[0]


NEAR = [(0.80, 100.0, 1e-5), (0.81, 100.0, 1e-5)]
FAR = [(0.60, 100.0, 1e-5), (0.81, 100.0, 1e-5)]


def test_it_stays_near_the_best_and_leaves_when_another_is_clearly_better() -> None:
    kept = stay(decision(NEAR, Objective()), 0)
    assert (first(kept), kept.reason, sorted(kept.ranking)) == (0, Reason.SESSION_KEPT, [0, 1])
    assert first(stay(decision(FAR, Objective()), 0)) == 1
    best = decision(NEAR, Objective())
    assert stay(best, 1) is best, "the best one needs no keeping"
    assert first(stay(decision(NEAR, Objective()), 0, margins=Margins(utility=0.005))) == 1


@pytest.mark.parametrize("bond", Bond)
def test_when_tied_it_stays_however_much_better_another_is(bond: Bond) -> None:
    locked = stay(decision(FAR, Objective()), 0, bond=bond)
    assert (first(locked), locked.reason) == (0, Reason.SESSION_LOCKED)


def test_an_llm_that_can_no_longer_be_chosen_is_left_even_when_tied() -> None:
    gone = decision([(0.60, 100.0, 1e-3), (0.81, 100.0, 1e-5)], Objective(max_cost_usd=0.01))
    assert stay(gone, 0) is stay(gone, 0, bond=Bond.TOOL_CALL) is gone
    assert keep_session(gone, PinnedSession("no candidate any more", Bond.TOOL_CALL)) is gone
    nobody = decision([(0.60, 100.0, 1e-3)], Objective(max_cost_usd=0.01))
    assert stay(nobody, 0, bond=Bond.TOOL_CALL) is nobody


def test_the_lost_prompt_cache_is_part_of_the_price_of_leaving() -> None:
    """Both as likely; the other costs 0.001 USD less, worth 0.1 at this cost weight. A cache saves 0.0009."""
    pool = CandidatePool(
        [Candidate("c0", "llm0", 0, 1e-6, 2e-5, cached_usd_per_token=0.0), Candidate("c1", "llm1", 1, 1e-6, 1e-5)]
    )
    scores = Scores(np.array([0.8, 0.8], dtype=np.float32), np.array([100.0, 100.0], dtype=np.float32))
    for cached, stays in ((0, False), (900, True), (700, False)):
        conditions = Conditions(cached_tokens={"c0": cached})
        at = rank_candidates(pool, scores, Request(Objective(100.0), 1_000, conditions=conditions))
        assert (first(stay(at, 0)) == 0) is stays


def test_with_a_floor_it_stays_while_it_reaches_the_floor_at_about_the_cheapest_cost() -> None:
    rows = [(0.92, 100.0, 1.05e-5), (0.91, 100.0, 1e-5), (0.89, 100.0, 1e-6), (0.95, 100.0, 1e-4)]
    at = decision(rows, Objective(min_p_correct=0.9))
    assert first(at) == 1
    stays = [first(stay(at, i)) == i for i in range(4)]
    assert stays == [True, True, True, False], "a hair below the floor is a tie, ten times the cost is not"
    assert first(stay(at, 2, margins=Margins(utility=0.0))) == 1


def test_with_a_floor_nobody_reaches_it_stays_near_the_most_accurate() -> None:
    assert first(stay(decision(NEAR, Objective(min_p_correct=0.99)), 0)) == 0
    assert first(stay(decision(FAR, Objective(min_p_correct=0.99)), 0)) == 1


@pytest.mark.parametrize("objective", [Objective(), Objective(min_p_correct=0.85), Objective(max_accuracy_drop=0.01)])
def test_an_exhausted_budget_makes_it_leave_but_for_a_tie(objective: Objective) -> None:
    rows = [(0.9, 100.0, 1e-4), (0.5, 100.0, 1e-6)]
    at = paced(decision(rows, objective), Pace(1e9, exhausted=True))
    assert first(stay(at, 0)) == 1
    assert stay(at, 0, bond=Bond.SIGNED_REASONING).reason is Reason.SESSION_LOCKED


@given(rows=_rows, objective=_objectives, data=st.data())
def test_who_stays_can_be_chosen_and_wider_margins_never_make_anyone_leave(
    rows: list[tuple[float, float, float]], objective: Objective, data: st.DataObject
) -> None:
    at = decision(rows, objective)
    pinned = data.draw(st.integers(0, len(rows) - 1))
    narrow = data.draw(st.floats(0, 0.5))
    one = stay(at, pinned, margins=Margins(narrow, narrow))
    assert sorted(one.ranking) == sorted(at.ranking)
    if one.ranking and first(one) == pinned:
        assert first(stay(at, pinned, margins=Margins(narrow * 2, narrow * 2))) == pinned


@given(rows=_rows, weight=st.floats(0, 1e3), margin=st.floats(0, 0.5))
def test_staying_costs_at_most_the_margin_in_utility(
    rows: list[tuple[float, float, float]], weight: float, margin: float
) -> None:
    at = decision(rows, Objective(weight))
    for pinned in range(len(rows)):
        index = first(stay(at, pinned, margins=Margins(margin)))
        assert at.utility[index] >= at.utility[at.ranking[0]] - margin - 1e-12


@given(rows=_rows, objective=_objectives)
def test_the_best_keeps_up_without_any_margin(rows: list[tuple[float, float, float]], objective: Objective) -> None:
    at = decision(rows, objective)
    assert keeps_up(at, at.ranking[0], Margins(0.0, 0.0))


def test_a_conversation_does_not_go_back_and_forth_on_noise() -> None:
    """Two equals whose utilities are seen with noise: without a margin they alternate, with one hardly ever."""
    rng = np.random.default_rng(0)
    switches = {0.0: 0, 0.02: 0}
    for margin in switches:
        pinned = 0
        for p, q in rng.normal(0.8, 0.004, (1_000, 2)).tolist():
            at = decision([(p, 1.0, 0.0), (q, 1.0, 0.0)], Objective())
            now = first(stay(at, pinned, margins=Margins(margin)))
            switches[margin] += now != pinned
            pinned = now
    assert switches[0.0] > 300
    assert switches[0.02] < 5
