"""The running proxy: every request leaves one record, and configuration and weights are replaced under load."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import http_calls
import httpx
import openai
import pytest
import waiting
import yaml
from proxied import all_events, planted_config
from typer.testing import CliRunner

from embedllm_router.cli.demo import RunningProxy, running_proxy
from embedllm_router.cli.main import app

WAIT_S = 15.0
until = partial(waiting.until, within_s=WAIT_S)
MATHS: Any = [{"role": "user", "content": "integral"}]


class Stage:
    """A proxy whose configuration file, weights and records a test may look at and change."""

    def __init__(self, folder: Path, artifact: Path) -> None:
        self.records, self.artifact, self.file = folder / "records", folder / "weights", folder / "config.yaml"
        shutil.copytree(artifact, self.artifact)
        self.config: dict[str, Any] = planted_config(self.artifact)
        section = self.config["callback_settings"]["embedllm_router"]
        section |= {"reload": {"every_s": 0.1}, "store": {"flush_s": 0.1}}
        section["virtual_models"]["auto-trial"] = {
            "default": "sprinter",
            "cost_weight": 1,
            "canary": {"share": "30%", "cost_weight": 1000},
            "shadow": {"max_accuracy_drop": 1.0},
        }
        self.config["router_settings"]["model_group_alias"]["auto-trial"] = "sprinter"
        self.write()
        self.proxy: RunningProxy

    def write(self) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(self.config))
        fresh.replace(self.file)

    @property
    def auto(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.config["callback_settings"]["embedllm_router"]["virtual_models"]["auto"]
        return settings

    def ask(self, model: str = "auto", **extra: Any) -> httpx.Headers:
        raw = self.client().chat.completions.with_raw_response.create(model=model, messages=MATHS, **extra)
        raw.parse()
        return raw.headers

    def client(self) -> openai.OpenAI:
        proxy, http = self.proxy, http_calls.client()
        return openai.OpenAI(base_url=proxy.base_url, api_key=proxy.api_key, max_retries=0, http_client=http)

    def post(self, path: str, key: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.proxy.api_key}"}
        return http_calls.post(self.proxy.base_url.replace("/v1", path), headers=headers, timeout=30)

    def record(self, request_id: str) -> dict[str, Any]:
        """The record of one request, which reaches the disk a moment after its answer."""
        return until(lambda: next((r for r in self.all_records() if r["request_id"] == request_id), None))

    def all_records(self) -> list[dict[str, Any]]:
        lines = [line for file in self.records.glob("requests-*.jsonl") for line in file.read_bytes().splitlines()]
        return [json.loads(line) for line in lines if line.endswith(b"}")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [e for e in all_events(self.proxy) if e["event"] == name]


@pytest.fixture(scope="module")
def stage(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    one = Stage(tmp_path_factory.mktemp("stage"), artifact_dir)
    environment = {"EMBEDLLM_ROUTER_STORE__PATH": str(one.records)}
    with running_proxy(one.file, environment=environment) as proxy:
        one.proxy = proxy
        yield one


def test_a_request_leaves_one_record_with_decision_and_outcome(stage: Stage) -> None:
    headers = stage.ask()
    record = stage.record(headers["x-litellm-call-id"])
    assert (record["virtual_model"], record["chosen"], record["served"]) == ("auto", "wizard", "wizard")
    assert (record["status"], record["reason"], record["arm"]) == ("success", "highest_utility", "live")
    assert record["p_correct"] == pytest.approx(float(headers["x-embedllm-p-correct"]), abs=1e-4)
    assert record["billed_output_tokens"] > 0
    assert record["billed_cost_usd"] > 0
    assert record["response_id"].startswith("chatcmpl-")
    assert record["candidates"][0]["name"] == "wizard"
    assert record["prompt"] is None
    assert len(record["prompt_hash"]) == 24


def test_a_stream_leaves_one_record(stage: Stage) -> None:
    raw = stage.client().chat.completions.with_raw_response.create(model="auto", messages=MATHS, stream=True)
    assert "".join(e.choices[0].delta.content or "" for e in raw.parse() if e.choices)
    record = stage.record(raw.headers["x-litellm-call-id"])
    assert record["status"] == "success"
    assert record["latency_ms"] > 0


def test_a_bad_wish_is_refused_and_leaves_no_record(stage: Stage) -> None:
    before = len(stage.all_records())
    with pytest.raises(openai.BadRequestError):
        stage.ask(extra_body={"embedllm": {"cost_weight": -1}})
    assert until(lambda: stage.events("routing.rejected") or None)[-1]["field"] == "embedllm.cost_weight"
    time.sleep(0.3)  # three flushes
    assert len(stage.all_records()) == before


def test_each_user_stays_on_one_side_of_a_canary_and_the_shadow_is_recorded(stage: Stage) -> None:
    sides: dict[str, set[str]] = {}
    for _ in range(2):
        for number in range(20):
            user = f"user-{number}"
            headers = stage.ask("auto-trial", user=user)
            record = stage.record(headers["x-litellm-call-id"])
            sides.setdefault(user, set()).add(record["arm"])
            assert record["chosen"] == {"live": "wizard", "canary": "sprinter"}[record["arm"]]
            assert record["objective_from"] == {"live": "config", "canary": "canary"}[record["arm"]]
            assert record["shadow_chosen"] == "sprinter", "the cheapest is within 1.0 of anything"
    assert all(len(arms) == 1 for arms in sides.values())
    assert {"live"} in sides.values()
    assert {"canary"} in sides.values()


def test_configuration_and_weights_are_replaced_without_losing_a_request(stage: Stage) -> None:
    stop, failures, answered = threading.Event(), list[str](), list[str]()

    def load() -> None:
        while not stop.is_set() and len(answered) < 2_000:
            try:
                answered.append(stage.ask()["x-embedllm-chosen"])
            except openai.OpenAIError as error:
                failures.append(repr(error))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        stage.auto["cost_weight"] = 1000
        stage.write()
        until(lambda: "sprinter" in answered[-1:] or None)
        stage.auto["cost_weight"] = 1
        stage.write()
        until(lambda: "wizard" in answered[-1:] or None)
        _touch_weights(stage)
        until(lambda: len(stage.events("routing.reloaded")) >= 3 or None)
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not failures
    ids = {stage.record(stage.ask()["x-litellm-call-id"])["artifact"], stage.all_records()[0]["artifact"]}
    assert len(ids) == 2, "every record names the weights that decided"


def _touch_weights(stage: Stage) -> None:
    manifest = stage.artifact / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"2026-01-01"', '"2026-05-05"'))


def test_what_does_not_load_is_rolled_back_and_said(stage: Stage) -> None:
    stage.auto["cost_weight"] = "dear"
    stage.write()
    failed = until(lambda: stage.events("routing.reload_failed") or None)
    assert "auto.cost_weight" in failed[-1]["error"]
    assert stage.ask()["x-embedllm-chosen"] == "wizard"
    answer = stage.post("/embedllm/reload")
    assert answer.status_code == 409
    assert "auto.cost_weight" in answer.text
    stage.auto["cost_weight"] = 1
    stage.write()
    assert stage.post("/embedllm/reload").json()["generation"] > 1


def test_reloading_needs_the_proxy_s_key(stage: Stage) -> None:
    assert stage.post("/embedllm/reload", key="sk-wrong").status_code in {400, 401, 403}
    assert http_calls.post(stage.proxy.base_url.replace("/v1", "/embedllm/reload")).status_code in {401, 403}


def test_an_llm_added_from_a_few_answers_is_routed_to_without_a_restart(stage: Stage, tmp_path: Path) -> None:
    """`stranger` has a deployment, and the weights do not know it until forty answers to maths say that it is good."""
    near: Any = {"extra_body": {"embedllm": {"within": 0.2}}}
    assert stage.ask(**near)["x-embedllm-chosen"] == "wizard"
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"prompt": f"integral {i}", "llm": "stranger", "score": 1}) + "\n" for i in range(40))
    )
    run = CliRunner()
    assert run.invoke(app, ["ingest", str(answers), "--out", str(tmp_path / "data")]).exit_code == 0
    where = ["--artifact", str(stage.artifact), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "weights")]
    assert run.invoke(app, ["add", "stranger", *where]).exit_code == 0
    stage.config["callback_settings"]["embedllm_router"]["artifact"] = str(tmp_path / "weights")
    stage.write()
    until(lambda: stage.ask(**near)["x-embedllm-chosen"] == "stranger" or None)
    assert stage.ask("stranger").get("x-embedllm-chosen") is None, "asked for by name it is not routed"
