"""The test part is training's own or it is refused; every label left out is counted with its reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from planted import NOVICE, SPRINTER, WIZARD, planted_artifact
from planted_parts import SETS, trained_artifact, write_data

from embedllm_router.artifact.weights import Artifact
from embedllm_router.data.folder import read_folders
from embedllm_router.data.split import question_stem, split_by_stem
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.inputs import read_inputs
from embedllm_router.routing.router import Router


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return write_data(tmp_path / "data")


def test_the_test_part_is_the_one_training_set_aside(tmp_path: Path, folders: list[Path]) -> None:
    artifact = trained_artifact(tmp_path / "artifact")
    inputs = read_inputs(artifact, folders)
    learned = read_folders(folders).select_llms([llm.id for llm in artifact.manifest.llms])
    split = split_by_stem(learned.prompts, seed=0)
    assert set(inputs.test.matrix.prompt_ids) == {learned.prompt_ids[i] for i in split.test}
    assert inputs.train is not None
    assert set(inputs.train.matrix.prompt_ids) == {learned.prompt_ids[i] for i in split.train}
    stems = {question_stem(p) for p in inputs.train.matrix.prompts}
    assert not stems & {question_stem(p) for p in inputs.test.matrix.prompts}


def test_one_of_several_training_sets_is_measured_with_the_same_split(tmp_path: Path, folders: list[Path]) -> None:
    artifact = trained_artifact(tmp_path / "artifact")
    whole, one = read_inputs(artifact, folders), read_inputs(artifact, folders[1:])
    beta = {i for i in whole.test.matrix.prompt_ids if i.startswith(SETS[1])}
    assert set(one.test.matrix.prompt_ids) == beta


def test_a_set_training_never_saw_is_test_but_for_questions_training_saw(tmp_path: Path, folders: list[Path]) -> None:
    artifact = trained_artifact(tmp_path / "artifact", sets=SETS[:1])
    items = pl.read_parquet(folders[1] / "items.parquet")
    copied = pl.read_parquet(folders[0] / "items.parquet")["prompt"]
    items.with_columns(prompt=copied).write_parquet(folders[1] / "items.parquet")
    inputs = read_inputs(artifact, folders)
    numbers = [{i.split("/")[1] for i in inputs.test.matrix.prompt_ids if i.startswith(name)} for name in SETS]
    assert numbers[0] == numbers[1]


def test_a_set_training_never_saw_keeps_its_own_answers_to_items_of_a_training_set(
    tmp_path: Path, folders: list[Path]
) -> None:
    """Both sets hold the same items: those of the test part are measured in both, by each set's own scores."""
    artifact = trained_artifact(tmp_path / "artifact", sets=SETS[:1])
    pl.read_parquet(folders[0] / "items.parquet").write_parquet(folders[1] / "items.parquet")
    same = pl.read_parquet(folders[0] / "results.parquet")
    same.with_columns(score=1 - pl.col("score")).write_parquet(folders[1] / "results.parquet")
    both = read_inputs(artifact, folders)
    counts = [both.test.matrix.datasets.count(name) for name in SETS]
    assert counts[0] == counts[1] > 0
    mine = [both.test.matrix.select_prompts(np.flatnonzero(np.array(both.test.matrix.datasets) == s)) for s in SETS]
    np.testing.assert_array_equal(mine[0].correctness[mine[0].observed], 1 - mine[1].correctness[mine[1].observed])
    assert set(read_inputs(artifact, folders[1:]).test.matrix.datasets) == {SETS[1]}


def test_every_label_is_measured_or_counted_as_left_out(tmp_path: Path, folders: list[Path]) -> None:
    inputs = read_inputs(trained_artifact(tmp_path / "artifact"), folders)
    assert inputs.skipped["LLM not in the artifact"] == 2 * 160
    assert inputs.skipped["no verdict could be read from the answer"] == 2
    assert inputs.test.matrix.n_labels + sum(inputs.skipped.values()) == 2 * 160 * 4
    everything = read_inputs(trained_artifact(tmp_path / "artifact"), folders, split="all")
    assert everything.test.matrix.n_labels == 2 * 160 * 3 - 2


def test_predictions_are_those_of_serving(tmp_path: Path, folders: list[Path]) -> None:
    artifact = trained_artifact(tmp_path / "artifact")
    inputs = read_inputs(artifact, folders)
    routing = Router(artifact).route(inputs.test.matrix.prompts[3])
    assert inputs.predictions.p_correct[3] == pytest.approx(routing.decision.p_correct, rel=1e-6)
    assert inputs.test.matrix.llm_ids == (WIZARD, SPRINTER, NOVICE)


def test_all_prompts_warn_of_leakage_where_there_is_some(tmp_path: Path, folders: list[Path]) -> None:
    leaky = read_inputs(trained_artifact(tmp_path / "a"), folders, split="all")
    assert "LEAKAGE" in leaky.warnings[0]
    assert leaky.train is None
    clean = read_inputs(planted_artifact(tmp_path / "b"), folders, split="all")
    assert "caller's word" in clean.warnings[0]


def test_a_split_that_cannot_be_rebuilt_is_refused(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(ConfigError, match="does not record a split_seed"):
        read_inputs(_without_seed(tmp_path), folders)
    with pytest.raises(ConfigError, match="160 prompts with labels, the artifact saw 99"):
        read_inputs(trained_artifact(tmp_path / "b", n=99), folders)
    with pytest.raises(ConfigError, match=r"without \['gamma'\] its test part"):
        read_inputs(trained_artifact(tmp_path / "c", sets=(*SETS, "gamma")), folders)


def _without_seed(tmp_path: Path) -> Artifact:
    artifact = trained_artifact(tmp_path / "seedless")
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"training": {}}))


def test_data_about_unknown_llms_are_refused(tmp_path: Path) -> None:
    folders = write_data(tmp_path / "data")
    for folder in folders:
        frame = pl.read_parquet(folder / "results.parquet")
        frame.filter(pl.col("model") == "stranger").write_parquet(folder / "results.parquet")
    with pytest.raises(DataError, match="none of the data's LLMs is in the artifact"):
        read_inputs(trained_artifact(tmp_path / "artifact"), folders, split="all")


def test_embeddings_of_train_are_only_made_when_asked_for(tmp_path: Path, folders: list[Path]) -> None:
    heard: list[str] = []
    inputs = read_inputs(
        trained_artifact(tmp_path / "a"), folders, train_x=False, on_progress=lambda what, *_: heard.append(what)
    )
    assert inputs.train is not None
    assert inputs.train.x.shape[1] == 0
    assert "encoding train" not in heard
    assert "scoring test" in heard
    assert np.isfinite(inputs.test.x).all()
