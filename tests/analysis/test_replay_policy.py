"""What the policy did beyond its objective is on record, so that a replay does it again: near ties, waits, odds."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from log_files import START, write_log

from embedllm_router.analysis.explain import explain
from embedllm_router.analysis.replay.batch import CandidateBatch
from embedllm_router.analysis.replay.change import Change, NewAim
from embedllm_router.analysis.replay.choices import reachable
from embedllm_router.analysis.replay.run import replay
from embedllm_router.cli.log_views import why
from embedllm_router.prediction.scorer import Scores
from embedllm_router.records.reader.recorded import Recorded, read_recorded
from embedllm_router.records.reader.source import open_source
from embedllm_router.records.schema import REQUEST_COLUMNS, RequestRecord
from embedllm_router.routing.decision import Conditions, Decision, Exploration, Objective, Observed, Reason, Request
from embedllm_router.routing.exploration import explore
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidateAverage, CandidatePool
from embedllm_router.routing.tie_breaking import break_ties
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome, RequestContext, to_record

N = 200
NAMES = ("ant", "bee", "cat", "dog", "elk")
POOL = CandidatePool(
    [Candidate(name, name, i, 0.0, 1e-5 * (i + 1)) for i, name in enumerate(NAMES)],
    CandidateAverage(
        np.array([0.6, 0.7, 0.65, 0.75, 0.55]), np.array([1e-3, 2e-3, 3e-3, 5e-3, 4e-3]), np.full(5, 40.0)
    ),
)
LIVE = Objective(20.0, latency_weight=0.01, near_tie_margin=0.05)


def decided(number: int, objective: Objective = LIVE) -> Decision:
    """Made up of its number."""
    rng = np.random.default_rng(number)
    scores = Scores(rng.uniform(0.5, 0.9, 5).astype(np.float32), rng.uniform(50, 300, 5).astype(np.float32))
    seen = Observed(np.ones(5), rng.uniform(0, 3, 5))
    return break_ties(rank_candidates(POOL, scores, Request(objective, 10, conditions=Conditions(observed=seen))))


def record(number: int, decision: Decision) -> RequestRecord:
    assert decision.chosen is not None
    name = decision.chosen.name
    at = START + timedelta(seconds=number)
    context = RequestContext(f"r{number}", "auto", "acompletion", at, 0.0)
    decided = DecisionRecord(context, name, 1.0, decision=decision, objective_from="config")
    return to_record(decided, Outcome(name, "success"))


def read(folder: Path, records: Sequence[RequestRecord]) -> Recorded:
    source = open_source(write_log(folder, records, ()))
    try:
        return read_recorded(source)
    finally:
        source.close()


def test_near_ties_and_waits_are_decided_again_as_they_were(tmp_path: Path) -> None:
    decisions = [decided(number) for number in range(N)]
    assert 10 < sum(one.reason is Reason.NEAR_TIE for one in decisions) < N - 10, "the test needs both kinds"
    log = read(tmp_path, [record(number, one) for number, one in enumerate(decisions)])
    assert {request.objective for request in log.requests} == {LIVE}
    assert replay(log, Change(), []).n_flips == 0


def test_another_cost_weight_settles_near_ties_as_it_would_have_live(tmp_path: Path) -> None:
    log = read(tmp_path, [record(number, decided(number)) for number in range(N)])
    found = replay(log, Change(NewAim(Objective(60.0))), ["cost_weight 60"])
    live = [decided(number, replace(LIVE, cost_weight=60.0)).ranking[0] for number in range(N)]
    assert {row.name: row.after for row in found.mix if row.after} == {
        NAMES[i]: n for i, n in enumerate(np.bincount(live, minlength=5)) if n
    }


def test_records_from_before_there_were_near_ties_are_decided_by_their_objective(tmp_path: Path) -> None:
    """Older files lack the columns; what is not recorded changes nothing."""
    plain = [decided(number, Objective(20.0)) for number in range(20)]
    old = [replace(record(number, one), latency_weight=None, near_tie_margin=None) for number, one in enumerate(plain)]
    log = read(tmp_path, old)
    assert {request.objective for request in log.requests} == {Objective(20.0)}
    assert replay(log, Change(), []).n_flips == 0


@pytest.mark.parametrize("rules", [Exploration(0.3, 0.2, 0.01), Exploration(0.0, 0.2, 0.01, thompson=True)])
def test_the_odds_of_every_candidate_are_on_record_with_the_rules(tmp_path: Path, rules: Exploration) -> None:
    dice = np.random.default_rng(0)
    explored = [explore(decided(number), rules, dice) for number in range(N)]
    records = [record(number, one) for number, one in enumerate(explored)]
    first = records[0]
    assert (first.exploration, first.exploration_epsilon) == (rules.method, rules.epsilon)
    assert (first.exploration_max_loss, first.exploration_max_extra_usd, first.exploration_spread) == (0.2, 0.01, 1.0)
    log = read(tmp_path, records)
    batch = CandidateBatch.from_records((r.candidates, 20.0) for r in log.requests)
    for wanted in NAMES:
        odds = np.array([one.explored.odds[NAMES.index(wanted)] for one in explored if one.explored])
        recorded = [request.candidate(wanted) for request in log.requests]
        assert [one.propensity for one in recorded if one] == odds.tolist()
        certain = np.array([one.propensity == 1 for one in explored])
        found = reachable(log.requests, batch, [wanted] * N)
        assert found.tolist() == ((odds > 0) & ~certain).tolist()


def test_a_near_tie_is_explained(tmp_path: Path) -> None:
    number = next(n for n in range(N) if decided(n).reason is Reason.NEAR_TIE)
    source = open_source(write_log(tmp_path, [record(number, decided(number))], ()))
    row = source.rows("SELECT * FROM requests")[0]
    source.close()
    said = why(row, explain(row))
    best = rank_candidates(POOL, *_same(number)).chosen
    assert best is not None
    assert said.startswith(
        f"{row['chosen']} answers a near tie: its utility, {row['utility']:.3f}, is at most 0.05 below"
    )
    assert f"that of {best.name}" in said


def _same(number: int) -> tuple[Scores, Request]:
    again = decided(number)
    return Scores(again.p_correct.astype(np.float32), again.output_tokens.astype(np.float32)), again.request


def test_sealed_files_from_before_there_were_these_columns_lie_beside_newer_ones(tmp_path: Path) -> None:
    """The candidates of old files lack fields; both kinds are read, and queried one candidate a row."""
    now = [record(number, decided(number)) for number in range(20)]
    write_log(tmp_path, now[10:], ())
    new = {"latency_weight", "near_tie_margin", *(name for name in REQUEST_COLUMNS if name.startswith("exploration"))}
    before = {
        name: kind.replace(", usual_p_correct DOUBLE, usual_cost_usd DOUBLE, propensity DOUBLE", "")
        for name, kind in REQUEST_COLUMNS.items()
        if name not in new
    }
    write_log(tmp_path / "old", now[:10], ())
    with duckdb.connect() as sql:
        lines = sql.read_json(str(tmp_path / "old" / "*.jsonl"), columns=before, format="newline_delimited")
        lines.write_parquet(str(tmp_path / "requests-20260101T000000000000Z-1-00000000.parquet"))
    source = open_source(tmp_path)
    rows = source.rows('SELECT request_id, near_tie_margin, candidates FROM requests ORDER BY "at"')
    flat = source.rows("SELECT count(*) AS n, count(candidate_usual_p_correct) AS known FROM weighed")[0]
    found = read_recorded(source)
    source.close()
    assert [row["near_tie_margin"] for row in rows] == [None] * 10 + [0.05] * 10
    assert flat == {"n": 100, "known": 50}
    assert [request.candidates[0].usual_p_correct is None for request in found.requests] == [True] * 10 + [False] * 10
