"""Slices and the contract in an evaluation: planted prompts land where they belong, figures equal naive loops."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from planted_parts import trained_artifact, write_data
from scipy.stats import beta
from typer.testing import CliRunner

from embedllm_router.artifact.weights import load_artifact
from embedllm_router.cli.evaluate import register
from embedllm_router.evaluation.report import evaluation_fields, report_page
from embedllm_router.evaluation.result import Evaluation
from embedllm_router.evaluation.run import (
    LENGTHS,
    UNDETERMINED,
    EvaluationOptions,
    content_of,
    evaluate,
    language_of,
    length_of,
)

GERMAN = "{word}: Wie viele Einwohner hat die Hauptstadt, und wann wurde sie gegründet? Frage {i}."
CODE = "{word}\ndef question_{i}(x):\n    return x + {i}\nWhat does it return for the number nine?"
app = typer.Typer()
register(app)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Which river flows through the capital of Austria, and how long is it?", "en"),
        ("Welcher Fluss fließt durch die Hauptstadt von Österreich, und wie lang ist er?", "de"),
        ("Quel fleuve traverse la capitale de l'Autriche et quelle est sa longueur ?", "fr"),
        ("哪条河流流经奥地利的首都", "zh"),
        ("9 4 6 5 5 5 5 5", UNDETERMINED),
        ("", UNDETERMINED),
    ],
)
def test_a_language_is_named_and_sums_have_none(text: str, language: str) -> None:
    assert language_of(text) == language == language_of(text)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("What does this do?\n\ndef f(x):\n    return x", "code"),
        ("```python\nprint(1)\n```", "code"),
        ("#include <stdio.h>\nint main() {\n  return 0;\n}", "code"),
        ("Explain SELECT name FROM users", "code"),
        ("const f = function (x) { return x }", "code"),
        ("Write a python function to reverse a list.", "asks for code"),
        ("How do I sort a map in Rust?", "asks for code"),
        ("The return on investment is a function of the import tax; class differences matter.", "prose"),
        ("He took the class: it was good.\nThen he left;\nshe stayed.", "prose"),
        ("Find the maze's way out:\n```\n##.#\n#..#\n```", "prose"),
        ("", "prose"),
    ],
)
def test_code_is_told_from_prose(text: str, content: str) -> None:
    assert content_of(text) == content


@pytest.mark.parametrize(
    ("n", "length"), [(0, 0), (199, 0), (200, 1), (999, 1), (1_000, 2), (3_999, 2), (4_000, 3), (10**6, 3)]
)
def test_lengths_have_their_bounds(n: int, length: int) -> None:
    assert length_of("x" * n) == LENGTHS[length]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of English prompts, a third of which became German and a third code."""
    root = tmp_path_factory.mktemp("slices")
    for folder in write_data(root / "data", n=240):
        items = pl.read_parquet(folder / "items.parquet")
        words = [prompt.split()[0] for prompt in items["prompt"]]
        forms = [(items["prompt"][i], GERMAN, CODE)[i % 3].format(word=word, i=i) for i, word in enumerate(words)]
        items.with_columns(pl.Series("prompt", forms)).write_parquet(folder / "items.parquet")
    trained_artifact(root / "artifact", n=240)
    return root


@pytest.fixture(scope="module")
def measured(place: Path) -> Evaluation:
    folders = [place / "data" / name for name in ("alpha", "beta")]
    return evaluate(load_artifact(place / "artifact"), folders, EvaluationOptions(baselines=("llm_means",)))


def test_slices_share_out_the_prompts_as_planted(measured: Evaluation) -> None:
    prompts = measured.inputs.test.matrix.prompts
    german, code = (sum(mark in prompt for prompt in prompts) for mark in ("Einwohner", "def "))
    assert min(german, code) >= 10
    assert measured.slices["language"]["de"].n_prompts == german
    assert measured.slices["content"]["code"].n_prompts == code
    assert measured.slices["content"]["prose"].n_prompts == len(prompts) - code
    for groups in measured.slices.values():
        assert sum(group.n_prompts for group in groups.values()) == len(prompts)


@pytest.mark.parametrize(("kind", "name", "mark"), [("language", "de", "Einwohner"), ("content", "code", "def ")])
def test_figures_of_a_slice_are_those_of_naive_loops(measured: Evaluation, kind: str, name: str, mark: str) -> None:
    test, p = measured.inputs.test.matrix, measured.router.p
    pairs = [
        (float(test.correctness[i, j] >= 0.5), float(p[i, j]))
        for i, prompt in enumerate(test.prompts)
        for j in range(p.shape[1])
        if mark in prompt and test.observed[i, j]
    ]
    found = measured.slices[kind][name]
    assert found.correctness.n_labels == len(pairs)
    loss = -sum(math.log(q if right else 1 - q) for right, q in pairs) / len(pairs)
    assert found.correctness.log_loss == pytest.approx(loss, rel=1e-5)
    above = [(q > r) + (q == r) / 2 for right, q in pairs if right for wrong, r in pairs if not wrong]
    assert found.correctness.auc == pytest.approx(sum(above) / len(above), rel=1e-6)
    verdicts = []
    for i, prompt in enumerate(test.prompts):
        if mark in prompt and test.observed[i].all():
            verdicts.append(test.correctness[i, int(np.argmax(p[i]))])
    assert found.n_routed == len(verdicts)
    assert found.routing_accuracy == pytest.approx(np.mean(verdicts))


def test_the_contract_counts_what_a_naive_loop_counts(measured: Evaluation) -> None:
    """Ends are Clopper and Pearson's, or wider where the bootstrap over questions is."""
    test, p = measured.inputs.test.matrix, measured.router.p
    rows = [row for row in measured.guarantee if row.promise == "any_llm"]
    assert len(rows) > 3
    for row in rows:
        kept = [test.correctness[i, j] >= 0.5 for i, j in np.argwhere(test.observed).tolist() if p[i, j] >= row.value]
        n, right = len(kept), sum(kept)
        assert (row.n_labels, row.correct) == (n, pytest.approx(right / n, abs=1e-6))
        assert row.at_least <= beta.ppf(0.05, right, n - right + 1) + 1e-6
        assert row.low <= beta.ppf(0.025, right, n - right + 1) + 1e-6


def test_json_has_slices_and_the_contract(measured: Evaluation) -> None:
    fields = json.loads(json.dumps(evaluation_fields(measured)))
    german = fields["slices"]["language"]["de"]
    assert fields["slices"].keys() == {"language", "content", "length"}
    assert german.keys() == next(iter(fields["by_category"].values())).keys()
    assert german["n_labels"] == measured.slices["language"]["de"].correctness.n_labels
    assert {row["promise"] for row in fields["contract"]} == {"any_llm", "min_p_correct", "cost_weight"}
    for row in fields["contract"]:
        floor = row["promise"] != "cost_weight"
        assert (row["verdict"] == "kept") == (floor and row["at_least"] >= row["value"])


def test_table_and_page_name_slices_and_promises(place: Path, measured: Evaluation) -> None:
    data = [f"--data={place / 'data' / name}" for name in ("alpha", "beta")]
    command = ["evaluate", f"--artifact={place / 'artifact'}", *data, "--baselines=none"]
    said = CliRunner().invoke(app, command, env={"COLUMNS": "160"}).stdout
    page = report_page(measured, {})
    for shown in (said, page):
        assert "every LLM that reaches τ" in shown
        assert all(name in shown for name in ("de", "code", "prose", LENGTHS[0]))
        figure = f"{measured.slices['language']['de'].correctness.log_loss:.4f}"
        assert figure in shown
    row = next(row for row in measured.guarantee if row.promise == "any_llm")
    assert f"{row.at_least:.4f}" in page
    assert f"{row.at_least:.3f}" in said


def test_slices_come_in_a_plain_order(measured: Evaluation) -> None:
    lengths = list(measured.slices["length"])
    assert lengths == [name for name in LENGTHS if name in lengths]
    sizes = [group.n_prompts for group in measured.slices["language"].values()]
    assert sizes == sorted(sizes, reverse=True)
