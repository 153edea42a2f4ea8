"""Leaving out each data set in turn: nothing of a set reaches what predicts it, figures are right, runs go on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from synthetic import small_ngrams, small_table, write_set
from typer.testing import CliRunner

from embedllm_router.cli.main import app
from embedllm_router.data.folder import read_folders
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.training.fit import encoding, leave_out
from embedllm_router.training.fit.ability import Cells
from embedllm_router.training.fit.distill import save_table
from embedllm_router.training.fit.facts import Facts, Price
from embedllm_router.training.fit.form import Recipe, train_form
from embedllm_router.training.fit.hedge import USUAL_CONSTANTS
from embedllm_router.training.fit.leave_out import (
    LeaveOutOptions,
    LeftOutRun,
    leave_each_out,
    nested_constants,
    set_adjusted_means,
)
from embedllm_router.training.fit.leave_out_figures import left_out_set, measure_set, predictions, route_set
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.published import Published

NAMES = ("one", "two", "three", "four")
SMALL = LeaveOutOptions(max_prompts=120, max_held_out=20, hidden=8, max_epochs=12, learning_rate=1e-2)
PRICES = {
    llm: Price(input_usd_per_mtok=usd, output_usd_per_mtok=usd, source="made up")
    for llm, usd in (("calculator", 1.0), ("engineer", 10.0), ("poet", 100.0))
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("leave_out")
    for i, name in enumerate(NAMES):
        write_set(place / name, n=120, seed=i)
    shared = pl.read_parquet(place / "one" / "items.parquet").head(20)
    items = pl.read_parquet(place / "two" / "items.parquet")
    prompts = pl.concat([shared["prompt"], items["prompt"].slice(20)])
    items.with_columns(prompts).write_parquet(place / "two" / "items.parquet")
    return place


@pytest.fixture(scope="module")
def matrix(workplace: Path) -> CorrectnessMatrix:
    return read_folders([workplace / name for name in NAMES])


@pytest.fixture(scope="module")
def recipe(workplace: Path) -> Recipe:
    options = TrainingOptions(d_llm=4, broad_d_llm=4, n_points=10, trust_labels=20)
    return Recipe(small_table(workplace / "planted"), Facts({}, prices=PRICES), Published(), options, 8, ())


@pytest.fixture(scope="module")
def runs(matrix: CorrectnessMatrix, recipe: Recipe) -> tuple[LeftOutRun, ...]:
    return leave_each_out(matrix, recipe, SMALL)


def test_every_set_is_left_out_once_with_all_its_answers(
    runs: tuple[LeftOutRun, ...], matrix: CorrectnessMatrix
) -> None:
    assert [run.name for run in runs] == sorted(NAMES)
    for run in runs:
        assert {matrix.datasets[row] for row in run.rows} == {run.name}
        assert len(run.left) == 120 * 3
        truth = matrix.labels()[run.rows][run.left.prompt, run.left.llm]
        np.testing.assert_array_equal(run.left.right, truth)


def test_of_a_large_set_whole_prompts_are_drawn(matrix: CorrectnessMatrix, recipe: Recipe) -> None:
    for run in leave_each_out(matrix, recipe, replace(SMALL, max_answers=100)):
        assert len(run.left) == 99, "33 prompts of three answers each"
        assert len(run.rows) == 33


def test_nothing_of_a_set_is_trained_on_for_it(
    matrix: CorrectnessMatrix, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its prompts nor the same questions in other sets; labels turned round change no prediction for it."""
    seen: dict[str, set[str]] = {}

    def spied(data: Any, few: CorrectnessMatrix, *args: Any, **kwargs: Any) -> Any:
        left = {few.datasets[i] for i in data.split.test}
        rows = np.concatenate([data.split.train, data.split.validation])
        seen[left.pop()] = {question_stem(few.prompts[i]) for i in rows}
        return train_form(data, few, *args, **kwargs)

    monkeypatch.setattr(leave_out, "train_form", spied)
    before = leave_each_out(matrix, recipe, SMALL)
    for name in NAMES:
        own = {question_stem(p) for p, of in zip(matrix.prompts, matrix.datasets, strict=True) if of == name}
        assert not own & seen[name]
    mine = np.array(matrix.datasets) == "three"
    turned = replace(matrix, correctness=np.where(mine[:, None], 1 - matrix.correctness, matrix.correctness))
    after = leave_each_out(turned, recipe, SMALL)
    place = sorted(NAMES).index("three")
    np.testing.assert_array_equal(before[place].left.exam, after[place].left.exam)
    np.testing.assert_array_equal(before[place].means, after[place].means)
    np.testing.assert_array_equal(before[place].knn, after[place].knn)
    np.testing.assert_array_equal(before[place].left.right, 1 - after[place].left.right)


def test_the_constants_a_set_is_judged_with_do_not_depend_on_it(runs: tuple[LeftOutRun, ...]) -> None:
    before = nested_constants(runs)
    turned = replace(runs[0], left=replace(runs[0].left, right=1 - runs[0].left.right))
    after = nested_constants([turned, *runs[1:]])
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert nested_constants(runs[:3]) == (USUAL_CONSTANTS,) * 3, "three sets are too few to find constants"


def test_figures_are_those_of_a_naive_count(runs: tuple[LeftOutRun, ...]) -> None:
    run = runs[0]
    found = measure_set(run, USUAL_CONSTANTS, 0.5)
    p = predictions(run, USUAL_CONSTANTS, 0.5)["weights"]
    losses = [-np.log(q if y else 1 - q) for q, y in zip(p, run.left.right, strict=True)]
    mine = found.predictors["weights"]
    assert mine.log_loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert mine.mean_p == pytest.approx(p.mean())
    pairs = [
        (p[i] > p[j]) + 0.5 * (p[i] == p[j])
        for i in np.flatnonzero(run.left.right == 1)
        for j in np.flatnonzero(run.left.right == 0)
    ]
    assert mine.auc == pytest.approx(np.mean(pairs), abs=1e-6)
    change = found.change["means"]
    assert change.value == pytest.approx(mine.log_loss - found.predictors["means"].log_loss, abs=1e-9)
    assert change.low < change.value < change.high
    kept = left_out_set(run, USUAL_CONSTANTS, 0.5, "poems")
    assert (kept.domain, kept.n_prompts, kept.n_labels) == ("poems", 120, 360)
    assert kept.log_loss == pytest.approx(mine.log_loss, abs=1e-4)


def test_the_topics_of_a_set_nobody_saw_are_recognised(runs: tuple[LeftOutRun, ...]) -> None:
    """The sets ask the same kinds of questions, so a decoder of the other sets beats what LLMs reach on average."""
    figures = [measure_set(run, USUAL_CONSTANTS, 0.5) for run in runs]
    assert np.mean([one.predictors["weights"].auc for one in figures]) > 0.75
    assert np.mean([one.predictors["means"].auc for one in figures]) < 0.65


def test_routing_counts_what_was_chosen(
    runs: tuple[LeftOutRun, ...], matrix: CorrectnessMatrix, recipe: Recipe
) -> None:
    run = runs[0]
    p = predictions(run, USUAL_CONSTANTS, 0.5)
    free, dear, dearest = route_set(run, p, matrix, recipe)
    dense = p["weights"].reshape(120, 3)
    labels = matrix.labels()[run.rows]
    assert free.accuracy["weights"] == pytest.approx(labels[np.arange(120), dense.argmax(axis=1)].mean())
    fixed = int(p["means"].reshape(120, 3).mean(axis=0).argmax())
    assert free.accuracy["best_fixed"] == pytest.approx(labels[:, fixed].mean())
    assert (free.n_prompts, free.n_llms) == (120, 3)
    assert dear.cost_usd["weights"] >= dearest.cost_usd["weights"]
    assert dearest.cost_usd["weights"] <= free.cost_usd["weights"]


def test_finished_sets_are_kept_and_those_of_other_data_are_not_taken(
    matrix: CorrectnessMatrix, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = leave_each_out(matrix, recipe, SMALL, cache=tmp_path)
    (tmp_path / "001.npz").unlink()
    trained: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        trained.append(1)
        return train_form(*args, **kwargs)

    monkeypatch.setattr(leave_out, "train_form", counted)
    again = leave_each_out(matrix, recipe, SMALL, cache=tmp_path)
    assert len(trained) == 1, "only what was missing"
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.left.exam, b.left.exam)
        np.testing.assert_array_equal(a.rows, b.rows)
    (tmp_path / "002.npz").write_bytes(b"damaged")
    leave_each_out(matrix, recipe, SMALL, cache=tmp_path)
    assert len(trained) == 2
    leave_each_out(replace(matrix, correctness=1 - matrix.correctness), recipe, SMALL, cache=tmp_path)
    assert len(trained) == 6, "other labels, other runs"


def test_means_adjusted_for_sets_find_planted_llms() -> None:
    """The good LLMs were asked the hard sets, so plain means rank them last."""
    rng = np.random.default_rng(0)
    ability, level = np.linspace(-1, 1, 12), np.linspace(1.5, -1.5, 8)
    n = np.array([[300.0 if abs(s * 11 / 7 - m) < 5 else 0.0 for m in range(12)] for s in range(8)])
    right = rng.binomial(n.astype(int), 1 / (1 + np.exp(-(ability[None] + level[:, None])))).astype(float)
    plain = right.sum(axis=0) / n.sum(axis=0)
    found, sd = set_adjusted_means(Cells(n, right))
    assert np.corrcoef(found, ability)[0, 1] > 0.95
    assert np.corrcoef(plain, ability)[0, 1] < 0.6
    assert 0.5 < sd < 1.8


@pytest.fixture(scope="module")
def weights(workplace: Path) -> Path:
    save_table(workplace / "table", small_table(workplace / "planted2"))
    given = [f"--data={workplace / name}" for name in NAMES]
    options = ["--min-labels=30", "--max-epochs=1", "--perturbed-copies=0", "--threads=1", "--seed=3"]
    with small_ngrams():
        out = f"--out={workplace / 'weights'}"
        made = CliRunner().invoke(app, ["train", *given, out, f"--encoder={workplace / 'table'}", *options])
    assert made.exit_code == 0, made.output
    return workplace / "weights"


def test_the_command_prints_tables_and_json(workplace: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tuple(one.model_copy(update={"n_rows": 2**8, "n_columns": 16}) for one in encoding.DEFAULT_NGRAMS)
    monkeypatch.setattr(encoding, "DEFAULT_NGRAMS", small)
    given = ["evaluate", f"--artifact={weights}", *(f"--data={workplace / name}" for name in NAMES), "--leave-out"]
    cache = f"--cache={workplace / 'cache'}"
    entry = {"licence": "", "attribution": "", "asks": {"nowhere": {"chance": 0.2}}}
    (workplace / "sources.json").write_text(json.dumps({"datasets": {NAMES[0]: entry}}))
    given.append(f"--sources={workplace / 'sources.json'}")
    said = CliRunner().invoke(app, [*given, cache, "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert [one["name"] for one in found["sets"]] == sorted(NAMES)
    assert set(found["sets"][0]["predictors"]) == {"weights", "means", "knn"}
    assert found["constants"]["ability_share"] > 0
    assert "the data do not have" in found["warnings"][0]
    assert "the data do not have" in " ".join(said.stderr.split())
    shown = CliRunner().invoke(app, [*given, cache])
    assert shown.exit_code == 0, shown.output
    assert "log-loss on data sets left out of training" in shown.stdout
    assert "Of 4 data sets" in shown.stdout


def test_two_sets_are_too_few(workplace: Path, weights: Path) -> None:
    given = ["evaluate", f"--artifact={weights}", *(f"--data={workplace / name}" for name in NAMES[:2]), "--leave-out"]
    said = CliRunner().invoke(app, given)
    assert said.exit_code == 2
    assert "2 data sets to leave out in turn, expected at least 3" in said.stderr
