"""Baselines find what was planted, see no test labels, and survive thin data."""

import math

import numpy as np
import pytest
from planted_parts import matrix, topic_part

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.baselines import (
    BASELINES,
    Adam,
    BaselineOptions,
    Clusters,
    ItemResponse,
    LogisticPerLLM,
    MatrixFactorisation,
    NearestNeighbours,
    complexity_score,
    complexity_tier,
    make_baseline,
    parse_names,
)
from embedllm_router.evaluation.inputs import Part, Standardiser, llm_means
from embedllm_router.evaluation.metrics import correctness

ORACLES = {"oracle", "dataset_oracle"}
READS_PROMPTS = {
    "clusters": lambda: Clusters(n_clusters=3),
    "logistic": lambda: LogisticPerLLM(penalty=0.1),
    "mf": lambda: MatrixFactorisation(d_llm=8, epochs=40, batch_pairs=64, learning_rate=0.02),
    "knn": lambda: NearestNeighbours(k=20),
}


def loss(p: np.ndarray, part: Part) -> float:
    return correctness(part.matrix.labels(), p, part.matrix.observed).log_loss


@pytest.mark.parametrize("name", READS_PROMPTS)
@pytest.mark.parametrize("density", [1.0, 0.4])
def test_a_baseline_that_reads_prompts_finds_the_planted_topics(name: str, density: float) -> None:
    train, test = topic_part(400, 0, density=density), topic_part(200, 1)
    baseline = READS_PROMPTS[name]()
    baseline.fit(train)
    p = baseline.predict(test)
    ideal = 2 / 3 * -(0.2 * math.log(0.2) + 0.8 * math.log(0.8)) + 1 / 3 * -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    means = np.tile(llm_means(train.matrix), (200, 1))
    assert loss(p, test) < ideal + 0.1 < loss(means, test)
    chosen = test.matrix.labels()[np.arange(200), p.argmax(axis=1)].mean()
    assert chosen > 0.8


def test_item_response_finds_hard_prompts_and_able_llms() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (500, 4)).astype(np.float32)
    ability = np.array([-1.0, 0.0, 2.0])
    p = 1 / (1 + np.exp(-(ability - 2 * x[:, :1])))
    part = Part(matrix((rng.random((500, 3)) < p).astype(float)), x)
    irt = ItemResponse(epochs=60, learning_rate=0.02, batch_prompts=64)
    irt.fit(part)
    found = irt.predict(part)
    assert np.corrcoef(found.ravel(), p.ravel())[0, 1] > 0.97
    assert (np.diff(found.mean(axis=0)) > 0).all()


@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_but_the_oracles_sees_test_labels(name: str) -> None:
    train, test = topic_part(60, 0, density=0.8), topic_part(30, 1)
    flipped = Part(matrix(1 - test.matrix.labels()), test.x)
    options = BaselineOptions(mf_epochs=1)
    scores = []
    for part in (test, flipped):
        baseline = make_baseline(name, options)
        baseline.fit(train)
        scores.append(baseline.predict(part))
    assert np.array_equal(*scores) == (name not in ORACLES)


@pytest.mark.parametrize("name", BASELINES)
def test_scores_have_the_right_shape_and_range_also_where_an_llm_was_never_graded(name: str) -> None:
    whole = topic_part(50, 0)
    observed = whole.matrix.observed.copy()
    observed[:, 1] = False
    train = Part(matrix(whole.matrix.labels(), observed=observed), whole.x)
    baseline = make_baseline(name, BaselineOptions(mf_epochs=1))
    baseline.fit(train)
    p = baseline.predict(topic_part(20, 1))
    assert p.shape == (20, 3)
    assert np.isfinite(p).all()
    if baseline.probabilistic:
        assert p.min() >= 0
        assert p.max() <= 1


@pytest.mark.parametrize("name", ["random", "mf", "irt", "clusters"])
def test_the_same_seed_gives_the_same_scores(name: str) -> None:
    def scores(seed: int) -> np.ndarray:
        baseline = make_baseline(name, BaselineOptions(seed=seed, mf_epochs=2))
        baseline.fit(topic_part(300, 0))
        return baseline.predict(topic_part(20, 1))

    assert np.array_equal(scores(3), scores(3))
    assert not np.array_equal(scores(3), scores(4))


def test_the_gradients_of_both_learned_models_agree_with_finite_differences() -> None:
    part = topic_part(30, 0, density=0.7)
    mf = MatrixFactorisation(d_llm=4, epochs=1)
    mf.fit(part)
    z = mf._standardiser.apply(part.x)
    rows, llms = np.nonzero(part.matrix.observed)
    labels = part.matrix.labels()[rows, llms]
    names = ("_e", "_a", "_b", "_w", "_c")
    check_gradients(mf, names, mf._gradients(z[rows], llms, labels), part)
    irt = ItemResponse(epochs=1)
    irt.fit(part)
    z = np.concatenate([irt._standardiser.apply(part.x), np.ones((30, 1), np.float32)], axis=1)
    gradients = irt._gradients(z, part.matrix.labels(), part.matrix.observed.astype(np.float32))
    check_gradients(irt, ("_ability", "_slope", "_difficulty"), gradients, part)


def check_gradients(model: object, names: tuple[str, ...], gradients: list[np.ndarray], part: Part) -> None:
    for name, gradient in zip(names, gradients, strict=True):
        parameter = getattr(model, name)
        at = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        before = parameter[at]
        losses = []
        for step in (0.02, -0.02):
            parameter[at] = before + step
            losses.append(loss(model.predict(part), part))  # type: ignore[attr-defined]
        parameter[at] = before
        assert gradient[at] == pytest.approx((losses[0] - losses[1]) / 0.04, rel=0.05, abs=2e-4), name


def test_adam_walks_to_the_minimum() -> None:
    x = np.array([5.0, -3.0], dtype=np.float32)
    adam = Adam([x], 0.1)
    for _ in range(400):
        adam.step([2 * (x - 1)])
    assert x.tolist() == pytest.approx([1, 1], abs=0.01)


@pytest.mark.parametrize(
    ("prompt", "tier"),
    [
        ("What is the capital of France?", 0),
        ("Implement a function in python that sorts an array.", 1),
        ("Implement a python function for the integral and the derivative of a matrix equation.", 2),
        ("Prove step by step that the python algorithm ends, and show your work.", 3),
    ],
)
def test_complexity_tiers_of_plain_cases(prompt: str, tier: int) -> None:
    assert complexity_tier(prompt) == tier


def test_a_long_prompt_scores_higher_than_a_short_one() -> None:
    assert complexity_score("word " * 500) == pytest.approx(0.1)
    assert complexity_score("word") == pytest.approx(-0.1)


def test_names_are_parsed_in_order_and_checked() -> None:
    assert parse_names("all") == BASELINES
    assert parse_names("none") == ()
    assert parse_names(" oracle, random") == ("random", "oracle")
    for wrong in ("everything", "", "random,nonsense"):
        with pytest.raises(ConfigError, match="takes all, none or names"):
            parse_names(wrong)


def test_a_part_needs_one_embedding_per_prompt() -> None:
    with pytest.raises(DataError, match="3 prompt embeddings for 2 prompts"):
        Part(matrix(np.ones((2, 2))), np.zeros((3, 4), np.float32))


def test_standardised_embeddings_have_length_about_one() -> None:
    x = np.random.default_rng(0).normal(5, 3, (500, 40)).astype(np.float32)
    z = Standardiser.fit(x).apply(x)
    assert np.sqrt((z**2).sum(axis=1)).mean() == pytest.approx(1, abs=0.05)
