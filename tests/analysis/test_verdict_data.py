"""The command `verdict` on graded data: planted sets whose answer is known, and errors that say what to do."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from planted import NOVICE, SPRINTER, WIZARD, WORDS, planted_artifact
from typer.testing import CliRunner, Result

from embedllm_router.artifact.manifest import ContradictedLabels
from embedllm_router.artifact.weights import load_artifact, save_artifact
from embedllm_router.cli.main import app

PLANTED = {
    "pays": {WIZARD: (0.3, 0.95), SPRINTER: (0.95, 0.1)},
    "use": {WIZARD: (0.95, 0.95), SPRINTER: (0.2, 0.2)},
}
"""Right how often on chat, and on the rest. The planted weights take the sprinter for chat, of equals the cheaper."""


def write_set(folder: Path, right: dict[str, tuple[float, float]], n: int = 400) -> None:
    rng = np.random.default_rng(0)
    words = rng.choice(list(WORDS), n)
    folder.mkdir()
    prompts = [f"{word} {word} question {i} about it, in so many words?" for i, word in enumerate(words)]
    ids = [str(i) for i in range(n)]
    pl.DataFrame({"item_id": ids, "category": [WORDS[w] for w in words], "prompt": prompts}).write_parquet(
        folder / "items.parquet"
    )
    rows = [
        {"item_id": i, "model": llm, "score": float(rng.random() < p[WORDS[word] != "chat"]), "output_chars": 400}
        for i, word in zip(ids, words, strict=True)
        for llm, p in right.items()
    ]
    pl.DataFrame(rows).write_parquet(folder / "results.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verdict")
    planted_artifact(root / "weights")
    for name, right in PLANTED.items():
        write_set(root / name, right)
    return root


def run(place: Path, name: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["verdict", f"--data={place / name}", f"--artifact={place / 'weights'}", *options])


def test_routing_pays_and_the_first_line_says_so(place: Path) -> None:
    done = run(place, "pays")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Routing pays: it is better")
    assert "earns its place" in done.stdout


def test_one_llm_is_best_everywhere(place: Path) -> None:
    fields = orjson.loads(run(place, "use", "--json", "--cost-weight=0", f"--baseline={SPRINTER}").stdout)
    assert fields["best"]["judgement"]["answer"] == "use one LLM"
    assert fields["best"]["llm"] == WIZARD
    assert fields["baseline"]["judgement"]["answer"] == "routing pays"
    assert fields["agreement"] == 1.0


def test_the_pool_prices_objective_and_baseline_of_a_configuration_count(place: Path) -> None:
    config = place / "config.yaml"
    config.write_text(f"""
model_list:
  - model_name: big
    litellm_params: {{model: openai/{WIZARD}, input_cost_per_token: 1.0e-3, output_cost_per_token: 1.0e-3}}
  - model_name: little
    litellm_params: {{model: openai/{SPRINTER}, input_cost_per_token: 0, output_cost_per_token: 0}}
  - model_name: coin
    litellm_params: {{model: openai/{NOVICE}, input_cost_per_token: 0, output_cost_per_token: 0}}
litellm_settings: {{callbacks: embedllm_router.proxy_handler}}
callback_settings:
  embedllm_router:
    artifact: {place / "weights"}
    virtual_models: {{auto: {{default: big, cost_weight: 100, baseline: big}}}}
""")
    done = CliRunner().invoke(app, ["verdict", f"--data={place / 'pays'}", f"--config={config}", "--json"])
    fields = orjson.loads(done.stdout)
    assert fields["setting"] == "cost weight 100"
    assert fields["best"]["llm"] == "little"
    assert fields["baseline"]["llm"] == "big"
    assert fields["baseline"]["judgement"]["better"]
    assert any("no answer in the data: coin (novice-1.5b)" in note for note in fields["notes"])
    assert fields["best"]["headline"].endswith("(among 2 of the 3 LLMs of the pool).")


def test_an_llm_whose_labels_are_left_out_is_not_judged_and_the_verdict_says_why(place: Path, tmp_path: Path) -> None:
    artifact = load_artifact(place / "weights")
    doubted = ContradictedLabels(dataset="pays", category="*", llm=SPRINTER, n_labels=400, right=0, expected=0.25)
    save_artifact(
        tmp_path / "weights",
        artifact.manifest.model_copy(update={"contradicted": (doubted,)}),
        encoder=artifact.encoder,
        decoder=artifact.decoder,
        tokenizer_json=artifact.tokenizer_json,
        model_card="",
        landmarks=artifact.landmarks,
    )
    done = run(tmp_path, str(place / "pays"))
    assert done.exit_code == 2
    said = f"Not judged, labels far below a published score or below guessing are left out: {SPRINTER}."
    assert said in " ".join(done.stderr.split())
    other = orjson.loads(run(tmp_path, str(place / "use"), "--json").stdout)
    assert {one["llm"] for one in other["llms"]} == {WIZARD, SPRINTER}, "only of that data set"
    assert not any("left out" in note for note in other["notes"])


def renamed(folder: Path, names: dict[str, str], out: Path) -> Path:
    out.mkdir()
    pl.read_parquet(folder / "items.parquet").write_parquet(out / "items.parquet")
    answers = pl.read_parquet(folder / "results.parquet").with_columns(pl.col("model").replace(names))
    answers.write_parquet(out / "results.parquet")
    return out


def test_answers_may_be_filed_under_model_groups_and_of_llms_that_nobody_graded(place: Path, tmp_path: Path) -> None:
    third = "gpt-9"  # known by what it is called; `mystery` says nothing at all
    write_set(tmp_path / "three", {**PLANTED["pays"], third: (0.0, 0.0), "stray": (0.5, 0.5)})
    data = renamed(tmp_path / "three", {WIZARD: "big", SPRINTER: "little", third: "newest"}, tmp_path / "own")
    config = tmp_path / "config.yaml"
    groups = {"big": WIZARD, "little": SPRINTER, "newest": third, "mystery": "house-model"}
    listed = "".join(
        f"  - model_name: {name}\n    litellm_params: {{model: openai/{llm}, input_cost_per_token: 1.0e-6, "
        "output_cost_per_token: 1.0e-6}\n"
        for name, llm in groups.items()
    )
    config.write_text(f"""
model_list:
{listed}
litellm_settings: {{callbacks: embedllm_router.proxy_handler}}
callback_settings:
  embedllm_router: {{artifact: {place / "weights"}, virtual_models: {{auto: {{default: big}}}}}}
""")
    options = ["verdict", f"--data={data}", f"--config={config}", "--json"]
    found = orjson.loads(CliRunner().invoke(app, [*options, f"--baseline={SPRINTER}"]).stdout)
    assert {one["llm"]: one["accuracy"] for one in found["llms"]}.keys() == {"big", "little", "newest"}
    assert found["baseline"]["llm"] == "little"
    assert found["best"]["headline"].endswith("(among 3 of the 4 LLMs of the pool).")
    assert any("the weights know nothing of it: mystery" in note for note in found["notes"])
    assert any("stand for no LLM known here: stray" in note for note in found["notes"])
    two = orjson.loads(CliRunner().invoke(app, [*options, "--llm=big", f"--llm={SPRINTER}"]).stdout)
    assert {one["llm"] for one in two["llms"]} == {"big", "little"}
    assert two["best"]["headline"].endswith("for everything.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--llm=wizzard"], "the weights know no LLM 'wizzard'. Did you mean wizard-2025-01-01"),
        ([f"--llm={WIZARD}"], "routing needs at least 2 LLMs that answered the prompts, found 1"),
        (
            ["--baseline=sprintr"],
            "is not among the LLMs to judge, wizard-2025-01-01, sprinter-7b-instruct, novice-1.5b; did",
        ),
    ],
)
def test_a_mistake_is_a_sentence(place: Path, options: list[str], said: str) -> None:
    done = run(place, "pays", *options)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_too_few_prompts_are_an_error(place: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "few", PLANTED["pays"], 12)
    done = run(place, str(tmp_path / "few"))
    assert done.exit_code == 2
    assert "12 prompts were answered by all of" in " ".join(done.output.split())
