"""`train` measures the guarantee on its test part; `guarantee` measures the same, and changes no tensor."""

import json
import shutil
from pathlib import Path

import pytest
from synthetic import small_ngrams, small_table, write_set
from typer.testing import CliRunner

from embedllm_router.artifact import weights
from embedllm_router.artifact.weights import load_artifact
from embedllm_router.cli.plan import app
from embedllm_router.cli.train import app as learning_app
from embedllm_router.training.fit.distill import save_table

runner = CliRunner()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, prices, and weights trained on it for a few epochs."""
    place = tmp_path_factory.mktemp("guarantee")
    write_set(place / "topics", n=600)
    save_table(place / "table", small_table(place / "planted"))
    usd = {"calculator": 1.0, "poet": 2.0, "engineer": 4.0}
    prices = {
        name: {"input_usd_per_mtok": one, "output_usd_per_mtok": one, "source": "made up"} for name, one in usd.items()
    }
    (place / "prices.json").write_text(json.dumps({"llms": prices}))
    options = ["--min-labels=100", "--max-epochs=6", "--members=1", "--threads=1", "--json"]
    where = [f"--data={place / 'topics'}", f"--encoder={place / 'table'}", f"--prices={place / 'prices.json'}"]
    with small_ngrams():
        done = runner.invoke(learning_app, ["train", *where, f"--out={place / 'out'}", *options])
    assert done.exit_code == 0, done.output
    return place


def test_training_stores_a_guarantee_and_the_command_measures_the_same(place: Path, tmp_path: Path) -> None:
    trained = load_artifact(place / "out")
    assert {row.promise for row in trained.manifest.contract} == {"min_p_correct", "cost_weight", "any_llm"}
    n_test = {row.n_prompts for row in trained.manifest.contract if row.promise == "cost_weight"}
    assert n_test == {60}  # a tenth, set aside
    folder = shutil.copytree(place / "out", tmp_path / "copy")
    bare = json.loads((folder / "manifest.json").read_text())
    bare["contract"] = []
    (folder / "manifest.json").write_text(json.dumps(bare))
    before = {name: (folder / name).read_bytes() for name in bare["files"]}
    done = runner.invoke(app, ["guarantee", "--artifact", str(folder), "--data", str(place / "topics"), "--json"])
    assert done.exit_code == 0, done.output
    measured = load_artifact(folder)
    assert measured.manifest.contract == trained.manifest.contract
    assert {name: (folder / name).read_bytes() for name in bare["files"]} == before
    assert json.loads(done.stdout)["artifact"] == measured.id
    assert (folder / "README.md").read_text().count("## Guarantee") == 1


def test_weights_found_by_name_are_changed_where_they_are(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = shutil.copytree(place / "out", package / "weights" / "other")
    bare = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**bare, "contract": []}))
    monkeypatch.setattr(weights, "shipped_path", package.joinpath)
    monkeypatch.chdir(elsewhere)
    done = runner.invoke(app, ["guarantee", "--artifact", "weights/other", "--data", str(place / "topics"), "--json"])
    assert done.exit_code == 0, done.output
    assert load_artifact(folder).manifest.contract
    assert not list(elsewhere.iterdir())


def test_people_are_shown_what_was_measured(place: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(place / "out", tmp_path / "copy")
    done = runner.invoke(app, ["guarantee", "--artifact", str(folder), "--data", str(place / "topics")])
    assert done.exit_code == 0, done.output
    assert "guarantees measured" in done.stdout
    assert "guarantee by data set" in done.stdout


def test_data_that_are_not_the_artifacts_change_nothing(place: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(place / "out", tmp_path / "copy")
    write_set(tmp_path / "topics", n=90)
    done = runner.invoke(app, ["guarantee", "--artifact", str(folder), "--data", str(tmp_path / "topics")])
    assert done.exit_code == 2
    assert "not the same data" in " ".join(done.stderr.split())
    assert load_artifact(folder).id == load_artifact(place / "out").id
