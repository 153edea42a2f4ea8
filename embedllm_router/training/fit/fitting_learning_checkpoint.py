"""What a killed training run leaves behind, so that the next one continues after the last whole epoch.

One file per head: tensors as safetensors, everything else as JSON in its header, renamed into place, so that a kill at
any moment leaves a whole file. Nothing is pickled. It knows nothing of what the tensors mean.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embedllm_router.errors import DataError
from embedllm_router.training.fit.decoder_learning_inputs import EpochRecord, LearningData
from embedllm_router.training.fit.options import TrainingOptions

__all__ = ["Checkpoint", "Moment", "fingerprint"]

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


def fingerprint(data: LearningData, options: TrainingOptions) -> str:
    """SHA-256 of everything that decides the weights, save the number of threads: 64 hex digits."""
    digest = hashlib.sha256(f"{options} torch {torch.__version__}".encode())
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
