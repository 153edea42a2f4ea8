"""A request is found by either of its ids, or by a beginning that only it has."""

import pytest
from reading import Sources
from recorded import make_feedback, make_record, make_records

from embedllm_router.errors import DataError
from embedllm_router.records.reader.find import find, newest
from embedllm_router.records.reader.source import Filters

RECORDS = [make_record(n) for n in (1, 12, 120, 7)]


def test_by_any_of_its_names(recorded: Sources) -> None:
    source = recorded([*RECORDS])
    for text, expected in (
        ("request-1", "request-1"),
        ("chatcmpl-12", "request-12"),
        ("request-7", "request-7"),
        ("chatcmpl-120", "request-120"),
    ):
        assert find(source, text).row["request_id"] == expected


def test_by_the_beginning_of_one(recorded: Sources) -> None:
    source = recorded([*RECORDS])
    assert find(source, "chatcmpl-7").row["request_id"] == "request-7"
    with pytest.raises(DataError, match="begins with 'request-': request-1, request-12, request-120, request-7"):
        find(source, "request-")


def test_an_unknown_one_is_said_and_no_pattern_matches(recorded: Sources) -> None:
    source = recorded([*RECORDS])
    for text in ("request-9", "%", "request_1", "'", ""):
        with pytest.raises(DataError, match=r"no request with the id|begins with"):
            find(source, text)


def test_of_equal_ids_the_newest_is_meant(recorded: Sources) -> None:
    """Clients may set the id themselves."""
    source = recorded([make_record(5, request_id="mine"), make_record(9, request_id="mine", chosen="novice")])
    assert find(source, "mine").row["chosen"] == "novice"


def test_with_what_was_said_of_it(recorded: Sources) -> None:
    records = make_records(30)
    feedback = make_feedback(records, share=1.0)
    source = recorded([*records, *feedback])
    found = find(source, feedback[3].request_id)
    assert [(one["score"], one["source"]) for one in found.feedback] == [(feedback[3].score, "user")]


def test_the_newest_are_listed_oldest_first(recorded: Sources) -> None:
    source = recorded([make_record(n) for n in (3, 1, 2, 0)])
    assert [row["request_id"] for row in newest(source, Filters(), 3)] == ["request-1", "request-2", "request-3"]
    assert newest(source, Filters(), 0) == []
