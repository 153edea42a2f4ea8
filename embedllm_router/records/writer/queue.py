"""Takes records from the request path and lets a thread write them, a group at a time. It knows nothing of where to.

The thread starts with the first record of a process, so a forked worker gets its own. A group that cannot be written is
kept and tried again, ever more slowly, while new records wait in bounded memory.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Literal, Protocol

from embedllm_router.config.store_options import StoreOptions
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.queue_store_backlog import Backlog
from embedllm_router.records.writer.queue_store_hashing import PromptHasher
from embedllm_router.records.writer.queue_store_lines import kind_of, to_line
from embedllm_router.records.writer.segments import Kind
from embedllm_router.telemetry.status import StoreHealth

__all__ = ["BackgroundStore", "Sink"]

_GATHER = 0.25
"""Share of the flush time in which a group gathers; the rest is for writing it, on a busy machine, too."""
_AFTER_TROUBLE_S = 30.0
"""When a sink is tended again that could not do what it had to."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
"""Between attempts to write what could not be written."""


class Sink(Protocol):
    """Where lines go. Only one thread uses it."""

    @property
    def kind(self) -> Literal["files", "postgres"]:
        """What it is."""

    @property
    def location(self) -> str:
        """Where it is, without credentials."""

    def write(self, kind: Kind, lines: Sequence[bytes]) -> int:
        """Stores all lines durably, and returns how many; the rest can never be stored.

        Raises:
            OSError: None of them is stored for now.
        """

    def tend(self) -> float:
        """Looks after what is stored; called after every write and every now and then.

        Returns:
            After how many seconds at most it wants to be called again.

        Raises:
            OSError: Something could not be done; it will be tried again.
        """

    def close(self) -> None:
        """Lets go of what it holds, in bounded time."""

    def abandon(self) -> None:
        """In a forked child: lets go of what belongs to the parent, without touching it."""


class BackgroundStore:
    """A record store that writes in a thread of its own."""

    def __init__(self, options: StoreOptions, sink: Sink, hasher: PromptHasher) -> None:
        self._options = options
        self._sink = sink
        self._hasher = hasher
        self._closed = False
        self._begin()
        _open_stores.add(self)

    def _begin(self) -> None:
        self._backlog = Backlog(int(self._options.queue_mb * 1e6))
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._unwritten: dict[Kind, list[bytes]] = {}
        self._written = self._failed = self._lost = 0
        self._write_error: str | None = None
        self._upkeep_error: str | None = None

    def put(self, record: RequestRecord | FeedbackRecord) -> None:
        """Hands a record over to be written soon; never blocks, never raises."""
        if self._closed:
            self._lost += 1
            return
        self._backlog.put(record)
        if self._thread is None:
            self._start()

    def health(self) -> StoreHealth:
        """How the store is doing."""
        return StoreHealth(
            kind=self._sink.kind,
            location=self._sink.location,
            written=self._written,
            dropped=self._backlog.refused + self._lost,
            failed=self._failed,
            queued=self._backlog.queued,
            lag_s=self._backlog.lag_s,
            last_error=self._write_error or self._upkeep_error,
        )

    def prompt_hash(self, text: str) -> str:
        """Keyed hash of a prompt, 24 hexadecimal digits."""
        return self._hasher(text)

    def close(self) -> None:
        """Writes what waits, in bounded time; later records are dropped and counted."""
        self._closed = True
        self._closing.set()
        self._backlog.hurry()
        if (thread := self._thread) is not None:
            thread.join(self._options.close_s)
        elif self._backlog.queued:  # no thread could be started
            self._run()

    def after_fork(self) -> None:
        """In a forked child: starts anew. The parent writes what waited."""
        self._sink.abandon()
        self._begin()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="embedllm-router-records", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is ending
                self._failed += 1
                self._write_error = f"the thread that writes records cannot start: {error}"
                return
            self._thread = thread

    def _run(self) -> None:
        pause = idle = 0.0
        try:
            while not self._closing.is_set():
                if not self._unwritten and self._backlog.wait(idle):
                    self._backlog.gather(_GATHER * self._options.flush_s)
                pause = 0.0 if self._write_waiting() else min(max(2 * pause, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                idle = self._tend()
                self._closing.wait(pause)
            self._write_waiting()
            self._sink.close()
        finally:
            self._end()

    def _write_waiting(self) -> bool:
        """Writes everything that waits; returns False, and keeps it, when that fails."""
        try:
            while self._unwritten or self._take():
                for kind in list(self._unwritten):
                    lines = self._unwritten[kind]
                    stored = self._sink.write(kind, lines)
                    del self._unwritten[kind]
                    self._written += stored
                    self._lost += len(lines) - stored
                self._backlog.done()
                self._write_error = None
        except OSError as error:
            self._failed += 1
            self._write_error = _sentence(error)
            return False
        return True

    def _take(self) -> bool:
        records = self._backlog.take()
        for record in records:
            try:
                line = to_line(record, self._options)
            except TypeError as error:
                self._lost += 1
                self._write_error = f"a record is no JSON: {error}"
                continue
            self._unwritten.setdefault(kind_of(record), []).append(line)
        return bool(records)

    def _tend(self) -> float:
        try:
            idle = self._sink.tend()
        except OSError as error:
            self._upkeep_error = _sentence(error)
            return _AFTER_TROUBLE_S
        self._upkeep_error = None
        return idle

    def _end(self) -> None:
        """The thread ends: asked to, or by an error of ours; then the next record starts another."""
        if not self._closing.is_set():
            self._failed += 1
            self._write_error = "the thread that writes records ended by an error of its own; another takes over"
        self._lost += self._backlog.abandon(everything=self._closing.is_set())
        self._unwritten = {}
        self._thread = None


def _sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason


_open_stores: "weakref.WeakSet[BackgroundStore]" = weakref.WeakSet()


def _close_all() -> None:
    for store in list(_open_stores):
        store.close()


# Registered at import and so called last: whoever uses a store may put its last records when the process ends, too.
atexit.register(_close_all)


def _after_fork_in_child() -> None:
    for store in list(_open_stores):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
