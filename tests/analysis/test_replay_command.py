"""The command prints what the function found, and names a user's mistake in one sentence."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from log_files import Served, routed_record, write_log
from planted import PRICES, SPRINTER, WIZARD
from recorded import make_feedback, make_record, make_records
from typer.testing import CliRunner

from embedllm_router import Router
from embedllm_router.cli.options import moment
from embedllm_router.cli.replay import _Profile, app, new_aim
from embedllm_router.errors import ConfigError
from embedllm_router.routing.overrides import PROFILES

runner = CliRunner()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = make_records(300)
    return write_log(tmp_path_factory.mktemp("log"), records, make_feedback(records, share=0.5))


def test_json_holds_everything(log: Path) -> None:
    done = runner.invoke(app, ["--from", str(log), "--cost-weight", "100", "--flips", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["changed"] == ["cost_weight 100.0"]
    assert len(found["flips"]) == 2
    assert found["n"] == sum(row["after"] for row in found["mix"]) == sum(row["before"] for row in found["mix"])
    assert found["observed"]["n_flips_unobserved"] == found["n_flips"]
    assert found["since"].startswith("2026-01-01T00:00:0")


def test_people_read_the_same(log: Path) -> None:
    done = runner.invoke(app, ["--from", str(log), "--profile", "quality", "--virtual-model", "auto"])
    assert done.exit_code == 0, done.output
    for words in ("requests decided again", "accuracy by feedback", "mix", "by category", "note: "):
        assert words in done.stdout


def test_filters_narrow_the_log(log: Path) -> None:
    def n(*options: str) -> int:
        done = runner.invoke(app, ["--from", str(log), "--within", "0.1", "--json", *options])
        assert done.exit_code == 0, done.output
        return int(json.loads(done.stdout)["n"])

    halves = n("--until", "2026-01-01T00:02:30"), n("--since", "2026-01-01T00:02:30")
    assert sum(halves) == n()
    assert min(halves) > 0
    assert n("--category", "planted/chat") + n("--category", "planted/maths") == n()
    assert n("--limit", "10") <= 10
    assert n("--since", "1h") == 0


def test_weights_and_configuration_from_the_command_line(
    router: Router, artifact_dir: Path, config_file: Path, tmp_path: Path
) -> None:
    served = Served({WIZARD: PRICES[WIZARD], SPRINTER: PRICES[SPRINTER]}, keep="embedding")
    folder = write_log(tmp_path, [routed_record(router, 0, "integral", served)])
    options = ["--from", str(folder), "--artifact", str(artifact_dir), "--config", str(config_file), "--json"]
    done = runner.invoke(app, options)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["changed"] == [f"weights {router.artifact.id}", f"configuration {config_file.name}"]
    assert {row["name"]: row["after"] for row in found["mix"]} == {"wizard": 1, WIZARD: 0}  # the same LLM, renamed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing would change"),
        (["--cost-weight", "1", "--within", "0.1"], "exclude each other"),
        (["--cost-weight", "-1"], "--cost-weight"),
        (["--cost-weight", "nan"], "--cost-weight"),
        (["--within", "2"], "--within"),
        (["--max-cost-usd", "inf"], "--max-cost-usd"),
        (["--within", "0.1", "--since", "yesterday"], "--since takes a time"),
        (["--artifact", "nowhere"], "manifest.json"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_sentence(log: Path, options: list[str], message: str) -> None:
    done = runner.invoke(app, ["--from", str(log), *options])
    assert done.exit_code in {1, 2}
    assert message in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.output


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = runner.invoke(app, ["--from", str(tmp_path / "absent"), "--within", "0.1"])
    assert done.exit_code == 2
    assert "no records at" in done.stderr


def test_a_log_without_a_single_decision_says_so(tmp_path: Path) -> None:
    folder = write_log(tmp_path, [make_record(0, failed_open="ArtifactError", cost_weight=None, candidates=())])
    done = runner.invoke(app, ["--from", str(folder), "--within", "0.1"])
    assert done.exit_code == 0
    assert "0 requests decided again" in done.stdout
    assert "1 not decided again: failed open" in done.stdout


def test_the_profiles_are_the_routers() -> None:
    assert [one.value for one in _Profile] == list(PROFILES)
    assert [new_aim(profile=name)[0].aim.cost_weight for name in PROFILES] == list(PROFILES.values())  # type: ignore[union-attr]  # an aim was given


def test_times_are_iso_or_ages() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert moment("36h", "--since", now=now) == now - timedelta(hours=36)
    assert moment("2w", "--since", now=now) == now - timedelta(weeks=2)
    assert moment("2026-01-31", "--since") == datetime(2026, 1, 31, tzinfo=UTC)
    assert moment("2026-01-31T12:00+02:00", "--since") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert moment(None, "--since") is None
    with pytest.raises(ConfigError, match="--until takes a time"):
        moment("36 parsecs", "--until")
