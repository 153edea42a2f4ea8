"""What a head is taught: whole rows of the matrix with unobserved pairs masked, or single pairs as in the paper.

Labels are stored small and become float32 batch by batch. It knows nothing of optimisers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from embedllm_router.data.split import Split
from embedllm_router.training.fit.fitting import Device
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.team import Team

__all__ = ["Copies", "PairLesson", "RowLesson"]

_NOISE_BLOCK: Final = 1 << 24  # normal deviates drawn once and read at random offsets: drawing costs more than learning
_VALIDATION_ROWS: Final = 4096
_GROWING_STEPS: Final = 500  # five of the default recipe's epochs


@dataclass(frozen=True, slots=True)
class Copies:
    """Perturbed copies of the training part's prompts.

    Attributes:
        embeddings: As the encoder makes them, float16 (n_copies, n_train, d_prompt), on the device.
        standardise: Prompt embeddings → training's units.
        consistency: Weight of the mean squared difference between outputs for a prompt and for its copy, once grown.
    """

    embeddings: Tensor
    standardise: Callable[[Tensor], Tensor]
    consistency: float

    def weight(self, step: int) -> float:
        """The consistency after so many steps: it grows from 0 to its full size.

        As in temporal ensembling (Laine & Aila, ICLR 2017, arXiv 1610.02242): a network that has learned nothing yet is
        as steady as can be, and in a short training much consistency would keep it there.
        """
        return self.consistency * min(step / _GROWING_STEPS, 1.0)

    def draw(self, batch: Tensor, team: Team) -> Tensor:
        """One copy at random of each prompt of this process's share of a batch.

        Args:
            batch: Everyone's, as places in the training part, int64 (n,).
            team: Who shares it. Each draws for all, so that the main process goes on as it would alone.

        Returns:
            Standardised, float32 (n_share, d_prompt).
        """
        drawn = torch.randint(len(self.embeddings), (len(batch),))
        which, places = (team.share(one).to(self.embeddings.device) for one in (drawn, batch))
        return self.standardise(self.embeddings[which, places].float())


@dataclass(frozen=True, slots=True)
class RowLesson:
    """Every LLM's answer to a prompt in one example.

    Attributes:
        name: Of the head, for people.
        x: Standardised prompt embeddings, float32 (n_prompts, d_prompt).
        target: Rows → what training aims at, float32 (n_rows, n_llms).
        truth: Rows → what validation compares with, float32 (n_rows, n_llms).
        mask: Which pairs are known, bool (n_prompts, n_llms).
        weight: Of each prompt in training, float32 (n_prompts,).
        loss: (outputs, targets) → losses of the same shape.
        split: Which rows train, which validate.
        options: Batch size, dropout and noise.
        device: Where it happens; all tensors are there.
        team: Who shares the batches.
        copies: What is learned beside the prompts themselves; None for nothing.
    """

    name: str
    x: Tensor
    target: Callable[[Tensor], Tensor]
    truth: Callable[[Tensor], Tensor]
    mask: Tensor
    weight: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    split: Split
    options: TrainingOptions
    device: Device
    team: Team
    copies: Copies | None = None

    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return max(-(-len(self.split.train) // self._batch_size()), 1)

    def losses(self, module: nn.Module, epochs_done: int = 0) -> Iterator[Tensor]:
        """This process's share of the mean loss of each batch of an epoch, rows in random order."""
        train = torch.from_numpy(self.split.train)
        batches = torch.split(self.team.order(len(train)), self._batch_size())
        for step, batch in enumerate(batches, epochs_done * self.steps_per_epoch()):
            rows = train[self.team.share(batch)].to(self.device.type)
            if self.copies is None:
                yield self._taught(self._outputs(module, self.x[rows]), rows)
            else:
                yield self._taught_with(self.copies.weight(step), module, rows, self.copies.draw(batch, self.team))

    @torch.no_grad()
    def validation_loss(self, module: nn.Module) -> float:
        """Mean loss over known pairs of the validation part, prompts unweighted."""
        rows = self.team.share(torch.from_numpy(self.split.validation)).to(self.device.type)
        return self.team.sum(self._share(module(self.x[rows]), self.truth(rows), self.mask[rows].float())).item()

    def _batch_size(self) -> int:
        return self.options.batch_prompts * self.team.size

    def _outputs(self, module: nn.Module, x: Tensor) -> Tensor:
        x = nn.functional.dropout(x, self.options.input_dropout)
        if self.options.input_noise:
            x = x + self.options.input_noise * torch.randn_like(x)
        with self.device.autocast():
            outputs: Tensor = module(x)
        return outputs.float()

    def _taught(self, outputs: Tensor, rows: Tensor) -> Tensor:
        return self._share(outputs, self.target(rows), self.mask[rows] * self.weight[rows, None])

    def _taught_with(self, consistency: float, module: nn.Module, rows: Tensor, copies: Tensor) -> Tensor:
        """Prompts and copies alike, and what they differ in, for every LLM, graded or not.

        Both pass through the same dropout and noise: else it is those that would have to make no difference.
        """
        with torch.random.fork_rng([torch.cuda.current_device()] if self.device.type == "cuda" else ()):
            mine = self._outputs(module, self.x[rows])
        theirs = self._outputs(module, copies)
        apart = ((mine - theirs) ** 2).sum()
        n = self.team.sum(torch.tensor(float(mine.numel())))
        return (self._taught(mine, rows) + self._taught(theirs, rows)) / 2 + consistency * apart / n

    def _share(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """What these rows add to the weighted mean over everyone's rows."""
        return (self.loss(outputs, targets) * weights).sum() / self.team.sum(weights.sum()).clamp(min=1e-9)


class PairLesson:
    """One prompt and one LLM per example, as in EmbedLLM (arXiv 2410.02223), with noise on the prompt embedding.

    The noise is read at random offsets from a block of normal deviates drawn once: a fresh draw for each of the 10¹¹
    numbers of a run of the paper's size would take longer than the run.

    Args:
        name: Of the head, for people.
        x: Prompt embeddings of length about 1, float32 (n_prompts, d_prompt).
        labels: uint8 or float32 (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        split: Which rows train, which validate.
        options: Batch size and noise.
        device: Where it happens; all tensors are there.
        team: Who shares the batches.
    """

    def __init__(  # noqa: PLR0913 - what a lesson is made of
        self,
        *,
        name: str,
        x: Tensor,
        labels: Tensor,
        observed: Tensor,
        split: Split,
        options: TrainingOptions,
        device: Device,
        team: Team,
    ) -> None:
        self.name, self._team = name, team
        self._x, self._labels, self._observed = x, labels, observed
        self._validation = torch.from_numpy(split.validation).to(device.type)
        self._train, self._options, self._device = torch.from_numpy(split.train), options, device
        self._pairs = _known_pairs(observed, self._train.to(device.type))
        size = max(_NOISE_BLOCK, 2 * options.batch_pairs * x.shape[1]) if options.input_noise else 0
        self._noise = (torch.randn(size) * options.input_noise).to(device.type)

    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return max(-(-len(self._pairs) // self._batch_size()), 1)

    def losses(self, module: nn.Module, epochs_done: int = 0) -> Iterator[Tensor]:  # noqa: ARG002 - each epoch is alike
        """This process's share of the mean loss of each batch of an epoch, pairs in random order."""
        n_llms = self._labels.shape[1]
        for batch in torch.split(self._team.order(len(self._pairs)), self._batch_size()):
            pairs = self._pairs[self._team.share(batch).to(self._device.type)]
            rows, llms = pairs // n_llms, pairs % n_llms
            with self._device.autocast():
                logits = module(self._noisy(self._x.index_select(0, rows)), llms)
            labels = self._labels.view(-1)[pairs].float()
            loss = nn.functional.binary_cross_entropy_with_logits
            mean = loss(logits.float(), labels) if len(pairs) else logits.sum()
            yield mean * (len(pairs) / len(batch))

    @torch.no_grad()
    def validation_loss(self, module: nn.Module) -> float:
        """Mean loss over known pairs of the validation part, without noise."""
        total, n = 0.0, 0
        for rows in torch.split(self._team.share(self._validation), _VALIDATION_ROWS):
            known = self._observed[rows]
            logits = module.folded()(self._x[rows])[known]  # type: ignore[operator]  # a PairModel
            labels = self._labels[rows][known].float()
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            total, n = total + loss.item(), n + len(labels)
        total_loss, n_pairs = self._team.sum(torch.tensor([total, n], dtype=torch.float64))
        return float(total_loss) / max(float(n_pairs), 1.0)

    def _batch_size(self) -> int:
        return self._options.batch_pairs * self._team.size

    def _noisy(self, x: Tensor) -> Tensor:
        if not self._options.input_noise:
            return x
        start = int(torch.randint(len(self._noise) - x.numel() + 1, ()))
        return x.add_(self._noise[start : start + x.numel()].view_as(x))


def _known_pairs(observed: Tensor, rows: Tensor) -> Tensor:
    """`row · n_llms + llm` of every observed pair of some rows, int64 (n_pairs,)."""
    known = observed[rows].nonzero()
    return rows[known[:, 0]] * observed.shape[1] + known[:, 1]
