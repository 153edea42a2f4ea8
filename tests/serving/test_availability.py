"""Model groups that keep failing rest, are tried by one request at a time, and come back when they answer."""

import io
import random

import pytest

from embedllm_router.config.process import LogSettings, RestingSettings
from embedllm_router.config.settings import read_settings
from embedllm_router.errors import ConfigError
from embedllm_router.routing.pool import Exclusion
from embedllm_router.serving.availability import Availability
from embedllm_router.telemetry.log import configure_logging


class Ward:
    """What is left alone, on a clock that a test turns."""

    def __init__(self, **settings: float | None) -> None:
        self.now = 1000.0
        self.log = io.StringIO()
        self.settings = RestingSettings(**settings)  # type: ignore[arg-type]  # a wrong one raises
        log = configure_logging(LogSettings(), self.log)
        self.availability = Availability(lambda: self.settings, log, lambda: self.now)

    def call(self, *, fails: bool, took_s: float = 0.0, group: str = "g") -> None:
        (self.availability.failed if fails else self.availability.answered)(group, took_s)

    def after(self, seconds: float) -> "Ward":
        self.now += seconds
        self.availability.look_at_the_clock()
        return self

    def rests(self) -> bool:
        return self.availability.excluded == {"g": Exclusion.RESTING}

    def waits(self) -> bool:
        """Whether it waits for a request to try it."""
        return self.availability.excluded == {} and self.availability.on_trial == {"g"}


def failing(**settings: float | None) -> Ward:
    ward = Ward(**settings)
    for _ in range(5):
        ward.call(fails=True)
    return ward


def test_a_group_rests_after_as_many_failures_as_the_settings_say() -> None:
    ward = Ward()
    for _ in range(4):
        ward.call(fails=True)
    assert not ward.rests()
    ward.call(fails=True)
    assert ward.rests()
    assert '"event":"routing.llm_rests"' in ward.log.getvalue()


@pytest.mark.parametrize("seed", range(20))
def test_of_the_latest_calls_only_so_many_may_fail(seed: int) -> None:
    """Against a naive count over the whole history."""
    dice, ward, history = random.Random(seed), Ward(failures=4, of_calls=9), list[bool]()
    for _ in range(300):
        fails = dice.random() < 0.25
        history.append(fails)
        ward.call(fails=fails)
        assert ward.rests() == (sum(history[-9:]) >= 4)
        if ward.rests():
            return


def test_one_request_tries_it_when_its_rest_is_over() -> None:
    ward = failing()
    assert ward.after(9.9).rests()
    assert ward.after(0.1).waits()
    ward.availability.trying("g")
    assert ward.rests(), "others wait for what comes of it"
    ward.call(fails=False)
    assert (ward.rests(), ward.availability.on_trial) == (False, frozenset())
    for _ in range(4):
        ward.call(fails=True)
    assert not ward.rests(), "what was before the rest is forgotten"


def test_each_trial_that_fails_doubles_the_rest_up_to_a_limit() -> None:
    ward = failing(max_rest_s=35)
    for rest_s in (10, 20, 35, 35):
        assert ward.after(rest_s - 0.1).rests()
        assert ward.after(0.1).waits()
        ward.availability.trying("g")
        ward.call(fails=True)
        ward.call(fails=True)
        assert ward.rests()


def test_a_trial_whose_end_nobody_hears_of_is_followed_by_another() -> None:
    ward = failing().after(10)
    ward.availability.trying("g")
    assert ward.after(9).rests()
    assert ward.after(1).waits()


def test_calls_that_began_before_it_rested_say_nothing() -> None:
    ward = failing()
    ward.now += 5
    ward.call(fails=False, took_s=6)
    assert ward.rests()
    ward.call(fails=False, took_s=4)
    assert not ward.rests()
    for _ in range(5):
        ward.call(fails=True, took_s=1)
    assert not ward.rests(), "they began before it answered again"


def test_failures_while_it_rests_do_not_lengthen_the_rest() -> None:
    ward = failing()
    for _ in range(9):
        ward.call(fails=True)
    assert ward.after(10).waits()


def test_groups_fail_each_for_itself_and_what_litellm_refuses_is_replaced_by_reason() -> None:
    ward = failing()
    ward.call(fails=True, group="h")
    ward.availability.refuse(Exclusion.OVER_BUDGET, ["h", "g"])
    ward.availability.refuse(Exclusion.COOLED_DOWN, ["i"])
    assert ward.availability.excluded == {"g": "over_budget", "h": "over_budget", "i": "cooled_down"}
    ward.availability.refuse(Exclusion.OVER_BUDGET, ())
    assert ward.availability.excluded == {"g": "resting", "i": "cooled_down"}


def test_none_rests_where_the_settings_say_so_also_when_they_are_replaced() -> None:
    ward = failing()
    ward.settings = RestingSettings(failures=None)
    assert not ward.after(0).rests()
    for _ in range(9):
        ward.call(fails=True)
    assert not ward.rests()


def test_more_failures_than_calls_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"resting: .*failures is 11, of only 10 calls"):
        read_settings({"virtual_models": {"auto": {"default": "x"}}, "resting": {"failures": 11}})
