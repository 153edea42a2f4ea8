"""Entries live for their time; too many push out those not used longest; own news is never overwritten unsent."""

from test_state_counters import Clock

from embedllm_router.serving.state.replica_state import Entries, Entry


def test_an_entry_lives_for_its_time() -> None:
    clock = Clock()
    entries = Entries(10, clock)
    entries.put("k", "v", 60)
    assert entries.get("k") == "v"
    clock.now += 61
    assert entries.get("k") is None
    assert len(entries) == 0


def test_the_least_recently_used_goes_first() -> None:
    entries = Entries(2, Clock())
    entries.put("a", "1", 60)
    entries.put("b", "2", 60)
    assert entries.get("a") == "1"
    entries.put("c", "3", 60)
    assert [key for key in "abc" if entries.get(key)] == ["a", "c"]
    assert set(entries.unsent()) == {"a", "c"}, "what was pushed out is not sent either"


def test_news_from_elsewhere_replaces_what_is_known_but_not_what_is_still_to_be_sent() -> None:
    clock = Clock()
    entries = Entries(10, clock)
    entries.put("k", "mine", 60)
    theirs = Entry("theirs", clock.now + 60, clock.now)
    assert not entries.learn("k", theirs)
    entries.sent("k", entries.unsent()["k"])
    assert entries.learn("k", theirs)
    assert entries.get("k") == "theirs"


def test_what_changed_while_it_was_being_sent_stays_unsent() -> None:
    entries = Entries(10, Clock())
    entries.put("k", "first", 60)
    sending = entries.unsent()["k"]
    entries.put("k", "second", 60)
    entries.sent("k", sending)
    assert entries.unsent()["k"].value == "second"


def test_what_is_forgotten_is_gone_and_the_news_of_it_is_sent() -> None:
    entries = Entries(10, Clock())
    entries.put("k", "v", 60)
    entries.forget("k")
    assert entries.get("k") is None
    assert entries.unsent()["k"].value == ""


def test_of_two_files_the_later_entry_wins() -> None:
    clock = Clock()
    entries = Entries(10, clock)
    assert entries.learn_newer("k", Entry("late", clock.now + 60, clock.now - 5))
    assert not entries.learn_newer("k", Entry("early", clock.now + 60, clock.now - 9))
    assert not entries.learn_newer("gone", Entry("v", clock.now - 1, clock.now - 9))
    assert entries.get("k") == "late"
