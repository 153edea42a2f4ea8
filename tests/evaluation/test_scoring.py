"""A file of prompts, part by part: what each prompt alone gives, by one process or several, in one run or two."""

import importlib.util
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from embedllm_router import Router
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.ray_scoring import score_on_ray
from embedllm_router.evaluation.scoring import Job, chosen_llms, score_file
from embedllm_router.routing.decision import Objective

PROMPTS = ["hello", "integral", None, "a statute", "function hello", "", "integral " * 5000, "日本語"] * 3
N_PARTS = 4

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray")


@pytest.fixture
def job(artifact_dir: Path, tmp_path: Path) -> Job:
    file = tmp_path / "prompts.parquet"
    pl.DataFrame({"id": range(len(PROMPTS)), "prompt": PROMPTS}).write_parquet(file)
    return Job(
        file=file,
        out=tmp_path / "scored",
        artifact=artifact_dir,
        objective=Objective(1.0),
        every_llm=True,
        rows_per_part=7,
    )


def listening_addresses() -> set[str]:
    """Where processes that this one started listen."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found |= {one.laddr.ip for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    return found


def contents(job: Job) -> list[bytes]:
    return [job.part(number).read_bytes() for number in range(N_PARTS)]


def test_each_row_is_what_the_prompt_alone_gives(job: Job, router: Router) -> None:
    scored = score_file(job)
    assert (scored.n_rows, scored.n_parts, scored.n_new) == (24, N_PARTS, N_PARTS)
    frame = pl.read_parquet(job.out / "*.parquet")
    assert frame["row"].to_list() == list(range(24))
    for row, prompt in zip(frame.iter_rows(named=True), PROMPTS, strict=True):
        decision = router.route(prompt or "", objective=job.objective).decision
        assert decision.chosen is not None
        assert (row["chosen"], row["p_correct"]) == (decision.chosen.name, decision.chosen.p_correct)
        assert row["cost_usd"] == decision.chosen.cost_usd
        for candidate, p in zip(decision.pool.candidates, decision.p_correct, strict=True):
            assert row[f"p_correct/{candidate.name}"] == p


def test_the_chosen_llms_are_counted_over_all_parts(job: Job) -> None:
    assert chosen_llms(job) == ()
    score_file(job)
    rows = pl.read_parquet(job.out / "*.parquet").rows(named=True)
    found = {one.name: one for one in chosen_llms(job)}
    assert set(found) == {row["chosen"] for row in rows}
    assert [one.n for one in chosen_llms(job)] == sorted((one.n for one in found.values()), reverse=True)
    for name, one in found.items():
        mine = [row for row in rows if row["chosen"] == name]
        assert one.n == len(mine)
        assert one.p_correct == pytest.approx(sum(row["p_correct"] for row in mine) / len(mine))
        assert one.cost_usd == pytest.approx(sum(row["cost_usd"] for row in mine))


def test_an_interrupted_run_makes_what_is_missing_alone(job: Job) -> None:
    score_file(job)
    whole, kept = contents(job), job.part(0).stat().st_mtime_ns
    job.part(2).unlink()
    assert score_file(job).n_new == 1
    assert (contents(job), job.part(0).stat().st_mtime_ns) == (whole, kept)


@needs_ray
@pytest.mark.filterwarnings("ignore")  # Ray warns of its own settings and leaves sockets to be collected
def test_workers_make_the_same_files(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    score_file(job)
    whole = contents(job)
    for number in (0, 1, 3):
        job.part(number).unlink()
    told: list[tuple[str, int, int]] = []
    listening: set[str] = set()

    def on_progress(*one: Any) -> None:
        told.append(one)
        listening.update(listening_addresses())

    scored = score_on_ray(job, workers=2, on_progress=on_progress)
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert listening
    assert (scored.n_parts, scored.n_new) == (N_PARTS, 3)
    assert contents(job) == whole
    assert told[-1] == ("scoring", 3, 3)
    assert score_on_ray(job, workers=2).n_new == 0
    assert "hello" not in capfd.readouterr().err


def test_without_ray_several_workers_are_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'embedllm-router\[ray\]'"):
        score_on_ray(job, workers=2)


def test_the_command_reads_lines_of_json(artifact_dir: Path, tmp_path: Path, run_command: Callable[..., str]) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"question": prompt}) + "\n" for prompt in ("hello", "integral")))
    asked = ["score", str(file), f"--artifact={artifact_dir}", "--column=question", "--cost-weight=1"]
    said = json.loads(run_command(*asked, f"--out={tmp_path / 'out'}", "--json"))
    assert (said["rows"], said["new_parts"]) == (2, 1)
    frame = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert frame["chosen"].to_list() == ["sprinter-7b-instruct", "wizard-2025-01-01"]
    again = " ".join(run_command(*asked[:-1], f"--out={tmp_path / 'out'}", code=2).split())
    assert "holds parts of another file, weights or options" in again


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "prompt\nhello\n", "expected a file that ends with .parquet"),
        ("a.jsonl", None, "no such file"),
        ("a.jsonl", '{"text": "hello"}\n', "columns of texts: text. --column names another"),
        ("a.jsonl", '{"prompt": 5}\n', "columns of texts: none"),
        ("a.parquet", "no parquet", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_scored_is_named(
    name: str, text: str | None, says: str, tmp_path: Path, run_command: Callable[..., str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    said = run_command("score", str(tmp_path / name), f"--out={tmp_path / 'out'}", code=2)
    assert says in " ".join(said.split())
    assert not (tmp_path / "out").exists()


def test_a_list_of_no_llms_is_refused(tmp_path: Path, run_command: Callable[..., str]) -> None:
    (tmp_path / "one.jsonl").write_text('{"prompt": "hello"}')
    asked = ("score", str(tmp_path / "one.jsonl"), f"--out={tmp_path / 'out'}", "--candidates", " , ")
    assert "--candidates names no LLM" in run_command(*asked, code=2)
    assert not (tmp_path / "out").exists()
