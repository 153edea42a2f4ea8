"""The configurations and programs of docs/migration.md do what the page says."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedllm_router.data.folder import read_folder
from embedllm_router.data.ingest import ingest
from embedllm_router.proxy.doctor import check

PAGE = (Path(__file__).parents[1] / "docs" / "migration.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


CONFIGURATIONS = [block for block in blocks("yaml") if "callback_settings" in block]
SUBJECTS = ("Router", "routing_data", "notdiamond")
PROGRAMS = {next(word for word in SUBJECTS if word in program): program for program in blocks("python")}


def run(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs a program of the page in a folder; returns what it defined."""
    monkeypatch.chdir(folder)
    defined: dict[str, Any] = {}
    exec(compile(program, "docs/migration.md", "exec"), defined)  # noqa: S102 - our own page
    return defined


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=lambda text: next(iter(models_of(text))))
def test_each_configuration_is_healthy_and_routes_among_all_its_llms(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LITELLM_MASTER_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TOGETHERAI_API_KEY"):
        monkeypatch.setenv(name, "sk-1234")
    file = tmp_path / "config.yaml"
    file.write_text(text)
    found = check(file, port=0)
    assert [one for one in found.findings if one.level != "info"] == []
    assert {one.how for one in found.patients} <= {"spelling", "alias", "family"}
    assert {one.name for one in found.patients} == {row["model_name"] for row in yaml.safe_load(text)["model_list"]}


def models_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["callback_settings"]["embedllm_router"]["virtual_models"]
    return found


def test_there_is_a_configuration_for_each_router_that_has_one() -> None:
    assert [next(iter(models_of(text))) for text in CONFIGURATIONS] == ["smart-router", "auto", "router"]
    assert set(PROGRAMS) == set(SUBJECTS)


def test_the_choice_between_two_llms_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = run(PROGRAMS["Router"], tmp_path, monkeypatch)["chosen"]
    assert chosen.llm in {"gpt-4o-2024-08-06", "mixtral-8x7b-instruct-v0.1"}


def test_llmrouter_s_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        {"query": f"Question {i}?", "model_name": llm, "performance": i % 2, "task_name": "t", "response": "r"}
        for i in range(6)
        for llm in ("small", "large")
    ]
    (tmp_path / "routing_data.jsonl").write_text("\n".join(map(json.dumps, answers)))
    run(PROGRAMS["routing_data"], tmp_path, monkeypatch)
    report = ingest([tmp_path / "long.jsonl"], tmp_path / "data")
    assert (report.n_items, report.n_llms, report.n_results, report.n_rejected) == (6, 2, 12, 0)


def test_not_diamond_s_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("openai/gpt-4o", "anthropic/claude-sonnet-4-20250514")
    with (tmp_path / "notdiamond.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["prompt", *(f"{name}/{what}" for name in names for what in ("response", "score"))])
        table.writerow(["One, two?", "a", 1.0, "b", 0.0])
        table.writerow(["Three?", "a", 0.0, "b", ""])
    run(PROGRAMS["notdiamond"], tmp_path, monkeypatch)
    report = ingest([tmp_path / "long.csv"], tmp_path / "data")
    assert (report.n_items, report.n_results, report.n_rejected) == (2, 3, 0)
    matrix = read_folder(tmp_path / "data")
    assert set(matrix.llm_ids) == {"gpt-4o", "claude-sonnet-4-20250514"}
    row = matrix.prompts.index("One, two?")
    assert dict(zip(matrix.llm_ids, matrix.correctness[row].tolist(), strict=True)) == {
        "gpt-4o": 1.0,
        "claude-sonnet-4-20250514": 0.0,
    }
