"""The spread over training seeds: the figures of each, their mean and standard deviation, and of one recipe only."""

import json
import re
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
import typer
from planted_parts import trained_artifact, write_data
from typer.testing import CliRunner, Result

from embedllm_router.artifact.weights import load_artifact, save_artifact
from embedllm_router.cli.evaluate import register
from embedllm_router.evaluation.run import EvaluationOptions, evaluate, seed_folders

app = typer.Typer()
register(app)


def write_seed(folder: Path, seed: int, **settings: object) -> None:
    """The planted artifact as seed after seed would have it: each a little less sure of itself."""
    plain = trained_artifact(folder)
    training = {**plain.manifest.training, "seed": seed, "epochs_run": seed + 3, **settings}
    weaker = {**plain.decoder, "llm_embeddings": plain.decoder["llm_embeddings"].astype(np.float32) * (1 - 0.1 * seed)}
    save_artifact(
        folder,
        plain.manifest.model_copy(update={"training": training}),
        encoder=plain.encoder,
        decoder=weaker,
        tokenizer_json=plain.tokenizer_json,
        model_card="",
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_data(tmp_path / "data")
    for seed in (0, 1, 10):
        write_seed(tmp_path / "out" / f"seed-{seed}", seed)
    return tmp_path


def run(place: Path, *options: str) -> Result:
    data = [f"--data={place / 'data' / name}" for name in ("alpha", "beta")]
    return CliRunner().invoke(app, ["evaluate", f"--artifact={place / 'out'}", *data, *options])


def test_mean_and_deviation_are_of_each_seeds_own_evaluation(place: Path) -> None:
    done = run(place, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["seeds"] == [0, 1, 10]
    data = [place / "data" / name for name in ("alpha", "beta")]
    artifacts = [load_artifact(folder) for folder in seed_folders(place / "out")]
    assert said["artifacts"] == [a.id for a in artifacts]
    losses = []
    for artifact in artifacts:
        correctness = evaluate(artifact, data, EvaluationOptions()).router.correctness
        assert correctness is not None
        losses.append(correctness.log_loss)
    assert len(set(losses)) == 3
    figure = said["figures"]["log_loss"]
    assert figure["values"] == pytest.approx(losses)
    assert (figure["mean"], figure["sd"]) == pytest.approx((statistics.mean(losses), statistics.stdev(losses)))
    assert said["figures"].keys() == {"log_loss", "auc", "ece", "routing_accuracy", "cost_save"}
    assert "log_loss" in run(place).stdout


def refused(place: Path, *options: str) -> str:
    """What is said of a mistake."""
    done = run(place, *options)
    assert done.exit_code == 2, done.output
    return " ".join(done.stderr.split())


def test_seeds_of_different_recipes_have_no_spread(place: Path) -> None:
    write_seed(place / "out" / "seed-1", 1, d_llm=3)
    assert "seeds 0 and 1 are not of one recipe: ['d_llm'] differ" in refused(place)


def test_one_seed_or_the_same_seed_twice_has_no_spread(place: Path) -> None:
    write_seed(place / "out" / "seed-10", 1)
    assert "seeds [0, 1, 1]" in refused(place)
    for twice in ("seed-1", "seed-10"):
        shutil.rmtree(place / "out" / twice)
    assert re.search(r"at least two .* found seeds \[0\]", refused(place))


def test_a_report_is_of_one_artifact(place: Path) -> None:
    assert "name one of the seeds" in refused(place, f"--out={place / 'report'}")
