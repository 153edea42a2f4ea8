"""Adding LLMs to weights with a hedge, and learning from feedback on them: what is fitted is what is served."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from feedback_log import World, read_back
from planted import NOVICE, SPRINTER, TOPICS, WIZARD, WORDS
from planted_hedge import NOVEL, ORDINARY, WIDTH, drawn_rows, hedged_artifact
from planted_parts import matrix

from embedllm_router import Router
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ConfigError
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.training.add_llm import About, Population, add_llm, choose_questions, embed, newcomer, write_added
from embedllm_router.training.fit.recipe import add_landmarks
from embedllm_router.training.update.answers import gather
from embedllm_router.training.update.learn import learn_lesson, write_update

N_LLMS = 120


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return hedged_artifact(tmp_path_factory.mktemp("hedged") / "weights", drawn_rows(N_LLMS, 0))


@pytest.fixture(scope="module")
def population(artifact: Artifact) -> Population:
    return Population.of(artifact, "prompt")


def prompts(n: int, seed: int, words: Sequence[str] = tuple(WORDS)) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, size=rng.integers(1, 4))) for _ in range(n)]


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def test_the_linear_decoder_is_the_scorers(artifact: Artifact) -> None:
    """On ordinary prompts, on novel ones, on those between, and on one without text."""
    decoder, scorer = LinearDecoder(artifact), Scorer.from_artifact(artifact)
    embeddings = embed(artifact, [*prompts(40, 1), NOVEL, "", *ORDINARY])
    logits = decoder.columns(embeddings) @ decoder.rows.T
    strengths = []
    for embedding, row in zip(embeddings, logits, strict=True):
        scores = scorer.score(embedding)
        np.testing.assert_allclose(1 / (1 + np.exp(-row)), scores.p_correct, atol=1e-5)
        strengths.append(scores.shrinkage.strength)
    assert min(strengths) < 0.01
    assert max(strengths) > 0.95
    assert any(0.05 < one < 0.95 for one in strengths)


def test_a_given_strength_replaces_the_gates(artifact: Artifact) -> None:
    decoder, bare = LinearDecoder(artifact), Scorer.from_artifact(artifact, shrinks=False)
    embeddings = embed(artifact, [NOVEL, *ORDINARY])
    for embedding, row in zip(embeddings, decoder.columns(embeddings, 0.0) @ decoder.rows.T, strict=True):
        np.testing.assert_allclose(1 / (1 + np.exp(-row)), bare.score(embedding).p_correct, atol=1e-5)


def test_rows_become_the_tensors_they_came_from_and_a_constant_adds_one_everywhere(artifact: Artifact) -> None:
    decoder = LinearDecoder(artifact)
    assert (decoder.rows.shape, decoder.n_free) == ((N_LLMS, WIDTH + 1), WIDTH - 1)
    tensors = decoder.tensors(decoder.rows)
    assert set(tensors) == {"llm_embeddings", "broad_embeddings", "broad_bias", "llm_bias", "ability"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, artifact.decoder[name])
    columns = decoder.columns(embed(artifact, prompts(30, 2)))
    np.testing.assert_allclose(columns @ decoder.constant, 1.0, atol=1e-5)
    evened = decoder.evened_rows()
    np.testing.assert_allclose(columns @ evened.T, columns @ decoder.rows.T, atol=1e-5)
    assert np.ptp(evened[:, decoder.n_free :], axis=0).max() < 1e-12


def test_what_all_llms_share_does_not_vary_over_the_population(population: Population) -> None:
    assert population.mean[-1] == 1.0
    assert not population.spread[-2:].any()
    assert not population.spread[:, -2:].any()


class Truth:
    """New LLMs of the population, and what is predicted of them by weights that know them."""

    def __init__(self, artifact: Artifact, folder: Path, n: int) -> None:
        self.artifact, self.rows = artifact, drawn_rows(n, 99)
        knowing = hedged_artifact(folder, np.concatenate([drawn_rows(N_LLMS, 0), self.rows]))
        decoder = {name: knowing.decoder[name] for name in knowing.decoder}
        shared = "reference_embedding", "reference_bias"  # those who know no newcomer have no newcomer in their mean
        self.scorer = Scorer.from_artifact(
            replace(knowing, decoder={**decoder, **{name: artifact.decoder[name] for name in shared}})
        )

    def p_correct(self, texts: Sequence[str]) -> np.ndarray:
        """float64 (n_prompts, n)."""
        found = [self.scorer.score(one).p_correct[N_LLMS:] for one in embed(self.artifact, texts)]
        return np.array(found, dtype=np.float64)


@pytest.fixture(scope="module")
def truth(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return Truth(artifact, tmp_path_factory.mktemp("truth") / "weights", 24)


def answers(truth: Truth, llm: int, texts: Sequence[str]) -> np.ndarray:
    rng = np.random.default_rng(llm)
    return (rng.uniform(size=len(texts)) < truth.p_correct(texts)[:, llm]).astype(np.float64)


def test_after_answers_of_both_kinds_predictions_follow_them_on_both(
    artifact: Artifact, population: Population, truth: Truth
) -> None:
    texts = prompts(400, 3)
    columns = population.columns(embed(artifact, texts))
    for kind in ((NOVEL,), ORDINARY):
        asked = population.columns(embed(artifact, kind))
        wrong, unknown = [], []
        for llm in range(24):
            row = newcomer(population, columns, answers(truth, llm, texts)).row
            expected = logit(truth.p_correct(kind)[:, llm])
            wrong.append(np.abs(asked @ row - expected).mean())
            unknown.append(np.abs(asked @ population.mean - expected).mean())
        assert np.mean(wrong) < 0.45
        assert np.mean(wrong) < 0.6 * np.mean(unknown)


def test_answers_to_ordinary_prompts_alone_say_something_of_novel_ones(
    artifact: Artifact, population: Population, truth: Truth
) -> None:
    """Able LLMs have high biases in this population, so that the ability is known from the bias."""
    texts = prompts(200, 4, ORDINARY)
    columns, novel = population.columns(embed(artifact, texts)), population.columns(embed(artifact, [NOVEL]))
    found = [newcomer(population, columns, answers(truth, llm, texts)) for llm in range(24)]
    ability = np.array([one.row[WIDTH - 2] for one in found])
    assert np.corrcoef(ability, truth.rows[:, -1])[0, 1] > 0.8
    expected = logit(truth.p_correct([NOVEL])[0])
    wrong = np.abs([(novel @ one.row)[0] for one in found] - expected).mean()
    assert wrong < 0.8 * np.abs((novel @ population.mean)[0] - expected).mean()
    sd = np.array([np.linalg.norm(one.root[WIDTH - 2]) for one in found])
    inside = np.abs(ability - truth.rows[:, -1]) < 2 * sd
    assert inside.mean() > 0.85, "two posterior standard deviations hold the truth about as often as they should"
    assert sd.max() < 0.9, "and are narrower than the population"


def test_questions_tell_of_both_predictions(artifact: Artifact, population: Population) -> None:
    texts = [NOVEL, *ORDINARY, *prompts(20, 5)]
    chosen = choose_questions(population, population.columns(embed(artifact, texts)), 8)
    assert len(set(chosen)) == 8
    assert any(NOVEL in texts[i] for i in chosen)


def test_an_added_llm_is_written_with_all_its_parts_and_nothing_else_changes(
    artifact: Artifact, truth: Truth, tmp_path: Path
) -> None:
    texts = prompts(300, 6)
    given = matrix(answers(truth, 0, texts)[:, None], prompts=tuple(f"{text} {i}" for i, text in enumerate(texts)))
    added = add_llm(artifact, given, About(llm="llm0", vendor="us"))
    after = write_added(artifact, "# Hedged\n", [added], tmp_path / "out")
    entry = after.manifest.llms[-1]
    assert (entry.id, entry.known_by, entry.n_labels, entry.vendor) == ("llm0", "labels", 300, "us")
    assert after.manifest.hedge == artifact.manifest.hedge
    for name, tensor in artifact.decoder.items():
        per_llm = len(tensor) == N_LLMS and name not in {"input_mean", "input_scale"}
        assert len(after.decoder[name]) == len(tensor) + per_llm
        np.testing.assert_array_equal(after.decoder[name][: len(tensor)], tensor)
    assert 0 < after.decoder["ability_sd"].astype(float)[-1] < 0.9
    for text in (NOVEL, *ORDINARY):
        (embedding,) = embed(artifact, [text])
        now = Scorer.from_artifact(after).score(embedding)
        np.testing.assert_allclose(now.p_correct[:-1], Scorer.from_artifact(artifact).score(embedding).p_correct)
        assert now.p_correct[-1] == pytest.approx(truth.p_correct([text])[0, 0], abs=0.17)


def test_landmarks_that_a_hedge_was_fitted_to_are_not_replaced(tmp_path: Path) -> None:
    hedged_artifact(tmp_path / "weights", drawn_rows(3, 0))
    with pytest.raises(ConfigError, match="has a hedge, which was fitted to the landmarks it has"):
        add_landmarks(tmp_path / "weights", [tmp_path])


# Learning from feedback

SCHOOL = np.array(
    [
        [1.0, 1.0, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 1.5],
        [1.0, -1.0, 0.0, 0.0, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.3, -0.5],
    ]
)


@pytest.fixture
def school(tmp_path: Path) -> Router:
    return Router(hedged_artifact(tmp_path / "weights", SCHOOL, (WIZARD, SPRINTER, NOVICE)))


def p_by_topic(router: Router, llm: str) -> dict[str, float]:
    row = router.catalog.row(llm)
    texts = {topic: word for word, topic in WORDS.items()}
    return {t: float(router.scorer.score(router.encode(texts[t]).prompt_embedding).p_correct[row]) for t in TOPICS}


@pytest.mark.parametrize("topic", ["law", WORDS[NOVEL]])
def test_an_llm_that_got_worse_in_one_topic_is_learned_be_it_ordinary_or_novel(
    school: Router, tmp_path: Path, topic: str
) -> None:
    as_trained = {llm: p_by_topic(school, llm) for llm in (WIZARD, SPRINTER, NOVICE)}
    truth = {**as_trained, WIZARD: {**as_trained[WIZARD], topic: 0.15}}
    recorded = read_back(tmp_path / "log", *World(truth).log(school))
    lesson, update = learn_lesson(recorded, school.artifact)
    assert lesson.refusals == ()
    assert lesson.held.change.negative
    after = Router(write_update(school.artifact, "", update, lesson, tmp_path / "new"))
    found = p_by_topic(after, WIZARD)
    assert found[topic] < 0.4
    for other in set(TOPICS) - {topic}:
        assert found[other] == pytest.approx(as_trained[WIZARD][other], abs=0.12)
    said = update.logit(gather(recorded, school.artifact, max_weight=10).answers)
    now = gather(recorded, after.artifact, max_weight=10).answers.logit
    assert np.abs(said - now).max() < 1e-4, "the written weights predict what the update said"
    assert after.artifact.manifest.novelty == school.artifact.manifest.novelty, "it was judged as it is served"


def test_harsh_people_lower_every_llm_by_as_much_on_novel_prompts_as_on_ordinary_ones(
    school: Router, tmp_path: Path
) -> None:
    as_trained = {llm: p_by_topic(school, llm) for llm in (WIZARD, SPRINTER, NOVICE)}
    harsh = {
        llm: {topic: 1 / (1 + np.exp(1.5) * (1 - p) / p) for topic, p in topics.items()}
        for llm, topics in as_trained.items()
    }
    lesson, update = learn_lesson(read_back(tmp_path / "log", *World(harsh, n=2_000).log(school)), school.artifact)
    assert lesson.common == pytest.approx(-1.5, abs=0.4)
    after = Router(write_update(school.artifact, "", update, lesson, tmp_path / "new"))
    for llm, topics in harsh.items():
        for topic, p in p_by_topic(after, llm).items():
            assert p == pytest.approx(topics[topic], abs=0.1)


def test_without_text_or_embedding_the_offset_learns_and_the_slope_does_not(school: Router, tmp_path: Path) -> None:
    """Of a recorded probability one cannot tell what is the LLM's own part."""
    as_trained = {llm: p_by_topic(school, llm) for llm in (WIZARD, SPRINTER, NOVICE)}
    truth = {**as_trained, WIZARD: dict.fromkeys(TOPICS, 0.3)}
    recorded = read_back(tmp_path / "log", *World(truth, keep="neither").log(school))
    lesson, update = learn_lesson(recorded, school.artifact)
    wizard = update.fits[school.catalog.row(WIZARD)].change
    assert wizard.slope == 0.0
    assert update.adaptation.offsets[school.catalog.row(WIZARD)].value + wizard.offset < -1
    after = Router(write_update(school.artifact, "", update, lesson, tmp_path / "new"))
    assert np.mean(list(p_by_topic(after, WIZARD).values())) == pytest.approx(0.3, abs=0.1)
