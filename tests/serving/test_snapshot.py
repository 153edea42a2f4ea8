"""Hot reload: a new configuration or new weights take over whole, or not at all."""

import copy
import io
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from planted import planted_artifact
from proxied import planted_config

from embedllm_router import Router
from embedllm_router.artifact import weights
from embedllm_router.artifact.weights import MANIFEST, Artifact
from embedllm_router.config.process import LogSettings
from embedllm_router.config.settings import read_proxy_config
from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.prediction.loading import PromptEncoder
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.routing.policy import Objective
from embedllm_router.serving.snapshot import LiveSnapshot
from embedllm_router.telemetry.log import configure_logging


class Running:
    """A configuration file, weights beside it, and what runs by them."""

    def __init__(self, folder: Path) -> None:
        self.artifact, self.file, self.log = folder / "weights", folder / "proxy_config.yaml", io.StringIO()
        planted_artifact(self.artifact)
        self.config: dict[str, Any] = planted_config(self.artifact)
        self.rows: list[dict[str, Any]] = self.config["model_list"]
        self.prices: dict[str, dict[str, Any]] = {}
        self.write()
        self.live = self.start()

    def start(self) -> LiveSnapshot:
        settings = read_proxy_config(self.file)
        live = LiveSnapshot(settings, configure_logging(LogSettings(), self.log), self.file)
        live.serve(self.rows, self.prices)
        return live

    def write(self, **auto: Any) -> None:
        section = self.config["callback_settings"]["embedllm_router"]
        section["virtual_models"]["auto"].update(auto)
        self.file.write_text(yaml.safe_dump(self.config))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [e for line in self.log.getvalue().splitlines() if (e := json.loads(line))["event"] == name]

    def auto(self) -> Objective:
        return self.live.serve(self.rows, self.prices).arms["auto"].live.objective


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


def test_nothing_changed_is_no_change(running: Running) -> None:
    assert not running.live.changed()
    assert (running.live.snapshot.number, running.live.last_reload) == (1, None)


def test_a_changed_file_takes_over(running: Running) -> None:
    before = running.live.served
    running.write(cost_weight=123.0)
    assert running.live.changed()
    assert not running.live.changed(), "one change is seen once"
    running.live.reload()
    assert running.auto() == Objective(123.0, near_tie_margin=0.005)
    assert running.live.snapshot.number == 2
    assert before is not None
    assert before.arms["auto"].live.objective == Objective(1.0, near_tie_margin=0.005), (
        "a request in flight keeps what it began with"
    )
    assert running.events("routing.reloaded")[0]["generation"] == 2


def test_what_is_known_of_callers_traffic_outlives_a_reload(running: Running) -> None:
    assert running.live.served is not None
    running.live.served.arms["auto"].live.drift.add("key", 1.0)
    running.write(cost_weight=5.0)
    running.live.reload()
    assert running.live.served.arms["auto"].live.drift.mean_ood_score("key") > 0.5


def test_changed_weights_take_over(running: Running) -> None:
    manifest = running.artifact / MANIFEST
    manifest.write_text(manifest.read_text().replace('"2026-01-01"', '"2026-02-02"'))
    assert running.live.changed()
    old = running.live.snapshot.router
    new = running.live.reload().router
    assert old is not None
    assert new is not None
    assert new.artifact.id != old.artifact.id
    assert running.live.served is not None
    assert running.live.served.arms["auto"].live.router is new


def during_the_first_load(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Does something while weights load, once."""
    load, pending = Router.load, [act]

    def slow(folder: Path | None, encoder_of: Callable[[Artifact], PromptEncoder]) -> Router:
        if pending:
            pending.pop()()
        return load(folder, encoder_of)

    monkeypatch.setattr(Router, "load", slow)


def test_what_changes_while_a_reload_is_under_way_is_seen_afterwards(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write(cost_weight=2.0)
    assert running.live.changed()
    during_the_first_load(monkeypatch, lambda: running.write(cost_weight=33.0))
    running.live.reload()
    assert running.auto().cost_weight == 2.0
    assert running.live.changed()
    running.live.reload()
    assert running.auto().cost_weight == 33.0


def test_of_two_reloads_at_once_the_later_one_wins(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.write(cost_weight=2.0)
    second = threading.Thread(target=running.live.reload)

    def overtake() -> None:
        running.write(cost_weight=33.0)
        second.start()
        second.join(0.3)  # time enough to overtake the first

    during_the_first_load(monkeypatch, overtake)
    running.live.reload()
    second.join(10)
    assert running.auto().cost_weight == 33.0
    assert running.live.snapshot.number == 3


def test_a_default_that_breaks_its_own_rules_is_reported(running: Running) -> None:
    running.write(regions={"allow": ["eu"]})
    running.start()
    (told,) = running.events("routing.default_ruled_out")
    assert (told["virtual_model"], told["default"], told["rule"]) == ("auto", "sprinter", "region")


@pytest.mark.parametrize("text", ["", "{", "callback_settings: {}", "- a list", "litellm_settings: x", "a: &a [*a]"])
def test_a_file_that_does_not_read_changes_nothing(running: Running, text: str) -> None:
    running.file.write_text(text)
    served = running.live.served
    with pytest.raises(ConfigError):
        running.live.reload()
    assert running.live.served is served
    assert running.live.snapshot.number == 1
    assert running.live.last_reload is not None
    assert running.live.last_reload.error
    assert running.events("routing.reload_failed")[0]["consequence"] == "the previous ones stay in place"


def test_weights_that_predict_nothing_change_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    before = running.live.snapshot
    with monkeypatch.context() as broken:
        broken.setattr(Scorer, "score", lambda *_: (_ for _ in ()).throw(ValueError("shapes")))
        with pytest.raises(ArtifactError, match="fail on a prompt"):
            running.live.reload()
        assert running.start().snapshot.router is None, "a start goes on, and the defaults answer"
    assert running.live.snapshot is before
    assert running.events("routing.reload_failed")
    assert running.events("routing.artifact_unusable")


def test_a_default_that_is_no_model_group_changes_nothing(running: Running) -> None:
    before = running.live.snapshot
    running.write(default="wizzard")
    with pytest.raises(ConfigError, match=r"'wizzard' of 'auto' is no model group of the proxy; did you mean 'wizard'"):
        running.live.reload()
    assert running.live.snapshot is before
    assert running.start().served is not None, "a start only reports it"


@pytest.mark.parametrize("content", [b"a: " + b"[" * 5_000, b"a: caf\xe9", b"# " + b"x" * 9 * 2**20])
def test_a_file_that_no_reader_should_read_changes_nothing(running: Running, content: bytes) -> None:
    before, settings = running.live.snapshot, read_proxy_config(running.file)
    running.file.write_bytes(content)
    with pytest.raises(ConfigError):
        running.live.reload()
    assert running.live.snapshot is before
    assert running.events("routing.reload_failed")
    LiveSnapshot(settings, configure_logging(LogSettings(), running.log), running.file)  # a start survives it


def test_damaged_weights_change_nothing(running: Running) -> None:
    (running.artifact / "decoder.safetensors").write_bytes(b"no tensors")
    running.write(cost_weight=5.0)
    with pytest.raises(ArtifactError, match=r"decoder\.safetensors"):
        running.live.reload()
    assert running.auto() == Objective(1.0, near_tie_margin=0.005), (
        "neither the weights nor the configuration beside them took over"
    )


def test_after_a_failure_the_next_good_one_takes_over(running: Running) -> None:
    running.file.write_text("{")
    with pytest.raises(ConfigError):
        running.live.reload()
    running.write(cost_weight=7.0)
    running.live.reload()
    assert running.auto() == Objective(7.0, near_tie_margin=0.005)
    assert running.live.last_reload is not None
    assert running.live.last_reload.error is None


def test_weights_that_are_missing_for_a_moment_are_no_change(running: Running, tmp_path: Path) -> None:
    running.artifact.rename(tmp_path / "elsewhere")
    assert not running.live.changed()


def test_weights_that_appear_after_the_start_are_taken_up(running: Running) -> None:
    shutil.rmtree(running.artifact)
    live = running.start()
    assert live.snapshot.router is None
    assert live.serve(running.rows, {}).arms == {}
    assert set(live.serve(running.rows, {}).groups) == {"wizard", "sprinter", "novice", "stranger"}
    planted_artifact(running.artifact)
    assert live.changed()
    live.reload()
    assert set(live.serve(running.rows, {}).arms) == {"auto", "auto-cheap", "auto-quality"}


def test_a_new_list_of_deployments_is_read_and_the_same_one_is_not(running: Running) -> None:
    first = running.live.serve(running.rows, {})
    assert running.live.serve(running.rows, {}) is first
    fewer = [row for row in running.rows if row["model_name"] != "wizard"]
    second = running.live.serve(fewer, {})
    assert "wizard" not in second.arms["auto"].live.virtual_model.pool.names


def test_an_equal_list_of_deployments_is_not_read_again_and_a_changed_row_is(running: Running) -> None:
    """With a database LiteLLM replaces the list every few seconds, mostly by an equal one."""
    before, n_told = running.live.served, len(running.log.getvalue())
    assert running.live.serve(copy.deepcopy(running.rows), running.prices) is before
    assert len(running.log.getvalue()) == n_told
    running.rows[0]["litellm_params"]["input_cost_per_token"] = 1.0  # in place, where the older list shows it too
    assert running.live.serve(list(running.rows), running.prices) is not before
    assert running.live.serve(list(running.rows), {"a": {}}) is not running.live.serve(running.rows, running.prices)


def test_settings_that_need_a_restart_are_named(running: Running) -> None:
    running.config["callback_settings"]["embedllm_router"]["log"] = {"format": "console"}
    running.write()
    running.live.reload()
    assert running.events("routing.restart_needed")[0]["settings"] == ["log"]


def test_a_file_that_says_something_else_than_litellm_read_is_not_watched(running: Running) -> None:
    """LiteLLM may merge several files; one of them alone must not replace what it made of them."""
    settings = read_proxy_config(running.file)
    running.write(cost_weight=9.0)
    live = LiveSnapshot(settings, configure_logging(LogSettings(), running.log), running.file)
    assert live.config is None
    assert live.reload().settings == settings


def test_a_transformers_folder_that_static_weights_do_not_need_is_named(running: Running) -> None:
    assert not running.events("routing.encoder_not_needed")
    running.config["callback_settings"]["embedllm_router"]["encoder"] = {"folder": "/models/mini"}
    running.write()
    running.live.reload()
    (told,) = running.events("routing.encoder_not_needed")
    assert told["folder"] == "/models/mini"


def test_weights_that_ship_are_watched_by_their_name(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    planted_artifact(package / "weights" / "other")
    monkeypatch.setattr(weights, "shipped_path", package.joinpath)
    monkeypatch.chdir(tmp_path)
    running.config["callback_settings"]["embedllm_router"]["artifact"] = "weights/other"
    running.write()
    running.live.reload()
    assert not running.live.changed()
    manifest = package / "weights" / "other" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"2026-01-01"', '"2026-02-02"'))
    assert running.live.changed()


def test_trial_weights_are_loaded_watched_and_reloaded(running: Running, tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    planted_artifact(trial)
    running.write(shadow={"artifact": str(trial)})
    running.live.reload()
    assert running.live.served is not None
    assert running.live.served.arms["auto"].shadow is not None
    manifest = trial / MANIFEST
    manifest.write_text(manifest.read_text().replace('"2026-01-01"', '"2026-03-03"'))
    assert running.live.changed()
    shutil.rmtree(trial)
    with pytest.raises(ArtifactError):
        running.live.reload()
    assert running.live.served.arms["auto"].shadow is not None


def test_a_baseline_that_is_no_candidate_is_reported_with_the_nearest_name(running: Running) -> None:
    running.write(baseline="sprintr")
    running.start()
    (told,) = running.events("routing.baseline_unknown")
    assert (told["virtual_model"], told["baseline"], told["nearest"]) == ("auto", "sprintr", "sprinter")
