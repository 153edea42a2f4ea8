"""The budget of judged evaluation is one for all processes, and groups that are left alone are not asked."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recorded import make_record
from state_folder import Heard, opened

from embedllm_router.config.virtual_model import JudgingSettings
from embedllm_router.prediction.scorer import Scores
from embedllm_router.proxy.call import Message, Reply
from embedllm_router.proxy.judging.asking import Panel, Purse
from embedllm_router.proxy.judging.drawing import Conversation, Job, NotJudged, conversation_of
from embedllm_router.proxy.judging.recording import Answer
from embedllm_router.routing.decision import Objective, Request
from embedllm_router.routing.policy import rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool, Exclusion
from embedllm_router.serving.state.shared import SharedState

LIMIT = 1.0
DAY_S = 86_400.0


async def taken(purse: Purse, usd: float) -> float:
    try:
        await purse.reserve("auto", LIMIT, usd)
    except NotJudged:
        return 0.0
    return usd


async def told(states: Sequence[SharedState]) -> None:
    for state in (*states, *states):  # what the first tells, and what the last one told
        await state.exchange()


async def test_processes_of_one_host_keep_one_budget(tmp_path: Path) -> None:
    heard = Heard()
    states = [opened(tmp_path, heard) for _ in range(3)]
    purses = [Purse(state, heard.log) for state in states]
    spent = [await taken(purses[i % 3], 0.15) for i in range(9)]
    assert spent == [0.15] * 6 + [0.0] * 3
    await told(states)
    assert [purse.spent_usd("auto") for purse in purses] == pytest.approx([0.9] * 3)
    assert heard.events.count("judging.budget_used_up") == 3  # each process says so once


async def test_at_the_same_moment_they_never_take_more_than_there_is(tmp_path: Path) -> None:
    heard = Heard()
    states = [opened(tmp_path, heard) for _ in range(4)]
    purses = [Purse(state, heard.log) for state in states]
    spent = 0.0
    for _ in range(4):
        spent += sum(await asyncio.gather(*(taken(purse, 0.15) for purse in purses for _ in range(2))))
        await told(states)
        assert purses[0].spent_usd("auto") == pytest.approx(spent)
    assert spent <= LIMIT


async def test_what_a_call_did_not_cost_is_there_for_the_next_and_a_day_later_all_of_it(tmp_path: Path) -> None:
    heard, now = Heard(), [1_000 * DAY_S]
    one, two = (Purse(opened(tmp_path, heard, lambda: now[0]), heard.log) for _ in range(2))
    reserved = await one.reserve("auto", LIMIT, 0.8)
    assert await taken(two, 0.3) == 0.0
    one.settle(reserved, 0.1 - 0.8)
    await one.reserve("auto", LIMIT, 0.01)  # with the exchange that tells the other one
    assert await taken(two, 0.3) == 0.3
    now[0] += DAY_S
    assert await taken(two, 0.9) == 0.9


GROUPS = [Candidate(name, name, i, 1e-6, 1e-6) for i, name in enumerate(("sprinter", "wizard", "novice"))]


def job(contenders: tuple[str, ...]) -> Job:
    scores = Scores(np.array([0.9, 0.8, 0.7], dtype=np.float32), np.full(3, 10, dtype=np.float32))
    decision = rank_candidates(CandidatePool(GROUPS), scores, Request(Objective(), 10))
    row = replace(make_record(1), virtual_model="auto", served="sprinter", chosen="sprinter")
    settings = JudgingSettings(share=1.0, usd_per_day=LIMIT, judges=("umpire", "second"), max_output_tokens=16)
    return Job(row, decision, Conversation((Message("user", "q"),), {}, None, "a"), settings, contenders, 1.0)


def read(body: Mapping[str, object], answer: str = "two", role: object = "user") -> Conversation:
    """What is read of a request whose provider took whatever its body says."""
    kwargs = {
        "litellm_params": {"proxy_server_request": {"body": body}},
        "messages": [{"role": role, "content": "one"}],
    }
    message = SimpleNamespace(content=answer, tool_calls=None, function_call=None)
    return conversation_of(kwargs, SimpleNamespace(choices=[SimpleNamespace(message=message)]))


def test_a_body_of_any_kind_is_read_or_left_alone() -> None:
    for n in (2, [1], {"a": 1}, "x"):
        with pytest.raises(NotJudged, match="several_or_stored"):
            read({"n": n})
    with pytest.raises(NotJudged, match="not_text"):
        read({}, role=["user"])
    assert read({"n": 1}, answer="lone \ud800 surrogate").answer == "lone ? surrogate"


def test_no_limit_of_a_request_makes_the_bound_of_its_calls_negative() -> None:
    said = [read({"max_tokens": limit}).max_tokens for limit in (-(10**9), 0, "5", 5)]
    assert said == [None, None, None, 5]
    assert read({"max_completion_tokens": -1, "max_tokens": 7}).max_tokens == 7


class Replies:
    """Answers everything, and notes whom it asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, group: str, *_: object, **__: object) -> Reply:
        self.asked.append(group)
        text = '{"A": 1, "B": 0}' if group in {"umpire", "second"} else "an answer"
        return Reply("answered", text, 1, 1, None, 0.1)


async def answers(
    monkeypatch: pytest.MonkeyPatch, place: Path, excluded: Mapping[str, Exclusion], contenders: tuple[str, ...]
) -> tuple[list[Answer], list[str]]:
    """What a job comes to where some groups are left alone, and who was asked."""
    heard, replies = Heard(), Replies()
    state = opened(place, heard)
    groups = {name: SimpleNamespace(candidate=Candidate(name, name, 9, 1e-6, 1e-6)) for name in ("umpire", "second")}
    live: Any = SimpleNamespace(served=SimpleNamespace(groups=groups))
    panel = Panel(live, Purse(state, heard.log), lambda: excluded, state.clock, heard.log, lambda *_: None)

    async def asker(_: JudgingSettings) -> Replies:
        return replies

    monkeypatch.setattr(panel, "_asker_of", asker)
    found, _ = await panel.judged(job(contenders))
    return found, replies.asked


async def test_a_contender_over_its_budget_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    over = {"wizard": Exclusion.OVER_BUDGET}
    found, asked = await answers(monkeypatch, tmp_path, over, ("wizard", "novice"))
    assert [(one.name, one.error) for one in found] == [
        ("sprinter", None),
        ("wizard", Exclusion.OVER_BUDGET),
        ("novice", None),
    ]
    assert asked == ["novice", "umpire", "umpire"]


async def test_a_judge_that_rests_leaves_it_to_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, asked = await answers(monkeypatch, tmp_path, {"umpire": Exclusion.RESTING}, ("wizard",))
    assert asked == ["wizard", "second", "second"]


async def test_where_every_judge_is_over_its_budget_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    over = dict.fromkeys(("umpire", "second"), Exclusion.OVER_BUDGET)
    with pytest.raises(NotJudged, match="no_judge"):
        await answers(monkeypatch, tmp_path, over, ("wizard",))
