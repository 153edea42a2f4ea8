"""The command `verdict` on graded data: planted sets whose answer is known, and errors that say what to do."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from planted import NOVICE, SPRINTER, WIZARD, WORDS, planted_artifact
from typer.testing import CliRunner, Result

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
    assert any("no answer in the data: coin" in note for note in fields["notes"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--llm=wizzard"], "the weights know no LLM 'wizzard'. Did you mean wizard-2025-01-01"),
        ([f"--llm={WIZARD}"], "routing needs at least 2 LLMs that answered the prompts, found 1"),
        (["--baseline=sprintr"], "is not among the LLMs judged, wizard-2025-01-01, sprinter-7b-instruct; did you mean"),
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
