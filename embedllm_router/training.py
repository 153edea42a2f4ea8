"""Fits the decoder to a correctness matrix: masked whole-row batches, early stopping on validation log-loss.

Every LLM's answer to a prompt is learned in one step, unobserved pairs masked. It knows nothing of files; recipe.py
feeds it and writes what it makes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedllm_router.calibration import Calibration, fit_calibration
from embedllm_router.data.split import Split
from embedllm_router.decoder import Decoder, Head, fold
from embedllm_router.lengths import fill_unknown, smearing
from embedllm_router.training_options import TrainingOptions

__all__ = ["EpochRecord", "LearningData", "Progress", "Trained", "TrainingOptions", "train_decoder"]

_LOG = logging.getLogger(__name__)
_WARM_UP: Final = 0.1
_MIN_SCALE: Final = 1e-4
_PRIOR_LABELS: Final = 3.0  # weight of an LLM's overall mean in its mean on a category
Progress = Callable[[str, int, int, float], None]
"""Called after each epoch with the head's name, epochs done, epochs planned, validation loss."""


@dataclass(frozen=True, slots=True)
class LearningData:
    """Everything training sees, row for row.

    Attributes:
        x: Prompt embeddings, float32 (n_prompts, d_prompt).
        labels: float32 (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        log_tokens: Natural logarithm of output tokens, float32 (n_prompts, n_llms), NaN where unknown.
        thinking: bool (n_llms,).
        categories: Number of each prompt's category, int64 (n_prompts,), from 0.
        split: Which rows train, which stop training and calibrate.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.float32]
    observed: NDArray[np.bool_]
    log_tokens: NDArray[np.float32]
    thinking: NDArray[np.bool_]
    categories: NDArray[np.int64]
    split: Split


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of the training history."""

    head: str
    epoch: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A calibrated decoder and how it came to be."""

    decoder: Decoder
    history: tuple[EpochRecord, ...]


@dataclass(frozen=True, slots=True)
class _Task:
    name: str
    x: Tensor
    target: Tensor
    truth: Tensor
    mask: Tensor
    start_bias: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    split: Split
    history: list[EpochRecord] = field(default_factory=list)

    def mean_loss(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        mask = self.mask[rows]
        return (self.loss(outputs, targets[rows]) * mask).sum() / mask.sum().clamp(min=1.0)


def train_decoder(data: LearningData, options: TrainingOptions, progress: Progress | None = None) -> Trained:
    """Trains both heads, calibrates them on validation and joins them.

    Args:
        data: What to learn from.
        options: How.
        progress: Told about each epoch.

    Returns:
        The decoder in evaluation mode, bit for bit the same for the same data, options and thread count.
    """
    mean, scale = _standardisation(data.x[data.split.train])
    x = torch.from_numpy(data.x)
    plain = Decoder(mean, scale, Head(1, (), 1, 1), Head(1, (), 1, 1))
    x = plain.standardise(x)
    history: list[EpochRecord] = []
    tell = progress or (lambda *_: None)
    correctness = _train_correctness(data, x, options, history, tell)
    length = _train_length(data, x, options, history, tell)
    return Trained(Decoder(mean, scale, correctness, length).eval(), tuple(history))


def _train_correctness(
    data: LearningData, x: Tensor, options: TrainingOptions, history: list[EpochRecord], progress: Progress
) -> Head:
    heads = []
    target = torch.from_numpy(_smoothed_labels(data, options.category_smoothing))
    for member in range(options.members):
        task = _Task(
            name=f"correctness {member + 1}/{options.members}",
            x=x,
            target=target,
            truth=torch.from_numpy(data.labels),
            mask=torch.from_numpy(data.observed.astype(np.float32)),
            start_bias=torch.from_numpy(_mean_logits(data)),
            loss=_log_loss,
            split=data.split,
        )
        seed = options.seed * 1000 + member
        heads.append(_fit(task, (*options.hidden, options.d_llm), options, seed, progress))
        history.extend(task.history)
    head = fold(heads)
    rows = data.split.validation
    calibration = fit_calibration(
        _predict(head, x, rows), data.labels[rows], data.observed[rows], strength=options.calibration_strength
    )
    return _calibrated(head, calibration)


def _train_length(
    data: LearningData, x: Tensor, options: TrainingOptions, history: list[EpochRecord], progress: Progress
) -> Head:
    known = np.isfinite(data.log_tokens)
    target = np.where(known, data.log_tokens, 0.0).astype(np.float32)
    in_train = known[data.split.train]
    start = target[data.split.train].sum(axis=0) / np.maximum(in_train.sum(axis=0), 1)
    task = _Task(
        name="length",
        x=x,
        target=torch.from_numpy(target),
        truth=torch.from_numpy(target),
        mask=torch.from_numpy(known.astype(np.float32)),
        start_bias=torch.from_numpy(start.astype(np.float32)),
        loss=nn.HuberLoss(reduction="none"),
        split=data.split,
    )
    head = _fit(task, (*options.length_hidden, options.d_length), options, options.seed * 1000 + 999, progress)
    history.extend(task.history)
    return _finished_length(head, x, data)


@torch.no_grad()
def _finished_length(head: Head, x: Tensor, data: LearningData) -> Head:
    rows = data.split.validation
    head.llm_bias.add_(torch.from_numpy(smearing(_predict(head, x, rows), data.log_tokens[rows])))
    known = np.asarray(np.isfinite(data.log_tokens[data.split.train]).any(axis=0))
    if known.any():
        for parameter in (head.llm_embeddings, head.llm_bias):
            parameter.copy_(torch.from_numpy(fill_unknown(parameter.numpy(), known, data.thinking)))
    return head


def _fit(task: _Task, widths: tuple[int, ...], options: TrainingOptions, seed: int, progress: Progress) -> Head:
    torch.manual_seed(seed)
    *hidden, d_llm = widths
    head = Head(task.x.shape[1], hidden, d_llm, task.target.shape[1], dropout=options.dropout)
    head.llm_bias.data.copy_(task.start_bias)
    train = torch.from_numpy(task.split.train)
    steps = max(-(-len(train) // options.batch_prompts), 1)
    optimiser = torch.optim.AdamW(head.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=steps * options.max_epochs + 1, pct_start=_WARM_UP
    )
    best_loss, best_epoch, best = _validate(task, head), 0, _copy(head)
    for epoch in range(1, options.max_epochs + 1):
        train_loss = _run_epoch(task, head, train, options, optimiser, schedule)
        loss = _validate(task, head)
        task.history.append(EpochRecord(task.name, epoch, train_loss, loss))
        progress(task.name, epoch, options.max_epochs, loss)
        if loss < best_loss:
            best_loss, best_epoch, best = loss, epoch, _copy(head)
        if epoch - best_epoch >= options.patience:
            break
    head.load_state_dict(best)
    _LOG.info("training.head_done head=%s epoch=%d validation_loss=%.4f", task.name, best_epoch, best_loss)
    return head.eval()


def _run_epoch(  # noqa: PLR0913, PLR0917 - the moving parts of one epoch
    task: _Task,
    head: Head,
    train: Tensor,
    options: TrainingOptions,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    head.train()
    total = 0.0
    batches = torch.split(train[torch.randperm(len(train))], options.batch_prompts)
    for rows in batches:
        x = nn.functional.dropout(task.x[rows], options.input_dropout)
        if options.input_noise:
            x = x + options.input_noise * torch.randn_like(x)
        loss = task.mean_loss(head(x), task.target, rows)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        total += loss.item()
    return total / max(len(batches), 1)


@torch.no_grad()
def _validate(task: _Task, head: Head) -> float:
    head.eval()
    rows = torch.from_numpy(task.split.validation)
    return task.mean_loss(head(task.x[rows]), task.truth, rows).item()


@torch.no_grad()
def _predict(head: Head, x: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    head.eval()
    out: Tensor = head(x[torch.from_numpy(rows)])
    predicted: NDArray[np.float32] = out.numpy()
    return predicted


@torch.no_grad()
def _calibrated(head: Head, calibration: Calibration) -> Head:
    slope = torch.from_numpy(calibration.slope.astype(np.float32))
    head.llm_embeddings.mul_(slope[:, None])
    head.llm_bias.copy_(head.llm_bias * slope + torch.from_numpy(calibration.offset.astype(np.float32)))
    return head


def _standardisation(x: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    scale = np.maximum(x.std(axis=0), _MIN_SCALE)
    return torch.from_numpy(x.mean(axis=0)), torch.from_numpy(scale)


def _smoothed_labels(data: LearningData, share: float) -> NDArray[np.float32]:
    """Labels moved towards the LLM's mean on the category, over training prompts, itself shrunk to its overall mean."""
    train = data.split.train
    seen = data.observed[train].astype(np.float32)
    right = data.labels[train] * seen
    overall = (right.sum(axis=0) + 1) / (seen.sum(axis=0) + 2)
    n_categories = int(data.categories.max()) + 1
    shape = (n_categories, seen.shape[1])
    rights, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    np.add.at(rights, data.categories[train], right)
    np.add.at(counts, data.categories[train], seen)
    means = (rights + _PRIOR_LABELS * overall) / (counts + _PRIOR_LABELS)
    smoothed: NDArray[np.float32] = (1 - share) * data.labels + share * means[data.categories]
    return smoothed.astype(np.float32)


def _mean_logits(data: LearningData) -> NDArray[np.float32]:
    train = data.split.train
    right = (data.labels[train] * data.observed[train]).sum(axis=0)
    share = (right + 1) / (data.observed[train].sum(axis=0) + 2)
    logits: NDArray[np.float32] = np.log(share / (1 - share)).astype(np.float32)
    return logits


def _log_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def _copy(head: Head) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in head.state_dict().items()}
