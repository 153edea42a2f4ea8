"""From folders to an artifact on disk and back, on generated data; and through the command line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from synthetic import SKILL, TOPICS, small_ngrams, small_table, write_set
from typer.testing import CliRunner

from embedllm_router.artifact.manifest import EncoderSpec
from embedllm_router.artifact.weights import default_artifact_path, load_artifact, save_artifact
from embedllm_router.cli.train import _choose_encoder, app
from embedllm_router.data.split import split_by_stem
from embedllm_router.errors import ArtifactError
from embedllm_router.evaluation.run import EvaluationOptions, evaluate, measure_spread, seed_folders
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.prediction.static_encoder import StaticEncoder
from embedllm_router.routing.router import Router
from embedllm_router.training.fit.distill import TokenTable, load_table, save_table
from embedllm_router.training.fit.facts import find_llm_table, read_facts
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.recipe import learn, load_matrix


@pytest.fixture(autouse=True, scope="module")
def _small_ngrams() -> Iterator[None]:
    with small_ngrams():
        yield


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recipe")
    write_set(place / "one", n=400, seed=1)
    write_set(place / "two", n=200, seed=2, density=0.7)
    save_table(place / "table", small_table(place / "planted"))
    return place


@pytest.fixture(scope="module")
def trained(workplace: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments(workplace, workplace / "out"), "--json"])
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def arguments(place: Path, out: Path) -> list[str]:
    folders = [f"--data={place / name}" for name in ("one", "two")]
    return [
        "train",
        *folders,
        f"--out={out}",
        f"--encoder={place / 'table'}",
        "--min-labels=100",
        "--max-epochs=40",
        "--threads=1",
    ]


def test_train_prints_one_json_object_and_finds_the_planted_skills(trained: dict[str, Any]) -> None:
    assert trained["n_llms"] == 3
    metrics = trained["metrics"]
    assert metrics["auc"] > 0.85
    assert metrics["log_loss"] < metrics["llm_means_log_loss"]
    assert metrics["routing_accuracy"] > metrics["best_single_accuracy"] + 0.1
    assert metrics["routing_accuracy"] <= metrics["oracle_accuracy"]


def test_the_artifact_on_disk_predicts_the_planted_skills(trained: dict[str, Any], workplace: Path) -> None:
    artifact = load_artifact(workplace / "out")
    assert artifact.id == trained["artifact"]
    encoder, scorer = StaticEncoder.from_artifact(artifact), Scorer.from_artifact(artifact, shrinks=False)
    ids = [llm.id for llm in artifact.manifest.llms]
    assert ids == sorted(SKILL)
    for topic, words in TOPICS.items():
        p = scorer.score(encoder.encode(" ".join(words[:6])).prompt_embedding).p_correct
        best = max(SKILL, key=lambda llm: SKILL[llm][topic])
        assert ids[int(np.argmax(p))] == best


def test_the_manifest_and_the_card_say_what_was_learned_from(trained: dict[str, Any], workplace: Path) -> None:
    manifest = load_artifact(workplace / "out").manifest
    assert trained
    assert [source.name for source in manifest.data] == ["one", "two"]
    assert sum(source.n_labels for source in manifest.data) == sum(llm.n_labels for llm in manifest.llms)
    assert manifest.metrics["auc"] == pytest.approx(trained["metrics"]["auc"], abs=1e-5)
    card = (workplace / "out" / "README.md").read_text(encoding="utf-8")
    assert "## Limits" in card
    assert str(workplace) not in card
    assert all(llm in card for llm in SKILL)


def test_the_same_command_makes_the_same_tensors_also_where_there_is_nothing_to_resume(
    trained: dict[str, Any], workplace: Path
) -> None:
    assert trained
    assert not list(workplace.glob(".*")), "a finished run leaves no checkpoint"
    result = CliRunner().invoke(app, [*arguments(workplace, workplace / "again"), "--resume"])
    assert result.exit_code == 0, result.output
    first, second = load_artifact(workplace / "out"), load_artifact(workplace / "again")
    assert first.manifest.files == second.manifest.files


def test_training_makes_a_landmark_of_every_category_and_measures_them(
    trained: dict[str, Any], workplace: Path
) -> None:
    manifest = load_artifact(workplace / "out").manifest
    assert [one.name for one in manifest.landmarks] == sorted(f"{s}/{t}" for s in ("one", "two") for t in TOPICS)
    assert 0.75 * 600 < sum(one.n_prompts for one in manifest.landmarks) < 0.85 * 600, "of the training part only"
    assert trained["metrics"]["landmark_own_in_3"] > 0.9
    assert "## Landmarks" in (workplace / "out" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(workplace: Path) -> dict[str, Any]:
    """Weights of the form without a hedge, in the folder plain."""
    given = [*arguments(workplace, workplace / "plain"), "--decoder=plain", "--max-epochs=3", "--perturbed-copies=0"]
    result = CliRunner().invoke(app, [*given, "--json"])
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def test_landmarks_added_later_are_those_of_training_and_touch_nothing_else(
    plain: dict[str, Any], workplace: Path
) -> None:
    whole, folder = load_artifact(workplace / "plain"), workplace / "later"
    assert whole.manifest.hedge is None
    bare = {"landmarks": (), "d_landmark": 0, "novelty": None, "metrics": {"auc": plain["metrics"]["auc"]}}
    save_artifact(
        folder,
        whole.manifest.model_copy(update=bare),
        encoder=whole.encoder,
        decoder=whole.decoder,
        tokenizer_json=whole.tokenizer_json,
        model_card="# A card\n\nMended by hand.\n",
    )
    command = [
        "landmarks",
        f"--artifact={folder}",
        f"--data={workplace / 'two'}",
        f"--data={workplace / 'one'}",
        "--json",
    ]
    for _ in range(2):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    found, said = load_artifact(folder), json.loads(result.stdout)
    assert said["artifact"] == found.id
    assert found.manifest.landmarks == whole.manifest.landmarks
    assert found.manifest.files == whole.manifest.files
    assert said["metrics"] == pytest.approx({n: v for n, v in plain["metrics"].items() if n.startswith("landmark")})
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# A card\n\nMended by hand.\n")
    assert card.count("## Landmarks") == 1


def test_sets_that_share_prompts_are_learned_and_evaluated_as_one(workplace: Path, tmp_path: Path) -> None:
    """The second set holds 100 items of the first, one LLM's scores turned round, another's tokens counted."""
    first, second = write_set(tmp_path / "first", n=300, seed=3), write_set(tmp_path / "second", n=200, seed=4)
    shared = pl.read_parquet(first / "items.parquet").head(100)
    results = pl.read_parquet(first / "results.parquet").filter(pl.col("item_id").is_in(shared["item_id"].implode()))
    turned = results.with_columns(score=pl.when(pl.col("model") == "poet").then(1 - pl.col("score")).otherwise("score"))
    for name, more in (("items", shared), ("results", turned)):
        pl.concat([pl.read_parquet(second / f"{name}.parquet"), more]).write_parquet(second / f"{name}.parquet")
    given = [
        f"--data={first}",
        f"--data={second}",
        f"--out={tmp_path / 'out'}",
        "--on-conflict=first",
        "--max-epochs=3",
        "--threads=1",
    ]
    made = CliRunner().invoke(app, ["train", *given, f"--encoder={workplace / 'table'}", "--min-labels=100", "--json"])
    assert made.exit_code == 0, made.output
    said = json.loads(made.stdout)["shared"]
    assert said == {"prompts": 100, "repeated": 300, "conflicting": 100, "on_conflict": "first"}
    artifact = load_artifact(tmp_path / "out")
    assert [(d.name, d.n_prompts) for d in artifact.manifest.data] == [("first", 300), ("second", 200)]
    found = evaluate(artifact, [second, first], EvaluationOptions())
    assert found.router.correctness is not None
    assert found.router.correctness.log_loss == pytest.approx(artifact.manifest.metrics["log_loss"], abs=1e-4)
    assert found.inputs.skipped["answer to a prompt that another data set holds too"] == 300


def test_several_seeds_are_one_artifact_each_and_evaluate_tells_their_spread(workplace: Path, tmp_path: Path) -> None:
    out = tmp_path / "seeds"
    made = CliRunner().invoke(
        app,
        [*arguments(workplace, out), "--seeds=3", "--max-epochs=2", "--members=1", "--perturbed-copies=0", "--json"],
    )
    assert made.exit_code == 0, made.output
    said = [json.loads(line) for line in made.stdout.splitlines()]
    assert [Path(one["out"]).name for one in said] == ["seed-0", "seed-1", "seed-2"]
    spread = measure_spread(seed_folders(out), [workplace / "one", workplace / "two"], EvaluationOptions())
    assert spread.seeds == (0, 1, 2)
    assert spread.artifacts == tuple(one["artifact"] for one in said)
    assert spread.figures["log_loss"].values == pytest.approx([one["metrics"]["log_loss"] for one in said], abs=1e-5)
    assert spread.figures["log_loss"].sd > 0
    again = CliRunner().invoke(app, [*arguments(workplace, out / "seed-0"), "--seeds=2"])
    assert again.exit_code == 2
    assert "is an artifact itself" in again.stderr


def test_recorded_tokens_are_what_is_learned_of_length(workplace: Path, tmp_path: Path) -> None:
    """Characters say 100 to 300 tokens for everything; the counts say ten times as many for one topic."""
    folder = write_set(tmp_path / "counted", n=400, seed=5)
    topic = pl.read_parquet(folder / "items.parquet").select("item_id", "category")
    results = pl.read_parquet(folder / "results.parquet").join(topic, on="item_id")
    tokens = pl.when(pl.col("category") == "code").then(2000).otherwise(200)
    results.with_columns(tokens.alias("output_tokens")).write_parquet(folder / "results.parquet")
    given = [f"--data={folder}", f"--out={tmp_path / 'out'}", f"--encoder={workplace / 'table'}", "--min-labels=100"]
    made = CliRunner().invoke(
        app, ["train", *given, "--max-epochs=40", "--members=1", "--perturbed-copies=0", "--threads=1"]
    )
    assert made.exit_code == 0, made.output
    router = Router.load(tmp_path / "out")
    found: dict[str, list[float]] = {}
    for name, words in TOPICS.items():
        ranked = router.route(f"{' '.join(words[:6])} counted case 1?").decision.assessments()
        found[name] = [one.expected_output_tokens or 0.0 for one in ranked]
    assert max(found["poetry"] + found["arithmetic"]) < 600, "200 was taught; 632 lies halfway to 2000"
    assert min(found["code"]) > 800


def test_where_no_length_is_recorded_output_is_not_taken_to_be_free(workplace: Path, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "bare", n=300, seed=6)
    pl.read_parquet(folder / "results.parquet").drop("output_chars").write_parquet(folder / "results.parquet")
    given = [f"--data={folder}", f"--out={tmp_path / 'out'}", f"--encoder={workplace / 'table'}", "--min-labels=100"]
    made = CliRunner().invoke(app, ["train", *given, "--max-epochs=1", "--members=1", "--threads=1", "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["n_llms"] == 3, "warnings do not spoil the JSON"
    assert "no data set records output_tokens" in made.stderr
    assert "3 of 3 LLMs have no list price" in made.stderr
    for one in Router.load(tmp_path / "out").route("compile the loop").decision.assessments():
        assert one.expected_output_tokens == pytest.approx(300, rel=1e-3)


@pytest.mark.usefixtures("plain", "trained")
@pytest.mark.parametrize(
    ("folder", "words"), [("plain", "cannot be rebuilt"), ("out", "which was fitted to the landmarks")]
)
def test_landmarks_that_cannot_be_renewed_are_refused(workplace: Path, tmp_path: Path, folder: str, words: str) -> None:
    """Data that are not the training's, or weights whose hedge hangs on the landmarks they have."""
    shutil.copytree(workplace / folder, tmp_path / "copy")
    other = write_set(tmp_path / "data" / "one", n=90)
    result = CliRunner().invoke(app, ["landmarks", f"--artifact={tmp_path / 'copy'}", f"--data={other}"])
    assert result.exit_code == 2
    assert words in result.stderr
    assert load_artifact(tmp_path / "copy").id == load_artifact(workplace / folder).id


def test_the_serving_scorer_computes_what_training_measured(trained: dict[str, Any], workplace: Path) -> None:
    """The metrics were measured with the manifest that was written, so the folder must give the same figures again."""
    found = evaluate(load_artifact(workplace / "out"), [workplace / "one", workplace / "two"], EvaluationOptions())
    assert found.router.correctness is not None
    assert found.router.correctness.log_loss == pytest.approx(trained["metrics"]["log_loss"], abs=1e-5)


def test_one_data_set_alone_is_learned_with_the_usual_hedge(workplace: Path, tmp_path: Path) -> None:
    given = [f"--data={workplace / 'one'}", f"--encoder={workplace / 'table'}", "--min-labels=100", "--threads=1"]
    options = ["--max-epochs=40", "--perturbed-copies=0", "--json"]
    made = CliRunner().invoke(app, ["train", *given, f"--out={tmp_path / 'out'}", *options])
    assert made.exit_code == 0, made.output
    manifest = load_artifact(tmp_path / "out").manifest
    assert manifest.hedge is not None
    assert manifest.hedge.fitted_on == ()
    assert manifest.metrics["auc"] > 0.8


def test_prompts_held_out_before_other_sets_joined_stay_held_out(
    trained: dict[str, Any], workplace: Path, tmp_path: Path
) -> None:
    third = write_set(tmp_path / "three", n=100, seed=9)
    given = [*arguments(workplace, tmp_path / "out"), f"--data={third}", "--split-first=one", "--split-first=two"]
    made = CliRunner().invoke(app, [*given, "--max-epochs=1", "--perturbed-copies=0", "--json"])
    assert made.exit_code == 0, made.output
    artifact = load_artifact(tmp_path / "out")
    assert artifact.manifest.training["split_first"] == "one,two"
    folders = [workplace / "one", workplace / "two"]
    before = evaluate(load_artifact(workplace / "out"), folders, EvaluationOptions()).inputs.test.matrix
    shutil.copytree(workplace / "one", tmp_path / "one")
    shutil.copytree(workplace / "two", tmp_path / "two")
    after = evaluate(artifact, [tmp_path / "one", tmp_path / "two"], EvaluationOptions()).inputs.test.matrix
    assert set(after.prompts) == set(before.prompts)
    assert trained["metrics"]["n_prompts"] == len(before.prompts)


def test_a_training_on_some_prompts_of_each_set_is_evaluated_on_its_own_test_part(
    workplace: Path, tmp_path: Path
) -> None:
    given = [*arguments(workplace, tmp_path / "out"), "--max-prompts=200", "--perturbed-copies=0", "--max-epochs=1"]
    made = CliRunner().invoke(app, [*given, "--json"])
    assert made.exit_code == 0, made.output
    artifact = load_artifact(tmp_path / "out")
    assert all(190 <= source.n_prompts <= 200 for source in artifact.manifest.data), "less what has no verdict"
    found = evaluate(artifact, [workplace / "one", workplace / "two"], EvaluationOptions())
    assert found.router.correctness is not None
    assert len(found.inputs.test.matrix.prompts) == artifact.manifest.metrics["n_prompts"] < 100
    assert found.router.correctness.log_loss == pytest.approx(artifact.manifest.metrics["log_loss"], abs=1e-5)


def test_an_unknown_set_to_split_first_is_named(workplace: Path, tmp_path: Path) -> None:
    given = [*arguments(workplace, tmp_path / "out"), "--split-first=three", "--perturbed-copies=0"]
    made = CliRunner().invoke(app, given)
    assert made.exit_code == 2
    assert "--split-first names ['three']" in made.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--data=nowhere"], "no such file"),
        (["--min-labels=100000"], "no chat LLM has 100000 graded answers"),
        (["--prices=nowhere.json"], "cannot be read"),
        (["--encoder=nowhere"], "not a token table"),
    ],
)
def test_a_users_mistake_is_one_clear_message_and_exit_code_two(
    workplace: Path, tmp_path: Path, changes: list[str], words: str
) -> None:
    result = CliRunner().invoke(app, [*arguments(workplace, tmp_path / "out"), *changes])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.strip().startswith("error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_few_labels_are_handed_to_add_at_once(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedllm_router.cli.train._choose_encoder", lambda *_: pytest.fail("an encoder was read"))
    given = [f"--data={workplace / 'one'}", f"--out={tmp_path / 'out'}", "--min-labels=100000"]
    made = CliRunner().invoke(app, ["train", *given])
    assert made.exit_code == 2
    said = " ".join(made.stderr.split())
    assert "no chat LLM has 100000 graded answers" in said
    assert "embedllm-router add " in said


def test_a_csv_is_handed_to_ingest_at_once(tmp_path: Path) -> None:
    file = tmp_path / "grades.csv"
    file.write_text("prompt,llm,score\n")
    made = CliRunner().invoke(app, ["train", f"--data={file}", f"--out={tmp_path / 'out'}"])
    said = " ".join(made.stderr.split())
    assert made.exit_code == 2
    assert f"{file} is a file: expected a data folder" in said
    assert f"embedllm-router ingest {file} --out data/mine" in said


def test_the_encoder_is_that_of_the_shipped_weights_and_nothing_is_distilled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedllm_router.training.fit.distill.distill", lambda *_: pytest.fail("distilled"))
    table, shipped = _choose_encoder(None, None, None), load_artifact(default_artifact_path())
    assert isinstance(table, TokenTable)
    assert isinstance(shipped.manifest.encoder, EncoderSpec)
    assert table.blocks == shipped.manifest.encoder.blocks[:-1]  # without what was learned from prompts
    assert table.tokenizer_json == shipped.tokenizer_json


def test_a_wrong_option_is_exit_code_two() -> None:
    assert CliRunner().invoke(app, ["train", "--colour=blue"]).exit_code == 2


def test_the_papers_decoder_is_one_option_and_folds_into_the_same_artifact(workplace: Path) -> None:
    out = workplace / "mf"
    result = CliRunner().invoke(app, [*arguments(workplace, out), "--decoder=mf", "--max-epochs=3", "--json"])
    assert result.exit_code == 0, result.output
    manifest = load_artifact(out).manifest
    assert (manifest.decoder.kind, manifest.decoder.hidden, manifest.decoder.d_llm) == ("mf", (), 232)
    assert (manifest.training["pairs"], manifest.training["input_noise"]) == (True, 0.05)


@pytest.mark.parametrize(
    ("option", "words"),
    [("--encoder-model=nowhere", "exclude each other"), ("--balance=0.5", "linear form"), ("--members=2", "linear")],
)
def test_options_that_contradict_each_other_are_refused(
    workplace: Path, tmp_path: Path, option: str, words: str
) -> None:
    given = [*arguments(workplace, tmp_path / "out"), option]
    result = CliRunner().invoke(app, given if "encoder" in option else [*given, "--decoder=mf"])
    assert result.exit_code == 2
    assert words in result.stderr


def test_copies_are_of_training_prompts_alone_and_told_of(trained: dict[str, Any], workplace: Path) -> None:
    assert trained
    told: list[tuple[str, int, int]] = []
    options = TrainingOptions(members=1, max_epochs=1, perturbed_copies=2)
    folders = [workplace / "one", workplace / "two"]
    table, facts = load_table(workplace / "table"), read_facts(find_llm_table(folders))
    learn(
        folders,
        workplace / "copied",
        encoder=table,
        facts=facts,
        options=options,
        min_labels=100,
        progress=lambda head, done, planned, _: told.append((head, done, planned)),
    )
    n_train = len(split_by_stem(load_matrix(folders, facts, min_labels=100).prompts, seed=0).train)
    assert ("perturbed copies", 2 * n_train, 2 * n_train) in told
    training = load_artifact(workplace / "out").manifest.training
    assert training["perturbed_copies"] == TrainingOptions().perturbed_copies > 0
    assert training["consistency"] == TrainingOptions().consistency > 0


def test_copies_can_be_left_out(trained: dict[str, Any], workplace: Path) -> None:
    assert trained
    result = CliRunner().invoke(app, [*arguments(workplace, workplace / "bare"), "--perturbed-copies=0"])
    assert result.exit_code == 0, result.output
    bare, beside = load_artifact(workplace / "bare"), load_artifact(workplace / "out")
    assert bare.manifest.training["perturbed_copies"] == 0
    assert bare.manifest.encoder == beside.manifest.encoder, "copies teach the decoder, not the encoder"
    assert not np.array_equal(bare.decoder["llm_embeddings"], beside.decoder["llm_embeddings"])
    losses = [artifact.manifest.metrics["log_loss"] for artifact in (bare, beside)]
    assert losses[1] < losses[0] + 0.03, "nor does steadiness keep a short training from learning"


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_learned(workplace: Path, tmp_path: Path) -> None:
    occupied, file = tmp_path / "occupied", tmp_path / "file"
    occupied.mkdir()
    for place in (occupied / "mine.txt", file):
        place.write_text("not an artifact", encoding="utf-8")
    for out, words in ((occupied, "not an artifact"), (file, "is a file"), (file / "below", "cannot be written")):
        result = CliRunner().invoke(app, [*arguments(workplace, out), "--data=nowhere"])
        assert result.exit_code == 1
        assert words in result.stderr, "before the data, which are not there, are looked for"


def test_what_was_learned_and_could_not_be_written_is_not_lost(workplace: Path, tmp_path: Path) -> None:
    """Something appears in the artifact's place while it is learned; once it is gone the run is resumed."""
    out, steps = tmp_path / "out", []

    def told(head: str, _done: int, _planned: int, _loss: float) -> None:
        steps.append(head)
        if head == "length" and not out.exists() and len(steps) < 12:
            out.write_text("in the way", encoding="utf-8")

    def run(*, resume: bool) -> None:
        options = TrainingOptions(members=1, max_epochs=2, perturbed_copies=0)
        table, facts = load_table(workplace / "table"), read_facts(None)
        given: dict[str, Any] = {"encoder": table, "facts": facts, "options": options, "min_labels": 100}
        learn([workplace / "two"], out, **given, progress=told, resume=resume)

    with pytest.raises(ArtifactError, match="is a file"):
        run(resume=False)
    out.unlink()
    trained = [step for step in steps if step != "prompts"]
    steps.clear()
    run(resume=True)
    assert trained.count("length") == 2
    assert not {"correctness 1/1", "length"} & set(steps), "nothing is learned twice"
    assert load_artifact(out).manifest.llms
    assert not list(tmp_path.glob(".*"))


def test_too_few_prompts_for_three_parts_are_refused(workplace: Path, tmp_path: Path) -> None:
    few = write_set(tmp_path / "few", n=2)
    given = ["train", f"--data={few}", f"--out={tmp_path / 'out'}", f"--encoder={workplace / 'table'}"]
    result = CliRunner().invoke(app, [*given, "--min-labels=1"])
    assert result.exit_code == 2
    assert "graded answers to train on" in result.stderr
