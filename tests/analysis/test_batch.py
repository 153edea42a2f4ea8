"""The vectorised choice is the policy's choice, request by request."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import COST_WEIGHT, make_record, make_records

from embedllm_router.analysis.replay.batch import CandidateBatch, CandidateColumns, Objectives, choose
from embedllm_router.routing.policy import Objective, rank

_few = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few values: ties are common
_p = _few | st.floats(0, 1)
_cost = st.sampled_from([0.0, 1e-6, 1e-3]) | st.floats(0, 1)
_waiting = st.sampled_from([0.0, 0.0, 0.125, 0.5])  # exact in binary: ties stay ties
_name = st.sampled_from(["ant", "bee", "cat", "dog", "elk"])
_reason = st.sampled_from([None, None, None, "too_expensive", "guarded", "no_vision"])


@st.composite
def _candidate(draw: st.DrawFn) -> dict[str, object]:
    if draw(st.sampled_from([True, True, True, False])):
        weighed: dict[str, object] = {
            "p_correct": draw(_p),
            "cost_usd": draw(_cost),
            "excluded": draw(_reason),
            "waiting": draw(_waiting),
        }
        return weighed | {"usual_p_correct": draw(_p), "usual_cost_usd": draw(_cost)}
    nothing = dict.fromkeys(("p_correct", "cost_usd", "usual_p_correct", "usual_cost_usd"))
    return {**nothing, "excluded": "llm_unknown", "waiting": 0.0}


_request = st.dictionaries(_name, _candidate(), max_size=5).flatmap(
    lambda by_name: st.permutations([{"name": name, **one} for name, one in by_name.items()])
)
_objective = st.builds(
    Objective,
    cost_weight=st.sampled_from([0.0, 1.0, 250.0]) | st.floats(0, 1e6),
    min_p_correct=st.none() | _p,
    max_accuracy_drop=st.none() | _p,
    max_cost_usd=st.none() | _cost,
    near_tie_margin=st.sampled_from([0.0, 0.0, 0.005, 0.25, 1.0]),
)


def chosen_by_the_policy(candidates: list[dict[str, object]], objective: Objective) -> str | None:
    """One request at a time, the order of the list breaking ties."""
    p = np.array([np.nan if c["p_correct"] is None else c["p_correct"] for c in candidates], dtype=np.float64)
    cost = np.array([np.nan if c["cost_usd"] is None else c["cost_usd"] for c in candidates], dtype=np.float64)
    waiting = np.array([c.get("waiting", 0.0) for c in candidates], dtype=np.float64)
    usable = np.array([c["excluded"] in {None, "too_expensive", "guarded"} for c in candidates], dtype=bool)
    if objective.max_cost_usd is not None:
        usable &= ~(cost > objective.max_cost_usd)
    order, floor_met = rank(objective, p, cost, usable, waiting)
    ranking = [i for i in order.tolist() if usable[i]]
    if not ranking:
        return None
    utility = p - objective.cost_weight * cost - waiting
    near = [i for i in ranking if utility[i] >= utility[ranking[0]] - objective.near_tie_margin]
    best = ranking[0]
    if objective.near_tie_margin > 0 and floor_met is None:
        usual_p, usual_usd = (
            np.array([c[name] for c in candidates], dtype=np.float64) for name in ("usual_p_correct", "usual_cost_usd")
        )
        best = max(near, key=lambda i: usual_p[i] - objective.cost_weight * usual_usd[i] - waiting[i])
    return str(candidates[best]["name"])


def names_chosen(rows: list[list[dict[str, object]]], objective: Objective | Objectives) -> list[str | None]:
    """By columns, so that the waits are exact."""
    flat = [one for row in rows for one in row]
    columns = CandidateColumns(
        request=np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
        name=[str(one["name"]) for one in flat],
        p_correct=np.array([one["p_correct"] for one in flat], dtype=np.float64),
        cost_usd=np.array([one["cost_usd"] for one in flat], dtype=np.float64),
        excluded=[one["excluded"] for one in flat],  # type: ignore[misc]  # strings or None
        waiting=np.array([one.get("waiting", 0.0) for one in flat], dtype=np.float64),
        usual_p_correct=np.array([one.get("usual_p_correct") for one in flat], dtype=np.float64),
        usual_cost_usd=np.array([one.get("usual_cost_usd") for one in flat], dtype=np.float64),
    )
    batch = CandidateBatch.from_columns(len(rows), columns)
    return [batch.names[i] if i >= 0 else None for i in choose(batch, objective).tolist()]


@given(rows=st.lists(_request, max_size=8), objective=_objective)
def test_choosing_is_the_policy_row_by_row(rows: list[list[dict[str, object]]], objective: Objective) -> None:
    assert names_chosen(rows, objective) == [chosen_by_the_policy(row, objective) for row in rows]


@given(pairs=st.lists(st.tuples(_request, _objective), max_size=8))
def test_each_request_may_have_its_own_objective(pairs: list[tuple[list[dict[str, object]], Objective]]) -> None:
    rows = [row for row, _ in pairs]
    assert names_chosen(rows, Objectives.of(o for _, o in pairs)) == [chosen_by_the_policy(r, o) for r, o in pairs]


def test_the_recorded_objective_chooses_what_was_recorded() -> None:
    records = [r for r in make_records(500) if r.candidates]
    batch = CandidateBatch.from_rows([asdict(r) for r in records])
    chosen = choose(batch, Objective(COST_WEIGHT))
    assert [batch.names[i] for i in chosen] == [r.chosen for r in records]
    assert batch.at(batch.p_correct, chosen).tolist() == [r.p_correct for r in records]
    assert batch.at(batch.cost_usd, chosen).tolist() == [r.expected_cost_usd for r in records]


def test_a_request_without_candidates_chooses_nobody() -> None:
    batch = CandidateBatch.from_rows([{"candidates": None}, {"candidates": []}, asdict(make_record())])
    chosen = choose(batch, Objective())
    assert chosen[:2].tolist() == [-1, -1]
    assert np.isnan(batch.at(batch.p_correct, chosen)[:2]).all()
    assert batch.names[chosen[2]] == "wizard"


def test_no_requests_and_no_candidates_are_no_error() -> None:
    none: list[list[dict[str, Any]]] = [[], [{"candidates": []}]]
    for rows in none:
        batch = CandidateBatch.from_rows(rows)
        assert choose(batch, Objective()).tolist() == [-1] * len(rows)
        assert np.isnan(batch.at(batch.p_correct, choose(batch, Objective()))).all()


@pytest.mark.parametrize("weight", [0.0, 5.0, 1000.0])
def test_equal_candidates_keep_the_recorded_order(weight: float) -> None:
    twins: list[dict[str, object]] = [
        {"name": name, "p_correct": 0.5, "cost_usd": 1e-3, "excluded": None} for name in ("zebra", "ape")
    ]
    assert names_chosen([twins, twins[::-1]], Objective(weight)) == ["zebra", "ape"]


@given(rows=st.lists(_request, min_size=1, max_size=8), weight=st.sampled_from([0.0, 1.0, 250.0]))
def test_the_wait_is_read_out_of_the_recorded_utility(rows: list[list[dict[str, object]]], weight: float) -> None:
    recorded = []
    for row in rows:
        utilities = [
            None if c["p_correct"] is None else c["p_correct"] - weight * c["cost_usd"] - c["waiting"]  # type: ignore[operator]  # numbers
            for c in row
        ]
        candidates = [{**c, "utility": u} for c, u in zip(row, utilities, strict=True)]
        recorded.append({"cost_weight": weight, "candidates": candidates})
    batch = CandidateBatch.from_rows(recorded)
    for i, row in enumerate(rows):
        for c in row:
            found = batch.waiting[i, batch.names.index(str(c["name"]))]
            assert found == pytest.approx(c["waiting"], abs=1e-9)
            assert c["waiting"] or found == 0.0  # exactly: a tie without waiting stays a tie
