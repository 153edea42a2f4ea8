"""Several processes, a GPU each, that train one module together: what they share, and which of them writes.

`accelerate launch` and `torchrun` start them and say in the environment how many there are; Accelerate connects them. A
plain command is a team of one, for which nothing here does anything. Every process holds all data and the same weights,
takes its share of each batch, and descends the sum of everyone's gradients.
"""

import importlib
import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embedllm_router.errors import ConfigError, DataError

__all__ = ["Team", "is_main_process"]


def is_main_process() -> bool:
    """Whether this process writes files and progress."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one training run.

    Attributes:
        size: How many.
        rank: Which of them this one is, from 0; 0 is the main process.
    """

    size: int = 1
    rank: int = 0

    @classmethod
    def gather(cls) -> "Team":
        """Connects the processes that a launcher started.

        Raises:
            ConfigError: There are several, and Accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        try:
            from accelerate import PartialState  # noqa: PLC0415 - only a team needs it
        except ImportError as error:
            raise ConfigError("several processes need Accelerate: pip install 'embedllm-router[learn]'.") from error
        _import_before_connecting()
        state = PartialState(cpu=not torch.cuda.is_available())
        return cls(state.num_processes, state.process_index)

    def leave(self) -> None:
        """Ends the connection and its threads, when everyone is done."""
        if self.size > 1:
            self.wait()
            torch.distributed.destroy_process_group()

    def wait(self) -> None:
        """Returns when everyone is here."""
        if self.size > 1:
            torch.distributed.barrier()

    def order(self, n: int) -> Tensor:
        """A random order of n things, the main process's for all, int64 (n,)."""
        drawn = torch.randperm(n)
        if self.size == 1:
            return drawn
        from accelerate.utils import broadcast  # noqa: PLC0415 - only a team needs it

        everyones: Tensor = broadcast(drawn.to(self._device()))
        return everyones.cpu()

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch; empty where there are fewer examples than processes."""
        return batch if self.size == 1 else batch.tensor_split(self.size)[self.rank]

    def sum(self, part: Tensor) -> Tensor:
        """Sum of everyone's tensors."""
        if self.size == 1:
            return part
        from accelerate.utils import reduce  # noqa: PLC0415 - only a team needs it

        total: Tensor = reduce(part.detach().to(self._device()), "sum")
        return total.to(part.device)

    def sum_gradients(self, module: nn.Module) -> None:
        """Gives everyone the sum of everyone's gradients."""
        if self.size == 1:
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        total = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = torch.split(total, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def part_ways(self) -> None:
        """Gives every process noise of its own; the main one keeps what it has."""
        if self.rank:
            torch.manual_seed(int(torch.randint(2**62, ())) + self.rank)

    def check_same(self, fingerprint: str) -> None:
        """Refuses a team whose members do not learn from the same data.

        Raises:
            DataError: Their fingerprints differ.
        """
        mine = torch.tensor([int(fingerprint[:12], 16)])  # 48 bits: exact when summed over thousands
        if not torch.equal(self.sum(mine), self.size * mine):
            raise DataError(
                "the processes read different data or options. Give all of them the same command and files."
            )

    def _device(self) -> str:
        return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"


def _import_before_connecting() -> None:
    """Imports what would hold the connection for ever if it were imported later.

    torch's optimisers import these functions when first used. Their default argument is the connection of the time of
    import, so a later one outlives `leave`; its threads then run into the interpreter's end, and sometimes abort it.
    """
    importlib.import_module("torch.distributed.nn.functional")
