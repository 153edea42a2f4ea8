"""Learns from the verdicts that have come, unasked: one attempt, in a process of its own beside the proxy.

    python -m embedllm_router.training.update.unasked < JOB

JOB is JSON of `Job`; it holds the password of a database, so it is no argument. The attempt is what `learn` does, and
its guard decides. It starts from the weights that the settings name, from all verdicts on record: no verdict counts
twice, and an attempt that follows bad verdicts is not built on what they taught.

The process ends by itself: its time and memory are limited, and it runs with the lowest priority. Its parent holds the
lock and hands it down, so the lock is held as long as this process lives, and no longer.
"""

import contextlib
import os
import signal
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final

from pydantic import TypeAdapter

from embedllm_router.artifact.versions import Attempt, Versions
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact, read_card
from embedllm_router.errors import DataError, safe_message, where
from embedllm_router.records.reader.recorded import Recorded, Wanted, read_recorded
from embedllm_router.records.reader.source import Limits, open_source
from embedllm_router.records.reader.verdicts import new_verdicts
from embedllm_router.training.update.fit import Update
from embedllm_router.training.update.guard import Lesson
from embedllm_router.training.update.learn import learn_lesson, write_update

__all__ = ["Job", "attempt"]

_NICENESS: Final = 19
_READING: Final = Limits(threads=1, memory="512MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to learn from, and where to.

    Attributes:
        store: Folder of the records, or the URL of the database.
        artifact: Weights to learn from; None for the shipped ones.
        folder: Where learned weights are kept.
        every: New verdicts that an attempt is worth.
        keep: Earlier weights that are kept.
        sources: Sources of feedback that count; None counts all.
        max_requests: Most requests to learn from.
        timeout_s: Longest time, in seconds.
        memory_mb: Most memory, in MB.
    """

    store: str
    artifact: Path | None
    folder: Path
    every: int
    keep: int
    sources: tuple[str, ...] | None
    max_requests: int
    timeout_s: int
    memory_mb: int


def attempt(job: Job, now: datetime | None = None) -> Attempt | None:
    """Learns if enough verdicts have come, and puts what was learned in place if the guard lets it. Needs the lock.

    Args:
        job: What to do.
        now: The time of the attempt, UTC; None asks the clock.

    Returns:
        What came of it, which is also kept beside the weights; None where too few verdicts have come.

    Raises:
        ArtifactError: The weights cannot be read or written.
        DataError: The records cannot be read.
        OSError: What was learned cannot be kept.
    """
    at = now or datetime.now(UTC)
    parent = load_artifact(job.artifact or default_artifact_path())
    versions = Versions(job.folder, parent.id)
    with closing(open_source(job.store, limits=_READING, must_exist=False)) as log:
        n_new, newest = new_verdicts(log, versions.seen_until(), job.sources)
        if n_new < job.every or newest is None:
            return None
        wanted = Wanted(
            limit=job.max_requests, with_text=True, only_judged=True, sources=job.sources, with_contenders=True
        )
        recorded = read_recorded(log, wanted)
    return _learned(job, parent, versions, recorded, n_new, seen_until=min(newest, at), at=at)


def _learned(  # noqa: PLR0913 - the values of one attempt
    job: Job,
    parent: Artifact,
    versions: Versions,
    recorded: Recorded,
    n_new: int,
    *,
    seen_until: datetime,
    at: datetime,
) -> Attempt:
    try:
        lesson, update = learn_lesson(recorded, parent)
    except DataError as error:
        few = Attempt(at=at, outcome="too_few", n_verdicts=n_new, reasons=(str(error),))
        versions.note(few, seen_until)
        return few
    if lesson.refusals or not lesson.changes:
        nothing = _described(lesson, n_new, at)
        versions.note(nothing, seen_until)
        return nothing
    return _put(job, parent, versions, lesson, update, _described(lesson, n_new, at), seen_until)


def _put(  # noqa: PLR0913, PLR0917 - an update, and all that it is filed by
    job: Job,
    parent: Artifact,
    versions: Versions,
    lesson: Lesson,
    update: Update,
    described: Attempt,
    seen_until: datetime,
) -> Attempt:
    card = read_card(job.artifact or default_artifact_path())
    written = write_update(parent, card, update, lesson, versions.draft())
    made = replace(described, artifact=written.id, before=versions.current())
    versions.put(made, seen_until, job.keep)
    return made


def _described(lesson: Lesson, n_new: int, at: datetime) -> Attempt:
    held = lesson.held
    return Attempt(
        at=at,
        outcome="refused" if lesson.refusals else "learned" if lesson.changes else "unchanged",
        n_verdicts=n_new,
        n_answers=lesson.n_answers,
        n_held=held.n,
        log_loss_before=held.log_loss_before,
        log_loss_after=held.log_loss_after,
        change_low=held.change.low,
        change_high=held.change.high,
        reasons=lesson.refusals,
    )


def _limit(job: Job) -> None:
    """Bounds this process, where the system can: whatever becomes of its parent, it ends."""
    os.nice(_NICENESS)
    signal.alarm(job.timeout_s)  # unhandled, it ends the process
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - absent on Windows

        limit = job.memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An error of ours for the proxy's log: class and place; its message only where we wrote it."""
    del trace
    place = where(error)
    sys.stderr.write(safe_message(error) or (kind.__name__ + (f" at {place}" if place else "")))


def main() -> None:
    """Reads the job, does it, and prints what came of it as JSON; `null` for nothing."""
    sys.excepthook = _in_one_line
    job = TypeAdapter(Job).validate_json(sys.stdin.buffer.read())
    _limit(job)
    made = attempt(job)
    sys.stdout.buffer.write(TypeAdapter(Attempt | None).dump_json(made))


if __name__ == "__main__":
    main()
