"""The proxy learns from verdicts by itself, takes up what it learned, and nothing that goes wrong there harms it."""

import asyncio
import io
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import http_calls
import httpx
import orjson
import pytest
import waiting
import yaml
from feedback_log import GOOD, World, changed
from planted import WIZARD
from proxied import planted_config
from typer.testing import CliRunner

from embedllm_router import Router
from embedllm_router.artifact.versions import Versions
from embedllm_router.cli.demo import RunningProxy, running_proxy
from embedllm_router.cli.main import app
from embedllm_router.config.process import LogSettings
from embedllm_router.config.settings import read_proxy_config
from embedllm_router.errors import ConfigError
from embedllm_router.proxy.adapting import Adapting
from embedllm_router.records.reader.source import LateSource, Limits
from embedllm_router.serving.snapshot import LiveSnapshot
from embedllm_router.telemetry.log import configure_logging

WAIT_S = 180.0
until = partial(waiting.until, within_s=WAIT_S, every_s=0.1)
MATHS: Any = [{"role": "user", "content": "integral"}]
WORSE = World(changed(WIZARD, "maths", 0.2), n=400)


class Stage:
    """Records of a past day, a configuration that learns from verdicts on them, and where that is kept."""

    def __init__(self, folder: Path, artifact: Path, router: Router) -> None:
        self.records, self.learned, self.file = folder / "records", folder / "learned", folder / "config.yaml"
        self.versions = Versions(self.learned, router.artifact_id)
        self.config: dict[str, Any] = planted_config(artifact)
        self.section: dict[str, Any] = self.config["callback_settings"]["embedllm_router"]
        self.section |= {
            "reload": {"every_s": 0.1},
            "store": {"path": str(self.records), "flush_s": 0.1, "embedding": True},
            "adaptation": {"every": 50, "path": str(self.learned), "check_s": 0.2},
        }
        self.write()
        requests, self.feedback = WORSE.log(router)
        self.records.mkdir()
        lines = b"".join(orjson.dumps(one) + b"\n" for one in requests)
        (self.records / "requests-20260101T000000Z-planted.jsonl").write_bytes(lines)

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.config))

    def judge(self) -> None:
        lines = b"".join(orjson.dumps(one) + b"\n" for one in self.feedback)
        (self.records / "feedback-20260101T000000Z-planted.jsonl").write_bytes(lines)


@pytest.fixture
def stage(tmp_path: Path, artifact_dir: Path, router: Router, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path, artifact_dir, router)
    monkeypatch.setenv("EMBEDLLM_ROUTER_STORE__PATH", str(made.records))
    return made


class Asked:
    """A running proxy, asked."""

    def __init__(self, proxy: RunningProxy) -> None:
        self._proxy, self._headers = proxy, {"authorization": f"Bearer {proxy.api_key}"}
        self._root = proxy.base_url.removesuffix("/v1")

    def p_correct(self) -> float:
        body = {"model": "auto-quality", "messages": MATHS}
        answer = http_calls.post(f"{self._proxy.base_url}/chat/completions", json=body, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return float(answer.headers["x-embedllm-p-correct"])

    def feedback(self, verdicts: list[dict[str, Any]]) -> httpx.Response:
        return http_calls.post(f"{self._root}/embedllm/feedback", json=verdicts, headers=self._headers)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = http_calls.get(f"{self._root}/embedllm/api/health", headers=self._headers).json()
        return dict(found["status"])

    def attempts(self) -> list[dict[str, Any]]:
        return list(self.status()["adaptation"]["attempts"])

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._proxy.log.read_text(errors="replace").splitlines()
        return [e for line in lines if line.startswith("{") and (e := json.loads(line)).get("event") == name]


@pytest.fixture
def asked(stage: Stage) -> Iterator[Asked]:
    environment = {"EMBEDLLM_ROUTER_STORE__PATH": str(stage.records)}
    with running_proxy(stage.file, environment=environment) as proxy:
        yield Asked(proxy)


def test_verdicts_given_over_http_change_what_decides_until_they_are_undone(stage: Stage, asked: Asked) -> None:
    assert asked.p_correct() == pytest.approx(GOOD, abs=1e-3)
    given = [{"request_id": one.request_id, "score": one.score} for one in stage.feedback]
    assert asked.feedback(given).is_success
    until(lambda: asked.p_correct() < 0.5 or None)
    learned = until(lambda: next(iter(asked.events("adaptation.learned")), None))
    assert learned["n_verdicts"] == 400
    assert learned["change_high"] < 0
    status = asked.status()
    assert status["artifact"] == learned["artifact"] == stage.versions.current()
    assert status["artifact_path"] == str(stage.versions.folder / learned["artifact"])
    assert [one["outcome"] for one in status["adaptation"]["attempts"]] == ["learned"]

    undone = CliRunner().invoke(app, ["learn", "--undo", "--config", str(stage.file)])
    assert undone.exit_code == 0, undone.output
    assert learned["artifact"] in undone.stdout
    until(lambda: asked.p_correct() > 0.9 or None)
    until(lambda: (asked.attempts()[0]["outcome"] == "undone") or None)
    again = CliRunner().invoke(app, ["learn", "--undo", "--config", str(stage.file)])
    assert again.exit_code == 1
    assert "nothing to undo" in again.stdout
    time.sleep(1)  # five counts
    assert asked.status()["adaptation"]["n_new"] == 0
    assert asked.p_correct() == pytest.approx(GOOD, abs=1e-3)


class Apart:
    """The part that learns, without a proxy around it."""

    def __init__(self, stage: Stage) -> None:
        self._log, settings = io.StringIO(), read_proxy_config(stage.file)
        log = configure_logging(LogSettings(), self._log)
        self.live = LiveSnapshot(settings, log, stage.file)
        self.adapting = Adapting(self.live, LateSource(settings.store.place, Limits(1, "512MB")), log)

    def run(self, done: Callable[[], object]) -> None:
        """Runs it until something is so."""

        async def run() -> None:
            task = asyncio.create_task(self.adapting.run())
            deadline = time.monotonic() + WAIT_S
            while not done() and not task.done():
                assert time.monotonic() < deadline, self._log.getvalue()
                await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()

        asyncio.run(run())

    def events(self, name: str) -> list[dict[str, Any]]:
        return [e for line in self._log.getvalue().splitlines() if (e := json.loads(line))["event"] == name]

    def p_correct(self) -> float:
        router = self.live.snapshot.router
        assert router is not None
        return float(next(a.p_correct for a in router.route("integral").decision.assessments() if a.llm == WIZARD) or 0)


def test_without_the_setting_nothing_is_counted_or_learned(stage: Stage) -> None:
    stage.section["adaptation"] = {"check_s": 0.01}
    stage.write()
    stage.judge()
    apart = Apart(stage)
    started = time.monotonic()
    apart.run(lambda: time.monotonic() > started + 0.3)
    assert apart.adapting.status() is None
    assert not stage.learned.exists()


def test_what_was_learned_decides_after_a_restart_too_unless_it_is_damaged(stage: Stage) -> None:
    stage.judge()
    apart = Apart(stage)
    assert not apart.live.changed()
    apart.run(lambda: apart.events("adaptation.learned"))
    assert apart.live.changed()
    apart.live.reload()
    assert apart.p_correct() < 0.5
    again = Apart(stage)
    assert again.live.snapshot.router is not None
    assert again.live.snapshot.router.artifact_id == stage.versions.current()
    assert again.p_correct() < 0.5
    folder = stage.versions.folder / stage.versions.current()
    for harmed in (folder / "decoder.safetensors", folder / "manifest.json", stage.versions.pointer):
        whole = harmed.read_bytes()
        harmed.write_bytes(b"{}")
        again = Apart(stage)
        assert again.p_correct() == pytest.approx(GOOD, abs=1e-3), harmed
        assert "decide" in again.events("adaptation.weights_unusable")[0]["consequence"]
        again.live.reload()
        assert again.p_correct() == pytest.approx(GOOD, abs=1e-3), harmed
        harmed.write_bytes(whole)


def test_of_two_proxies_one_learns(stage: Stage) -> None:
    stage.judge()
    apart = Apart(stage)
    with stage.versions.lock() as held:
        assert held is not None
        started = time.monotonic()
        apart.run(lambda: time.monotonic() > started + 1)
    assert stage.versions.attempts() == ()
    status = apart.adapting.status()
    assert status is not None
    assert (status.n_new, status.error) == (400, None)


def _folder_is_a_file(stage: Stage) -> str:
    stage.learned.write_text("not a folder")
    return "learned"


def _records_damaged(stage: Stage) -> str:
    (stage.records / "requests-20260101T000000Z-bad.parquet").write_bytes(b"PAR1 and no more")
    return "bad.parquet"


@pytest.mark.parametrize("harm", [_folder_is_a_file, _records_damaged])
def test_trouble_is_reported_once_and_changes_nothing(stage: Stage, harm: Callable[[Stage], str]) -> None:
    stage.judge()
    named = harm(stage)
    apart = Apart(stage)
    apart.run(lambda: apart.events("adaptation.failed"))
    started = time.monotonic()
    apart.run(lambda: time.monotonic() > started + 0.5)
    (failed,) = apart.events("adaptation.failed")
    assert named in failed["error"]
    assert apart.p_correct() == pytest.approx(GOOD, abs=1e-3)
    status = apart.adapting.status()
    assert status is not None
    assert status.error == failed["error"]


def test_a_missing_library_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedllm_router.proxy.adapting._LIBRARIES", ("polars", "absent_library"))
    stage.judge()
    apart = Apart(stage)
    apart.run(lambda: apart.events("adaptation.failed"))
    expected = "learning needs absent_library: pip install 'embedllm-router[learn]'."
    assert apart.events("adaptation.failed")[0]["error"] == expected


def test_learning_that_is_killed_changes_nothing(stage: Stage) -> None:
    stage.judge()
    apart = Apart(stage)

    def kill_it() -> bool:
        apart.adapting.close()
        return bool(apart.events("adaptation.failed"))

    apart.run(kill_it)
    assert "signal 9" in apart.events("adaptation.failed")[0]["error"]
    assert stage.versions.attempts() == ()
    with stage.versions.lock() as held:
        assert held is not None, "the lock goes with the process"


@pytest.mark.parametrize(
    ("store", "message"),
    [({"enabled": False}, "store.enabled is false"), ({"embedding": False}, "set store.embedding to true")],
)
def test_a_configuration_that_could_never_learn_is_refused(stage: Stage, store: dict[str, Any], message: str) -> None:
    stage.section["store"] |= store
    stage.write()
    with pytest.raises(ConfigError, match=message):
        read_proxy_config(stage.file)
