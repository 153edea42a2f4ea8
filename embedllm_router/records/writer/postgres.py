"""Records in PostgreSQL: the tables, their migrations, and writing to them.

The tables have the columns of schema.py; the folder migrations is how a database gets them, whoever else is about to
bring it up to date.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Engine,
    Index,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    false,
    make_url,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.types import TypeEngine

from embedllm_router.config.process import StoreSettings
from embedllm_router.errors import ConfigError, EmbedLLMRouterError
from embedllm_router.records.schema import FEEDBACK_COLUMNS, REQUEST_COLUMNS
from embedllm_router.records.writer.erase import Erased, Subject
from embedllm_router.records.writer.segments import KINDS, Kind

__all__ = [
    "METADATA",
    "TABLES",
    "VERSION_TABLE",
    "Migrated",
    "PostgresSink",
    "database_url",
    "erase_rows",
    "migrate",
    "upgrade",
]

VERSION_TABLE = "embedllm_router_version"
"""Which migrations a database has seen."""

METADATA = MetaData()

_TYPES: Mapping[str, TypeEngine[Any]] = {
    "VARCHAR": Text(),
    "VARCHAR[]": ARRAY(Text()),
    "DOUBLE": Double(),
    "BIGINT": BigInteger(),
    "BOOLEAN": Boolean(),
    "TIMESTAMP": TIMESTAMP(timezone=False),
}


def _columns(columns: Mapping[str, str], key: tuple[str, ...]) -> list[Column[Any]]:
    return [
        Column(
            name, JSONB() if name == "candidates" else _TYPES[kind], primary_key=name in key, nullable=name not in key
        )
        for name, kind in columns.items()
    ]


_REQUESTS = Table(
    "requests",
    METADATA,
    *_columns(REQUEST_COLUMNS, ("request_id", "at")),
    Index("requests_at", "at"),
    Index("requests_response_id", "response_id"),
)
_FEEDBACK = Table(
    "feedback", METADATA, *_columns(FEEDBACK_COLUMNS, ("request_id", "at", "source")), Index("feedback_at", "at")
)

TABLES: Mapping[Kind, Table] = {"requests": _REQUESTS, "feedback": _FEEDBACK}
"""A record's keys say which it is, so that writing it twice keeps it once."""


_LOCK = 0x656D6265646C6C6D
"""Key of the advisory lock: "embedllm" in ASCII."""


def upgrade(connection: Connection) -> None:
    """Makes or changes the tables as this version needs them. Those of a later version are left as they are.

    Args:
        connection: Inside a transaction; others that want the same wait until it ends.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database refuses.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = _version(connection)
    if present is None or present in known:
        command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    """The last migration that a database has seen; None before the first."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


_CONNECT = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "application_name": "embedllm-router",
    "prepare_threshold": None,  # a pooler such as PgBouncer may hand every transaction to another server process
}
_LIMIT_EXCEEDED = "54"  # class of SQLSTATE, such as a text too long for its index; psycopg calls it operational
_LIMIT_TIME = text("SET LOCAL statement_timeout = '30s'")
_RETENTION_EVERY_S, _IDLE_S, _BETWEEN_PORTIONS_S = 600.0, 30.0, 1.0
_DELETED_AT_ONCE, _DELETIONS = 5_000, 20


def database_url(url: str) -> URL:
    """Reads `postgresql://user:password@host:port/database`, to be reached with psycopg.

    Raises:
        ConfigError: It is no URL, or one of another database. The message does not hold it: it has a password in it.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        expected = "expected postgresql://user:password@host:port/database; a folder is named by store.path"
        raise ConfigError(f"store.url is no URL; {expected}.") from None
    if parsed.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ConfigError(f"store.url must start with postgresql://, found {parsed.drivername}://.")
    return parsed.set(drivername="postgresql+psycopg")


class PostgresSink:
    """Writes lines to a database, over one connection that is made again when it breaks."""

    kind: Literal["files", "postgres"] = "postgres"

    def __init__(self, settings: StoreSettings) -> None:
        """Reads the URL; nothing is called.

        Raises:
            ConfigError: The URL is wrong.
        """
        self._url = database_url(settings.url.get_secret_value() if settings.url is not None else "")
        self._keep = None if settings.retention_days is None else timedelta(days=settings.retention_days)
        self._engine = _engine(self._url)
        self._up_to_date = False
        self._retain_at = time.monotonic() + settings.first_deletion_s

    @property
    def location(self) -> str:
        """Host and database."""
        return _location(self._url)

    def write(self, kind: Kind, lines: Sequence[bytes]) -> int:
        """Inserts all records in one transaction; one that is there already is left as it is.

        Returns:
            How many are stored; the rest hold values that the database does not take.

        Raises:
            OSError: The database cannot be reached, or refuses for now.
        """
        try:
            if not self._up_to_date:
                with self._engine.begin() as connection:
                    upgrade(connection)
                self._up_to_date = True
            return self._insert(kind, lines)
        except (SQLAlchemyError, CommandError) as error:
            self._up_to_date = False  # it may be another database by the time it answers again
            raise self._failure(error) from None

    def tend(self) -> float:
        """Deletes what is past its time, in portions; what another proxy is deleting is left to it.

        Returns:
            After how many seconds at most it wants to be called again.

        Raises:
            OSError: The database cannot be reached, or refuses.
        """
        if self._keep is None or not self._up_to_date or time.monotonic() < self._retain_at:
            return _IDLE_S
        before = datetime.now(UTC).replace(tzinfo=None) - self._keep
        try:
            more = [self._delete(kind, before) for kind in KINDS]
        except SQLAlchemyError as error:
            raise self._failure(error) from None
        if any(more):
            return _BETWEEN_PORTIONS_S
        self._retain_at = time.monotonic() + _RETENTION_EVERY_S
        return _IDLE_S

    def close(self) -> None:
        """Closes the connection."""
        self._engine.dispose()

    def abandon(self) -> None:
        """In a forked child: forgets the parent's connection without a word to the server."""
        self._engine.dispose(close=False)
        self._engine = _engine(self._url)

    def _insert(self, kind: Kind, lines: Sequence[bytes]) -> int:
        try:
            with self._engine.begin() as connection:
                _insert(connection, kind, lines)
        except DBAPIError as error:
            if not _refuses_a_value(error):
                raise
            if len(lines) == 1:
                return 0
            half = len(lines) // 2
            return self._insert(kind, lines[:half]) + self._insert(kind, lines[half:])
        return len(lines)

    def _delete(self, kind: Kind, before: datetime) -> bool:
        """Deletes some of the old records of a kind; returns whether there may be more."""
        for _ in range(_DELETIONS):
            with self._engine.begin() as connection:
                if _delete(connection, kind, before) < _DELETED_AT_ONCE:
                    return False
        return True

    def _failure(self, error: Exception) -> ConnectionError:
        return ConnectionError(f"{self.location}: {_told(error, self._url)}")


def _location(url: URL) -> str:
    """Host and database, without user and password."""
    host = url.host or url.query.get("host") or ""
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{host}{port}/{url.database or ''}"


def _told(error: Exception, url: URL) -> str:
    """What went wrong, in one line, without the password; neither the SQL nor its values are in it."""
    said = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
    for secret in (url.password, url.query.get("password")):
        if isinstance(secret, str) and secret:
            said = said.replace(secret, "***")
    return said[:300]


def _refuses_a_value(error: DBAPIError) -> bool:
    """Whether the database will never take one of the records, so that trying again would hold up all others."""
    if isinstance(error, DataError | IntegrityError):
        return True
    return str(getattr(error.orig, "sqlstate", None)).startswith(_LIMIT_EXCEEDED)


def _engine(url: URL) -> Engine:
    return create_engine(
        url, pool_size=1, max_overflow=0, pool_pre_ping=True, hide_parameters=True, connect_args=_CONNECT
    )


def _insert(connection: Connection, kind: Kind, lines: Sequence[bytes]) -> None:
    columns = ", ".join(f'"{column.name}"' for column in TABLES[kind].columns)
    connection.execute(_LIMIT_TIME)
    connection.execute(
        text(
            f"INSERT INTO {kind} ({columns}) "  # noqa: S608 - names of our own
            f"SELECT {columns} FROM json_populate_recordset(NULL::{kind}, CAST(:rows AS json)) ON CONFLICT DO NOTHING"
        ),
        {"rows": (b"[" + b",".join(lines) + b"]").decode()},
    )


def _delete(connection: Connection, kind: Kind, before: datetime) -> int:
    connection.execute(_LIMIT_TIME)
    deleted = connection.execute(
        text(
            f"DELETE FROM {kind} WHERE ctid = ANY(ARRAY("  # noqa: S608 - names of our own
            f'SELECT ctid FROM {kind} WHERE "at" < :before LIMIT :portion FOR UPDATE SKIP LOCKED))'
        ),
        {"before": before, "portion": _DELETED_AT_ONCE},
    )
    return deleted.rowcount


@dataclass(frozen=True, slots=True)
class Migrated:
    """What `migrate` did.

    Attributes:
        location: Host and database.
        before: The version of the tables that it found; None where there were none.
        after: The version that it left; the same as before where nothing was to be done.
    """

    location: str
    before: str | None
    after: str


def migrate(url: str) -> Migrated:
    """Makes or changes the tables for this version, in one transaction; a proxy does so with its first record.

    Args:
        url: The database, with its password.

    Returns:
        What was done.

    Raises:
        ConfigError: The URL is wrong.
        EmbedLLMRouterError: The database cannot be reached, or refuses; nothing was changed.
    """
    place = database_url(url)
    with _one_transaction(place, f"the tables in {_location(place)} were not changed") as connection:
        before = _version(connection)
        upgrade(connection)
        after = _version(connection)
    return Migrated(_location(place), before, str(after))


@contextmanager
def _one_transaction(place: URL, failed: str) -> Iterator[Connection]:
    """A transaction on an engine of its own; whatever the database says against it follows the words of `failed`."""
    engine = _engine(place)
    try:
        with engine.begin() as connection:
            yield connection
    except (SQLAlchemyError, CommandError) as error:
        raise EmbedLLMRouterError(f"{failed}: {_told(error, engine.url)}") from None
    finally:
        engine.dispose()


def erase_rows(url: str, subject: Subject, *, dry_run: bool = False) -> Erased:
    """Erases records from a database, in one transaction; see `erase.erase_files`.

    Args:
        url: The database, with its password.
        subject: Whose records.
        dry_run: Counts them, and changes nothing.

    Returns:
        What was erased.

    Raises:
        ConfigError: The URL is wrong.
        EmbedLLMRouterError: The database cannot be reached, or refuses; nothing was erased.
    """
    with _one_transaction(database_url(url), "nothing was erased") as connection:
        upgrade(connection)  # the columns that tell whose a record is may be younger than the database
        found = _erase(connection, subject)
        if dry_run:
            connection.rollback()
    return found


def _erase(connection: Connection, subject: Subject) -> Erased:
    theirs = _any_of(_REQUESTS, subject.requests)
    ids = select(_REQUESTS.c.request_id).where(theirs).union(select(_REQUESTS.c.response_id).where(theirs))
    on_them = or_(_FEEDBACK.c.request_id.in_(ids), _any_of(_FEEDBACK, subject.feedback))
    n_feedback = connection.execute(delete(_FEEDBACK).where(on_them)).rowcount
    return Erased(connection.execute(delete(_REQUESTS).where(theirs)).rowcount, n_feedback)


def _any_of(table: Table, columns: Mapping[str, Sequence[str]]) -> ColumnElement[bool]:
    return or_(false(), *(table.c[name].in_(values) for name, values in columns.items()))
