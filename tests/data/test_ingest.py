"""What becomes of good answers: ids, conflicts, the folder and its report."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingested import column, scores_of
from samples import write_csv, write_jsonl

from embedllm_router.data.folder import read_folder
from embedllm_router.data.formats.rows import Answer
from embedllm_router.data.ingest import AnswerTable, ingest, item_id
from embedllm_router.data.ingest_options import IngestOptions, OnConflict
from embedllm_router.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda t: not t.isspace())
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(lambda t: t == t.strip() != "")
SCORE = st.sampled_from([0.0, 0.25, 0.5, 1.0])
ANSWERS = st.dictionaries(st.tuples(TEXT, NAME), SCORE, min_size=1, max_size=12)

TWICE = [
    {"prompt": "p", "llm": "a", "score": 0.0, "output_tokens": 10},
    {"prompt": "p", "llm": "a", "score": 1.0, "output_tokens": 30},
    {"prompt": "p", "llm": "a", "score": 0.5, "output_tokens": 20},
    {"prompt": "p", "llm": "b", "score": 1.0, "output_tokens": None},
    {"prompt": "q", "llm": "b", "score": 1.0, "output_tokens": 5},
    {"prompt": "q", "llm": "b", "score": 1.0, "output_tokens": 7},
]


@given(ANSWERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_and_json_lines_give_back_any_text(
    tmp_path_factory: pytest.TempPathFactory, answers: dict[tuple[str, str], float]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rows = [{"prompt": prompt, "llm": llm, "score": score} for (prompt, llm), score in answers.items()]
    for source in (write_csv(folder / "a.csv", rows), write_jsonl(folder / "a.jsonl", rows)):
        ingest([source], folder / "out")
        assert scores_of(folder / "out") == answers


@given(st.lists(st.tuples(TEXT, NAME, SCORE), min_size=1, max_size=30), st.sampled_from(list(OnConflict)[:4]))
@settings(max_examples=60, deadline=None)
def test_each_rule_equals_its_naive_definition(answers: list[tuple[str, str, float]], rule: OnConflict) -> None:
    table = AnswerTable()
    scores: dict[tuple[str, str], list[float]] = {}
    for prompt, llm, score in answers:
        table.add(Answer(prompt, llm, score))
        scores.setdefault((item_id(prompt), llm), []).append(score)
    rules: dict[OnConflict, Callable[[list[float]], float]] = {
        OnConflict.MEAN: lambda s: sum(s) / len(s),
        OnConflict.FIRST: lambda s: s[0],
        OnConflict.LAST: lambda s: s[-1],
        OnConflict.MAX: max,
    }
    naive = rules[rule]
    results, conflicts = table.results(rule)
    found = {(row["item_id"], row["model"]): row["score"] for row in results.iter_rows(named=True)}
    assert found == {pair: pytest.approx(naive(s)) for pair, s in scores.items()}
    assert conflicts.repeated == len(answers) - len(scores)
    assert conflicts.conflicting == sum(len(set(s)) > 1 for s in scores.values())


@pytest.mark.parametrize(
    ("rule", "score", "tokens"),
    [
        ("mean", 0.5, [20, None, 6]),
        ("first", 0.0, [10, None, 5]),
        ("last", 0.5, [20, None, 7]),
        ("max", 1.0, [30, None, 5]),
    ],
)
def test_conflicts_are_counted_and_resolved_by_the_named_rule(
    rule: str, score: float, tokens: list[int | None], tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "a.csv", TWICE)
    report = ingest([source], tmp_path / "out", options=IngestOptions(on_conflict=OnConflict(rule)))
    found = {(row["prompt"], row["model"]): row for row in joined(tmp_path / "out")}
    assert found["p", "a"]["score"] == score
    assert [found[pair]["output_tokens"] for pair in (("p", "a"), ("p", "b"), ("q", "b"))] == tokens
    assert (report.n_rows, report.n_results, report.n_repeated, report.n_conflicting) == (6, 3, 3, 1)
    assert report.on_conflict == rule


def joined(out: Path) -> list[dict[str, Any]]:
    items = pl.read_parquet(out / "items.parquet")
    return pl.read_parquet(out / "results.parquet").join(items, on="item_id").to_dicts()


def test_how_many_answers_a_mean_is_of_is_kept(tmp_path: Path) -> None:
    ingest([write_csv(tmp_path / "a.csv", TWICE)], tmp_path / "out")
    assert sorted(row["n_samples"] for row in joined(tmp_path / "out")) == [1, 2, 3]


def test_the_rule_error_refuses_and_names_the_first_conflict(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", TWICE)
    words = rf"1 pairs.*{item_id('p')}.*'a'.*\[0\.0, 0\.5, 1\.0\].*--on-conflict"
    with pytest.raises(DataError, match=words):
        ingest([source], tmp_path / "out", options=IngestOptions(on_conflict=OnConflict.ERROR))
    assert not (tmp_path / "out").exists()


def test_the_id_of_a_prompt_depends_on_its_text_alone(tmp_path: Path) -> None:
    assert item_id("What is 2 + 2?") == "38d46ad3618826cf660d"  # as sha256sum says
    for name, rows in (("a", TWICE), ("b", TWICE[::-1])):
        ingest([write_csv(tmp_path / f"{name}.csv", rows)], tmp_path / name)
    ids = [dict(pl.read_parquet(tmp_path / n / "items.parquet").select("prompt", "item_id").iter_rows()) for n in "ab"]
    assert ids[0] == ids[1] == {"p": item_id("p"), "q": item_id("q")}


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", TWICE)
    for name in ("x", "y"):
        ingest([source], tmp_path / name)
    for file in ("items.parquet", "results.parquet", "ingest.json"):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()


def test_amounts_that_only_late_rows_know_stand_beside_their_answers(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "llm": "a", "score": 1, "cost_usd": 0.5 if i == 7 else None} for i in range(9)]
    ingest([write_jsonl(tmp_path / "a.jsonl", rows)], tmp_path / "out")
    assert {row["prompt"]: row["cost_usd"] for row in joined(tmp_path / "out")} == {
        f"p{i}": 0.5 if i == 7 else None for i in range(9)
    }
    assert "output_tokens" not in pl.read_parquet_schema(tmp_path / "out" / "results.parquet")


def test_the_report_says_where_everything_came_from(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "sources" / "a.csv", TWICE)
    (tmp_path / "sources" / "notes.csv").write_text("to whom,it may concern\n1,2\n")
    report = ingest([tmp_path / "sources"], tmp_path / "out")
    written = json.loads((tmp_path / "out" / "ingest.json").read_text())
    assert written["files"][0]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert written["files"][0]["file"] == "a.csv"
    assert written["ignored"] == ["notes.csv"] == list(report.ignored)
    assert str(tmp_path) not in (tmp_path / "out" / "ingest.json").read_text()
    assert not (tmp_path / "out" / "rejected.jsonl").exists()


def test_a_folder_made_before_is_replaced_and_not_read_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", TWICE)
    for _ in range(2):
        report = ingest([tmp_path], tmp_path / "out")
        assert [file.file for file in report.files] == ["a.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out"]
    assert read_folder(tmp_path / "out").n_labels == 3


def test_what_ingest_did_not_make_is_not_replaced(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", TWICE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="not replaced"):
        ingest([source], tmp_path / "out")
    with pytest.raises(DataError, match="is a file"):
        ingest([source], source)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"


def test_a_failure_while_writing_leaves_the_older_folder_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_csv(tmp_path / "a.csv", TWICE)
    ingest([source], tmp_path / "out")
    before = (tmp_path / "out" / "results.parquet").read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full_disk)
    with pytest.raises(DataError, match=r"out: cannot be written .*no space"):
        ingest([source], tmp_path / "out")
    assert (tmp_path / "out" / "results.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", TWICE)
    with pytest.raises(DataError, match="cannot be written"):
        ingest([source], source / "below" / "a" / "file")


def test_a_prompt_keeps_the_first_category_it_came_with(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "llm": llm, "score": 1, "category": c} for llm, c in (("a", "math"), ("b", "other"))]
    assert ingest([write_csv(tmp_path / "a.csv", rows)], tmp_path / "out").categories == {"math": 1}


def test_canonical_folders_below_a_folder_are_read_as_such(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ingest([write_csv(tmp_path / f"{name}.csv", TWICE)], tmp_path / "sets" / name)
    report = ingest([tmp_path / "sets"], tmp_path / "out")
    assert [(file.file, file.format, file.rows) for file in report.files] == [("one", "long", 3), ("two", "long", 3)]
    assert report.n_results == 3


def test_memory_stays_far_below_the_file(tmp_path: Path) -> None:
    import tracemalloc  # noqa: PLC0415 - slows down what runs after it

    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "model_name", "label"])
        for i in range(100):
            writer.writerows([f"{i} {'word ' * 200}", f"llm{j}", j % 2] for j in range(100))
    tracemalloc.start()
    ingest([tmp_path / "train.csv"], tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "train.csv").stat().st_size > 9e6
    assert peak < 4e6
    assert set(column(tmp_path / "out", "score")) == {0.0, 1.0}
