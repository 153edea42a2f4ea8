"""A sum is the sum of every replica's share, whatever is lost, repeated or late on the way."""

import math
import random

import pytest
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.serving.state.shared import Counters, Share

HOUR = 3_600.0
NAMES = ("a", "b", "c")


def test_what_is_added_is_there_at_once() -> None:
    counters = Counters("a", Clock())
    counters.add("k", 1.5, HOUR)
    counters.add("k", -0.5, HOUR)
    assert counters.total("k") == 1.0
    assert counters.total("other") == 0.0


def test_a_sum_is_forgotten_after_its_time() -> None:
    clock = Clock()
    counters = Counters("a", clock)
    counters.add("k", 1.0, HOUR)
    clock.now += HOUR - 1
    assert counters.total("k") == 1.0
    clock.now += HOUR
    assert counters.total("k") == 0.0
    counters.prune()
    assert list(counters) == []


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(NAMES), st.floats(-10, 10)),
        st.tuples(st.just("send"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    ),
    max_size=60,
)


@given(steps=_steps, seed=st.integers(0, 1_000))
def test_replicas_agree_on_the_plain_sum_after_any_history_of_messages(
    steps: list[tuple[str, str, float | str]], seed: int
) -> None:
    """Messages are whole states, some of them old, some twice; the naive sum is the answer."""
    replicas = {name: Counters(name, Clock()) for name in NAMES}
    naive, old = 0.0, list[tuple[str, dict[str, Share]]]()
    for kind, one, other in steps:
        if kind == "add":
            assert isinstance(other, float)
            replicas[one].add("k", other, HOUR)
            naive += other
        else:
            shares = replicas[one].newer_than("k", {})
            old.append((str(other), shares))
            replicas[str(other)].merge("k", shares, 2e6)
    everything = [(to, replicas[name].newer_than("k", {})) for name in NAMES for to in NAMES] + old
    random.Random(seed).shuffle(everything)
    for to, shares in everything * 2:
        replicas[to].merge("k", shares, 2e6)
    for replica in replicas.values():
        assert replica.total("k") == pytest.approx(naive, abs=1e-9)


def test_an_older_share_never_replaces_a_newer_one() -> None:
    counters = Counters("a", Clock())
    assert counters.merge("k", {"b": Share(3, 7.0)}, 2e6)
    assert not counters.merge("k", {"b": Share(2, 9.0)}, 2e6)
    assert counters.total("k") == 7.0
    assert counters.newer_than("k", {"b": 2}) == {"b": Share(3, 7.0)}
    assert counters.newer_than("k", {"b": 3}) == {}


def test_only_what_somebody_asks_for_is_wanted_the_latest_first() -> None:
    clock = Clock()
    counters = Counters("a", clock)
    counters.merge("silent", {"b": Share(1, 1.0)}, 2e6)
    counters.add("added", 1.0, HOUR)
    counters.total("asked")
    assert counters.wanted() == ["asked", "added"]
    clock.now += 200
    assert counters.wanted() == []
    assert counters.total("silent") == 1.0
    assert counters.wanted() == ["silent"]


def test_a_sum_begun_anew_elsewhere_does_not_revive_the_expired_one() -> None:
    clock = Clock()
    counters = Counters("a", clock)
    counters.add("k", 5.0, HOUR)
    clock.now += HOUR + 1
    assert counters.merge("k", {"b": Share(1, 1.0)}, clock.now + HOUR)
    assert counters.total("k") == 1.0


def test_a_follower_hears_of_every_change_but_those_it_brought() -> None:
    clock = Clock()
    counters = Counters("a", clock)
    one, two = counters.follow(), counters.follow()
    counters.add("added", 1.0, HOUR)
    counters.merge("heard", {"b": Share(1, 1.0)}, 2e6, source=two)
    assert (list(one), list(two)) == (["added", "heard"], ["added"])
    one.clear()
    assert not counters.merge("heard", {"b": Share(1, 1.0)}, 2e6)
    assert not one
    clock.now += 2 * HOUR
    counters.prune()
    assert not two, "what has expired is not sent any more"


def test_many_small_additions_do_not_drift() -> None:
    counters = Counters("a", Clock())
    for _ in range(100_000):
        counters.add("k", 0.0001, HOUR)
    assert math.isclose(counters.total("k"), 10.0, rel_tol=1e-9)
