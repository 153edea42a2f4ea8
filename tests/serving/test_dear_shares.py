"""A guard bounds the share of a key's requests that go to dear candidates, whatever their text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import Memory
from state_folder import Heard, opened

from embedllm_router.config.virtual_model import GuardSettings, VirtualModelSettings
from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.budget import Guard, Guarded, is_dear, without_dear
from embedllm_router.routing.decision import Decision, Objective, Reason, Request
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool, Exclusion
from embedllm_router.serving.budget_enforcer import BudgetEnforcer, DearShares, Ledger

HOUR_S = 3_600.0
GUARD = Guard(share=0.3, window_s=HOUR_S, min_requests=50, times_median=3.0)
KEY = Guarded(GUARD, "auto", "sk-secret")


def weighed(costs: list[float], objective: Objective | None = None, p: list[float] | None = None) -> Decision:
    """Candidates of these costs; where nothing is said, the dearer the more accurate."""
    pool = CandidatePool([Candidate(f"c{i}", f"llm{i}", i, 0.0, cost) for i, cost in enumerate(costs)])
    likely = p or (0.5 + 0.4 * np.argsort(np.argsort(costs)) / len(costs)).tolist()
    scores = Scores(np.array(likely, dtype=np.float32), np.ones(len(costs), dtype=np.float32))
    return rank_candidates(pool, scores, Request(objective or Objective(), 0))


@pytest.mark.parametrize(
    ("costs", "dear"),
    [
        ([1.0, 2.0, 3.1, 9.0], [False, False, False, True]),  # the median is 2
        ([1.0, 3.1], [False, True]),  # of two, the lower one
        ([1.0, 3.0], [False, False]),
        ([2.0], [False]),
        ([0.0, 1e-6], [False, True]),
        ([], []),
    ],
)
def test_dear_is_what_costs_many_times_the_median(costs: list[float], dear: list[bool]) -> None:
    assert is_dear(weighed(costs), 3.0).tolist() == dear


def test_dear_ones_are_left_out_with_a_reason_and_stay_dear() -> None:
    wanted = weighed([1.0, 2.0, 3.0, 90.0, 100.0])
    kept = without_dear(wanted, 3.0)
    assert (wanted.ranking[0], kept.ranking, kept.reason) == (4, (2, 1, 0), Reason.GUARDED)
    assert kept.excluded == (None, None, None, Exclusion.GUARDED, Exclusion.GUARDED)
    assert is_dear(kept, 3.0).tolist() == is_dear(wanted, 3.0).tolist()
    assert without_dear(kept, 3.0) is kept
    assert without_dear(wanted, 3.0, keep=4).ranking == (4, 2, 1, 0)


def test_a_choice_that_is_not_dear_keeps_its_reason() -> None:
    wanted = weighed([1.0, 2.0, 90.0], Objective(min_p_correct=0.4), [0.9, 0.5, 0.95])
    kept = without_dear(wanted, 3.0)
    assert (kept.ranking, kept.reason, kept.floor_met) == ((0, 1), Reason.CHEAPEST_AT_FLOOR, True)
    lost = without_dear(weighed([1.0, 2.0, 90.0], Objective(min_p_correct=0.93), [0.9, 0.5, 0.95]), 3.0)
    assert (lost.ranking[0], lost.reason, lost.floor_met) == (0, Reason.GUARDED, False)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=9), st.floats(1, 10))
def test_somebody_is_always_left(costs: list[float], times: float) -> None:
    assert without_dear(weighed(costs), times).ranking


def sent(shares: DearShares, n: int, seconds: float, *, start: float = 0.0, guarded: Guarded = KEY) -> list[bool]:
    """Of n requests that all look hard, spread over some time, which went to a dear candidate."""
    went = []
    for i in range(n):
        now = start + i * seconds / n
        went.append(not shares.is_full(guarded, now))
        shares.count(guarded, now, dear=went[-1])
    return went


def test_a_key_whose_requests_all_look_hard_keeps_to_its_share() -> None:
    went = sent(DearShares(Memory()), 600, HOUR_S)
    assert all(went[:50])
    assert sum(went) / 600 == pytest.approx(0.3, abs=0.01)
    assert not any(went[50:160]), "until the first fifty are three tenths"


def test_over_many_windows_no_window_has_more_than_its_share() -> None:
    went = np.array(sent(DearShares(Memory()), 3000, 5 * HOUR_S))
    for start in range(600, 2400, 50):
        assert went[start : start + 600].mean() <= 0.3 + 50 / 600, "a window and what fades of the part before it"


def test_quiet_keys_other_keys_and_other_names_are_not_bounded() -> None:
    shares = DearShares(Memory())
    sent(shares, 600, HOUR_S)
    assert shares.is_full(KEY, HOUR_S)
    assert not shares.is_full(Guarded(GUARD, "auto", "sk-other"), HOUR_S)
    assert not shares.is_full(Guarded(GUARD, "auto-own", "sk-secret"), HOUR_S)
    assert not shares.is_full(KEY, 3 * HOUR_S), "the window has passed"
    assert all(sent(DearShares(Memory()), 49, HOUR_S))


def written_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_workers_count_together_and_name_no_key(tmp_path: Path) -> None:
    heard, now = Heard(), 1e6
    states = [opened(tmp_path, heard, lambda: now) for _ in range(3)]
    shares = [DearShares(state) for state in states]
    for i in range(60):
        shares[i % 3].count(KEY, now, dear=True)
    assert not any(one.is_full(KEY, now) for one in shares), "each has seen twenty"
    for state in (*states, *states):
        await state.exchange()
    assert all(one.is_full(KEY, now) for one in shares)
    assert b"secret" not in written_in(tmp_path)


def test_the_enforcer_asks_only_for_keys_that_are_full_and_counts_what_is_sent() -> None:
    enforcer, dear = BudgetEnforcer(Ledger(Memory()), DearShares(Memory()), lambda: 0.0), weighed([1.0, 1.0, 90.0])
    for _ in range(50):
        assert enforcer.pace((), KEY, dear).dear_above is None
        enforcer.charge((), KEY, dear)
    assert enforcer.pace((), KEY, dear).dear_above == 3.0
    assert enforcer.pace((), None, dear).dear_above is None
    cheap = without_dear(dear, 3.0)
    for _ in range(118):
        enforcer.charge((), KEY, cheap)
    assert enforcer.pace((), KEY, dear).dear_above == 3.0, "51 of 169 are more than 0.3"
    enforcer.charge((), KEY, cheap)
    assert enforcer.pace((), KEY, dear).dear_above is None, "51 of 170 are not"


def test_it_is_off_unless_a_share_is_set() -> None:
    assert VirtualModelSettings(default="a").guard.guard is None
    assert GuardSettings(share_of_dearest="30%", times_median=3).guard == GUARD  # type: ignore[arg-type]  # as it stands in YAML
