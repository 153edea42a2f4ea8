"""Of several verdicts by one source on one request the newest counts, in files and in PostgreSQL, for every reader."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from reading import Record, Sources
from recorded import make_record

from embedllm_router import Router
from embedllm_router.analysis.calibration import judged_calibration
from embedllm_router.analysis.decisions import DecisionSearch, decision_page, feedback_on
from embedllm_router.analysis.replay.change import Change, NewAim
from embedllm_router.analysis.replay.run import replay
from embedllm_router.analysis.span import RecordQuery, Span
from embedllm_router.analysis.summary import summarize
from embedllm_router.records.reader.find import find
from embedllm_router.records.reader.recorded import Wanted, read_recorded
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.reader.verdicts import Verdict
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.policy import Objective
from embedllm_router.training.update.answers import gather

EVERYTHING = RecordQuery(Span.ALL)
REQUESTS = [make_record(n) for n in range(4)]


def said(
    request: RequestRecord, minute: int, score: float, source: str = "user", *, by_response: bool = False, **key: str
) -> FeedbackRecord:
    named = request.response_id if by_response else request.request_id
    assert named is not None
    at = request.at + timedelta(minutes=minute)
    return FeedbackRecord(at=at, request_id=named, score=score, source=source, key_alias=key.get("key"))


CHANGED_MINDS: Sequence[FeedbackRecord] = [
    verdict for request in REQUESTS for verdict in (said(request, 1, 0.0, key="team-a"), said(request, 2, 1.0))
]


@pytest.fixture
def changed(recorded: Sources) -> RecordSource:
    """Four answers, each judged down and then up by the same source."""
    return recorded([*REQUESTS, *CHANGED_MINDS])


def test_the_dashboard_takes_the_newest(changed: RecordSource) -> None:
    page = judged_calibration(changed, EVERYTHING, None)
    assert (page.answers, page.score, page.sources) == (4, 1.0, {"user": 4})
    assert [(one.of, one.score) for one in page.llms] == [("wizard", 1.0)]
    assert [row["feedback"] for row in decision_page(changed, EVERYTHING, DecisionSearch(), 0, 10).rows] == [1.0] * 4
    (verdict,) = feedback_on(changed, find(changed, "request-2").row)
    assert (verdict["score"], verdict["source"]) == (1.0, "user")


def test_the_summary_takes_the_newest(changed: RecordSource) -> None:
    found = summarize(changed).calibration
    assert found is not None
    assert (found.n, found.score.value, found.n_by_source) == (4, 1.0, {"user": 4})


def test_one_request_shows_the_newest(changed: RecordSource) -> None:
    (verdict,) = find(changed, "request-1").feedback
    assert (verdict["request_id"], verdict["score"], verdict["key_alias"]) == ("request-1", 1.0, None)


def test_replay_and_plan_take_the_newest(changed: RecordSource) -> None:
    read = read_recorded(changed)
    assert [request.score for request in read.requests] == [1.0] * 4
    observed = replay(read, Change(NewAim(Objective(cost_weight=20.0))), ["λ"]).observed
    assert observed is not None
    assert (observed.n_feedback, observed.before.value) == (4, 1.0)


def test_learning_takes_the_newest(recorded: Sources, router: Router) -> None:
    query = [replace(request, artifact=router.artifact.id) for request in REQUESTS]
    read = read_recorded(recorded([*query, *CHANGED_MINDS]), Wanted(with_text=True, only_judged=True))
    answers = gather(read, router.artifact, max_weight=10.0).answers
    assert answers.score.tolist() == [1.0] * 4
    assert answers.verdicts == ((Verdict("user", 1.0),),) * 4


def test_the_newest_counts_whichever_id_it_names_and_each_source_once(recorded: Sources) -> None:
    first, second = REQUESTS[:2]
    feedback: list[Record] = [
        said(first, 1, 1.0, by_response=True),
        said(first, 2, 0.0),
        said(first, 3, 1.0, "judge", by_response=True),
        said(second, 2, 0.0),
        said(second, 3, 0.5, by_response=True),
    ]
    source = recorded([*REQUESTS, *feedback])
    assert [request.score for request in read_recorded(source).requests] == [0.5, 0.5, None, None]
    rows = decision_page(source, EVERYTHING, DecisionSearch(), 0, 10).rows
    assert [row["feedback"] for row in rows] == [None, None, 0.5, 0.5]
    page = judged_calibration(source, EVERYTHING, None)
    assert (page.answers, page.score, page.sources) == (2, 0.5, {"user": 2, "judge": 1})
    shown = find(source, "request-0").feedback
    assert [(one["source"], one["score"]) for one in shown] == [("user", 0.0), ("judge", 1.0)]


def test_only_sources_asked_for_are_read(recorded: Sources) -> None:
    source = recorded([*REQUESTS, said(REQUESTS[0], 1, 0.0), said(REQUESTS[0], 2, 1.0, "judge")])
    scores = [request.score for request in read_recorded(source, Wanted(sources=["user"])).requests]
    assert scores == [0.0, None, None, None]


def test_two_requests_of_one_call_id_have_the_same_verdict(recorded: Sources) -> None:
    """A client may choose the call id, and choose it twice."""
    twin = make_record(1, request_id="request-0", response_id="chatcmpl-twin")
    source = recorded([REQUESTS[0], twin, said(REQUESTS[0], 1, 1.0)])
    assert [request.score for request in read_recorded(source).requests] == [1.0, 1.0]
    assert judged_calibration(source, EVERYTHING, None).answers == 2
