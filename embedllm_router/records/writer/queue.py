"""Takes records from the request path and lets a thread write them, a group at a time.

The thread starts with the first record of a process, so a forked worker gets its own. A group that cannot be written is
kept and tried again, ever more slowly, while new records wait in bounded memory. A record becomes one line of JSON,
without what the settings do not keep.

Prompts are hashed with a key: equal prompts can be linked, and nobody without the key can test a guess. The key of a
folder lies in it as `hash.key`, readable by its user alone.
"""

import atexit
import contextlib
import hashlib
import os
import secrets
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.schema import FeedbackRecord, RequestRecord, bounded_id, storable_text
from embedllm_router.records.writer.segments import Kind

__all__ = [
    "CLOSE_S",
    "KEY_FILE",
    "LONGEST_LINE",
    "QUEUE_MB",
    "BackgroundStore",
    "Backlog",
    "PromptHasher",
    "Sink",
    "StoreHealth",
    "kind_of",
    "to_line",
]

QUEUE_MB = 64.0
"""Memory that waiting records may take by default, in MB of 1,000,000 bytes, estimated."""
CLOSE_S = 5.0
"""Longest time that closing may take by default, in seconds."""
_RECORD, _CANDIDATE = 1_500, 200
"""Bytes that a record and each of its candidates take in memory, about."""
_BATCH = 2_000
"""Records that are taken at once: few enough that taking them holds the lock for a tenth of a millisecond."""


class Backlog:
    """A queue that any thread may put into and one thread takes from; full, it refuses the newest."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._waiting: deque[tuple[float, int, RequestRecord | FeedbackRecord]] = deque()
        self._in_hand: list[tuple[float, int, RequestRecord | FeedbackRecord]] = []
        self._bytes = 0
        self._arrived, self._urgent = threading.Event(), threading.Event()
        self.refused = 0

    def put(self, record: RequestRecord | FeedbackRecord) -> None:
        """Queues a record, or counts it as refused when the queue is full. Takes about a microsecond."""
        size = _size(record)
        with self._lock:
            if self._bytes + size > self._limit:
                self.refused += 1
                return
            first = not self._waiting
            self._waiting.append((time.monotonic(), size, record))
            self._bytes += size
        if first:
            self._arrived.set()
        if 2 * self._bytes > self._limit:
            self._urgent.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits until a record has arrived, or for so long; returns whether one has."""
        return self._arrived.wait(timeout_s)

    def gather(self, timeout_s: float) -> None:
        """Waits so long for more records, less when the queue is half full."""
        self._urgent.wait(timeout_s)

    def hurry(self) -> None:
        """Ends every wait, now and later: no more records will be put."""
        self._arrived.set()
        self._urgent.set()

    def take(self) -> list[RequestRecord | FeedbackRecord]:
        """The oldest records, not too many; they count as waiting until `done`. Empty when none waits."""
        with self._lock:
            self._arrived.clear()
            self._urgent.clear()
            self._in_hand = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        return [record for _, _, record in self._in_hand]

    def done(self) -> None:
        """What was taken is written, or lost."""
        with self._lock:
            self._bytes -= sum(size for _, size, _ in self._in_hand)
            self._in_hand = []

    def abandon(self, *, everything: bool) -> int:
        """Forgets what was taken and not done, or everything; returns how many records that were."""
        with self._lock:
            lost = len(self._in_hand)
            if everything:
                lost += len(self._waiting)
                self._waiting.clear()
        self.done()
        return lost

    @property
    def queued(self) -> int:
        """Records that wait, those taken and not done included."""
        return len(self._waiting) + len(self._in_hand)

    @property
    def lag_s(self) -> float:
        """Age of the oldest of them in seconds; 0 when there is none."""
        with self._lock:
            oldest = self._in_hand or self._waiting
            return time.monotonic() - oldest[0][0] if oldest else 0.0


def _size(record: RequestRecord | FeedbackRecord) -> int:
    if isinstance(record, FeedbackRecord):
        return _RECORD
    texts = len(record.prompt or "") + len(record.embedding or "")
    return _RECORD + _CANDIDATE * len(record.candidates) + texts


LONGEST_LINE = 8 * 2**20
"""Bytes of the longest line; half of what DuckDB reads by default. A longer prompt is left out."""

Record = RequestRecord | FeedbackRecord

_NUL = b"\\u0000"
"""How JSON writes the one character that PostgreSQL keeps in no text."""


def kind_of(record: RequestRecord | FeedbackRecord) -> Kind:
    """Where a record belongs."""
    return "requests" if isinstance(record, RequestRecord) else "feedback"


def to_line(record: RequestRecord | FeedbackRecord, settings: StoreSettings) -> bytes:
    """One JSON object and a line feed, times in UTC, without what the settings do not keep.

    Raises:
        TypeError: A field holds something that is no JSON.
    """
    if isinstance(record, RequestRecord):
        record = _redacted(record, settings)
        if record.response_id is not None:
            record = _with_id(record, "response_id", record.response_id)
    record = _with_id(record, "request_id", record.request_id)
    if record.at.tzinfo is not UTC:
        record = replace(record, at=_utc(record.at))
    try:
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        line = orjson.dumps(_storable(record), option=orjson.OPT_APPEND_NEWLINE)
    if _NUL in line:
        line = orjson.dumps(_storable(record), option=orjson.OPT_APPEND_NEWLINE)
    if len(line) > LONGEST_LINE and isinstance(record, RequestRecord) and record.prompt is not None:
        return to_line(replace(record, prompt=None), settings)
    return line


def _with_id(record: Record, field: str, found: str) -> Record:
    """The record with an id that an index can hold."""
    kept = bounded_id(found)
    return record if kept == found else replace(record, **{field: kept})  # type: ignore[arg-type]  # a text field


def _redacted(record: RequestRecord, settings: StoreSettings) -> RequestRecord:
    if record.prompt is not None and not settings.prompt:
        record = replace(record, prompt=None)
    if record.embedding is not None and not settings.embedding:
        record = replace(record, embedding=None)
    return record


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _storable(record: RequestRecord | FeedbackRecord) -> RequestRecord | FeedbackRecord:
    """Without what a client may send as JSON and a store cannot hold."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    valid: dict[str, Any] = {name: storable_text(value) for name, value in values.items() if isinstance(value, str)}
    return replace(record, **valid)


KEY_FILE = "hash.key"
_KEY_BYTES = 32
_DIGEST_BYTES = 12


class PromptHasher:
    """Hashes prompts with one key, which is read or made when it is first needed."""

    def __init__(self, secret: str | None, folder: Path | None) -> None:
        """Remembers where the key comes from.

        Args:
            secret: The key as the settings give it; None for one that is made.
            folder: Where a made key is kept; None keeps it for the life of this process only.
        """
        self._folder = folder
        self._key = hashlib.sha256(secret.encode()).digest() if secret is not None else None

    def __call__(self, text: str) -> str:
        """The hash, 24 hexadecimal digits. A key that cannot be kept is made for this process: this never fails."""
        if self._key is None:
            self._key = _kept_key(self._folder) if self._folder else secrets.token_bytes(_KEY_BYTES)
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, key=self._key).hexdigest()


def _kept_key(folder: Path) -> bytes:
    file = folder / KEY_FILE
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(2):
            if (key := _read(file)) is not None:
                return key
            _offer(file)
    return secrets.token_bytes(_KEY_BYTES)


def _read(file: Path) -> bytes | None:
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except ValueError:
        key = b""
    if len(key) == _KEY_BYTES:
        return key
    file.unlink(missing_ok=True)  # half a key, left by a crash of the machine
    return None


def _offer(file: Path) -> None:
    """Puts a new key in place unless another process was faster; whole or not at all."""
    fd, draft = tempfile.mkstemp(dir=file.parent, prefix=".hash-")
    try:
        with os.fdopen(fd, "w", encoding="ascii") as opened:
            opened.write(secrets.token_hex(_KEY_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        Path(draft).unlink()


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


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How the record store is doing.

    Attributes:
        kind: "files", "postgres", or "off".
        location: Folder, or the database's address without credentials; None when off.
        written: Records written since the start.
        dropped: Records lost because the queue was full or the store closed.
        failed: Failed attempts to write; what they held was kept and tried again, or counted as dropped.
        queued: Records waiting to be written.
        lag_s: Age of the oldest record that waits, in seconds; 0 when none does.
        last_error: The latest failure in one sentence; None when there was none since the last success.
    """

    kind: Literal["files", "postgres", "off"] = "off"
    location: str | None = None
    written: int = 0
    dropped: int = 0
    failed: int = 0
    queued: int = 0
    lag_s: float = 0.0
    last_error: str | None = None


class BackgroundStore:
    """A record store that writes in a thread of its own."""

    def __init__(
        self,
        settings: StoreSettings,
        sink: Sink,
        hasher: PromptHasher,
        *,
        queue_mb: float = QUEUE_MB,
        close_s: float = CLOSE_S,
    ) -> None:
        self._settings = settings
        self._queue_bytes, self._close_s = int(queue_mb * 1e6), close_s
        self._sink = sink
        self.prompt_hash: Callable[[str], str] = hasher
        """Keyed hash of a prompt, 24 hexadecimal digits; equal prompts have equal hashes. Never raises."""
        self._closed = False
        self._begin()
        _open_stores.add(self)

    def _begin(self) -> None:
        self._backlog = Backlog(self._queue_bytes)
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

    def close(self) -> None:
        """Writes what waits, in bounded time; later records are dropped and counted."""
        self._closed = True
        self._closing.set()
        self._backlog.hurry()
        if (thread := self._thread) is not None:
            thread.join(self._close_s)
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
                    self._backlog.gather(_GATHER * self._settings.flush_s)
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
                line = to_line(record, self._settings)
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
        """The thread ends: on closing, or by an error of ours; then the next record starts another."""
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
