"""The command as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from ingested import scores_of
from samples import SCORES, write_all, write_csv, write_embedllm, write_lm_eval
from shelf import Shelf
from typer.testing import CliRunner, Result

from embedllm_router.cli import ingest as cli_ingest
from embedllm_router.data.download import EMBEDLLM_FILES
from embedllm_router.data.ingest_options import Format


def run(*arguments: object) -> Result:
    app = typer.Typer()
    cli_ingest.register(app)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_source_becomes_a_folder_and_a_summary(tmp_path: Path) -> None:
    done = run(write_embedllm(tmp_path / "release"), "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "3 prompts, 2 LLMs, 6 graded answers from 3 files (embedllm)" in done.stdout
    assert "0 of 6 rows rejected" in done.stdout
    assert "resolved by: mean" in done.stdout
    assert scores_of(tmp_path / "out") == SCORES


def test_json_is_one_object_on_stdout_with_the_report(tmp_path: Path) -> None:
    sources = write_all(tmp_path / "sources")
    done = run(*sources.values(), "--out", tmp_path / "out", "--json", "--on-conflict", "max")
    found = json.loads(done.stdout)
    written = json.loads((tmp_path / "out" / "ingest.json").read_text())
    assert found == {"out": str(tmp_path / "out"), **written}
    assert (found["n_items"], found["n_llms"], found["on_conflict"]) == (3, 2, "max")


def test_the_first_rejected_rows_are_named_on_stderr(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "llm": "a", "score": score} for score in [1, *range(2, 20)]]
    done = run(write_csv(tmp_path / "a.csv", rows), "--out", tmp_path / "out", "--max-bad-rows", "100%")
    assert done.exit_code == 0
    shown = [line for line in done.stderr.splitlines() if line.startswith("rejected:")]
    assert shown[0] == "rejected: a.csv, row 2, line 3, column score: expected a number in [0, 1], found '2'"
    assert (len(shown), shown[-1]) == (11, "rejected: more, listed in rejected.jsonl")
    assert len((tmp_path / "out" / "rejected.jsonl").read_text().splitlines()) == 18


def test_choices_the_reader_made_are_told(tmp_path: Path) -> None:
    done = run(write_lm_eval(tmp_path / "runs"), "--out", tmp_path / "out")
    assert "metric exact_match" in done.stdout
    assert "filter flexible-extract" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a SOURCE or --from embedllm"),
        (["missing.csv"], "no such file or folder"),
        (["missing.csv", "--url", "http://127.0.0.1:1"], "go with --from"),
        (["missing.csv", "--max-bad-rows", "some"], "--max-bad-rows takes"),
        (["--from", "embedllm", "--url", "http://127.0.0.1:1"], "cannot download"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run(*arguments, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_too_many_bad_rows_exit_with_2_and_name_the_list(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "llm": "a", "score": score} for score in (1, 2)]
    done = run(write_csv(tmp_path / "a.csv", rows), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "1 of 2 rows cannot be used, expected at most 0.1% of the rows" in done.stderr
    assert "out.rejected.jsonl" in done.stderr


def test_the_release_is_downloaded_first(shelf: Shelf, tmp_path: Path) -> None:
    source = write_embedllm(tmp_path / "published")
    shelf.contents = {name: (source / name).read_bytes() for name in EMBEDLLM_FILES}
    done = run("--from", "embedllm", "--url", shelf.url, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert scores_of(tmp_path / "out") == SCORES
    assert (tmp_path / "out.download" / "train.csv").exists()


def test_the_command_and_the_code_below_know_the_same_names() -> None:
    assert [f.value for f in cli_ingest._Format] == ["auto", *(f.value for f in Format)]


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = "import sys; import embedllm_router.cli.ingest; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"polars", "numpy", "httpx", "orjson"} & set(done.stdout.split())


def test_the_example_runs_offline(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "ingest_own_results.py"
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert "LLMs" in done.stdout
