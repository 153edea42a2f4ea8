"""Weights that the proxy learned by itself: which of them decide, what came of every attempt, and the way back.

    FOLDER/PARENT/           one folder for the weights they were learned from, by their id
      current.json           which of them decide; absent before the first
      attempts.json          what came of the latest attempts, oldest first
      lock                   held by the process that learns
      0a1b2c3d4e5f/          a weights folder, by its id

Everything here is replaced whole, weights before the file that names them, so a crash at any moment leaves a state that
was meant. Nothing here is needed: without it, or where it is damaged, the weights that the settings name decide.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from embedllm_router._files import try_lock, write_whole
from embedllm_router.artifact.weights import MANIFEST
from embedllm_router.errors import ArtifactError

__all__ = ["Attempt", "Outcome", "Versions"]

Outcome = Literal["learned", "refused", "unchanged", "too_few", "undone"]
"""New weights decide; the guard refused them; the verdicts say what the weights say; too few were usable; a person went
back."""

_MOST_ATTEMPTS: Final = 50
_MOST_BYTES: Final = 1_000_000
M = TypeVar("M", bound=BaseModel)
_ArtifactId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to learn, or a step back.

    Attributes:
        at: When it ended, UTC.
        outcome: What came of it.
        n_verdicts: Verdicts that had come since the attempt before.
        n_answers: Answers learned from, those of earlier attempts included.
        artifact: Weights that decide since then; None where nothing changed.
        before: Weights that decided before.
        n_held: Held-out answers that it was judged on; the next four are of these, and None without any.
        log_loss_before: Of the parent, in nats.
        log_loss_after: Of the new weights.
        change_low: Lower end of the 95 % interval of after - before.
        change_high: Its upper end.
        reasons: Why nothing could be used.
    """

    at: datetime
    outcome: Outcome
    n_verdicts: int = 0
    n_answers: int = 0
    artifact: str | None = None
    before: str | None = None
    n_held: int = 0
    log_loss_before: float | None = None
    log_loss_after: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    reasons: tuple[str, ...] = ()


class _Current(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: _ArtifactId
    """The parent's own id where the parent decides."""


class _Attempts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seen_until: datetime | None = None
    """Time of the newest verdict that an attempt has counted."""
    attempts: tuple[Attempt, ...] = ()


class Versions:
    """The learned weights of one parent.

    Args:
        folder: Where learned weights are kept; need not exist.
        parent: Id of the weights that they are learned from.
    """

    def __init__(self, folder: Path, parent: str) -> None:
        self._parent = parent
        self.folder = folder / parent
        self.pointer = self.folder / "current.json"
        """The file that changes when other weights shall decide."""
        self._log = self.folder / "attempts.json"

    def current(self) -> str:
        """Id of the weights that decide: the parent's where nothing was learned, or a person went back to it.

        Raises:
            ArtifactError: The file that says so is damaged or cannot be read.
        """
        data = _read(self.pointer)
        return self._parent if data is None else _parsed(_Current, data, self.pointer).artifact

    def path_of(self, artifact: str) -> Path | None:
        """Folder of learned weights; None for the parent, which lies elsewhere."""
        return None if artifact == self._parent else self.folder / artifact

    def attempts(self) -> tuple[Attempt, ...]:
        """What came of the latest attempts, oldest first.

        Raises:
            ArtifactError: The file that says so is damaged or cannot be read.
        """
        return self._attempts().attempts

    def seen_until(self) -> datetime | None:
        """Time of the newest verdict that an attempt has counted, UTC; None before the first.

        Raises:
            ArtifactError: As `attempts`.
        """
        return self._attempts().seen_until

    @contextmanager
    def lock(self) -> Iterator[int | None]:
        """The right to learn and to change anything here.

        Yields:
            An open file that holds it, until each copy of it is closed; None where another process has it.

        Raises:
            OSError: The folder cannot be made, or its file system has no locks.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield fd if try_lock(fd) else None
        finally:
            os.close(fd)

    def draft(self) -> Path:
        """Where new weights are written before their id is known; what a crash left there is removed. Needs the lock.

        Raises:
            OSError: It cannot be removed.
        """
        place = self.folder / "draft"
        for left in (place, *self.folder.glob(".draft-*")):
            if left.exists():
                shutil.rmtree(left)
        return place

    def put(self, attempt: Attempt, seen_until: datetime | None, keep: int) -> None:
        """Puts drafted weights in place: from now on they decide. Needs the lock.

        Args:
            attempt: What is said of them; its artifact is their id.
            seen_until: Time of the newest verdict that was counted.
            keep: How many weights are kept beside these, to go back to.

        Raises:
            OSError: A file cannot be written.
            ArtifactError: What is said of earlier attempts cannot be read.
        """
        assert attempt.artifact is not None
        place = self.folder / attempt.artifact
        if place.exists():
            shutil.rmtree(place)
        (self.folder / "draft").rename(place)
        before = self._attempts()
        self._point_to(attempt.artifact)
        self._write(before, attempt, seen_until)
        self._prune((*before.attempts, attempt), keep)

    def note(self, attempt: Attempt, seen_until: datetime | None) -> None:
        """Keeps what is said of an attempt that changed nothing. Needs the lock.

        Raises:
            OSError: The file cannot be written.
            ArtifactError: What is said of earlier attempts cannot be read.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write(self._attempts(), attempt, seen_until)

    def undo(self, at: datetime, seen_until: datetime | None) -> Attempt | None:
        """Goes back to the weights before the current ones, or to the parent where these are gone. Needs the lock.

        Args:
            at: Now, UTC.
            seen_until: Time of the newest verdict there is: nothing is learned again before newer ones have come.

        Returns:
            What was done; None where the parent decides already.

        Raises:
            OSError: A file cannot be written.
            ArtifactError: What is said of earlier attempts cannot be read.
        """
        current, before = self.current(), self._attempts()
        if current == self._parent:
            return None
        made = next((one for one in reversed(before.attempts) if _made(one) == current), None)
        back = made.before if made is not None and made.before is not None else self._parent
        if back != self._parent and not (self.folder / back / MANIFEST).is_file():
            back = self._parent
        step = Attempt(at=at, outcome="undone", artifact=back, before=current)
        self._write(before, step, seen_until)
        self._point_to(back)
        return step

    def _point_to(self, artifact: str) -> None:
        write_whole(self.pointer, _Current(artifact=artifact).model_dump_json().encode())

    def _attempts(self) -> _Attempts:
        data = _read(self._log)
        return _Attempts() if data is None else _parsed(_Attempts, data, self._log)

    def _write(self, before: _Attempts, attempt: Attempt, seen_until: datetime | None) -> None:
        latest = (*before.attempts, attempt)[-_MOST_ATTEMPTS:]
        seen = max((one for one in (before.seen_until, seen_until) if one is not None), default=None)
        write_whole(self._log, _Attempts(seen_until=seen, attempts=latest).model_dump_json(indent=1).encode())

    def _prune(self, attempts: Sequence[Attempt], keep: int) -> None:
        """Removes all weights but the newest; what cannot be removed now is removed another time."""
        made = list(dict.fromkeys(one.artifact for one in reversed(attempts) if _made(one) is not None))
        kept = {*made[: keep + 1], "draft"}
        with suppress(OSError):
            for folder in self.folder.iterdir():
                if folder.is_dir() and folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)


def _made(attempt: Attempt) -> str | None:
    return attempt.artifact if attempt.outcome == "learned" else None


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}). Check the rights there.") from error
    if len(data) > _MOST_BYTES:
        raise ArtifactError(f"{path}: has more than {_MOST_BYTES:,} bytes, so the router did not write it. Remove it.")
    return data


def _parsed(model: type[M], data: bytes, path: Path) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ArtifactError(f"{path}: damaged. Remove it; the weights that the settings name then decide.") from error
