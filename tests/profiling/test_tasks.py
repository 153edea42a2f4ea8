"""Prompts of a user's file, of recorded requests and of the generators become tasks that stay the same."""

import json
from pathlib import Path

import pytest
from recorded import make_record

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.profiling.graders import grade
from embedllm_router.profiling.tasks import GENERATED, generated, read_tasks, recorded_tasks


def _file(folder: Path, *rows: object) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_grader_follows_from_the_reference(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        {"prompt": "a", "reference": 3},
        {"prompt": "b", "reference": "Rome"},
        {"prompt": "c"},
        {"prompt": "d", "reference": "B", "grader": "multiple_choice"},
        {"prompt": "e", "grader": {"type": "numeric", "tolerance": 0.5}, "reference": 2},
        {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "f"}], "reference": True},
    )
    tasks = read_tasks(path, "agreement")
    assert [task.grader.type for task in tasks] == [
        "numeric", "exact", "agreement", "multiple_choice", "numeric", "exact",
    ]  # fmt: skip
    assert tasks[4].grader.tolerance == 0.5
    assert tasks[5].text == "f"


def test_a_task_keeps_its_id_and_stands_once(tmp_path: Path) -> None:
    path = _file(
        tmp_path, {"prompt": "a", "reference": 3}, {"prompt": "a", "reference": 3}, {"prompt": "a", "reference": 4}
    )
    first, second = read_tasks(path, "judge"), read_tasks(path, "agreement")
    assert len(first) == 2
    assert [task.id for task in first] == [task.id for task in second]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00", b'{"prompt": "' + b"x" * 500_000 + b'"}'])
def test_files_without_usable_prompts_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_tasks(path, "agreement")
    with pytest.raises(DataError, match="cannot be read"):
        read_tasks(tmp_path / "nowhere", "agreement")


def test_recorded_requests_are_tasks_where_their_text_was_kept() -> None:
    records = [make_record(0, prompt="one"), make_record(1), make_record(2, prompt="one"), make_record(3, prompt=" ")]
    tasks = recorded_tasks(records, "judge")  # type: ignore[arg-type]  # the fields that are read are the same
    assert [(task.text, task.grader.type) for task in tasks] == [("one", "judge")]


def test_generated_tasks_know_their_answers() -> None:
    """Of every kind and difficulty, the same for the same seed, and right where the answer is what they say."""
    pytest.importorskip("reasoning_gym")
    tasks = generated(120, seed=1)
    assert [task.id for task in tasks] == [task.id for task in generated(120, seed=1)]
    assert {task.id for task in tasks} != {task.id for task in generated(120, seed=2)}
    assert {task.category.partition("/")[0] for task in tasks} == set(GENERATED)
    for task in tasks:
        assert grade(task.grader, f"Let me see.\nAnswer: {task.grader.reference}").score == 1.0
        assert grade(task.grader, "Answer: I do not know").score == 0.0
        assert task.messages[0].role == "system"
        assert task.text == task.messages[1].content


def test_without_the_generators_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(ConfigError, match=r"embedllm-router\[profile\]"):
        generated(10)
