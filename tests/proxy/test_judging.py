"""Other LLMs answer a share of the requests after the user has the answer, and a judge scores them; the real proxy."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import proxy_keys
import pytest
import waiting
import yaml
from http_calls import get
from judged_llms import HANGING, JUDGE, Asked, judged_config, judged_llms
from openai import OpenAI
from planted import WIZARD

from embedllm_router import Router
from embedllm_router.cli.demo import RunningProxy, running_proxy
from embedllm_router.records.reader.recorded import Wanted, read_recorded
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.training.update.answers import gather

WAIT_S = 60.0
until = partial(waiting.until, within_s=WAIT_S)


@dataclass
class Stage:
    """A running proxy, the LLMs behind it, and where its records are."""

    proxy: RunningProxy
    llms: Asked
    records: Path

    def ask(self, model: str, text: str, key: str | None = None, **more: Any) -> str:
        """Asks and returns the call id; streamed answers are read to their end."""
        key = key or self.proxy.api_key
        with OpenAI(base_url=self.proxy.base_url, api_key=key, max_retries=0, timeout=60.0) as client:
            messages: Any = [{"role": "user", "content": text}]
            answer = client.chat.completions.with_raw_response.create(model=model, messages=messages, **more)
            parsed = answer.parse()
            if more.get("stream"):
                assert "".join(one.choices[0].delta.content or "" for one in parsed if one.choices)
            return str(answer.headers["x-litellm-call-id"])

    def rows(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        source = open_source(self.records, must_exist=False)
        try:
            return source.rows(sql, parameters)
        finally:
            source.close()

    def contenders(self, request_id: str) -> list[dict[str, Any]]:
        """What other LLMs answered to a request."""
        return until(lambda: self.rows("SELECT * FROM answers WHERE judged_for = $id", id=request_id) or None)

    def verdict(self, request_id: str) -> list[tuple[str, float]]:
        found = self.rows("SELECT source, score FROM feedback WHERE request_id = $id", id=request_id)
        return [(row["source"], row["score"]) for row in found]

    def status(self, model: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.proxy.api_key}"}
        found = get(f"{self.proxy.base_url.removesuffix('/v1')}/embedllm/api/health", headers=headers).json()
        return next(one for one in found["status"]["judging"] if one["virtual_model"] == model)

    def logged(self, event: str) -> dict[str, Any] | None:
        lines = self.proxy.log.read_text().splitlines()
        return next((json.loads(line) for line in lines if f'"{event}"' in line), None)

    def left_out(self, model: str, reason: str) -> int:
        return until(lambda: self.status(model)["left_out"].get(reason))


@pytest.fixture(scope="module")
def stage(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("judging")
    file, records = folder / "config.yaml", folder / "records"
    shutil.copy(Path(proxy_keys.__file__), folder)
    file.write_text(yaml.safe_dump(judged_config(artifact_dir, records)))
    with judged_llms() as (url, llms):
        environment = {"UPSTREAM_API_BASE": url, "EMBEDLLM_ROUTER_STORE__PATH": str(records)}
        with running_proxy(file, environment=environment) as proxy:
            yield Stage(proxy, llms, records)


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_the_better_llm_gets_the_better_verdicts(stage: Stage, more: dict[str, Any]) -> None:
    asked = stage.ask("auto", f"integral of one, {more}", temperature=0.5, max_tokens=50, **more)
    (wizard,) = stage.contenders(asked)
    assert (wizard["chosen"], wizard["served"], wizard["status"], wizard["reason"]) == ("wizard",) * 2 + (
        "success",
        "judged",
    )
    assert (wizard["judge"], wizard["judge_reversed"]) == (JUDGE, False)
    assert (wizard["judge_score"], wizard["judge_score_served"]) == pytest.approx((0.9, 0.1))
    assert (wizard["propensity"], wizard["judging_share"]) == (1.0, 1.0)
    assert wizard["billed_cost_usd"] == pytest.approx(100 * 10e-6 + 10 * 40e-6)
    assert wizard["judging_usd"] == pytest.approx(2 * (100 * 1e-6 + 10 * 4e-6))
    until(lambda: stage.verdict(asked) or None)
    assert stage.verdict(asked) == [(f"judge:{JUDGE}", pytest.approx(0.1))]
    assert stage.verdict(wizard["request_id"]) == [(f"judge:{JUDGE}", pytest.approx(0.9))]
    (sent,) = stage.llms.of(WIZARD, f"integral of one, {more}")
    assert (sent["temperature"], sent["max_tokens"], sent.get("stream")) == (0.5, 50, None)
    assert "wizard" not in json.dumps([one["messages"] for one in stage.llms.of(JUDGE, f"{more}")])


def test_equal_answers_are_a_tie_for_a_judge_that_prefers_a_place(stage: Stage) -> None:
    (wizard,) = stage.contenders(stage.ask("auto", "hello there"))
    assert wizard["judge_reversed"] is True
    assert wizard["judge_score"] == wizard["judge_score_served"] == pytest.approx(0.925)


def test_no_llm_judges_its_own_answer_where_another_can(stage: Stage) -> None:
    (sprinter,) = stage.contenders(stage.ask("auto-best", "integral of two"))
    assert (sprinter["served"], sprinter["judge"]) == ("sprinter", JUDGE)
    assert len(stage.llms.of(WIZARD, "integral of two")) == 1


def test_a_double_costs_only_the_judge_and_gives_no_verdict(stage: Stage) -> None:
    asked = stage.ask("auto-doubles", "integral of three")
    (copy,) = stage.contenders(asked)
    assert (copy["judging"], copy["served"], copy["billed_cost_usd"]) == ("double", "sprinter", 0.0)
    assert copy["judge_score"] == copy["judge_score_served"]
    assert stage.verdict(asked) == []
    assert stage.llms.of(WIZARD, "integral of three") == []


def test_requests_that_may_do_something_are_left_alone(stage: Stage) -> None:
    tool = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object", "properties": {}}}}
    stage.ask("auto", "pay, integral", tools=[tool])
    stage.ask("auto", "several, integral", n=2)
    stage.ask("auto", "kept, integral", extra_body={"store": True})
    stage.ask("auto", "secret, integral", extra_body={"no-log": True})
    stage.ask("auto-off", "off, integral")
    assert stage.left_out("auto", "several_or_stored") == 2
    for reason in ("tools_or_other_parameters", "no-log"):
        assert stage.left_out("auto", reason) == 1
    for words in ("pay,", "several,", "kept,", "secret,", "off,"):
        assert stage.llms.of(WIZARD, words) == []


def test_what_could_not_be_chosen_is_not_asked(stage: Stage) -> None:
    stage.ask("auto", "only one, integral", extra_body={"embedllm": {"candidates": ["sprinter"]}})
    stage.ask("auto-strict", "only vetted, integral")
    for model in ("auto", "auto-strict"):
        assert stage.left_out(model, "no_other_candidate") == 1
    assert stage.llms.of(WIZARD, "only ") == []


def test_the_budget_stops_it_before_anything_is_asked(stage: Stage) -> None:
    stage.ask("auto-poor", "poor, integral")
    assert stage.left_out("auto-poor", "budget") == 1
    assert stage.llms.of(WIZARD, "poor,") == []
    assert stage.status("auto-poor")["spent_usd"] == 0.0


def test_nonsense_of_the_judge_costs_its_row_alone(stage: Stage) -> None:
    asked = stage.ask("auto", "nonsense, integral")
    (wizard,) = stage.contenders(asked)
    assert (wizard["judge"], wizard["judge_score"], wizard["judging_usd"]) == (JUDGE, None, pytest.approx(1.4e-4))
    assert stage.verdict(asked) == []
    assert stage.left_out("auto", "unreadable_verdict") == 1


def test_a_judge_that_only_fails_is_given_a_rest_and_no_answer_is_paid_for_it(stage: Stage) -> None:
    for n in range(3):
        assert stage.contenders(stage.ask("auto-vain", f"vain {n}, integral"))
    stage.ask("auto-vain", "vain once more, integral")
    assert stage.left_out("auto-vain", "judge_rests") == 1
    assert stage.left_out("auto-vain", "server_error") == 3
    assert stage.llms.of(WIZARD, "vain once more") == []


def test_an_llm_that_fails_here_does_not_rest_for_users(stage: Stage) -> None:
    for n in range(2):
        (broken,) = stage.contenders(stage.ask("auto-broken", f"integral {n}"))
        assert (broken["chosen"], broken["status"], broken["error"]) == ("broken", "failure", "server_error")
        assert (broken["billed_cost_usd"], broken["judge"]) == (0.0, None)


def test_an_llm_that_the_key_may_not_call_is_never_asked(stage: Stage) -> None:
    (wizard,) = stage.contenders(stage.ask("auto-own", "anybody, integral"))
    assert wizard["chosen"] == "wizard"
    stage.ask("auto-own", "narrow, integral", key="sk-narrow")
    assert stage.left_out("auto-own", "no_other_candidate") == 1
    assert stage.llms.of(WIZARD, "narrow,") == []


def test_a_judge_that_hangs_is_given_up_after_its_time(stage: Stage) -> None:
    (wizard,) = stage.contenders(stage.ask("auto-late", "late, integral"))
    assert (wizard["served"], wizard["judge_score"]) == ("wizard", None)
    assert wizard["judging_usd"] > 0  # nobody knows what it will bill
    assert stage.left_out("auto-late", "timeout") == 1


def test_a_judge_that_cannot_judge_is_named_at_the_start(stage: Stage) -> None:
    stage.ask("auto-misjudged", "integral")
    assert stage.left_out("auto-misjudged", "no_judge") == 1
    lines = [
        json.loads(line) for line in stage.proxy.log.read_text().splitlines() if '"routing.judge_unusable"' in line
    ]
    assert {(one["judge"], one["virtual_model"]) for one in lines} == {
        ("umpyre", "auto-misjudged"),
        ("unpriced", "auto-misjudged"),
        (JUDGE, "auto-strict"),  # it has not the label that this one requires
    }
    assert any("did you mean 'umpire'?" in one["reason"] for one in lines)


def test_users_traffic_is_as_without_it_and_learning_reads_both(stage: Stage, router: Router, run_command: Any) -> None:
    before = len(stage.rows("SELECT 1 FROM requests"))
    asked = stage.ask("auto", "integral of last")
    (wizard,) = stage.contenders(asked)
    until(lambda: stage.verdict(wizard["request_id"]) or None)
    assert len(stage.rows("SELECT 1 FROM requests")) == before + 1
    source = open_source(stage.records)
    wanted = Wanted(filters=Filters(virtual_model="auto"), with_text=True, only_judged=True, with_contenders=True)
    recorded = read_recorded(source, wanted)
    source.close()
    answers = gather(recorded, router.artifact, max_weight=10.0).answers
    scores: dict[str, list[float]] = {}
    for row, score in zip(answers.llm.tolist(), answers.score.tolist(), strict=True):
        scores.setdefault(router.artifact.manifest.llms[row].id, []).append(score)
    assert min(scores[WIZARD]) == pytest.approx(0.9)
    shown = run_command("logs", "summary", "--from", str(stage.records), "--virtual-model", "auto")
    assert "judged evaluation" in shown
    assert "wizard" in shown
    headers = {"authorization": f"Bearer {stage.proxy.api_key}"}
    samples = get(f"{stage.proxy.base_url.removesuffix('/v1')}/embedllm/metrics", headers=headers).text
    assert 'embedllm_judging_left_out_total{reason="budget",virtual_model="auto-poor"} 1.0' in samples
    assert 'embedllm_judging_verdicts_total{virtual_model="auto"}' in samples
    assert "Traceback" not in stage.proxy.log.read_text()


def test_judges_that_hang_delay_no_user_and_no_end_of_the_proxy(stage: Stage) -> None:
    """The last test here: it ends the proxy. Two are judged at a time; a third request waits for them in vain."""
    asked = [stage.ask("auto-hanging", f"hang {n}, integral") for n in range(3)]
    until(lambda: len(stage.llms.of(HANGING, "hang ")) == 2 or None)
    assert stage.ask("auto", "users go on, integral")  # answered, though nobody judges it now
    until(lambda: stage.status("auto-hanging")["n_waiting"] == 4 or None)
    os.kill(stage.proxy.pid, signal.SIGTERM)
    said = waiting.until(lambda: stage.logged("judging.given_up"), within_s=30.0)
    assert said["requests"] == 4
    assert not stage.llms.released.is_set()
    users = {row["request_id"] for row in stage.rows("SELECT request_id FROM requests")}
    assert users.issuperset(asked)
    assert stage.rows("SELECT 1 FROM answers WHERE judged_for IS NOT NULL AND virtual_model = 'auto-hanging'") == []
    assert "Traceback" not in stage.proxy.log.read_text()
