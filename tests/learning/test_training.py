from dataclasses import replace

import numpy as np
import pytest
import torch

from embedllm_router.data.split import Split
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.metrics import auc
from embedllm_router.scorer import Scorer
from embedllm_router.training import LearningData, train_decoder
from embedllm_router.training_options import TrainingOptions

OPTIONS = TrainingOptions(
    hidden=(16,),
    d_llm=4,
    members=2,
    dropout=0.0,
    input_dropout=0.0,
    learning_rate=0.02,
    batch_prompts=64,
    max_epochs=12,
)
N, D, N_LLMS = 900, 6, 4


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def checkerboard(seed: int = 0, noise: float = 0.05) -> LearningData:
    """LLMs 0 and 1 are right when the first value is positive, LLMs 2 and 3 when it is negative."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (N, D)).astype(np.float32)
    positive = x[:, :1] > 3
    right = np.where(np.arange(N_LLMS) < N_LLMS // 2, positive, ~positive)
    labels = (right ^ (rng.random(right.shape) < noise)).astype(np.float32)
    tokens = np.full((N, N_LLMS), np.nan, dtype=np.float32)
    tokens[:, 0] = np.log(100) + 0.5 * x[:, 1]
    rows = np.arange(N)
    return LearningData(
        x=x,
        labels=labels,
        observed=rng.random(labels.shape) < 0.7,
        log_tokens=tokens,
        thinking=np.array([False, False, True, True]),
        categories=positive[:, 0].astype(np.int64),
        split=Split(rows[:700], rows[700:800], rows[800:]),
    )


def predictions(data: LearningData, options: TrainingOptions) -> np.ndarray:
    scorer = Scorer(train_decoder(data, options).decoder.tensors())
    return np.stack([scorer.score(row).p_correct for row in data.x[data.split.test]])


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_a_planted_checkerboard_is_recovered(hidden: tuple[int, ...]) -> None:
    data = checkerboard()
    p = predictions(data, replace(OPTIONS, hidden=hidden))
    labels = data.labels[data.split.test]
    assert auc(labels.ravel(), p.ravel()) > 0.92
    positive = data.x[data.split.test, 0] > 4
    assert p[positive][:, :2].mean() > 0.85
    assert p[positive][:, 2:].mean() < 0.15


def test_a_planted_length_is_recovered_and_lent_to_llms_without_lengths() -> None:
    data = checkerboard()
    scorer = Scorer(train_decoder(data, replace(OPTIONS, max_epochs=25)).decoder.tensors())
    tokens = np.stack([scorer.score(row).output_tokens for row in data.x[data.split.test]])
    actual = np.exp(data.log_tokens[data.split.test, 0])
    assert np.median(np.abs(np.log(tokens[:, 0] / actual))) < 0.25
    np.testing.assert_allclose(tokens[:, 1], tokens[:, 0], rtol=1e-4)


def test_the_same_seed_makes_the_same_weights_and_another_seed_others() -> None:
    data = checkerboard()
    a, b, c = (
        train_decoder(data, replace(OPTIONS, max_epochs=2, dropout=0.2, seed=seed)).decoder.tensors()
        for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["llm_embeddings"], c["llm_embeddings"])


def test_unobserved_labels_are_never_looked_at() -> None:
    data = checkerboard()
    lies = np.where(data.observed, data.labels, 1 - data.labels).astype(np.float32)
    quick = replace(OPTIONS, max_epochs=3)
    honest, told = predictions(data, quick), predictions(replace(data, labels=lies), quick)
    np.testing.assert_array_equal(honest, told)


def test_test_rows_are_never_looked_at() -> None:
    data = checkerboard()
    lies = data.labels.copy()
    lies[data.split.test] = 1 - lies[data.split.test]
    quick = replace(OPTIONS, max_epochs=3)
    np.testing.assert_array_equal(predictions(data, quick), predictions(replace(data, labels=lies), quick))


def test_training_stops_when_validation_no_longer_improves() -> None:
    data = replace(checkerboard(), labels=np.random.default_rng(0).integers(0, 2, (N, N_LLMS)).astype(np.float32))
    trained = train_decoder(data, replace(OPTIONS, members=1, max_epochs=200, patience=2))
    epochs = [record for record in trained.history if record.head.startswith("correctness")]
    assert len(epochs) < 50


def test_progress_is_told_every_epoch() -> None:
    told: list[tuple[str, int]] = []
    train_decoder(checkerboard(), replace(OPTIONS, max_epochs=2), lambda head, epoch, *_: told.append((head, epoch)))
    assert told == [(head, epoch) for head in ("correctness 1/2", "correctness 2/2", "length") for epoch in (1, 2)]


@pytest.mark.parametrize(
    "bad", [{"members": 0}, {"dropout": 1.0}, {"input_dropout": -0.1}, {"learning_rate": 0.0}, {"max_epochs": 0}]
)
def test_impossible_options_are_refused_by_name(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainingOptions(**bad)
