"""One loop that fits one head: epochs, early stopping on validation, checkpoints, a GPU where there is one.

A lesson is what a head is taught: whole rows of the matrix with unobserved pairs masked, or single pairs as in the
paper. Labels are stored small and become float32 batch by batch.

A checkpoint is what a killed run leaves behind, so that the next one continues after the last whole epoch: one file per
head, tensors as safetensors, everything else as JSON in its header, renamed into place, so that a kill at any moment
leaves a whole file. Nothing is pickled.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from embedllm_router.data.split import Split
from embedllm_router.errors import DataError
from embedllm_router.training.fit.decoder import EpochRecord, LearningData, Progress
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.team import Team

__all__ = ["Checkpoint", "Copies", "Device", "PairLesson", "Plan", "RowLesson", "fingerprint", "fit"]

_HEADER: Final = "moment"


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the training of one head stands after an epoch.

    Attributes:
        module: The module's state.
        best: Its state at the lowest validation loss so far.
        optimiser: The optimiser's tensors, by parameter number and name.
        settings: What optimiser and schedule hold besides tensors; JSON.
        random: State of the CPU's random generator, uint8.
        best_loss: Lowest validation loss so far.
        best_epoch: Where it was; 0 is before the first epoch.
        history: One record per epoch done.
    """

    module: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    settings: Mapping[str, object]
    random: Tensor
    best_loss: float
    best_epoch: int
    history: tuple[EpochRecord, ...]


class Checkpoint:
    """A folder with one file per head.

    Args:
        folder: Made when the first moment is saved.
        fingerprint: Of data and options; a moment of another run is refused.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def save(self, head: str, moment: Moment) -> None:
        """Replaces the head's file.

        Raises:
            DataError: It cannot be written.
        """
        parts = {"module": moment.module, "best": moment.best, "optimiser": moment.optimiser}
        tensors = {f"{part}/{name}": t.detach().cpu() for part, named in parts.items() for name, t in named.items()}
        header = {
            "fingerprint": self._fingerprint,
            "settings": moment.settings,
            "best_loss": moment.best_loss,
            "best_epoch": moment.best_epoch,
            "history": [asdict(record) for record in moment.history],
        }
        contents = {name: t.clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        draft = self._file(head).with_suffix(".draft")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(contents | {"random": moment.random}, draft, {_HEADER: json.dumps(header)})
            draft.replace(self._file(head))
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{self._folder}: the checkpoint cannot be written ({error}). Check the rights and the space there, "
                "then continue with --resume."
            ) from error

    def load(self, head: str) -> Moment | None:
        """The head's last moment, or None when it was never saved.

        Raises:
            DataError: The file is damaged, or of a run with other data or options.
        """
        file = self._file(head)
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt") as stored:
                header = json.loads(stored.metadata()[_HEADER])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dict
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise DataError(f"{file}: not a checkpoint ({error}). Delete the folder and train anew.") from error
        if header["fingerprint"] != self._fingerprint:
            raise DataError(
                f"{file}: of a run with fingerprint {header['fingerprint'][:12]}…, this one has "
                f"{self._fingerprint[:12]}…: other data, options or torch. Train without --resume."
            )
        return Moment(
            module=_part(tensors, "module"),
            best=_part(tensors, "best"),
            optimiser=_part(tensors, "optimiser"),
            settings=header["settings"],
            random=tensors["random"],
            best_loss=header["best_loss"],
            best_epoch=header["best_epoch"],
            history=tuple(EpochRecord(**record) for record in header["history"]),
        )

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, head: str) -> Path:
        return self._folder / f"{head.replace(' ', '-').replace('/', '-of-')}.safetensors"


def fingerprint(data: LearningData, options: TrainingOptions, *more: object) -> str:
    """SHA-256 of everything that decides the weights, save the number of threads: 64 hex digits.

    Args:
        data: What is learned from.
        options: How.
        more: What else decides, told apart by its representation.
    """
    digest = hashlib.sha256(f"{options} torch {torch.__version__}{more or ''}".encode())
    split = (data.split.train, data.split.validation)
    extras = [array for array in (data.datasets, data.copies) if array is not None]
    everything = (data.x, data.labels, data.observed, data.log_tokens, data.thinking, data.categories, *split)
    for array in (*everything, *extras):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}/"
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


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
        beside: (module, rows) → what is added to the module's outputs before they are compared, float32 (n_rows,
            n_llms); None adds nothing.
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
    beside: Callable[[nn.Module, Tensor], Tensor] | None = None

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
                yield self._taught(module, self._outputs(module, self.x[rows]), rows)
            else:
                yield self._taught_with(self.copies.weight(step), module, rows, self.copies.draw(batch, self.team))

    @torch.no_grad()
    def validation_loss(self, module: nn.Module) -> float:
        """Mean loss over known pairs of the validation part, prompts unweighted."""
        rows = self.team.share(torch.from_numpy(self.split.validation)).to(self.device.type)
        outputs = self._with_what_is_beside(module, module(self.x[rows]), rows)
        return self.team.sum(self._share(outputs, self.truth(rows), self.mask[rows].float())).item()

    def _batch_size(self) -> int:
        return self.options.batch_prompts * self.team.size

    def _outputs(self, module: nn.Module, x: Tensor) -> Tensor:
        x = nn.functional.dropout(x, self.options.input_dropout)
        if self.options.input_noise:
            x = x + self.options.input_noise * torch.randn_like(x)
        with self.device.autocast():
            outputs: Tensor = module(x)
        return outputs.float()

    def _with_what_is_beside(self, module: nn.Module, outputs: Tensor, rows: Tensor) -> Tensor:
        return outputs if self.beside is None else outputs + self.beside(module, rows)

    def _taught(self, module: nn.Module, outputs: Tensor, rows: Tensor) -> Tensor:
        outputs = self._with_what_is_beside(module, outputs, rows)
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
        taught = self._taught(module, mine, rows) + self._taught(module, theirs, rows)
        return taught / 2 + consistency * apart / n

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
