"""The planted artifact's answers come out of the whole request path."""

import math
from pathlib import Path

import numpy as np
import pytest
from planted import LOGIT, NOVICE, OUTPUT_TOKENS, PRICES, SPRINTER, WIZARD
from safetensors.numpy import load_file

from embedllm_router import Router
from embedllm_router.artifact.weights import load_artifact, save_artifact
from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.routing.decision import Objective
from embedllm_router.routing.pool import Exclusion
from embedllm_router.routing.prompt import read_body

GOOD = 1 / (1 + math.exp(-LOGIT))


def p_correct(router: Router, prompt: str) -> dict[str, float | None]:
    return {a.name: a.p_correct for a in router.route(prompt).decision.assessments()}


@pytest.mark.parametrize(
    ("prompt", "wizard", "sprinter"),
    [("hello", GOOD, GOOD), ("integral", GOOD, 1 - GOOD), ("statute", GOOD, 0.5), ("HELLO!", GOOD, GOOD)],
)
def test_planted_probabilities(router: Router, prompt: str, wizard: float, sprinter: float) -> None:
    planted = {WIZARD: wizard, SPRINTER: sprinter, NOVICE: 0.5}
    assert p_correct(router, prompt) == pytest.approx(planted, abs=1e-6)


@pytest.mark.parametrize(
    ("prompt", "cost_weight", "chosen"),
    [("hello", 1.0, SPRINTER), ("integral", 1.0, WIZARD), ("integral", 1000.0, SPRINTER)],
)
def test_planted_choice(router: Router, prompt: str, cost_weight: float, chosen: str) -> None:
    decision = router.route(prompt, cost_weight=cost_weight).decision
    assert decision.chosen is not None
    assert decision.chosen.name == chosen


def test_expected_cost_is_tokens_times_prices(router: Router) -> None:
    routing = router.route("hello " * 10)
    assessed = {a.name: a for a in routing.decision.assessments()}
    for llm in (WIZARD, SPRINTER):
        price_in, price_out = PRICES[llm]
        assert price_in is not None
        assert price_out is not None
        expected = (15 * price_in + OUTPUT_TOKENS[llm] * price_out) / 1e6
        assert assessed[llm].cost_usd == pytest.approx(expected, rel=1e-6)
    assert assessed[NOVICE].excluded is Exclusion.PRICE_UNKNOWN


@pytest.mark.parametrize("prompt", ["", "   \n", "\t"])
def test_a_prompt_without_text_is_the_average_prompt(router: Router, prompt: str) -> None:
    assert p_correct(router, prompt) == pytest.approx({WIZARD: 0.5, SPRINTER: 0.5, NOVICE: 0.5})


def test_a_limit_on_the_answer_caps_its_cost(router: Router) -> None:
    capped = router.route(read_body({"prompt": "hello", "max_tokens": 10})).decision
    assert capped.assess(0).expected_output_tokens == 10


def test_every_answer_asked_for_costs(router: Router) -> None:
    one = router.route(read_body({"prompt": "hello", "max_tokens": 10})).decision
    five = router.route(read_body({"prompt": "hello", "max_tokens": 10, "n": 5})).decision
    assert five.assess(0).expected_output_tokens == 50
    price = one.pool.candidates[0].output_usd_per_token
    assert price is not None
    assert five.cost_usd[0] - one.cost_usd[0] == pytest.approx(40 * price)
    between = Objective(max_cost_usd=float(one.cost_usd[0] + five.cost_usd[0]) / 2)
    capped = router.route(read_body({"prompt": "hello", "max_tokens": 10, "n": 5}), objective=between).decision
    assert capped.assess(0).excluded is Exclusion.TOO_EXPENSIVE


def test_pool_takes_names_as_people_write_them(router: Router) -> None:
    assert router.pool(["acme/Wizard", SPRINTER, "wizard"]).names == (WIZARD, SPRINTER)


def test_pool_refuses_an_unknown_name(router: Router) -> None:
    with pytest.raises(ConfigError, match="sprinter"):
        router.pool(["sprintar"])


def test_same_prompt_same_decision(router: Router) -> None:
    first, second = (router.route("integral of a statute", cost_weight=3.0) for _ in range(2))
    assert first.decision.assessments() == second.decision.assessments()


def test_weights_that_predict_nan_are_reported(artifact_dir: Path, tmp_path: Path) -> None:
    artifact = load_artifact(artifact_dir)
    decoder = {k: v.copy() for k, v in load_file(artifact_dir / "decoder.safetensors").items()}
    decoder["llm_embeddings"] = np.full_like(decoder["llm_embeddings"], 3e38)
    decoder["llm_embeddings"][:, ::2] *= -1
    decoder["prompt_network.0.bias"] = np.full_like(decoder["prompt_network.0.bias"], 3e38)
    overflowing = save_artifact(
        tmp_path / "overflow",
        artifact.manifest,
        encoder=artifact.encoder,
        decoder=decoder,
        tokenizer_json=artifact.tokenizer_json,
        model_card="",
    )
    with pytest.raises(ArtifactError, match="NaN"), np.errstate(all="ignore"):
        Router(overflowing).route("hello")


def test_a_missing_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read manifest\.json"):
        Router.load(tmp_path / "nowhere")
