"""Records in PostgreSQL, read through SQLAlchemy. It reads and never writes them."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.schema import CANDIDATE_COLUMNS, storable

try:
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
except ImportError as error:  # pragma: no cover - the extra is installed where tests run
    raise ConfigError("reading PostgreSQL needs: pip install 'embedllm-router[postgres]'.") from error

__all__ = ["PostgresSource"]

_CONNECT_S: Final = 10
_FUNCTIONS: Final = (
    (
        re.compile(r"excluded_for\(\s*([\w.]+)\s*,\s*(\$\w+)\s*\)"),
        r"\1 @> jsonb_build_array(jsonb_build_object('excluded', \2::text))",
    ),
    (re.compile(r"draw_of\(\s*([\w.]+)\s*\)"), r"((hashtextextended(\1, 0) & 2147483647) / 2147483648.0::float8)"),
)
_WEIGHED: Final = re.compile(r"\b(FROM|JOIN)\s+weighed\b", re.IGNORECASE)
_PLACES: Final = re.compile(r"\b(FROM|JOIN)\s+(requests|answers)\b", re.IGNORECASE)
_VIEWS: Final = {
    "requests": "(SELECT * FROM requests WHERE judged_for IS NULL) AS requests",
    "answers": "requests AS answers",
}
_CANDIDATES: Final = (
    "(SELECT requests.*, "  # noqa: S608 - our own columns
    + ", ".join(f"one.{name} AS candidate_{name}" for name in CANDIDATE_COLUMNS)
    + " FROM requests CROSS JOIN LATERAL jsonb_to_recordset(candidates) AS one("
    + ", ".join(f"{name} {'TEXT' if kind == 'VARCHAR' else 'FLOAT8'}" for name, kind in CANDIDATE_COLUMNS.items())
    + ")) AS weighed"
)


class PostgresSource:
    """Implements `RecordSource` over a database.

    Args:
        url: `postgresql://user:password@host:port/database`.
    """

    kind: Literal["files", "postgres"] = "postgres"

    def __init__(self, url: str) -> None:
        options = {"connect_timeout": _CONNECT_S, "options": "-c timezone=UTC -c default_transaction_read_only=on"}
        try:
            address = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")
            self._engine = sqlalchemy.create_engine(address, connect_args=options, pool_pre_ping=True)
        except (ArgumentError, ImportError, ValueError) as error:
            raise ConfigError(f"the database URL is not usable: {type(error).__name__}.") from None
        bare = sqlalchemy.URL.create("postgresql", host=address.host, port=address.port, database=address.database)
        self.where = bare.render_as_string()

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Runs a query; see `RecordSource.rows`."""
        given = {name: storable(value) for name, value in (parameters or {}).items()}
        try:
            with self._engine.connect() as connection:
                result = connection.exec_driver_sql(_driver_sql(sql), given or {"": None})
                return [{name: _plain(value) for name, value in row.items()} for row in result.mappings()]
        except OperationalError as error:
            raise DataError(f"{self.where} does not answer: {_first_line(error)}.") from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "42P01":  # undefined_table
                raise DataError(f"{self.where} holds no records: no proxy has opened its store there yet.") from error
            raise

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()


def _driver_sql(sql: str) -> str:
    for function, meaning in _FUNCTIONS:
        sql = function.sub(meaning, sql)
    sql = _WEIGHED.sub(rf"\1 {_CANDIDATES}", sql)
    sql = _PLACES.sub(lambda found: f"{found[1]} {_VIEWS[found[2].lower()]}", sql)
    return re.sub(r"\$(\w+)", r"%(\1)s", sql.replace("%", "%%"))


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0].rstrip(".")
