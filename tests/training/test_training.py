import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedllm_router.data.split import Split
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.metrics import auc
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.training.fit import fitting
from embedllm_router.training.fit.decoder import LearningData, Trained
from embedllm_router.training.fit.fitting import Checkpoint, Device, fingerprint
from embedllm_router.training.fit.options import TrainingOptions, paper_options
from embedllm_router.training.fit.training import data_set_weights, train_decoder

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
def _quick() -> Iterator[None]:
    """One thread, and a small block of noise to draw from."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_NOISE_BLOCK", 1 << 14)
        yield


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


def predictions(data: LearningData, options: TrainingOptions) -> NDArray[np.float32]:
    scorer = Scorer(train_decoder(data, options).decoder.tensors())
    return np.stack([scorer.score(row).p_correct for row in data.x[data.split.test]])


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_a_planted_checkerboard_is_recovered(hidden: tuple[int, ...]) -> None:
    data = checkerboard()
    p = predictions(data, replace(OPTIONS, hidden=hidden))
    labels = data.labels[data.split.test]
    assert auc(labels.ravel().astype(np.float32), p.ravel()) > 0.92
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
def test_impossible_options_are_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainingOptions(**bad)


PAPER = replace(paper_options(max_epochs=12), d_llm=16, learning_rate=0.01, batch_pairs=128)


def test_the_papers_decoder_learned_pair_by_pair_recovers_the_checkerboard() -> None:
    data = checkerboard()
    decoder = train_decoder(data, PAPER).decoder
    assert not decoder.correctness.linear_layers()[1:], "f is linear"
    scorer = Scorer(decoder.tensors())
    p = np.stack([scorer.score(row).p_correct for row in data.x[data.split.test]])
    assert auc(data.labels[data.split.test].ravel().astype(np.float32), p.ravel()) > 0.92


def test_learning_from_pairs_looks_at_no_unobserved_label() -> None:
    data = checkerboard()
    lies = np.where(data.observed, data.labels, 1 - data.labels).astype(np.uint8)
    quick = replace(PAPER, max_epochs=2)
    np.testing.assert_array_equal(predictions(data, quick), predictions(replace(data, labels=lies), quick))


def test_the_papers_settings_are_the_papers() -> None:
    o = paper_options()
    assert (o.hidden, o.d_llm, o.input_noise, o.learning_rate) == ((), 232, 0.05, 1e-4)
    assert (o.batch_pairs, o.max_epochs, o.pairs, o.weight_decay) == (2048, 50, True, 0.0)


@pytest.mark.parametrize("bad", [{"hidden": (8,)}, {"members": 2}, {"balance": 0.5}, {"category_smoothing": 0.1}])
def test_the_papers_form_with_a_part_of_the_other_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="linear form"):
        replace(paper_options(), **bad)


def test_balance_moves_weight_from_large_sets_to_small_ones() -> None:
    data = replace(checkerboard(), datasets=(np.arange(N) % 10 == 0).astype(np.int64))
    assert data.datasets is not None
    per_label = data.observed[data.split.train].sum(axis=1)
    for balance in (0.0, 0.5, 1.0):
        weights = data_set_weights(data, balance)[data.split.train]
        total = np.bincount(data.datasets[data.split.train], weights * per_label)
        assert total.sum() == pytest.approx(per_label.sum(), rel=1e-5)
        n = np.bincount(data.datasets[data.split.train], per_label)
        assert total[0] / total[1] == pytest.approx((n[0] / n[1]) ** (1 - balance), rel=1e-4)


NOISY = replace(OPTIONS, max_epochs=5, dropout=0.2, input_dropout=0.1, input_noise=0.1)
RESUMED = {"network": NOISY, "copies": NOISY, "mf": replace(PAPER, max_epochs=5)}
KILLED_IN = {"network": 7, "copies": 7, "mf": 3}
"""Epochs told before the end: in the middle of the second network, and of the paper's decoder."""


def with_copies(data: LearningData) -> LearningData:
    """Two copies of each training prompt with a little noise on its numbers."""
    rng, x = np.random.default_rng(5), data.x[data.split.train]
    copies = [x + rng.normal(0, 0.3, x.shape) for _ in range(2)]
    return replace(data, copies=np.array(copies, dtype=np.float16))


def lesson(name: str) -> LearningData:
    return with_copies(checkerboard()) if name == "copies" else checkerboard()


class Stopped(Exception):  # noqa: N818 - it is a signal of the test
    """Ends a run from its progress callback."""


def train_until(name: str, folder: Path, end: Callable[[], None]) -> None:
    """Trains with a checkpoint; `end` is called after the epoch `KILLED_IN` names."""
    told: list[int] = []

    def tell(*_: object) -> None:
        told.append(1)
        if len(told) == KILLED_IN[name]:
            end()

    data = lesson(name)
    checkpoint = Checkpoint(folder, fingerprint(data, RESUMED[name]))
    train_decoder(data, RESUMED[name], tell, checkpoint=checkpoint)


def stop() -> None:
    raise Stopped


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def trained_whole(name: str) -> Trained:
    return train_decoder(lesson(name), RESUMED[name])


def resumed_equals_whole(name: str, folder: Path) -> None:
    data, told = lesson(name), []
    checkpoint = Checkpoint(folder, fingerprint(data, RESUMED[name]))
    resumed = train_decoder(data, RESUMED[name], lambda *done: told.append(done), checkpoint=checkpoint)
    whole = trained_whole(name)
    a, b = resumed.decoder.tensors(), whole.decoder.tensors()
    assert all(np.array_equal(a[tensor], b[tensor]) for tensor in b)
    assert resumed.history == whole.history
    assert len(told) == len(whole.history) - KILLED_IN[name]


@pytest.mark.parametrize("name", ["network", "copies", "mf"])
def test_an_interrupted_run_that_is_resumed_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train_until(name, tmp_path, stop)
    resumed_equals_whole(name, tmp_path)


def test_a_killed_process_leaves_a_checkpoint_that_ends_with_the_same_bits(tmp_path: Path) -> None:
    code = (
        "import pathlib, torch, test_training as t; torch.set_num_threads(1); "
        f"t.train_until('network', pathlib.Path({str(tmp_path)!r}), t.kill)"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed_equals_whole("network", tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    data, quick = checkerboard(), replace(OPTIONS, max_epochs=1)
    train_decoder(data, quick, checkpoint=Checkpoint(tmp_path, fingerprint(data, quick)))
    other = replace(quick, seed=5)
    with pytest.raises(DataError, match="without --resume"):
        train_decoder(data, other, checkpoint=Checkpoint(tmp_path, fingerprint(data, other)))


def test_a_checkpoint_of_other_copies_is_refused(tmp_path: Path) -> None:
    data, quick = checkerboard(), replace(OPTIONS, max_epochs=1)
    train_decoder(data, quick, checkpoint=Checkpoint(tmp_path, fingerprint(data, quick)))
    with pytest.raises(DataError, match="without --resume"):
        train_decoder(data, quick, checkpoint=Checkpoint(tmp_path, fingerprint(with_copies(data), quick)))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    data, quick = checkerboard(), replace(OPTIONS, max_epochs=1)
    checkpoint = Checkpoint(tmp_path, fingerprint(data, quick))
    (tmp_path / "correctness-1-of-2.safetensors").write_bytes(b"half a fi")
    with pytest.raises(DataError, match="not a checkpoint"):
        train_decoder(data, quick, checkpoint=checkpoint)


@pytest.mark.parametrize(("name", "options"), [("network", OPTIONS), ("copies", OPTIONS), ("mf", PAPER)])
def test_bfloat16_learns_the_same_lesson(name: str, options: TrainingOptions) -> None:
    data = lesson(name)
    decoder = train_decoder(data, options, device=Device("cpu", bf16=True)).decoder
    scorer = Scorer(decoder.tensors())
    p = np.stack([scorer.score(row).p_correct for row in data.x[data.split.test]])
    assert auc(data.labels[data.split.test].ravel().astype(np.float32), p.ravel()) > 0.92


def test_without_a_gpu_the_best_device_is_the_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Device.best() == Device("cpu", bf16=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Device.best() == Device("cuda", bf16=True)


@pytest.mark.parametrize(("epochs", "batch"), [(1, 900), (3, 300), (9, 900), (10, 900)])
def test_a_schedule_of_few_steps_is_no_error(epochs: int, batch: int) -> None:
    options = replace(OPTIONS, members=1, max_epochs=epochs, batch_prompts=batch, patience=epochs)
    assert len(train_decoder(checkerboard(), options).history) == 2 * epochs
