"""The command line as a user meets it: a process, its two streams and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from planted import SPRINTER, WIZARD
from typer.testing import CliRunner

from embedllm_router import __version__
from embedllm_router.cli.main import app


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "embedllm_router", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


def test_route_as_json(artifact_dir: Path) -> None:
    done = run("route", "integral", "--cost-weight", "1", "--artifact", str(artifact_dir), "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert list(found) == ["prompt_chars", "artifact", "cost_weight", "chosen", "candidates", "timing_ms"]
    assert (found["prompt_chars"], found["cost_weight"], found["chosen"]) == (8, 1.0, WIZARD)
    assert list(found["candidates"][0]) == [
        "llm",
        "p_correct",
        "expected_output_tokens",
        "cost_usd",
        "utility",
        "excluded",
    ]
    assert [c["llm"] for c in found["candidates"]][:2] == [WIZARD, SPRINTER]
    assert found["candidates"][2]["excluded"] == "price_unknown"
    assert list(found["timing_ms"]) == ["encode", "score", "decide"]


def test_route_as_a_table(artifact_dir: Path) -> None:
    done = run("route", "integral", "--artifact", str(artifact_dir))
    assert done.returncode == 0
    assert WIZARD in done.stdout
    assert "0.953" in done.stdout


def test_route_reads_stdin(artifact_dir: Path) -> None:
    done = run("route", "-", "--artifact", str(artifact_dir), "--json", stdin="integral")
    assert json.loads(done.stdout)["prompt_chars"] == 8


def test_route_with_candidates(artifact_dir: Path) -> None:
    done = run("route", "integral", "--artifact", str(artifact_dir), "--candidates", "sprinter-7b-instruct", "--json")
    assert [c["llm"] for c in json.loads(done.stdout)["candidates"]] == [SPRINTER]


def test_route_with_the_shipped_artifact() -> None:
    done = run("route", "What is 17 * 23?", "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["candidates"]) > 50


def test_inspect(artifact_dir: Path) -> None:
    assert WIZARD in run("inspect", str(artifact_dir)).stdout
    found = json.loads(run("inspect", str(artifact_dir), "--json").stdout)
    assert found["llms"][0]["id"] == WIZARD


def test_version() -> None:
    assert run("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("route", "x", "--artifact", "nowhere"), 1, "cannot read manifest.json"),
        (("route", "x", "--candidates", "gpt-5-nano-ultra"), 2, "Nearest known ids"),
        (("route", "x", "--candidates", ","), 2, "at least one LLM"),
        (("route", "x", "--cost-weight", "-1"), 2, "--cost-weight"),
        (("route", "x", "--cost-weight", "nan"), 2, "--cost-weight"),
        (("route", "x", "--cost-weight", "cheap"), 2, "--cost-weight"),
        (("route",), 2, "prompt"),
        (("inspect", "nowhere"), 1, "cannot read manifest.json"),
        (("serve", "--config", "nowhere.yaml"), 2, "cannot read the configuration"),
        (("upstream", "--fail", "everything"), 2, "LLM=STATUS"),
        (("fly",), 2, "fly"),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_closed_pipe_is_no_error(artifact_dir: Path) -> None:
    command = f"{sys.executable} -m embedllm_router inspect {artifact_dir} --json | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


def test_the_old_name_of_guarantee_warns_and_names_the_new_one(tmp_path: Path) -> None:
    options = ["--artifact", str(tmp_path / "none"), "--data", str(tmp_path / "none")]
    old, new = (CliRunner().invoke(app, [name, *options]) for name in ("contract", "guarantee"))
    assert "use `embedllm-router guarantee`" in old.stderr
    assert "deprecated" not in new.stderr
    assert (old.exit_code, old.stderr.splitlines()[1:]) == (new.exit_code, new.stderr.splitlines())
    assert "contract" not in CliRunner().invoke(app, ["--help"]).stdout
