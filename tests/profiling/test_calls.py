"""Requests never exceed the budget, are tried again within bounds, and are never paid twice."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedllm_router.errors import ConfigError
from embedllm_router.profiling import calls
from embedllm_router.profiling.calls import Budget, Call, Caller, Pace
from embedllm_router.profiling.journal import CallKey, Journal
from embedllm_router.proxy.call import Failure, Message, Reply, bound_usd, cost_usd
from embedllm_router.routing.pool import Candidate, PriceTier

MESSAGES = (Message("user", "q"),)
Answer = Callable[[str, int], Reply]


def _reply(usd: float | None = 0.1, outcome: str = "answered") -> Reply:
    return Reply(outcome, "a" if outcome == "answered" else "", 1, 1, usd, 0.0)  # type: ignore[arg-type]


class _Provider:
    """Answers as it is told; counts what it was asked at once."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked, self.active, self.most_active = answer, Counter[str](), 0, 0

    async def ask(self, group: str, messages: Sequence[Message], max_tokens: int, effort: str | None) -> Reply:
        del messages, max_tokens, effort
        self.asked[group] += 1
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(0)
            return self.answer(group, self.asked[group])
        finally:
            self.active -= 1


async def _mark(call: Call, reply: Reply) -> tuple[float | None, str]:
    del call, reply
    return 1.0, ""


def _caller(provider: _Provider, journal: Journal, limit: float = 100.0, concurrency: int = 4) -> Caller:
    budget = Budget(limit, journal.history.counted_usd)
    return Caller(provider, budget, journal, Pace(concurrency), price=lambda _, reply: reply.cost_usd, mark=_mark)


def _calls(n: int, llm: str = "m", bound: float = 1.0) -> list[Call]:
    return [Call(CallKey(llm, str(i)), MESSAGES, bound, 10) for i in range(n)]


def _once(wanted: list[Call]) -> Callable[[], list[Call]]:
    batches = iter([wanted])
    return lambda: next(batches, [])


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_BACKOFF_S", 0.0)
    monkeypatch.setattr(calls, "_IDLE_S", 0.0)


@settings(max_examples=60, deadline=None)
@given(
    bounds=st.lists(st.floats(0.01, 3.0), min_size=1, max_size=25),
    limit=st.floats(0.0, 12.0),
    seed=st.integers(0, 1000),
    concurrency=st.integers(1, 6),
)
def test_the_budget_is_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory, bounds: list[float], limit: float, seed: int, concurrency: int
) -> None:
    """Bills, unknown bills at their most and requests under way, over any sequence of outcomes, in one run or two."""
    rng = random.Random(seed)
    journal = Journal(tmp_path_factory.mktemp("j") / "j.jsonl")
    owed = 0.0
    wanted = [Call(CallKey(f"m{i % 3}", str(i)), MESSAGES, bound, 10) for i, bound in enumerate(bounds)]
    by_key = {call.key: call for call in wanted}

    class Provider:
        async def ask(self, group: str, messages: Sequence[Message], max_tokens: int, effort: str | None) -> Reply:
            nonlocal owed
            del messages, max_tokens, effort
            assert caller.budget.counted_usd + caller.budget.in_flight_usd <= limit + 1e-9
            await asyncio.sleep(0)
            bound = min(call.bound_usd for call in wanted if call.key.llm == group)
            if rng.random() < 0.3:
                owed += bound  # a provider may bill what it never says
                raise Failure("timeout", "", billed=None)
            if rng.random() < 0.2:
                raise Failure("rate_limited", "", billed=False, retry_after_s=0.0)
            bill = rng.uniform(0, bound)
            owed += bill
            return _reply(bill)

    for _ in range(2):
        budget = Budget(limit, journal.history.counted_usd)
        caller = Caller(
            Provider(), budget, journal, Pace(concurrency), price=lambda _, reply: reply.cost_usd, mark=_mark
        )
        asyncio.run(caller.carry_out(_once(wanted)))
        assert caller.budget.counted_usd <= limit + 1e-9
        assert caller.budget.in_flight_usd == pytest.approx(0.0, abs=1e-9)
        assert journal.history.counted_usd == pytest.approx(caller.budget.counted_usd)
        assert owed <= journal.history.counted_usd + 1e-9
    assert set(journal.history.ended) <= set(by_key)
    journal.close()


def test_at_most_so_many_requests_are_sent_at_once(tmp_path: Path) -> None:
    provider, journal = _Provider(lambda *_: _reply()), Journal(tmp_path / "j")
    asyncio.run(_caller(provider, journal, concurrency=3).carry_out(_once(_calls(20))))
    assert provider.most_active == 3
    assert provider.asked["m"] == 20
    journal.close()


def test_what_the_journal_settles_is_not_sent_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    asyncio.run(_caller(_Provider(lambda *_: _reply()), journal).carry_out(_once(_calls(5))))
    again = _Provider(lambda *_: _reply())
    asyncio.run(_caller(again, journal).carry_out(_once(_calls(8))))
    assert again.asked["m"] == 3
    journal.close()


@pytest.mark.parametrize(
    ("outcome", "billed", "most"),
    [
        ("rate_limited", False, 10),
        ("server_error", False, 4),
        ("connection", None, 3),
        ("timeout", None, 2),
        ("bad_request", False, 1),
    ],
)
def test_failures_are_tried_again_so_often_and_keep_their_kind(
    tmp_path: Path,
    outcome: str,
    billed: bool | None,  # noqa: FBT001 - a case's parameter
    most: int,
) -> None:
    def fail(*_: object) -> Reply:
        raise Failure(outcome, "said so", billed=billed, retry_after_s=0.0)  # type: ignore[arg-type]

    provider, journal = _Provider(fail), Journal(tmp_path / "j")
    asyncio.run(_caller(provider, journal).carry_out(_once(_calls(1))))
    assert provider.asked["m"] == most
    end = journal.history.ended[CallKey("m", "0")]
    assert (end.outcome, end.attempt, end.score) == (outcome, most, None)
    assert journal.history.counted_usd == (0.0 if billed is False else float(most))
    journal.close()


def test_an_llm_that_fails_again_and_again_is_given_up_and_others_are_not(tmp_path: Path) -> None:
    def answer(group: str, _: int) -> Reply:
        if group == "dead":
            raise Failure("server_error", "HTTP 500", billed=False)
        return _reply()

    provider, journal = _Provider(answer), Journal(tmp_path / "j")
    caller = _caller(provider, journal, concurrency=2)
    asyncio.run(caller.carry_out(_once([*_calls(50, "dead"), *_calls(50, "well")])))
    assert provider.asked["well"] == 50
    assert provider.asked["dead"] < 200
    assert caller.given_up == {"dead": "server_error: HTTP 500"}
    journal.close()


def test_a_wrong_key_is_said_at_once(tmp_path: Path) -> None:
    def refuse(*_: object) -> Reply:
        raise Failure("not_allowed", "HTTP 401", billed=False)

    provider, journal = _Provider(refuse), Journal(tmp_path / "j")
    caller = _caller(provider, journal, concurrency=1)
    asyncio.run(caller.carry_out(_once(_calls(50))))
    assert provider.asked["m"] == 1
    assert caller.given_up == {"m": "not_allowed: HTTP 401"}
    journal.close()


def test_a_rate_limit_holds_the_whole_llm_back_as_long_as_the_provider_asks(tmp_path: Path) -> None:
    moments: list[float] = []

    def answer(_group: str, count: int) -> Reply:
        moments.append(asyncio.get_running_loop().time())
        if count == 1:
            raise Failure("rate_limited", "", billed=False, retry_after_s=0.2)
        return _reply()

    journal = Journal(tmp_path / "j")
    asyncio.run(_caller(_Provider(answer), journal, concurrency=1).carry_out(_once(_calls(3))))
    assert moments[1] - moments[0] >= 0.19
    journal.close()


def test_a_request_that_never_fits_ends_its_llm_and_cheaper_ones_go_on(tmp_path: Path) -> None:
    provider, journal = _Provider(lambda *_: _reply(0.1)), Journal(tmp_path / "j")
    caller = _caller(provider, journal, limit=2.0)
    asyncio.run(caller.carry_out(_once([*_calls(5, "dear", bound=3.0), *_calls(5, "cheap", bound=0.5)])))
    assert provider.asked == {"cheap": 5}
    assert caller.given_up == {"dear": "the budget is used up"}
    journal.close()


def test_an_error_of_ours_ends_everything(tmp_path: Path) -> None:
    """A journal that cannot be written must not be followed by more requests."""
    provider, journal = _Provider(lambda *_: _reply()), Journal(tmp_path / "j")
    journal.close()
    with pytest.raises(ConfigError):
        asyncio.run(_caller(provider, journal).carry_out(_once(_calls(50))))
    assert provider.asked["m"] == 0


def test_answers_are_not_kept_where_that_was_asked(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    budget = Budget(10.0)
    caller = Caller(
        _Provider(lambda *_: _reply()), budget, journal, Pace(1, keeps_answers=False), price=lambda *_: 0.1, mark=_mark
    )
    asyncio.run(caller.carry_out(_once(_calls(2))))
    assert [end.text for end in journal.history.ended.values()] == [None, None]
    journal.close()


def test_the_bound_is_of_the_dearest_tier_and_of_every_byte() -> None:
    tiers = (PriceTier(100_000, 2e-6, 8e-6),)
    candidate = Candidate("m", None, None, 1e-6, 4e-6, usd_per_request=0.5, tiers=tiers)
    assert cost_usd(candidate, 10, 10) == pytest.approx(0.5 + 10e-6 + 40e-6)
    assert cost_usd(candidate, 200_000, 10) == pytest.approx(0.5 + 0.4 + 80e-6)
    bound = bound_usd(candidate, 10, 1, 10)
    assert bound is not None
    assert bound == pytest.approx(0.5 + 2e-6 * (10 + 64) + 80e-6)
    assert bound_usd(Candidate("m", None, None, None, 1.0), 1, 1, 1) is None
