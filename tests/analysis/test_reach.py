"""Exploration within caps leaves some LLMs unobserved: what is called reachable really was."""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from log_files import START, write_log

from embedllm_router.analysis.replay.batch import CandidateBatch
from embedllm_router.analysis.replay.change import Change, NewAim
from embedllm_router.analysis.replay.choices import reachable
from embedllm_router.analysis.replay.run import replay
from embedllm_router.prediction.scorer import Scores
from embedllm_router.records.reader.recorded import RecordedRequest, read_recorded
from embedllm_router.records.reader.source import open_source
from embedllm_router.records.schema import CandidateRecord, FeedbackRecord, RequestRecord
from embedllm_router.routing.decision import Exploration
from embedllm_router.routing.exploration import explore
from embedllm_router.routing.policy import Objective, Request, rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool

POOL = CandidatePool(
    [
        Candidate(name, name, row, 0.0, usd)
        for row, (name, usd) in enumerate({"best": 4e-5, "near": 2e-5, "far": 1e-5}.items())
    ]
)
P_CORRECT = (0.9, 0.85, 0.4)
SCORES = Scores(np.array(P_CORRECT, dtype=np.float32), np.full(3, 100.0, dtype=np.float32))
CAPS = Exploration(epsilon=0.4, max_loss=0.1, max_extra_usd=0.01)
"""`near` is within them, `far` is not."""


class _Drawn(np.random.Generator):
    """Draws what a test wants."""

    def __init__(self, draw: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._draw = draw

    def random(self) -> float:  # type: ignore[override]  # the one of its forms that is used
        return self._draw


def record(number: int, draw: float, virtual_model: str = "auto") -> RequestRecord:
    """What the policy decided, explored and the recorder would keep of it."""
    decision = explore(rank_candidates(POOL, SCORES, Request(Objective(), 10)), CAPS, _Drawn(draw))
    assert decision.chosen is not None
    return RequestRecord(
        at=START + timedelta(seconds=number),
        request_id=f"r{number}",
        virtual_model=virtual_model,
        call_type="acompletion",
        reason=str(decision.reason),
        objective_from="config",
        cost_weight=0.0,
        chosen=decision.chosen.name,
        served=decision.chosen.name,
        propensity=decision.propensity,
        candidates=tuple(
            CandidateRecord(a.name, a.llm, a.p_correct, a.expected_output_tokens, a.cost_usd, a.utility, None)
            for a in decision.assessments()
        ),
        input_tokens=10,
        route_ms=1.0,
        status="success",
    )


def read(folder: Path, records: Sequence[RequestRecord], *feedback: FeedbackRecord) -> tuple[RecordedRequest, ...]:
    source = open_source(write_log(folder, records, feedback))
    try:
        return read_recorded(source).requests
    finally:
        source.close()


def reached(requests: Sequence[RecordedRequest], wanted: str) -> list[bool]:
    batch = CandidateBatch.from_rows([{**asdict(r), "cost_weight": 0.0} for r in requests])
    found: list[bool] = reachable(requests, batch, [wanted] * len(requests)).tolist()
    return found


@pytest.fixture
def explored(tmp_path: Path) -> tuple[RecordedRequest, ...]:
    rng = random.Random(0)
    return read(tmp_path, [record(i, rng.random()) for i in range(200)])


def test_the_planted_log_explores_within_its_caps(explored: Sequence[RecordedRequest]) -> None:
    assert {r.chosen for r in explored} == {"best", "near"}
    assert {round(r.propensity, 6) for r in explored} == {0.8, 0.2}


@pytest.mark.parametrize(("wanted", "might"), [("best", True), ("near", True), ("far", False), ("nobody", False)])
def test_only_what_is_no_further_than_exploration_went_is_reachable(
    explored: Sequence[RecordedRequest],
    wanted: str,
    might: bool,  # noqa: FBT001 - a table
) -> None:
    assert reached(explored, wanted) == [might] * len(explored)


def test_without_a_single_explored_choice_only_the_best_is_reachable(tmp_path: Path) -> None:
    lucky = read(tmp_path, [record(i, 0.2) for i in range(5)])
    assert reached(lucky, "best") == [True] * 5
    assert reached(lucky, "near") == [False] * 5


def test_another_virtual_models_exploration_says_nothing(tmp_path: Path) -> None:
    near = record(0, 0.9)
    assert near.chosen == "near"
    both = read(tmp_path, [near, record(1, 0.2, virtual_model="careful")])
    assert reached(both, "near") == [True, False]


def test_a_deterministic_decision_reaches_nobody_else(tmp_path: Path) -> None:
    plain = read(tmp_path, [replace(record(0, 0.2), propensity=1.0), record(1, 0.9)])
    assert [r.propensity for r in plain] == [1.0, pytest.approx(0.2)]
    assert reached(plain, "near") == [False, True]


def test_a_replay_says_which_flips_were_observed(tmp_path: Path) -> None:
    """A dollar is worth so much that the cheapest wins, and nobody ever tried it; at a tenth, the near one does."""
    rng = random.Random(1)
    records = [record(i, rng.random()) for i in range(300)]
    said = [FeedbackRecord(at=START, request_id=r.request_id, score=1.0, source="user") for r in records]
    source = open_source(write_log(tmp_path, records, said))
    recorded = read_recorded(source)
    source.close()
    cheap = replay(recorded, Change(NewAim(Objective(cost_weight=1e4))), [""]).observed
    assert cheap is not None
    assert (cheap.supported, cheap.n_flips_unobserved) == (0.0, 300)
    near = replay(recorded, Change(NewAim(Objective(cost_weight=30.0))), [""]).observed
    assert near is not None
    assert (near.supported, near.n_flips_unobserved) == (1.0, 0)
    assert near.snips.value == 1.0
