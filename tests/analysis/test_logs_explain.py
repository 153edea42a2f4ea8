"""One decision explained: the planted answer, and a sweep of the knob that finds the same flips."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import make_record, make_records

from embedllm_router.analysis.explain import Explanation, explain
from embedllm_router.cli.log_views import flips, outcome, p_correct, shadow, to_win, why
from embedllm_router.records.schema import CandidateRecord, RequestRecord
from embedllm_router.routing.policy import Objective, rank


def row_of(record: RequestRecord) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(orjson.dumps(record))
    return found | {"at": record.at.replace(tzinfo=None)}


def decided(objective: Objective, rows: list[tuple[float, float, float, str | None]]) -> dict[str, Any]:
    """What would be recorded of a decision among (p_correct, cost, waiting, excluded)."""
    p, cost, waiting = (np.array([row[i] for row in rows], dtype=np.float64) for i in range(3))
    usable = np.array([excluded is None for *_, excluded in rows])
    order, floor_met = rank(objective, p, cost, usable, waiting)
    ranked = [int(i) for i in order if usable[i]] + [i for i in range(len(rows)) if not usable[i]]
    utility = p - objective.cost_weight * cost - waiting
    members = tuple(
        CandidateRecord(f"c{i}", f"llm{i}", float(p[i]), 100.0, float(cost[i]), float(utility[i]), rows[i][3])
        for i in ranked
    )
    first = members[0]
    changes: dict[str, Any] = {"chosen": first.name, "p_correct": first.p_correct, "expected_cost_usd": first.cost_usd}
    changes |= {"utility": first.utility, "candidates": members, "floor_met": floor_met}
    changes |= {"cost_weight": objective.cost_weight, "min_p_correct": objective.min_p_correct}
    changes["within"] = objective.max_accuracy_drop
    reason = "highest_utility" if floor_met is None else "cheapest_at_floor" if floor_met else "floor_unreached"
    return row_of(make_record(**changes, reason=reason))


_rows = st.lists(
    st.tuples(
        st.integers(1, 99).map(lambda n: n / 100),
        st.integers(0, 300).map(lambda n: n / 1e4),
        st.sampled_from([0.0, 0.0, 0.02]),
        st.sampled_from([None, None, None, "no_vision"]),
    ),
    min_size=1,
    max_size=6,
).filter(lambda rows: any(excluded is None for *_, excluded in rows))


@settings(deadline=None, max_examples=60)
@given(rows=_rows, weight=st.integers(0, 80))
def test_the_nearest_flips_are_where_a_sweep_of_the_cost_weight_finds_them(
    rows: list[tuple[float, float, float, str | None]], weight: int
) -> None:
    step = 0.05
    at = weight + step / 3
    found = explain(decided(Objective(at), rows))
    names = [one.name for one in found.candidates]
    assert found.best == found.chosen == names[0]
    swept = {
        "below": sweep(rows, np.arange(at, 0, -step), found.chosen),
        "above": sweep(rows, np.arange(at, 400, step), found.chosen),
    }
    for side, seen in swept.items():
        flip = getattr(found, side)
        if seen is None:
            assert flip is None or flip.at <= step or flip.at >= 400 - step
        else:
            assert flip is not None
            assert abs(flip.at - seen[0]) <= step * 1.01
            assert flip.name == seen[1] or between(found, seen[0], step) > 1


def sweep(rows: list[tuple[float, float, float, str | None]], settings_: Any, chosen: str) -> tuple[float, str] | None:
    """The first setting that chooses somebody else, and whom."""
    p, cost, waiting = (np.array([row[i] for row in rows], dtype=np.float64) for i in range(3))
    usable = np.array([excluded is None for *_, excluded in rows])
    for value in settings_:
        order, _ = rank(Objective(float(value)), p, cost, usable, waiting)
        winner = f"c{next(int(i) for i in order if usable[i])}"
        if winner != chosen:
            return float(value), winner
    return None


def between(found: Explanation, at: float, step: float) -> int:
    """How many flips lie within one step of a setting."""
    return sum(abs(span.low - at) <= step * 1.01 for span in found.spans)


def test_planted_numbers() -> None:
    """Wizard 0.95 for $0.016, novice 0.5 for $0.00002, sprinter 0.05 for $0.00006, at λ = 20."""
    found = explain(row_of(make_record(0)))
    assert (found.best, found.knob, found.setting, found.below) == ("wizard", "cost_weight", 20.0, None)
    assert found.above is not None
    assert found.above.name == "novice"
    assert found.above.at == pytest.approx(0.45 / 0.01598)
    assert [span.name for span in found.spans] == ["wizard", "novice"]
    wizard, novice, sprinter, stranger = found.candidates
    assert (wizard.overtakes, wizard.cost_to_win_usd, wizard.p_to_win) == (None, None, None)
    assert novice.p_to_win == pytest.approx(0.63 + 20 * 2e-5)
    assert novice.cost_to_win_usd is None, "not even free"
    assert sprinter.p_to_win == pytest.approx(0.63 + 20 * 6e-5)
    assert (stranger.excluded, stranger.would_win) == ("llm_unknown", None)


def test_p_correct_before_it_was_shrunk_is_shown_where_it_differs() -> None:
    first, *others = make_record(0).candidates
    row = row_of(make_record(0, candidates=(replace(first, p_correct=0.7, p_unshrunk=0.9), *others)))
    shown = [p_correct(one) for one in explain(row).candidates]
    assert shown == ["0.900 -> 0.700", "0.500", "0.050", "-"]
    assert explain(row).candidates[0].p_unshrunk == 0.9
    older = {**row, "candidates": [{k: v for k, v in one.items() if k != "p_unshrunk"} for one in row["candidates"]]}
    assert explain(older).candidates[0].p_unshrunk is None


def test_what_a_dear_candidate_would_have_to_cost() -> None:
    """In chat the wizard is as likely as the sprinter: only a price below the sprinter's would do."""
    found = explain(row_of(make_record(0, topic="chat")))
    wizard = next(one for one in found.candidates if one.name == "wizard")
    assert wizard.cost_to_win_usd == pytest.approx(0.00006)
    assert to_win(found, wizard) == "cost down 99.6 %"


def test_a_floor_flips_at_the_probability_of_the_cheap_one() -> None:
    found = explain(decided(Objective(min_p_correct=0.6), [(0.9, 0.01, 0, None), (0.7, 0.001, 0, None)]))
    assert (found.best, found.below) == ("c1", None)
    assert found.above is not None
    assert (found.above.at, found.above.name) == (0.7, "c0")
    assert flips(found) == ["The floor τ under p_correct stood at 0.6; above 0.7 c0 would be chosen."]
    assert to_win(found, found.candidates[1]) == "τ > 0.7 or cost down 90.0 %"


def test_a_distance_flips_where_a_cheaper_one_comes_within_it() -> None:
    rows: list[tuple[float, float, float, str | None]] = [(0.9, 0.01, 0, None), (0.7, 0.001, 0, None)]
    found = explain(decided(Objective(max_accuracy_drop=0.1), rows))
    assert found.above is not None
    assert (found.above.at, found.above.name) == (pytest.approx(0.2), "c1")
    assert "from 0.2 on c1 would be chosen" in flips(found)[0]


def test_waiting_counts_as_it_did() -> None:
    """The likelier one loses because one waits for it; without waiting it would have won."""
    slow, quick = (0.9, 0.001, 0.3, None), (0.8, 0.001, 0.0, None)
    found = explain(decided(Objective(1.0), [slow, quick]))
    assert found.best == found.chosen == "c1"
    lines = [to_win(found, one) for one in found.candidates]
    assert lines == ["chosen", "nothing single"]
    likelier = found.candidates[1]
    assert likelier.p_to_win is None, "1.1 would be needed"


def test_an_excluded_one_that_would_have_won_is_named() -> None:
    found = explain(decided(Objective(), [(0.9, 0.01, 0, "no_vision"), (0.7, 0.001, 0, None), (0.2, 0, 0, "region")]))
    assert [one.would_win for one in found.candidates] == [None, True, False]
    assert to_win(found, found.candidates[1]) == "would win if allowed"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (make_record(0), "wizard has the highest utility, 0.950 - 20 · $0.0160 = 0.630; the next, novice, has 0.500."),
        (
            make_record(0, cost_weight=0.0),
            "wizard is the most accurate, 0.950, and cost has no weight; the next, novice, has 0.500.",
        ),
        (
            make_record(0, reason="cheapest_at_floor", min_p_correct=0.9),
            "wizard, with 0.950 for $0.0160, is the only candidate whose p_correct reaches 0.900.",
        ),
        (
            make_record(0, topic="chat", reason="cheapest_at_floor", within=0.3),
            "sprinter, with 0.950 for $0.0000600, is the cheapest of 2 candidates whose p_correct reaches 0.650.",
        ),
        (
            make_record(0, reason="floor_unreached", min_p_correct=0.99),
            "No candidate reaches a p_correct of 0.99; wizard comes nearest with 0.950.",
        ),
        (
            make_record(0, reason="explored", chosen="novice", propensity=0.05),
            "novice was drawn to learn about it, with probability 0.05; by its objective, it would have been wizard.",
        ),
        (
            make_record(0, reason="stayed", chosen="novice"),
            "novice was chosen: stayed. By its objective alone, wizard would have been chosen.",
        ),
        (
            make_record(0, reason="only_candidate", candidates=make_record(0).candidates[::3]),
            "wizard was the only candidate that could take the request; the other one was excluded.",
        ),
    ],
)
def test_one_sentence_says_why(record: RequestRecord, said: str) -> None:
    row = row_of(record)
    assert why(row, explain(row)) == said


def test_a_request_that_failed_open_is_explained_by_its_error() -> None:
    record = next(r for r in make_records(600) if r.failed_open)
    found = explain(row_of(record))
    assert (found.best, found.spans, flips(found)) == (None, (), [])
    assert why(row_of(record), found) == "Routing failed (ArtifactError), so sprinter, the default, was to answer."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "wizard answered after 800 ms: 12 + 90 tokens, $0.0144 billed, 10.0 % less than the $0.0160 forecast"),
        ({"served": "novice", "fallback": True}, "novice answered instead of wizard after 800 ms"),
        ({"status": "failure", "error": "Timeout", "served": None}, "No answer: Timeout after 800 ms."),
        ({"status": "unknown", "served": None}, "No outcome was reported"),
    ],
)
def test_the_outcome_is_told(changes: dict[str, Any], said: str) -> None:
    assert said in outcome(row_of(make_record(0, **changes)))


def test_the_shadow_is_told() -> None:
    assert shadow(row_of(make_record(0))) is None
    one = make_record(0, shadow_artifact="abc", shadow_chosen="novice", shadow_p_correct=0.4, shadow_cost_usd=2e-5)
    assert shadow(row_of(one)) == "The shadow (abc) would have chosen novice: p_correct 0.400, $0.0000200."
    agreeing = replace(one, shadow_chosen="wizard")
    assert "chosen wizard as well" in (shadow(row_of(agreeing)) or "")
