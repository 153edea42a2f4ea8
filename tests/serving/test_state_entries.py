"""Entries live for their time; of too many the least recently used go; those still to be sent are not overwritten."""

from clock import Clock

from embedllm_router.serving.state.shared import Entries, Entry


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
    unsent, unsaved = entries.follow_puts(), entries.follow()
    entries.put("a", "1", 60)
    entries.put("b", "2", 60)
    assert entries.get("a") == "1"
    entries.put("c", "3", 60)
    assert [key for key in "abc" if entries.get(key)] == ["a", "c"]
    assert set(unsent) == set(unsaved) == {"a", "c"}, "what was pushed out is not sent either"


def test_nothing_merged_replaces_what_is_still_to_be_sent() -> None:
    clock = Clock()
    entries = Entries(10, clock)
    unsent = entries.follow_puts()
    entries.put("k", "mine", 60)
    theirs = Entry("theirs", clock.now + 60, clock.now + 1)
    assert not entries.merge("k", theirs)
    unsent.clear()
    assert entries.merge("k", theirs)
    assert entries.get("k") == "theirs"
    assert not unsent


def test_what_is_overwritten_from_redis_is_saved_but_not_sent_back() -> None:
    clock = Clock()
    entries = Entries(10, clock)
    unsent, unsaved = entries.follow_puts(), entries.follow()
    assert entries.overwrite("k", Entry("theirs", clock.now + 60, clock.now - 5))
    assert not entries.overwrite("gone", Entry("v", clock.now - 1, clock.now - 5))
    assert (list(unsent), list(unsaved)) == ([], ["k"])


def test_what_is_forgotten_is_gone_and_the_news_of_it_is_sent() -> None:
    entries = Entries(10, Clock())
    unsent = entries.follow_puts()
    entries.put("k", "v", 60)
    unsent.clear()
    entries.forget("k")
    assert entries.get("k") is None
    assert list(unsent) == ["k"]
    entry = entries.entry("k")
    assert entry is not None
    assert entry.value == ""


def test_of_two_entries_the_later_one_wins() -> None:
    clock = Clock()
    entries = Entries(10, clock)
    assert entries.merge("k", Entry("late", clock.now + 60, clock.now - 5))
    assert not entries.merge("k", Entry("early", clock.now + 60, clock.now - 9))
    assert not entries.merge("gone", Entry("v", clock.now - 1, clock.now - 9))
    assert entries.get("k") == "late"
