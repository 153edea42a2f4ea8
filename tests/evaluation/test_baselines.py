"""Baselines find what was planted, see no test labels, and survive thin data."""

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from planted_parts import matrix, topic_part

from embedllm_router._stats import Examples, fit_logistic, sigmoid
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.baselines import (
    BASELINES,
    Baseline,
    BaselineOptions,
    complexity_score,
    complexity_tier,
    make_baseline,
    parse_names,
)
from embedllm_router.evaluation.inputs import Part, Standardiser, llm_means
from embedllm_router.evaluation.learned_baselines import (
    Clusters,
    ItemResponse,
    LogisticPerLLM,
    MatrixFactorisation,
    NearestNeighbours,
    knn,
)
from embedllm_router.evaluation.metrics import correctness


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


ORACLES = {"oracle", "dataset_oracle"}
READS_PROMPTS: dict[str, Callable[[], Baseline]] = {
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
    assert np.array_equal(scores[0], scores[1]) == (name not in ORACLES)


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


def test_nearest_neighbours_agree_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    x, query = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    labels, observed = rng.integers(0, 2, (30, 3)).astype(np.float32), rng.random((30, 3)) < 0.6
    means = np.array([0.2, 0.5, 0.9], dtype=np.float32)
    found = knn(x, labels, observed, means, query, k=4)
    for i, q in enumerate(query):
        order = sorted(range(30), key=lambda j: -float(x[j] @ q / np.linalg.norm(x[j])))
        for llm in range(3):
            near = [j for j in order if observed[j, llm]][:4]
            naive = (sum(labels[j, llm] for j in near) + 5 * means[llm]) / (len(near) + 5)
            assert found[i, llm] == pytest.approx(naive, abs=1e-6)


def test_the_logistic_regression_minimises_its_penalised_loss() -> None:
    part = topic_part(200, 0)
    model = LogisticPerLLM(penalty=0.5)
    model.fit(part)
    x = np.column_stack([Standardiser.fit(part.x).apply(part.x), np.ones(200)]).astype(np.float64)
    for llm, y in enumerate(part.matrix.labels().T):
        examples = Examples(x, np.zeros(200), y.astype(np.float64), np.ones(200))
        theta, _ = fit_logistic(examples, np.array([*[0.5] * (x.shape[1] - 1), 1e-9]))
        np.testing.assert_allclose(model.predict(part)[:, llm], sigmoid(x @ theta), atol=2e-3)


def test_an_llm_that_was_always_right_gets_its_mean() -> None:
    labels = topic_part(60, 0).matrix.labels()
    labels[:, 2] = 1
    part = Part(matrix(labels), topic_part(60, 0).x)
    model = LogisticPerLLM()
    model.fit(part)
    np.testing.assert_allclose(model.predict(part)[:, 2], llm_means(part.matrix)[2], rtol=1e-5)


def test_training_a_baseline_leaves_torchs_random_numbers_as_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_baseline("mf", BaselineOptions(mf_epochs=1)).fit(topic_part(30, 0))
    assert torch.equal(torch.rand(3), expected)


def test_an_evaluation_without_learned_baselines_loads_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, embedllm_router.evaluation.run; from embedllm_router.evaluation import baselines as b; "
        "b.make_baseline('complexity', b.BaselineOptions()); "
        "print([name for name in ('torch', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
