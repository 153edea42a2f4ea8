"""The commands: JSON with the promised keys, a self-contained report, honest errors; figures on the real data."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from planted import SPRINTER, WIZARD
from planted_parts import trained_artifact, write_data
from real_data import DATA
from typer.testing import CliRunner, Result

from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.cli.evaluate import register
from embedllm_router.evaluation.baselines import BASELINES
from embedllm_router.evaluation.inputs import read_inputs
from embedllm_router.evaluation.metrics import correctness
from embedllm_router.evaluation.run import EvaluationOptions, evaluate

app = typer.Typer()
register(app)

ROUTING = {"accuracy", "best_single", "oracle", "random", "cost_save", "perf_gain", "aiq", "n_prompts"}
PROMISED = {"n_prompts", "n_llms", "n_labels", "log_loss", "brier", "auc", "ece", "accuracy", "routing", "baselines",
            "by_category"}  # fmt: skip
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    write_data(root / "data")
    trained_artifact(root / "artifact")
    return root


def run(place: Path, *options: str) -> Result:
    data = [f"--data={place / 'data' / name}" for name in ("alpha", "beta")]
    return CliRunner().invoke(app, ["evaluate", f"--artifact={place / 'artifact'}", *data, *options])


@pytest.fixture(scope="module")
def report(place: Path) -> Path:
    done = run(place, "--mf-epochs=2", f"--out={place / 'out'}", "--json")
    assert done.exit_code == 0, done.output
    (place / "found.json").write_text(done.stdout)
    return place


def found(report: Path) -> dict[str, Any]:
    return json.loads((report / "found.json").read_text())


def test_json_has_the_promised_keys_and_only_numbers_that_json_knows(report: Path) -> None:
    fields = found(report)
    assert fields.keys() >= PROMISED
    assert fields["routing"].keys() == ROUTING
    assert fields["baselines"].keys() == set(BASELINES)
    assert fields["skipped_labels"]["LLM not in the artifact"] == 320
    assert fields["split"] == "test"
    assert "NaN" not in (report / "found.json").read_text()


def test_figures_are_consistent_with_each_other(report: Path) -> None:
    fields = found(report)
    routing, baselines = fields["routing"], fields["baselines"]
    assert routing["accuracy"] <= routing["oracle"] == baselines["oracle"]["routing"]["accuracy"]
    assert baselines["best_single"]["routing"]["accuracy"] == pytest.approx(routing["best_single"])
    assert baselines["dataset_oracle"]["routing"]["accuracy"] >= routing["best_single"]
    assert sum(c["n_labels"] for c in fields["by_category"].values()) == fields["n_labels"]
    assert sum(c["routing"]["n_prompts"] for c in fields["by_category"].values()) == routing["n_prompts"]
    for name, baseline in baselines.items():
        assert baseline["routing"]["accuracy"] <= routing["oracle"], name
    assert fields["cost"]["unpriced_llms"] == 1
    interval = fields["intervals"]["log_loss"]
    assert interval["low"] <= fields["log_loss"] <= interval["high"]


def test_the_report_stands_alone_and_its_pictures_are_pngs(report: Path) -> None:
    out = report / "out"
    page = (out / "report.html").read_text()
    names = {"frontier", "reliability", "choices", "llm_map", "categories", "abstention"}
    assert {p.stem for p in out.glob("*.png")} == names
    assert all(p.read_bytes().startswith(PNG) for p in out.glob("*.png"))
    assert page.count("data:image/png;base64,") == len(names)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    first = page[page.index("</h1>") + len("</h1>\n") :]
    assert first.startswith("<h2>Does routing pay?</h2>")
    assert "alpha: " in page
    assert "mf ran 2 epochs; the paper runs 50." in page
    assert str(report) not in page


def test_prompts_never_reach_the_report(report: Path) -> None:
    assert "question 1 of many words" not in (report / "out" / "report.html").read_text()


def test_the_table_says_what_was_measured_and_left_out(place: Path) -> None:
    done = run(place, "--baselines=llm_means,oracle")
    assert done.exit_code == 0, done.output
    assert "this artifact" in done.stdout
    assert "llm_means" in done.stdout
    assert "320 labels, LLM not in the artifact" in " ".join(done.stdout.split())
    assert "best single LLM" in done.stdout


def test_unseen_data_run_only_baselines_that_need_no_training(place: Path) -> None:
    done = run(place, "--split=all", "--baselines=knn,random,oracle", "--json")
    fields = json.loads(done.stdout)
    assert fields["baselines"].keys() == {"random", "oracle"}
    assert fields["baselines_not_run"].keys() == {"knn"}
    assert "LEAKAGE" in fields["warnings"][0]
    assert "warning: LEAKAGE" in done.stderr


def test_the_same_seed_gives_the_same_figures(place: Path) -> None:
    options = ("--baselines=random,clusters,irt", "--seed=5", "--json")
    texts = [re.sub(r'"seconds": [\d.]+', "", run(place, *options).stdout) for _ in range(2)]
    assert texts[0] == texts[1]


def test_wrong_options_are_errors_of_ours(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def said(*arguments: str, code: int = 2) -> str:
        done = CliRunner().invoke(app, ["evaluate", *arguments])
        assert done.exit_code == code, done.output
        return " ".join(done.stderr.split())

    mine = [f"--data={place / 'data' / 'alpha'}", f"--artifact={place / 'artifact'}"]
    assert "nonsense" in said(*mine, "--baselines=nonsense")
    assert "file" in said(*mine, f"--out={tmp_path / 'file'}", "--baselines=none")
    assert "nope: no such file or folder" in said(f"--data={tmp_path / 'nope'}", "--baselines=none")
    assert "cannot read manifest.json" in said(f"--data={tmp_path}", f"--artifact={tmp_path}", code=1)


def test_a_permuted_catalog_gives_the_same_figures(place: Path) -> None:
    artifact = load_artifact(place / "artifact")
    order = np.array([2, 0, 1])
    rows = ("llm_embeddings", "llm_bias", "length_embeddings", "length_bias")
    tensors = {name: t[order] if name in rows else t for name, t in artifact.decoder.items()}
    llms = tuple(artifact.manifest.llms[i] for i in order)
    turned = replace(artifact, manifest=artifact.manifest.model_copy(update={"llms": llms}), decoder=tensors)
    folders = [place / "data" / name for name in ("alpha", "beta")]
    a, b = (evaluate(one, folders, EvaluationOptions()) for one in (artifact, turned))
    assert a.router.correctness is not None
    assert b.router.correctness is not None
    assert a.router.correctness.log_loss == pytest.approx(b.router.correctness.log_loss)
    assert a.router.cost is not None
    assert b.router.cost is not None
    assert a.router.cost.aiq == pytest.approx(b.router.cost.aiq)


def test_similar_lists_the_other_llms(place: Path) -> None:
    arguments = ["similar", "sprinter-7b-instruct", f"--artifact={place / 'artifact'}"]
    plain = CliRunner().invoke(app, arguments)
    assert WIZARD in plain.stdout
    assert SPRINTER not in plain.stdout
    fields = json.loads(CliRunner().invoke(app, [*arguments, "--n=1", "--json"]).stdout)
    assert fields["llm"] == SPRINTER
    assert len(fields["neighbours"]) == 1
    assert -1 <= fields["neighbours"][0]["similarity"] <= 1


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data sets beside the checkout")
def test_the_shipped_artifact_shows_the_figures_it_records() -> None:
    artifact = load_artifact(default_artifact_path())
    folders = [DATA / source.name for source in artifact.manifest.data]
    inputs = read_inputs(artifact, folders, train_x=False)
    test = inputs.test.matrix
    measured = correctness(test.labels(), inputs.predictions.p_correct, test.observed)
    assert measured.log_loss == pytest.approx(artifact.manifest.metrics["log_loss"], abs=1e-5)
    assert measured.auc == pytest.approx(artifact.manifest.metrics["auc"], abs=1e-5)
