"""The command line as a user meets it: its two streams and its exit code, in a process of its own or in this one."""

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import SPRINTER, WIZARD
from typer.testing import CliRunner

from embedllm_router import __version__
from embedllm_router.cli import result_views
from embedllm_router.cli.main import app, main
from embedllm_router.training.update.guard import SourceCheck

Ended = subprocess.CompletedProcess[str]


def run(*arguments: str) -> Ended:
    """In a process of its own, whose start takes over a second of a core."""
    return subprocess.run(
        [sys.executable, "-m", "embedllm_router", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """In this process, from the arguments to the exit code."""
    monkeypatch.setenv("COLUMNS", "160")

    def run_here(*arguments: str, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["embedllm-router", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        assert isinstance(code, int)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run_here


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
        "known_by",
        "p_correct_low",
        "p_correct_high",
    ]
    assert [c["llm"] for c in found["candidates"]][:2] == [WIZARD, SPRINTER]
    assert found["candidates"][2]["excluded"] == "price_unknown"
    assert list(found["timing_ms"]) == ["encode", "score", "decide"]


def test_route_as_a_table(artifact_dir: Path) -> None:
    done = run("route", "integral", "--artifact", str(artifact_dir))
    assert done.returncode == 0
    assert WIZARD in done.stdout
    assert "0.953" in done.stdout


def test_route_reads_stdin(artifact_dir: Path, here: Callable[..., Ended]) -> None:
    done = here("route", "-", "--artifact", str(artifact_dir), "--json", stdin="integral")
    assert json.loads(done.stdout)["prompt_chars"] == 8


def test_route_with_candidates(artifact_dir: Path, here: Callable[..., Ended]) -> None:
    done = here("route", "integral", "--artifact", str(artifact_dir), "--candidates", "sprinter-7b-instruct", "--json")
    assert [c["llm"] for c in json.loads(done.stdout)["candidates"]] == [SPRINTER]


def test_route_says_so_where_no_llm_can_be_chosen(artifact_dir: Path, here: Callable[..., Ended]) -> None:
    done = here("route", "integral", "--artifact", str(artifact_dir), "--max-cost-usd", "0")
    assert "no LLM can be chosen" in done.stdout


def test_route_with_the_shipped_artifact() -> None:
    done = run("route", "What is 17 * 23?", "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["candidates"]) > 50


def test_inspect(artifact_dir: Path, here: Callable[..., Ended]) -> None:
    assert WIZARD in here("inspect", str(artifact_dir)).stdout
    found = json.loads(here("inspect", str(artifact_dir), "--json").stdout)
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
        (("inspect", "--artifact", "nowhere"), 1, f"in {Path('nowhere').absolute()}"),
        (("inspect", "here", "--artifact", "there"), 2, "give one weights folder"),
        (("serve", "--config", "nowhere.yaml"), 2, "cannot read the configuration"),
        (("upstream", "--fail", "everything"), 2, "LLM=STATUS"),
        (("fly",), 2, "fly"),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(
    arguments: tuple[str, ...], code: int, said: str, here: Callable[..., Ended]
) -> None:
    done = here(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_mistake_in_a_process_of_its_own() -> None:
    done = run("route", "x", "--artifact", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot read manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


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


def test_a_source_of_one_verdict_has_no_auc() -> None:
    one = SourceCheck("user", 1, 0.5, math.nan, 0.5, "too few to tell")
    cells = [next(iter(column.cells)) for column in result_views._sources((one,)).columns]
    assert cells == ["user", "too few to tell", "1", "-", "0.500"]
