"""One head, one loop: epochs, early stopping on validation, checkpoints, a GPU where there is one.

What an example is (a whole row of the matrix, or one pair as in the paper) is the caller's; the loop is the same. It
knows nothing of LLMs.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from embedllm_router.training.fit.decoder_learning_inputs import EpochRecord, Progress
from embedllm_router.training.fit.fitting_learning_checkpoint import Checkpoint, Moment
from embedllm_router.training.fit.team import Team

__all__ = ["Device", "Lesson", "Plan", "fit"]

_LOG = logging.getLogger(__name__)
_WARM_UP: Final = 0.1


@dataclass(frozen=True, slots=True)
class Device:
    """Where the products are computed.

    Attributes:
        type: "cpu" or "cuda".
        bf16: Whether products are computed in bfloat16; weights and losses stay float32.
    """

    type: str
    bf16: bool

    @classmethod
    def best(cls) -> "Device":
        """A GPU with bfloat16 when torch sees one, else the CPU in float32."""
        gpu = torch.cuda.is_available()
        return cls("cuda" if gpu else "cpu", bf16=gpu)

    def autocast(self) -> torch.autocast:
        """A context in which products are of this device's precision."""
        return torch.autocast(self.type, torch.bfloat16, enabled=self.bf16)


class Lesson(Protocol):
    """What one head is taught."""

    @property
    def name(self) -> str:
        """Of the head, for people and for its checkpoint."""

    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""

    def losses(self, module: nn.Module, epochs_done: int) -> Iterable[Tensor]:
        """One epoch in a fresh random order: the mean loss of each batch, to be descended before the next is asked.

        In a team, each process's share of it; the mean is their sum.
        """

    def validation_loss(self, module: nn.Module) -> float:
        """Mean loss on the validation part, in evaluation mode."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and by which optimiser.

    Attributes:
        epochs: At most so many.
        patience: Epochs without a better validation loss after which training stops.
        optimiser: Made for the module's parameters.
        one_cycle: Whether the learning rate follows a one-cycle schedule; it is constant otherwise.
    """

    epochs: int
    patience: int
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    one_cycle: bool = True


@dataclass(slots=True)
class _Run:
    module: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.OneCycleLR | None
    best: dict[str, Tensor]
    best_loss: float
    best_epoch: int = 0
    history: tuple[EpochRecord, ...] = ()


def fit(  # noqa: PLR0913 - a lesson, a pupil, a plan and who is told
    lesson: Lesson, module: nn.Module, plan: Plan, *, checkpoint: Checkpoint | None, progress: Progress, team: Team
) -> tuple[EpochRecord, ...]:
    """Trains a module to its best validation loss.

    Args:
        lesson: What it is taught.
        module: Changed in place; the global random generator decides order and noise.
        plan: How.
        checkpoint: Continued from where it holds this lesson; the main process writes it after each epoch.
        progress: Told about each epoch.
        team: Who trains the module together; each process calls this with the same arguments.

    Returns:
        One record per epoch, those before an interruption included.
    """
    run = _start(lesson, module, plan)
    moment = checkpoint.load(lesson.name) if checkpoint else None
    if moment:
        _resume(run, moment)
    team.wait()  # nobody writes a checkpoint that another still has to read
    team.part_ways()
    while len(run.history) < plan.epochs and len(run.history) - run.best_epoch < plan.patience:
        _run_epoch(lesson, run, team)
        if checkpoint and not team.rank:
            checkpoint.save(lesson.name, _moment(run))
        progress(lesson.name, len(run.history), plan.epochs, run.history[-1].validation_loss)
    module.load_state_dict(run.best)
    _LOG.info("training.head_done head=%s epoch=%d validation_loss=%.4f", lesson.name, run.best_epoch, run.best_loss)
    return run.history


def _start(lesson: Lesson, module: nn.Module, plan: Plan) -> _Run:
    optimiser = plan.optimiser(module.parameters())
    schedule = None
    if plan.one_cycle:
        rate = float(optimiser.param_groups[0]["lr"])
        steps = lesson.steps_per_epoch() * plan.epochs + 1
        warm_up = max(_WARM_UP, 2 / steps)  # a warm-up of no step at all would divide by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=warm_up)
    module.eval()
    return _Run(module, optimiser, schedule, _copy(module), lesson.validation_loss(module))


def _run_epoch(lesson: Lesson, run: _Run, team: Team) -> None:
    run.module.train()
    total, n_batches = torch.zeros(()), 0
    for loss in lesson.losses(run.module, len(run.history)):
        run.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        team.sum_gradients(run.module)
        run.optimiser.step()
        if run.schedule:
            run.schedule.step()
        total, n_batches = total + loss.detach().cpu(), n_batches + 1
    total = team.sum(total)
    run.module.eval()
    loss_now = lesson.validation_loss(run.module)
    epoch = len(run.history) + 1
    run.history = (*run.history, EpochRecord(lesson.name, epoch, total.item() / max(n_batches, 1), loss_now))
    if loss_now < run.best_loss:
        run.best_loss, run.best_epoch, run.best = loss_now, epoch, _copy(run.module)


def _moment(run: _Run) -> Moment:
    state = run.optimiser.state_dict()
    tensors = {f"{number}/{name}": t for number, named in state["state"].items() for name, t in named.items()}
    schedule = run.schedule.state_dict() if run.schedule else {}
    return Moment(
        module=_copy(run.module),
        best=run.best,
        optimiser=tensors,
        settings={"groups": state["param_groups"], "schedule": schedule},
        random=torch.get_rng_state(),
        best_loss=run.best_loss,
        best_epoch=run.best_epoch,
        history=run.history,
    )


def _resume(run: _Run, moment: Moment) -> None:
    run.module.load_state_dict(moment.module)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in moment.optimiser.items():
        number, _, key = name.partition("/")
        state.setdefault(int(number), {})[key] = tensor
    run.optimiser.load_state_dict({"state": state, "param_groups": moment.settings["groups"]})
    if run.schedule and isinstance(moment.settings["schedule"], Mapping):
        run.schedule.load_state_dict(dict(moment.settings["schedule"]))
    torch.set_rng_state(moment.random)
    run.best, run.best_loss, run.best_epoch = dict(moment.best), moment.best_loss, moment.best_epoch
    run.history = moment.history


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
