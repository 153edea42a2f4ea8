from pathlib import Path

import numpy as np
import pytest
from planted import NOVICE, OUTPUT_TOKENS, SPRINTER, WIZARD, WORDS, planted_artifact

from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.ood_score import MAX_DEVIATION
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.prediction.static_encoder import StaticEncoder


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return planted_artifact(tmp_path_factory.mktemp("scorer") / "artifact")


def p_correct(artifact: Artifact, text: str) -> dict[str, float]:
    scores = Scorer.from_artifact(artifact).score(StaticEncoder.from_artifact(artifact).encode(text).prompt_embedding)
    ids = [llm.id for llm in artifact.manifest.llms]
    return dict(zip(ids, scores.p_correct.tolist(), strict=True))


def test_planted_skills_are_read_back(planted: Artifact) -> None:
    chat, maths = p_correct(planted, "hello hello"), p_correct(planted, "integral")
    assert chat[WIZARD] == pytest.approx(chat[SPRINTER]) == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)
    assert maths[SPRINTER] < 0.1
    assert maths[WIZARD] > 0.9
    assert chat[NOVICE] == maths[NOVICE] == 0.5


def test_planted_lengths_are_read_back(planted: Artifact) -> None:
    scores = Scorer.from_artifact(planted).score(None)
    np.testing.assert_allclose(scores.output_tokens, list(OUTPUT_TOKENS.values()), rtol=1e-5)


@pytest.mark.parametrize("word", WORDS)
def test_permuting_the_catalog_permutes_the_scores(planted: Artifact, word: str) -> None:
    order = np.array([2, 0, 1])
    per_llm = {"llm_embeddings", "llm_bias", "length_embeddings", "length_bias"}
    shuffled = {name: t[order] if name in per_llm else t for name, t in planted.decoder.items()}
    x = StaticEncoder.from_artifact(planted).encode(word).prompt_embedding
    before, after = Scorer(planted.decoder).score(x), Scorer(shuffled).score(x)
    np.testing.assert_array_equal(after.p_correct, before.p_correct[order])
    np.testing.assert_array_equal(after.output_tokens, before.output_tokens[order])


def test_a_wild_input_is_finite_and_counts_no_more_than_the_bound(planted: Artifact) -> None:
    scorer = Scorer(planted.decoder)
    wild = np.full(planted.decoder["input_mean"].shape, 1e30, dtype=np.float32)
    found = scorer.score(wild)
    assert np.isfinite(found.p_correct).all()
    assert np.isfinite(found.output_tokens).all()
    np.testing.assert_array_equal(found.p_correct, scorer.score(np.full_like(wild, MAX_DEVIATION)).p_correct)


def test_scores_are_probabilities_and_positive_lengths_in_float32(planted: Artifact) -> None:
    scores = Scorer(planted.decoder).score(None)
    assert scores.p_correct.dtype == scores.output_tokens.dtype == np.float32
    assert ((scores.p_correct >= 0) & (scores.p_correct <= 1)).all()
    assert (scores.output_tokens >= 1).all()


def test_the_shipped_weights_know_easy_from_hard() -> None:
    from embedllm_router.artifact.weights import default_artifact_path, load_artifact  # noqa: PLC0415

    artifact = load_artifact(default_artifact_path())
    easy = p_correct(artifact, "Tom has 12 apples and buys 7 more, then gives away 5. How many apples has Tom now?")
    hard = p_correct(
        artifact,
        "Let $P(x)$ be a monic quartic polynomial with integer coefficients such that $P(k)=k^2+1$ for $k=1,2,3$. "
        "Find the remainder when the number of ordered triples $(a,b,c)$ with $abc=P(0)$ is divided by $1000$.",
    )
    assert min(easy[llm] for llm in ("gpt-3.5-turbo-0125", "gpt-4o-2024-08-06", "o1-mini-2024-09-12")) > 0.7
    assert hard["o1-mini-2024-09-12"] > hard["gpt-3.5-turbo-0125"] + 0.2
    assert Path(default_artifact_path(), "README.md").is_file()
