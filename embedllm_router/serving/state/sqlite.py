"""Shared state in a SQLite database, for the processes of one host and across restarts.

`SqliteLink` belongs to the event loop: it collects what changed, merges what others wrote, and has `_Database` read and
write in a thread. A share is written only over a lower version and an entry only over an earlier one, so writing twice
changes nothing; and a process writes all it has into a database that was begun anew. So the file may be lost or damaged
at any time without losing what a running process has.

The database is in WAL mode, which needs a local disk: on a network file system processes of different hosts would
damage it. Such hosts share state through Redis.
"""

import asyncio
import contextlib
import math
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from embedllm_router.serving.state.json_files import JsonFiles
from embedllm_router.serving.state.shared import Entry, ReplicaState, Share, Sum

__all__ = ["SqliteLink"]

_FILE = "state.sqlite3"
_DAMAGED = "state.damaged.sqlite3"
_SCHEMA_VERSION = 1
_BUSY_S = 2.0  # longest wait of a thread for another process's transaction
_AT_ONCE = 500  # merged before the event loop gets a turn
_MAX_INTEGER = 2**63 - 1

_SCHEMA = (
    "CREATE TABLE meta (origin TEXT NOT NULL, change INTEGER NOT NULL)",
    "CREATE TABLE sums (key TEXT PRIMARY KEY, expires_at REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX sums_by_expiry ON sums (expires_at)",
    """CREATE TABLE shares (
        key TEXT, replica TEXT, version INTEGER NOT NULL, amount REAL NOT NULL, change INTEGER NOT NULL,
        PRIMARY KEY (key, replica)
    ) WITHOUT ROWID""",
    "CREATE INDEX shares_by_change ON shares (change)",
    """CREATE TABLE entries (
        key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at REAL NOT NULL, stamp REAL NOT NULL,
        change INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX entries_by_expiry ON entries (expires_at)",
    "CREATE INDEX entries_by_stamp ON entries (stamp)",
    "CREATE INDEX entries_by_change ON entries (change)",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
"""`change` is the number of the transaction that wrote a row: a reader asks for the rows after the last it has seen."""

_READ_SHARES = """
SELECT key, expires_at, replica, version, amount FROM shares JOIN sums USING (key)
WHERE change > ? AND +expires_at > ?
"""
_READ_ENTRIES = """
SELECT key, value, expires_at, stamp FROM entries WHERE change > ? AND +expires_at > ? ORDER BY +stamp
"""
"""The plus signs have SQLite search by `change`, which finds few rows, instead of scanning another index."""
_DROP_EXPIRED = (
    "DELETE FROM shares WHERE key IN (SELECT key FROM sums WHERE expires_at <= ?)",
    "DELETE FROM sums WHERE expires_at <= ?",
    "DELETE FROM entries WHERE expires_at <= ?",
)
_WRITE_SUM = """
INSERT INTO sums VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at WHERE excluded.expires_at > expires_at
"""
_WRITE_SHARE = """
INSERT INTO shares VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key, replica) DO UPDATE
SET version = excluded.version, amount = excluded.amount, change = excluded.change WHERE excluded.version > version
"""
_WRITE_ENTRY = """
INSERT INTO entries VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE
SET value = excluded.value, expires_at = excluded.expires_at, stamp = excluded.stamp, change = excluded.change
WHERE excluded.stamp > stamp
"""
_DROP_SURPLUS = "DELETE FROM entries WHERE key IN (SELECT key FROM entries ORDER BY stamp DESC LIMIT -1 OFFSET ?)"

_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
"""Failures that the file's content causes; after any other, the next attempt may succeed."""


class _DamagedError(Exception):
    """The database's content is not what this file writes."""


class _NewerSchemaError(Exception):
    """The database was written by a later version of the package."""


@dataclass(frozen=True, slots=True)
class _Position:
    """Up to where a database was read.

    Attributes:
        origin: Which database: a random name that it got when it was made.
        change: Number of the last transaction that was read.
    """

    origin: str = ""
    change: int = 0


@dataclass(frozen=True, slots=True)
class _Content:
    """Sums and entries on their way from or to the database."""

    sums: list[Sum] = field(default_factory=list)
    entries: list[tuple[str, Entry]] = field(default_factory=list)
    position: _Position | None = None
    """Up to where the database was read; None where there is none."""

    @property
    def is_empty(self) -> bool:
        return not self.sums and not self.entries


class SqliteLink:
    """Exchanges the replica state with the other processes of one host, and with those after a restart.

    Args:
        folder: Folder of the database; made when something is first written.
        state: The sums and entries of this process.
        log: Where trouble is reported, once until it is over.
    """

    def __init__(self, folder: Path, state: ReplicaState, log: FilteringBoundLogger) -> None:
        self._folder = folder.expanduser().absolute()
        self._database = _Database(self._folder, state.entries.max_entries)
        self._state = state
        self._counters, self._entries, self._clock = state.counters, state.entries, state.clock
        self._log = log
        self._json_files = JsonFiles(self._folder)
        self._unsent_sums = state.counters.follow()
        self._unsent_entries = state.entries.follow()
        self._position = _Position()
        self.last_error: str | None = None

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._folder)

    @property
    def unsent(self) -> int:
        """Number of sums and entries of which the database lacks the latest."""
        return len(self._unsent_sums) + len(self._unsent_entries)

    def lacks(self, key: str) -> bool:
        """Whether the latest entry under a key has not been written yet."""
        return key in self._unsent_entries

    def load(self) -> None:
        """Reads the database, and the JSON files of earlier versions, once, before anything else happens."""
        with self._reporting():
            self._json_files.load(self._state, self._log)
            self._resend()
        with self._reporting():
            news = self._database.read(self._clock())
            self._settle(_Content(), news)
            for _ in self._merged(news):
                pass

    async def exchange(self) -> None:
        """Writes what is new here and reads what is new there; trouble is logged, not raised."""
        with self._reporting():
            outgoing = self._outgoing()
            news = await asyncio.to_thread(self._database.exchange, outgoing, self._position, self._clock())
            self._settle(outgoing, news)
            for _ in self._merged(news):
                await asyncio.sleep(0)
            if self._json_files.loaded:
                await asyncio.to_thread(self._json_files.delete)

    def save(self) -> None:
        """Writes what is new here, without an event loop, and closes the database: for the end of the process."""
        with self._reporting():
            outgoing = self._outgoing()
            if not outgoing.is_empty:
                self._settle(outgoing, self._database.exchange(outgoing, self._position, self._clock()))
                self._json_files.delete()
            self._database.close()

    async def close(self) -> None:
        """Closes the database; the next exchange opens it again."""
        await asyncio.to_thread(self._database.close)

    def _outgoing(self) -> _Content:
        """A copy of what the database lacks."""
        sums = {key: self._counters.sum_of(key) for key in self._unsent_sums}
        entries = {key: self._entries.entry(key) for key in self._unsent_entries}
        for key in [key for key, one in sums.items() if one is None]:
            del self._unsent_sums[key]  # it has expired
        return _Content(
            [one for one in sums.values() if one is not None],
            [(key, one) for key, one in entries.items() if one is not None],
        )

    def _settle(self, written: _Content, news: _Content) -> None:
        """Notes what the database has; what has changed since it was written stays unsent.

        Args:
            written: What was written to it.
            news: What others have written, not merged yet; another database than before lacks all but `written`.
        """
        if news.position is not None and news.position.origin != self._position.origin:
            self._resend()
        for one in written.sums:
            present = self._counters.sum_of(one.key)
            if present is None or present.shares == one.shares:
                self._unsent_sums.pop(one.key, None)
        for key, entry in written.entries:
            if self._entries.entry(key) is entry:
                self._unsent_entries.pop(key, None)

    def _merged(self, news: _Content) -> Iterator[None]:
        """Merges what others wrote, in steps."""
        for i, one in enumerate(news.sums, 1):
            self._counters.merge(one.key, one.shares, one.expires_at, source=self._unsent_sums)
            if i % _AT_ONCE == 0:
                yield
        for i, (key, entry) in enumerate(news.entries, 1):
            self._entries.merge(key, entry)
            if i % _AT_ONCE == 0:
                yield
        self._position = news.position or self._position

    def _resend(self) -> None:
        """Has everything written by the next exchange."""
        self._unsent_sums.update(dict.fromkeys(self._counters))
        self._unsent_entries.update(dict.fromkeys(self._entries))

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        consequence = "budgets and sessions are not kept across a restart"
        try:
            yield
            self.last_error = None
        except _DamagedError as error:
            self._resend()
            self.last_error = "DatabaseDamaged"
            self._log.warning(
                "state.database_damaged", reason=str(error), set_aside=_DAMAGED, consequence="a new one is begun"
            )
        except _NewerSchemaError as error:
            if self.last_error != "NewerSchema":
                self._log.warning("state.database_newer", reason=str(error), consequence=consequence)
            self.last_error = "NewerSchema"
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            reason = getattr(error, "sqlite_errorname", None) or type(error).__name__
            if self.last_error is None:
                self._log.warning("state.files_unusable", reason=reason, consequence=consequence)
            self.last_error = reason


class _Database:
    """The database file. Its methods block, so the event loop calls them in a thread, one at a time.

    Args:
        folder: Where it is; made when something is first written.
        max_entries: How many entries it keeps; of more, the latest put.
    """

    def __init__(self, folder: Path, max_entries: int) -> None:
        self._file = folder / _FILE
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None

    def read(self, now: float) -> _Content:
        """Checks and reads the whole database, without making or keeping anything open.

        Args:
            now: Seconds since the epoch; what has expired by then is left out.

        Returns:
            Its content; nothing where there is no database.

        Raises:
            _DamagedError: It was damaged, and has been set aside.
            _NewerSchemaError: It was written by a later version; it is left as it is.
            sqlite3.Error: It cannot be read now.
            OSError: The same.
        """
        with self._lock, self._sorting_errors():
            inode = self._found()
            if inode is None:
                return _Content()
            self._inode = inode
            try:
                return self._read("mode=rw", now)
            except sqlite3.OperationalError as error:
                if _code(error) not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
                    raise
                return self._read("mode=ro&immutable=1", now)  # WAL needs a folder in which it can make files

    def exchange(self, outgoing: _Content, since: _Position, now: float) -> _Content:
        """Reads what others wrote and writes, in one transaction; only a write makes the database.

        Args:
            outgoing: What to write.
            since: Up to where it was read before.
            now: Seconds since the epoch; what has expired by then is dropped.

        Returns:
            What others wrote, or everything where the database is not the one that was read before.

        Raises:
            _DamagedError: It was damaged, and has been set aside.
            _NewerSchemaError: It was written by a later version; it is left as it is.
            sqlite3.Error: It cannot be read or written now.
            OSError: The same.
        """
        with self._lock, self._sorting_errors():
            if outgoing.is_empty and self._found() is None:
                self._close()
                return _Content()
            connection = self._connected()
            with _transaction(connection, writes=not outgoing.is_empty):
                news = _news(connection, since, now)
                if outgoing.is_empty or news.position is None:
                    return news
                change = news.position.change + 1
                self._write(connection, outgoing, change, now)
            return _Content(news.sums, news.entries, _Position(news.position.origin, change))

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _sorting_errors(self) -> Iterator[None]:
        """Closes the connection after an error, and sets a damaged database aside."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._close()
            if not _is_damage(error):
                raise
            self._set_aside()
            raise _DamagedError(str(error)) from error

    def _set_aside(self) -> None:
        """Renames the database, unless another process has done so already; an older one set aside is replaced."""
        if self._found() != self._inode:
            return
        aside = self._file.with_name(_DAMAGED)
        for end in ("-wal", ""):  # the log first: it must not be played into the database that comes next
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._file}{end}").replace(f"{aside}{end}")
        Path(f"{self._file}-shm").unlink(missing_ok=True)

    def _found(self) -> int | None:
        """The file's inode; None where there is no file."""
        try:
            return self._file.stat().st_ino
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _read(self, mode: str, now: float) -> _Content:
        connection = sqlite3.connect(f"{self._file.as_uri()}?{mode}", uri=True, timeout=_BUSY_S, isolation_level=None)
        with contextlib.closing(connection):
            version = _schema_version(connection)
            if version == 0:
                return _Content()
            (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if problem != "ok":
                raise _DamagedError(problem)
            with _transaction(connection, writes=False):
                return _news(connection, _Position(), now)

    def _connected(self) -> sqlite3.Connection:
        """The connection; a new one where the file is no longer the one that was opened."""
        if self._connection is not None and self._found() == self._inode:
            return self._connection
        self._close()
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # SQLite's own would be 0644
        self._inode = self._found()
        self._connection = sqlite3.connect(self._file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        if _schema_version(self._connection) == 0:
            _make_schema(self._connection)
        self._connection.execute("PRAGMA synchronous = FULL")
        return self._connection

    def _write(self, connection: sqlite3.Connection, outgoing: _Content, change: int, now: float) -> None:
        for statement in _DROP_EXPIRED:
            connection.execute(statement, (now,))
        connection.executemany(_WRITE_SUM, ((one.key, one.expires_at) for one in outgoing.sums))
        connection.executemany(_WRITE_SHARE, _share_rows(outgoing.sums, change))
        connection.executemany(_WRITE_ENTRY, _entry_rows(outgoing.entries, change))
        connection.execute(_DROP_SURPLUS, (self._max_entries,))
        connection.execute("UPDATE meta SET change = ?", (change,))


def _schema_version(connection: sqlite3.Connection) -> int:
    """Version of the schema; 0 where there is none yet.

    Raises:
        _NewerSchemaError: It is not one of this version of the package.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > _SCHEMA_VERSION:
        raise _NewerSchemaError(f"the state database has schema {version}, expected at most {_SCHEMA_VERSION}")
    return version


def _make_schema(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    with _transaction(connection, writes=True):
        if _schema_version(connection) == 0:  # else another process was faster
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES (?, 0)", (secrets.token_hex(8),))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, *, writes: bool) -> Iterator[None]:
    """A transaction that ends with the block; after an error, closing the connection rolls it back."""
    connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    yield
    connection.execute("COMMIT")


def _news(connection: sqlite3.Connection, since: _Position, now: float) -> _Content:
    """What was written after a position.

    Raises:
        _DamagedError: A row is missing or of the wrong type.
    """
    try:
        origin, change = connection.execute("SELECT origin, change FROM meta").fetchone()
        after = (since.change if since.origin == origin else 0, now)
        sums = _sums(connection.execute(_READ_SHARES, after))
        entries = [
            (str(key), Entry(str(value), float(expires_at), float(stamp)))
            for key, value, expires_at, stamp in connection.execute(_READ_ENTRIES, after)
        ]
        return _Content(sums, entries, _Position(str(origin), int(change)))
    except (TypeError, ValueError) as error:
        raise _DamagedError("a row is missing or of the wrong type") from error


def _sums(rows: Iterable[tuple[str, float, str, int, float]]) -> list[Sum]:
    expiry: dict[str, float] = {}
    shares: dict[str, dict[str, Share]] = {}
    for key, expires_at, replica, version, amount in rows:
        expiry[str(key)] = float(expires_at)
        shares.setdefault(str(key), {})[str(replica)] = Share(int(version), float(amount))
    return [Sum(key, expiry[key], shares[key]) for key in expiry]


def _share_rows(sums: list[Sum], change: int) -> Iterator[tuple[str, str, int, float, int]]:
    """Rows of the shares that SQLite can hold."""
    for one in sums:
        for replica, share in one.shares.items():
            if math.isfinite(share.amount) and share.version <= _MAX_INTEGER:
                yield one.key, replica, share.version, share.amount, change


def _entry_rows(entries: list[tuple[str, Entry]], change: int) -> Iterator[tuple[str, str, float, float, int]]:
    return ((key, one.value, one.expires_at, one.stamp, change) for key, one in entries)


def _is_damage(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return _code(error) in _DAMAGE
    return isinstance(error, _DamagedError)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; that of a generic error where Python could not decode a text."""
    undecodable = sqlite3.SQLITE_ERROR if isinstance(error, sqlite3.OperationalError) else sqlite3.SQLITE_OK
    return int(getattr(error, "sqlite_errorcode", undecodable)) & 0xFF
