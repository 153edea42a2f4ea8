"""Trains both heads of a plain decoder, calibrates them on validation and joins them.

Every LLM's answer to a prompt is learned in one step, unobserved pairs masked; or pair by pair, as in the paper. What
training aims at and starts from is computed from the training part alone. `hedged` trains decoders with a hedge, of
the same lessons.

Calibration makes probabilities mean what they say: a slope and an offset per LLM, fitted on validation labels. It is
Platt scaling (Platt, 1999) in two levels: one fit for all LLMs, then one per LLM pulled towards it, so an LLM with few
labels keeps the common correction. It is folded into the heads' last layer.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedllm_router._stats import Examples, fit_logistic, logit
from embedllm_router.training.fit.decoder import (
    Decoder,
    EpochRecord,
    Head,
    LearningData,
    PairModel,
    Progress,
    Trained,
    fold,
)
from embedllm_router.training.fit.facts import UNRECORDED_TOKENS, fill_unknown, smearing
from embedllm_router.training.fit.fitting import Checkpoint, Copies, Device, PairLesson, Plan, RowLesson, fit
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.team import Team

__all__ = [
    "LearningData",
    "Session",
    "correctness_lesson",
    "data_set_weights",
    "fit_calibration",
    "length_head",
    "mean_logits",
    "standardisation",
    "start_session",
    "teach",
    "train_decoder",
]

_MIN_SCALE: Final = 1e-4
_PRIOR_LABELS: Final = 3.0  # weight of an LLM's overall mean in its mean on a category


def standardisation(x: NDArray[np.float32], *, unit_length: bool) -> tuple[Tensor, Tensor]:
    """Mean and scale of each column.

    Args:
        x: Prompt embeddings of the training part, float32 (n_train, d_prompt).
        unit_length: Whether standardised embeddings shall have length about 1, as those of the paper's encoder have,
            so that its noise and learning rate mean the same; else each column has standard deviation 1.

    Returns:
        Mean and positive scale, float32 (d_prompt,) each.
    """
    scale = np.maximum(x.std(axis=0), _MIN_SCALE)
    if unit_length:
        scale *= np.float32(x.shape[1] ** 0.5)
    return torch.from_numpy(x.mean(axis=0)), torch.from_numpy(scale)


def category_means(data: LearningData) -> NDArray[np.float32]:
    """Share of right answers by category, shrunk to the LLM's overall share, float32 (n_categories, n_llms)."""
    train = data.split.train
    seen = data.observed[train].astype(np.float32)
    right = data.labels[train] * seen
    overall = (right.sum(axis=0) + 1) / (seen.sum(axis=0) + 2)
    shape = (int(data.categories.max()) + 1, seen.shape[1])
    rights, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    np.add.at(rights, data.categories[train], right)
    np.add.at(counts, data.categories[train], seen)
    means: NDArray[np.float32] = (rights + _PRIOR_LABELS * overall) / (counts + _PRIOR_LABELS)
    return means.astype(np.float32)


def mean_logits(data: LearningData) -> NDArray[np.float32]:
    """Logit of each LLM's share of right answers, smoothed by one of each kind, float32 (n_llms,)."""
    train = data.split.train
    right = (data.labels[train] * data.observed[train]).sum(axis=0, dtype=np.float32)
    share = (right + 1) / (data.observed[train].sum(axis=0) + 2)
    return logit(share).astype(np.float32)


def data_set_weights(data: LearningData, balance: float) -> NDArray[np.float32]:
    """Weight of each prompt's labels, float32 (n_prompts,): n to the power of -balance, n the labels of its data set.

    Args:
        data: Only its training part counts.
        balance: 0 weighs all alike; 1 gives each data set the same say.

    Returns:
        Weights whose mean over the labels of the training part is 1.
    """
    if not balance or data.datasets is None:
        return np.ones(len(data.x), dtype=np.float32)
    train = data.split.train
    per_prompt = data.observed[train].sum(axis=1)
    n_labels = np.bincount(data.datasets[train], per_prompt, minlength=int(data.datasets.max()) + 1)
    weights = np.maximum(n_labels, 1.0) ** -balance
    weights /= (weights * n_labels).sum() / n_labels.sum()
    return weights[data.datasets].astype(np.float32)


_MIN_SLOPE: Final = 0.1  # a slope of zero or less would undo or reverse what was learned


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibrated logit = slope · logit + offset`.

    Attributes:
        slope: float64 (n_llms,), positive.
        offset: float64 (n_llms,).
    """

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]


def fit_calibration(
    logits: NDArray[np.float32],
    labels: NDArray[np.float32],
    observed: NDArray[np.bool_],
    *,
    strength: float = 40.0,
) -> Calibration:
    """Fits slopes and offsets that minimise log-loss.

    Args:
        logits: float32 (n_prompts, n_llms).
        labels: float32 (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        strength: Pull of an LLM's own fit towards the common one, in units of labels at p = 0.5 times four.

    Returns:
        The calibration; an LLM without labels gets the common fit.
    """
    common = _fit_line(logits[observed], labels[observed], np.array([1.0, 0.0]), strength)
    lines = np.array(
        [_fit_line(logits[seen, llm], labels[seen, llm], common, strength) for llm, seen in enumerate(observed.T)]
    )
    return Calibration(slope=np.maximum(lines[:, 0], _MIN_SLOPE), offset=lines[:, 1])


def _fit_line(
    logits: NDArray[np.float32], labels: NDArray[np.float32], prior: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """Slope and offset that minimise log-loss plus `strength/2 · |line - prior|²`, float64 (2,)."""
    x = np.stack([logits.astype(np.float64), np.ones(len(logits))], axis=1)
    examples = Examples(x, x @ prior, labels.astype(np.float64), np.ones(len(logits)))
    return prior + fit_logistic(examples, np.full(2, strength))[0]


_PREDICT_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Session:
    """What every head's training shares; x is standardised and, like everything else, on the device."""

    data: LearningData
    x: Tensor
    copies: Copies | None
    options: TrainingOptions
    device: Device
    checkpoint: Checkpoint | None
    progress: Progress
    team: Team
    history: list[EpochRecord] = field(default_factory=list)

    def tensor(self, values: NDArray[np.generic]) -> Tensor:
        """An array on the device."""
        return torch.from_numpy(values).to(self.device.type)


def train_decoder(  # noqa: PLR0913 - data and options; the rest is where and who
    data: LearningData,
    options: TrainingOptions,
    progress: Progress | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    device: Device | None = None,
    team: Team | None = None,
) -> Trained:
    """Trains both heads, calibrates them on validation and joins them.

    Args:
        data: What to learn from.
        options: How.
        progress: Told about each epoch.
        checkpoint: Written after each epoch, and continued from where it holds one.
        device: Where; the best there is by default.
        team: Who trains together, each with the same arguments; this process alone by default.

    Returns:
        The decoder in evaluation mode on the CPU. On a CPU it is bit for bit the same for the same data, options and
        thread count, interrupted or not.

    Raises:
        DataError: The checkpoint is of another run.
    """
    mean, scale = standardisation(data.x[data.split.train], unit_length=options.pairs)
    nothing = Head(1, (), 1, 1)
    scaler = Decoder(mean, scale, nothing, nothing)
    session = start_session(data, scaler, options, progress, checkpoint=checkpoint, device=device, team=team)
    correctness = _calibrated(session, _paper_head(session) if options.pairs else _ensemble(session))
    length = length_head(session)
    return Trained(Decoder(mean, scale, correctness.cpu(), length.cpu()).eval(), tuple(session.history))


def start_session(  # noqa: PLR0913 - data and options; the rest is where and who
    data: LearningData,
    scaler: Decoder,
    options: TrainingOptions,
    progress: Progress | None,
    *,
    checkpoint: Checkpoint | None,
    device: Device | None,
    team: Team | None,
) -> Session:
    """Standardises the prompt embeddings and puts everything where training happens.

    Args:
        data: What to learn from.
        scaler: Standardises; its heads are not used.
        options: How.
        progress: Told about each epoch.
        checkpoint: Written after each epoch.
        device: Where; the best there is by default.
        team: Who trains together.
    """
    device = device or Device.best()
    scaler = scaler.to(device.type)
    x = scaler.standardise(torch.from_numpy(data.x).to(device.type))
    copies = None
    if data.copies is not None:
        copies = Copies(torch.from_numpy(data.copies).to(device.type), scaler.standardise, options.consistency)
    return Session(data, x, copies, options, device, checkpoint, progress or (lambda *_: None), team or Team())


def _ensemble(s: Session) -> Head:
    """Networks from several seeds, taught whole rows, as one head."""
    heads = []
    for member in range(s.options.members):
        lesson = correctness_lesson(s, f"correctness {member + 1}/{s.options.members}")
        widths, seed = (*s.options.hidden, s.options.d_llm), s.options.seed * 1000 + member
        heads.append(_taught_by_rows(s, lesson, widths, mean_logits(s.data), seed))
    return fold(heads)


def correctness_lesson(s: Session, name: str) -> RowLesson:
    """Teaches a head who answers what correctly; targets are smoothed by the LLM's mean on the prompt's category."""
    labels, categories, share = s.tensor(s.data.labels), s.tensor(s.data.categories), s.options.category_smoothing
    means = s.tensor(category_means(s.data))
    return RowLesson(
        name=name,
        x=s.x,
        target=lambda rows: (1 - share) * labels[rows].float() + share * means[categories[rows]],
        truth=lambda rows: labels[rows].float(),
        mask=s.tensor(s.data.observed),
        weight=s.tensor(data_set_weights(s.data, s.options.balance)),
        loss=_log_loss,
        split=s.data.split,
        copies=s.copies,
        options=s.options,
        device=s.device,
        team=s.team,
    )


def _paper_head(s: Session) -> Head:
    """The paper's decoder, taught pair by pair."""
    torch.manual_seed(s.options.seed)
    model = PairModel(s.x.shape[1], s.options.d_llm, s.data.labels.shape[1]).to(s.device.type)
    lesson = PairLesson(
        name="correctness",
        x=s.x,
        labels=s.tensor(s.data.labels),
        observed=s.tensor(s.data.observed),
        split=s.data.split,
        options=s.options,
        device=s.device,
        team=s.team,
    )
    rate = s.options.learning_rate
    plan = Plan(
        epochs=s.options.max_epochs,
        patience=s.options.patience,
        optimiser=lambda parameters: torch.optim.Adam(parameters, rate, fused=True),
        one_cycle=False,
    )
    with _one_thread():
        s.history.extend(fit(lesson, model, plan, checkpoint=s.checkpoint, progress=s.progress, team=s.team))
    return model.folded()


def length_head(s: Session) -> Head:
    """Trains the head of output lengths and makes its exponential right on average."""
    if s.options.pairs:  # the paper has no such head: it is taught as the default one is, on inputs of the same size
        stretch = float(s.x.shape[1] ** 0.5)
        plain = TrainingOptions(seed=s.options.seed, max_epochs=min(s.options.max_epochs, TrainingOptions().max_epochs))
        return _stretched(length_head(replace(s, x=s.x * stretch, options=plain)), stretch)
    known = np.isfinite(s.data.log_tokens)
    log_tokens = s.tensor(s.data.log_tokens)
    lesson = RowLesson(
        name="length",
        x=s.x,
        target=lambda rows: log_tokens[rows].nan_to_num(),
        truth=lambda rows: log_tokens[rows].nan_to_num(),
        mask=s.tensor(known),
        weight=torch.ones(len(known), device=s.device.type),
        loss=nn.HuberLoss(reduction="none"),
        split=s.data.split,
        copies=s.copies,
        options=s.options,
        device=s.device,
        team=s.team,
    )
    train = s.data.split.train
    total = np.nan_to_num(s.data.log_tokens[train]).sum(axis=0)
    start = (total / np.maximum(known[train].sum(axis=0), 1)).astype(np.float32)
    widths = (*s.options.length_hidden, s.options.d_length)
    return _finished_length(s, _taught_by_rows(s, lesson, widths, start, s.options.seed * 1000 + 999))


@torch.no_grad()
def _stretched(head: Head, factor: float) -> Head:
    """The head that makes of x what this one makes of factor · x."""
    head.linear_layers()[0].weight.mul_(factor)
    return head


def _taught_by_rows(
    s: Session, lesson: RowLesson, widths: tuple[int, ...], start_bias: NDArray[np.float32], seed: int
) -> Head:
    torch.manual_seed(seed)
    *hidden, d_llm = widths
    head = Head(s.x.shape[1], hidden, d_llm, len(start_bias), dropout=s.options.dropout)
    head.llm_bias.data.copy_(torch.from_numpy(start_bias))
    teach(s, lesson, head)
    return head.eval()


def teach(s: Session, lesson: RowLesson, module: nn.Module) -> None:
    """Trains a module by AdamW on the one-cycle schedule, in place."""
    rate, decay = s.options.learning_rate, s.options.weight_decay
    plan = Plan(
        epochs=s.options.max_epochs,
        patience=s.options.patience,
        optimiser=lambda parameters: torch.optim.AdamW(parameters, rate, weight_decay=decay),
    )
    module.to(s.device.type)
    s.history.extend(fit(lesson, module, plan, checkpoint=s.checkpoint, progress=s.progress, team=s.team))
    module.eval()


@torch.no_grad()
def _finished_length(s: Session, head: Head) -> Head:
    rows, data = s.data.split.validation, s.data
    head.llm_bias.add_(s.tensor(smearing(_predict(s, head, rows), data.log_tokens[rows])))
    known = np.asarray(np.isfinite(data.log_tokens[data.split.train]).any(axis=0))
    if known.any():
        for parameter in (head.llm_embeddings, head.llm_bias):
            parameter.copy_(s.tensor(fill_unknown(parameter.cpu().numpy(), known, data.thinking)))
    else:
        head.llm_embeddings.zero_()
        head.llm_bias.fill_(math.log(UNRECORDED_TOKENS))
    return head


@torch.no_grad()
def _predict(s: Session, head: Head, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    head.eval()
    batches = torch.split(torch.from_numpy(rows).to(s.device.type), _PREDICT_ROWS)
    predicted: NDArray[np.float32] = torch.cat([head(s.x[batch]) for batch in batches]).cpu().numpy()
    return predicted


@torch.no_grad()
def _calibrated(s: Session, head: Head) -> Head:
    rows = s.data.split.validation
    labels = s.data.labels[rows].astype(np.float32)
    calibration: Calibration = fit_calibration(
        _predict(s, head, rows), labels, s.data.observed[rows], strength=s.options.calibration_strength
    )
    slope = s.tensor(calibration.slope.astype(np.float32))
    head.llm_embeddings.mul_(slope[:, None])
    head.llm_bias.copy_(head.llm_bias * slope + s.tensor(calibration.offset.astype(np.float32)))
    return head


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps over pairs wait for memory, not for products: a second thread gains little, and loses on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _log_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
