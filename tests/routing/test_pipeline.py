"""The order of events, step by step: what a budget changes has its reason, and every step is timed."""

import time

import pytest
from planted import SPRINTER, WIZARD

from embedllm_router import Router
from embedllm_router.routing.budget import NO_PACE, Pace
from embedllm_router.routing.decision import Decision, Objective, Reason
from embedllm_router.routing.pipeline import RequestState, Timing
from embedllm_router.routing.prompt import Bond
from embedllm_router.routing.session import Margins, PinnedSession


def under(pace: Pace) -> RequestState:
    return RequestState(pace=lambda _: pace)


@pytest.mark.parametrize(
    ("pace", "chosen", "reason"),
    [
        (NO_PACE, WIZARD, Reason.HIGHEST_UTILITY),
        (Pace(1.0), WIZARD, Reason.HIGHEST_UTILITY),
        (Pace(1e6), SPRINTER, Reason.WITHIN_BUDGET),
        (Pace(dear_above=1e9), WIZARD, Reason.HIGHEST_UTILITY),
        (Pace(dear_above=2.0), SPRINTER, Reason.GUARDED),
        (Pace(1e6, dear_above=2.0), SPRINTER, Reason.GUARDED),
    ],
    ids=["no budget", "changes nothing", "nearly spent", "nobody is dear", "too often dear", "both"],
)
def test_a_budget_is_the_reason_only_where_it_changes_the_choice(
    router: Router, pace: Pace, chosen: str, reason: Reason
) -> None:
    routing = router.route("integral", objective=Objective(), pool=router.pool([WIZARD, SPRINTER]), state=under(pace))
    assert routing.decision.chosen is not None
    assert (routing.decision.chosen.name, routing.decision.reason) == (chosen, reason)
    assert routing.pace == pace
    assert routing.request.objective == Objective(), "what was asked stays on record beside what a budget made of it"


@pytest.mark.parametrize(("bond", "chosen"), [(None, SPRINTER), (Bond.TOOL_CALL, WIZARD)])
def test_a_guard_gives_way_only_to_what_ties_a_request_to_its_llm(
    router: Router, bond: Bond | None, chosen: str
) -> None:
    state = RequestState(session=PinnedSession(WIZARD, bond), pace=lambda _: Pace(dear_above=2.0))
    routing = router.route("integral", objective=Objective(), pool=router.pool([WIZARD, SPRINTER]), state=state)
    assert routing.decision.chosen is not None
    assert routing.decision.chosen.name == chosen


def test_budgets_see_the_decision_by_the_objective_alone(router: Router) -> None:
    seen: list[Decision] = []

    def pace(decision: Decision) -> Pace:
        seen.append(decision)
        return NO_PACE

    session = PinnedSession(SPRINTER, margins=Margins(utility=1.0))
    state = RequestState(pace=pace, session=session)
    routing = router.route("integral", objective=Objective(), pool=router.pool([WIZARD, SPRINTER]), state=state)
    assert (seen[0].reason, routing.decision.reason) == (Reason.HIGHEST_UTILITY, Reason.SESSION_KEPT)


def test_a_session_keeps_an_llm_at_a_floor_below_the_best(router: Router) -> None:
    """At chat both reach the floor and the cheap one answers; one three times as dear is not kept, whatever its p."""
    pool, objective = router.pool([WIZARD, SPRINTER]), Objective(max_accuracy_drop=0.1)
    for margins, chosen in ((Margins(0.0, 0.1), SPRINTER), (Margins(0.0, 1e6), WIZARD)):
        state = RequestState(session=PinnedSession(WIZARD, margins=margins))
        routing = router.route("hello", objective=objective, pool=pool, state=state)
        assert routing.decision.chosen is not None
        assert routing.decision.chosen.name == chosen
    state = RequestState(session=PinnedSession(SPRINTER, margins=Margins(0.0, 1e6)))
    routing = router.route("integral", objective=objective, pool=pool, state=state)
    assert routing.decision.chosen is not None
    assert routing.decision.chosen.name == WIZARD, "the pinned one is far below the floor"


def test_every_step_is_timed_in_milliseconds(router: Router) -> None:
    started = time.perf_counter()
    timing = router.route("integral").timing_ms
    took_ms = (time.perf_counter() - started) * 1e3
    assert min(timing.encode, timing.score, timing.decide) > 0
    assert timing.total <= took_ms
    assert Timing(1.0, 2.0, 4.0).total == 7.0
