"""LLMs that nobody graded: their rows follow the formula, and the learned LLMs' predictions stay as they are."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import planted_artifact
from random_weights import SMALL, random_weights

from embedllm_router import Router
from embedllm_router.artifact.kin import LLMKind
from embedllm_router.artifact.manifest import Covariate, KinSpec, LearnedLLM
from embedllm_router.prediction.scorer import usual_embeddings
from embedllm_router.routing.deployments import ModelGroup, Row, read_model_groups
from embedllm_router.routing.relatives import expect_ungraded

PRICES: Mapping[str, Mapping[str, object]] = {"always": {"litellm_provider": "x", "thinking_always_on": True}}


def deployed(
    name: str, llm: str, usd: float | None = 2.0, info: Mapping[str, object] | None = None, **params: Any
) -> Row:
    price = {} if usd is None else {"input_cost_per_token": usd / 1e6, "output_cost_per_token": 4 * usd / 1e6}
    return {"model_name": name, "litellm_params": {"model": llm, **price, **params}, "model_info": dict(info or {})}


def expected(router: Router, *rows: Row) -> tuple[dict[str, ModelGroup], Router]:
    return expect_ungraded(read_model_groups(rows, PRICES, router.catalog), router)


GRADED = (
    ("gpt-4-0613", "openai", 60.0, 0.9),
    ("gpt-4o-2024-08-06", "openai", 10.0, 1.4),
    ("gpt-4o-mini-2024-07-18", "openai", 0.6, 0.8),
    ("o1-mini-2024-09-12", "openai", 12.0, 1.8),
    ("claude-3-haiku-20240307", "anthropic", 1.25, 0.3),
    ("claude-3-5-sonnet-20241022", "anthropic", 15.0, 1.3),
    ("claude-3-7-sonnet-20250219", "anthropic", 15.0, 1.2),
    ("claude-3-7-sonnet-20250219:thinking", "anthropic", 15.0, 1.7),
    ("gemini-1.5-pro-002", "google", 5.0, 1.1),
    ("deepseek-r1-0120", "deepseek", 2.2, 1.5),
    ("llama-3.3-70b-instruct", "meta", 1.0, 0.6),
    ("llama-3.1-8b-instruct", "meta", 0.2, -0.2),
)
"""Id, vendor, price of a million output tokens and logit of the average prompt of planted learned LLMs."""
THINKING = ("o1-mini-2024-09-12", "claude-3-7-sonnet-20250219:thinking", "deepseek-r1-0120")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Router:
    """Weights of well-known LLMs that do not say what is expected of others."""
    artifact = planted_artifact(tmp_path_factory.mktemp("graded") / "weights")
    llms = tuple(
        LearnedLLM(
            id=llm,
            vendor=vendor,
            thinking=llm in THINKING,
            n_labels=3000,
            mean_correctness=0.7,
            output_usd_per_mtok=usd,
        )
        for llm, vendor, usd, _ in GRADED
    )
    embeddings = np.random.default_rng(5).normal(scale=0.2, size=(len(llms), 4)).astype(np.float32)
    tokens = [1500.0 if llm.thinking else 200.0 for llm in llms]
    rows = {
        "llm_embeddings": embeddings,
        "llm_bias": np.array([logit for *_, logit in GRADED], dtype=np.float32),
        "length_embeddings": np.zeros_like(embeddings),
        "length_bias": np.log(np.array(tokens, dtype=np.float32)),
    }
    manifest = artifact.manifest.model_copy(update={"llms": llms})
    return Router(replace(artifact, manifest=manifest, decoder={**artifact.decoder, **rows}))


def usual(router: Router, group: ModelGroup) -> float:
    """Mean p_correct on usual prompts."""
    assert group.candidate.row is not None
    return float(router.average.p_correct[group.candidate.row])


@pytest.fixture(scope="module")
def with_kin(tmp_path_factory: pytest.TempPathFactory) -> Router:
    """Random weights that say what vendor, family, date and price tell of an LLM."""
    folder = tmp_path_factory.mktemp("kin")
    artifact = random_weights(planted_artifact(folder / "base"), folder / "weights", SMALL)
    kin = KinSpec(
        base_ability=0.3,
        covariates=(
            Covariate(name="released", mean=0.2, scale=0.5, weight=0.4),
            Covariate(name="log_price", mean=0.1, scale=2.0, weight=0.2),
        ),
        vendors={"openai": (0.5, 0.3), "anthropic": (0.4, 0.35)},
        families={"openai|gpt-mini": (-0.6, 0.2)},
        unknown_vendor=(0.0, 0.9),
        features=("one", "ability", "vendor:openai"),
    )
    rng = np.random.default_rng(1)
    drawn = {"kin_embeddings": (3, SMALL.d_llm), "kin_broad_embeddings": (3, SMALL.d_broad)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in drawn.items()}
    manifest = artifact.manifest.model_copy(update={"kin": kin})
    return Router(replace(artifact, manifest=manifest, decoder={**artifact.decoder, **tensors}))


@pytest.mark.parametrize(
    ("llm", "ability", "sd"),
    [
        ("openai/gpt-9-mini-2026-07-01", 0.3 + 0.4 * (1.5 - 0.2) / 0.5 + 0.2 * (np.log(4) - 0.1) / 2 - 0.6, 0.2),
        ("us.anthropic.claude-opus-9-20250101-v1:0", 0.3 + 0.4 * -0.2 / 0.5 + 0.2 * (np.log(4) - 0.1) / 2 + 0.4, 0.35),
        ("moonshot/kimi-k9", 0.3 + 0.4 * -0.2 / 0.5 + 0.2 * (np.log(4) - 0.1) / 2, 0.9),
    ],
)
def test_the_row_follows_the_formula(with_kin: Router, llm: str, ability: float, sd: float) -> None:
    groups, router = expected(with_kin, deployed("new", llm))
    row, t = groups["new"].candidate.row, router.artifact.decoder
    assert row == 7
    z = np.array([1.0, ability, float("gpt" in llm)])
    assert t["ability"][row] == pytest.approx(ability, abs=1e-5)
    assert t["llm_bias"][row] == pytest.approx(ability, abs=1e-5)
    assert (t["broad_bias"][row], t["ability_sd"][row]) == (0, pytest.approx(sd))
    np.testing.assert_allclose(t["llm_embeddings"][row], z @ t["kin_embeddings"], atol=1e-5)
    np.testing.assert_allclose(t["broad_embeddings"][row], z @ t["kin_broad_embeddings"], atol=1e-5)
    assert router.average.logit_sd[row] == pytest.approx(sd)


def test_figures_mean_what_training_means_by_them() -> None:
    kind = LLMKind(vendor="v", family="f", thinking=True, small=False, released="2026-07", output_usd_per_mtok=8.0)
    assert kind.figures()["released"] == 1.5
    assert kind.figures()["log_price"] == pytest.approx(np.log(4))


@pytest.mark.parametrize("fixture", ["graded", "with_kin"])
def test_learned_llms_are_predicted_as_before(fixture: str, request: pytest.FixtureRequest) -> None:
    before: Router = request.getfixturevalue(fixture)
    groups, after = expected(before, deployed("new", "openai/gpt-9"), deployed("newer", "anthropic/claude-opus-9"))
    n = len(before.catalog.ids)
    assert {group.candidate.row for group in groups.values()} == {n, n + 1}
    embedding = before.encode("How many primes are there below 100?").prompt_embedding
    one, other = before.scorer.score(embedding), after.scorer.score(embedding)
    np.testing.assert_allclose(other.p_correct[:n], one.p_correct, rtol=1e-5)
    np.testing.assert_allclose(other.output_tokens[:n], one.output_tokens, rtol=1e-5)
    assert len(other.p_correct) == len(other.output_tokens) == n + 2
    assert (after.artifact_id, after.catalog.ids) == (before.artifact_id, before.catalog.ids)
    assert before.artifact.manifest.llms == after.artifact.manifest.llms[:n], "the loaded weights are left alone"


def test_without_such_llms_nothing_is_built(graded: Router) -> None:
    groups, router = expected(graded, deployed("known", f"openai/{graded.catalog.ids[0]}"))
    assert router is graded
    assert groups["known"].candidate.known_by == "labels"


def test_a_stand_in_lends_its_row_and_is_less_sure(graded: Router) -> None:
    known = "claude-3-7-sonnet-20250219"
    groups, router = expected(
        graded,
        deployed("mine", "hosted_vllm/acme-7", info={"embedllm_like": known}),
        deployed("theirs", "openai/gpt-9", info={"embedllm_like": f"anthropic/{known}"}),
        deployed("thinks", "hosted_vllm/acme-8", info={"embedllm_like": known}, reasoning_effort="high"),
    )
    mine, theirs, thinks = (groups[name].candidate for name in ("mine", "theirs", "thinks"))
    assert [one.known_by for one in (mine, theirs, thinks)] == ["like"] * 3
    assert (mine.llm, theirs.llm, thinks.llm) == ("mine", "gpt-9", "thinks:high"), "never the stand-in's own id"
    scores = router.scorer.score(router.encode("Prove it.").prompt_embedding)
    row, thinking = graded.catalog.row(known), graded.catalog.row(f"{known}:thinking")
    assert mine.row is not None
    assert thinks.row is not None
    assert scores.output_tokens[mine.row] == pytest.approx(scores.output_tokens[row], rel=1e-5)
    assert scores.output_tokens[thinks.row] == pytest.approx(scores.output_tokens[thinking], rel=1e-5)
    assert usual(router, groups["mine"]) == pytest.approx(usual(router, groups["theirs"]))
    assert router.average.logit_sd[mine.row] > 5 * router.average.logit_sd[row]


def test_a_stand_in_that_is_unknown_itself_is_read_by_its_name(graded: Router) -> None:
    rows = (deployed("mine", "hosted_vllm/acme-7", info={"embedllm_like": "gpt-9"}), deployed("other", "openai/gpt-9"))
    groups, router = expected(graded, *rows)
    assert groups["mine"].candidate.known_by == "family"
    assert usual(router, groups["mine"]) == pytest.approx(usual(router, groups["other"]))


@pytest.mark.parametrize(
    "llm", ["hosted_vllm/acme-7", "openai/my-deployment", "replicate/meta/llama-3-70b", "groq/llama-guard-9-8b", ""]
)
def test_a_name_that_says_nothing_or_answers_no_prompts_stays_unknown(graded: Router, llm: str) -> None:
    groups, router = expected(graded, deployed("group", llm))
    assert (groups["group"].candidate.llm, groups["group"].candidate.row) == (None, None)
    assert router is graded


def test_a_later_version_is_no_worse_than_the_earlier_ones_of_its_class(graded: Router) -> None:
    groups, router = expected(
        graded,
        deployed("sonnet", "anthropic/claude-sonnet-9", 3.0),
        deployed("tiny", "openai/gpt-9-nano", 0.05),
        deployed("large", "openai/gpt-9", 10.0),
    )
    earlier = [
        row for row, one in enumerate(graded.catalog.names) if one.family == "claude-sonnet" and not one.thinking
    ]
    best = max(graded.average.p_correct[earlier])
    assert usual(router, groups["sonnet"]) > best - 0.02
    assert usual(router, groups["tiny"]) < usual(router, groups["large"])


def test_reasoning_is_told_by_effort_by_name_and_by_the_price_map(graded: Router) -> None:
    groups, router = expected(
        graded,
        deployed("plain", "openai/gpt-9"),
        deployed("told", "openai/gpt-9", reasoning_effort="high"),
        deployed("named", "deepseek/deepseek-r9-reasoner"),
        deployed("always", "always", info={"base_model": "gpt-9.1"}),
    )
    thinks = {name: groups[name].thinks for name in groups}
    assert thinks == {"plain": False, "told": True, "named": True, "always": True}
    assert groups["told"].candidate.llm == "gpt-9:high"
    rows = {name: groups[name].candidate.row for name in groups}
    tokens = router.average.output_tokens
    assert tokens[rows["told"]] > 2 * tokens[rows["plain"]], "reasoning is billed"
    ids = [llm.id for llm in router.artifact.manifest.llms]
    assert len(set(ids)) == len(ids)


def test_a_fine_tune_is_never_taken_for_the_llm_it_was_tuned_from(graded: Router) -> None:
    groups, _ = expected(graded, deployed("tuned", "openai/ft:gpt-4o-mini-2024-07-18:acme::1"))
    tuned = groups["tuned"].candidate
    assert (tuned.llm, tuned.known_by) == ("ft:gpt-4o-mini-2024-07-18", "family")
    assert tuned.row == len(graded.catalog.ids)


def test_one_llm_behind_two_groups_has_one_row(graded: Router) -> None:
    groups, _ = expected(graded, deployed("a", "openai/gpt-9"), deployed("b", "azure/gpt-9", 5.0))
    assert groups["a"].candidate.row == groups["b"].candidate.row


@pytest.mark.parametrize("form", ["plain", "hedged"])
def test_a_mean_logit_is_the_ability_it_was_given(graded: Router, with_kin: Router, form: str) -> None:
    """Where weights do not say what is expected, the bias is set such that a usual prompt has the expected logit."""
    silent = Router(replace(with_kin.artifact, manifest=with_kin.artifact.manifest.model_copy(update={"kin": None})))
    groups, router = expected(silent if form == "hedged" else graded, deployed("new", "moonshot/kimi-k9"))
    row = groups["new"].candidate.row
    assert row is not None
    p = np.array([router.scorer.score(one).p_correct[row] for one in usual_embeddings(router.artifact.decoder, 256)])
    stated = router.artifact.manifest.llms[row].mean_correctness
    assert np.log(p / (1 - p)).mean() == pytest.approx(np.log(stated / (1 - stated)), abs=0.01)


def test_weights_of_one_vendor_and_no_dates_still_expect_something(tmp_path: Path) -> None:
    planted_artifact(tmp_path / "weights")
    groups, router = expected(Router.load(tmp_path / "weights"), deployed("new", "openai/gpt-9"))
    assert groups["new"].candidate.row == 3
    assert np.isfinite(router.average.p_correct).all()
    assert router.average.logit_sd[3] > 0.4


def test_a_group_of_several_llms_is_predicted_as_its_worst(graded: Router) -> None:
    groups, router = expected(
        graded,
        deployed("mixed", "openai/gpt-4o-2024-08-06"),
        deployed("mixed", "groq/llama-3.1-8b-instant"),
        deployed("mixed", "openai/gpt-9", 9.0),
        deployed("newest", "openai/gpt-9"),
        deployed("newest", "openai/gpt-9-nano", 0.05),
        deployed("same", "openai/gpt-4o"),
        deployed("same", "azure/my-deployment"),
        deployed("same", "azure/gpt-4o-2024-08-06"),
    )
    mixed = groups["mixed"]
    assert {one.candidate.llm for one in mixed.members} == {"gpt-4o-2024-08-06", "llama-3.1-8b-instruct", "gpt-9"}
    assert (mixed.candidate.llm, mixed.candidate.known_by) == ("llama-3.1-8b-instruct", "labels")
    assert mixed.candidate.input_usd_per_token == 9e-6, "what it may cost"
    assert groups["newest"].candidate.llm == "gpt-9-nano"
    assert usual(router, groups["newest"]) == min(
        float(router.average.p_correct[one.candidate.row or 0]) for one in groups["newest"].members
    )
    assert groups["same"].members == ()
    assert groups["same"].candidate.llm == "gpt-4o-2024-08-06"
