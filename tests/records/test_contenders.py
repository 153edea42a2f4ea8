"""Answers that judged evaluation got are no users' requests: views leave them out, learning and the summary do not."""

from dataclasses import replace
from datetime import timedelta

import pytest
from reading import Record, Sources
from recorded import make_record

from embedllm_router.analysis.judged import judged
from embedllm_router.analysis.summary import summarize
from embedllm_router.records.reader.find import newest
from embedllm_router.records.reader.recorded import Wanted, read_recorded
from embedllm_router.records.reader.source import Filters
from embedllm_router.records.schema import FeedbackRecord, RequestRecord

N = 12


def contender(request: RequestRecord, score: float | None, served: float, **changes: object) -> RequestRecord:
    """Another LLM's answer to a request, scored beside the user's."""
    fields: dict[str, object] = {
        "at": request.at + timedelta(seconds=0.5),
        "request_id": f"judged-{request.request_id}",
        "judged_for": request.request_id,
        "judging": "contender",
        "judging_share": 0.5,
        "reason": "judged",
        "chosen": "novice",
        "served": "novice",
        "propensity": 0.5,
        "judge": "umpire",
        "judge_score": score,
        "judge_score_served": None if score is None else served,
        "judge_reversed": None if score is None else False,
        "billed_cost_usd": 0.25,
        "judging_usd": 0.5,
        "response_id": None,
    }
    return replace(request, **{**fields, **changes})  # type: ignore[arg-type]  # fields by name


REQUESTS = [make_record(n, status="success", served="wizard", billed_cost_usd=1.0) for n in range(N)]
SCORES = [1.0] * 3 + [0.0] * 6 + [0.5] * 2
CONTENDERS = [contender(one, score, 0.5) for one, score in zip(REQUESTS, SCORES, strict=False)]
UNREAD = contender(REQUESTS[11], None, 0.0)
DOUBLES = [
    contender(one, 0.8, copy, request_id=f"double-{n}", judging="double", chosen="wizard", billed_cost_usd=0.0)
    for n, (one, copy) in enumerate(zip(REQUESTS, (0.8, 0.8, 0.6, 0.8), strict=False))
]
SAID = [
    FeedbackRecord(at=one.at, request_id=one.request_id, score=one.judge_score, source="judge:umpire")
    for one in CONTENDERS
    if one.judge_score is not None
]
EVERYTHING: list[Record] = [*REQUESTS, *CONTENDERS, UNREAD, *DOUBLES, *SAID]


def test_only_learning_sees_them(recorded: Sources) -> None:
    source = recorded(list(EVERYTHING))
    assert [row["request_id"] for row in newest(source, Filters(), 100)] == [one.request_id for one in REQUESTS]
    assert source.rows("SELECT count(*) AS n FROM weighed WHERE candidate_name = 'wizard'")[0]["n"] == N
    assert summarize(source).n == N
    assert read_recorded(source, Wanted(only_judged=True)).requests == ()
    found = read_recorded(source, Wanted(only_judged=True, with_contenders=True)).requests
    assert [(one.served, one.propensity, one.score) for one in found] == [("novice", 0.5, score) for score in SCORES]


def test_what_it_cost_and_taught_adds_up(recorded: Sources) -> None:
    found = judged(recorded(list(EVERYTHING)), Filters(virtual_model="auto"))
    assert found is not None
    assert (found.n_requests, found.n_verdicts) == (N, 2 * len(SCORES))
    assert (found.answers_usd, found.judges_usd, found.usd) == pytest.approx((3.0, 8.0, 11.0))
    (novice,), (umpire,) = found.contenders, found.judges
    assert (novice.llm, novice.n, novice.n_better, novice.n_worse) == ("novice", 11, 3, 6)
    assert (novice.score, novice.score_served) == pytest.approx((4 / 11, 0.5))
    assert (umpire.n, umpire.n_failed, umpire.n_doubles) == (11, 1, 4)
    assert umpire.told_apart is not None
    assert umpire.told_apart.value == 0.25
    assert umpire.told_apart.low < 0.25 < umpire.told_apart.high
    assert umpire.apart == pytest.approx(0.05)


def test_nothing_judged_is_nothing_said(recorded: Sources) -> None:
    assert judged(recorded(list(REQUESTS)), Filters()) is None
